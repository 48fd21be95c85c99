//! What the database says of its archives: one row for each, in the sums of the store like every other row.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, params};

use super::super::row::canonical_form;
use super::super::tally::{Share, Tally};
use crate::contract::Day;
use crate::seal::{CHECKSUM_LEN, Sealer};

/// The table, and what may be deleted because of it: a payment, and what merchants were told of it, only when it is
/// closed and its day is archived.
pub(in super::super) const TABLE: &str = "
CREATE TABLE archives (
    day INTEGER PRIMARY KEY,
    payments INTEGER NOT NULL,
    events INTEGER NOT NULL,
    away INTEGER NOT NULL,
    settled INTEGER NOT NULL,
    dropped INTEGER NOT NULL,
    sum BLOB NOT NULL,
    checksum BLOB NOT NULL
) STRICT;
CREATE TRIGGER payments_stay BEFORE DELETE ON payments
WHEN OLD.open = 1 OR OLD.held IS NOT NULL
  OR NOT EXISTS (SELECT 1 FROM archives WHERE day = (OLD.accepted_at + 28800000) / 86400000)
BEGIN
    SELECT RAISE(ABORT, 'a payment is never deleted, only moved to the archive of its day');
END;
CREATE TRIGGER events_stay BEFORE DELETE ON events
WHEN NOT EXISTS (SELECT 1 FROM payments AS p JOIN archives AS a ON a.day = (p.accepted_at + 28800000) / 86400000
  WHERE p.seq = OLD.payment AND p.open = 0 AND p.held IS NULL)
BEGIN
    SELECT RAISE(ABORT, 'an event is never deleted, only moved to the archive of its day');
END;
";

const SELECT: &str =
    "SELECT day, payments, events, away, settled, dropped, sum, checksum FROM archives ORDER BY day DESC";
const PUT: &str = "INSERT OR REPLACE INTO archives (day, payments, events, away, settled, dropped, sum, checksum) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

/// One archive, as the database has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Entry {
    pub(in super::super) day: Day,
    /// Payments in the file, and what their merchants were told.
    pub(in super::super) payments: u64,
    pub(in super::super) events: u64,
    /// How many of the payments the database does not have.
    pub(in super::super) away: u64,
    /// All was moved that can be.
    pub(in super::super) settled: bool,
    /// The file was given up.
    pub(in super::super) dropped: bool,
    /// What the checksums in the file add up to.
    pub(in super::super) sum: Share,
}

impl Entry {
    fn checksum(&self, sealer: &Sealer) -> [u8; CHECKSUM_LEN] {
        let sum = self.sum.to_le_bytes();
        let number = |number: u64| ValueRef::Integer(number.cast_signed());
        let values = [
            ValueRef::Text(b"archives"),
            ValueRef::Integer(self.day.0),
            number(self.payments),
            number(self.events),
            number(self.away),
            number(self.settled.into()),
            number(self.dropped.into()),
            ValueRef::Blob(&sum),
        ];
        let mut canonical = Vec::with_capacity(128);
        canonical_form(&values, &mut canonical);
        sealer.checksum(&canonical)
    }

    fn share(&self, sealer: &Sealer) -> Share {
        Share::from_le_bytes(self.checksum(sealer))
    }

    /// The entry that a row is, unless it was changed.
    fn take(row: &Row<'_>, sealer: &Sealer) -> rusqlite::Result<Option<Self>> {
        let number = |at| row.get::<_, i64>(at).map(i64::cast_unsigned);
        let entry = Self {
            day: Day(row.get(0)?),
            payments: number(1)?,
            events: number(2)?,
            away: number(3)?,
            settled: number(4)? == 1,
            dropped: number(5)? == 1,
            sum: row.get_ref(6)?.as_blob()?.try_into().map_or(0, Share::from_le_bytes),
        };
        let sound = entry.checksum(sealer).as_slice() == row.get_ref(7)?.as_blob()?;
        Ok(sound.then_some(entry))
    }

    /// Writes it in place of `before`, in the transaction under way, and counts it in `tally`.
    pub(super) fn put(
        &self,
        before: Option<&Self>,
        conn: &Connection,
        sealer: &Sealer,
        tally: &mut Tally,
    ) -> rusqlite::Result<()> {
        if let Some(before) = before {
            tally.take(before.share(sealer));
        }
        tally.add(self.share(sealer));
        conn.prepare_cached(PUT)?.execute(params![
            self.day.0,
            self.payments.cast_signed(),
            self.events.cast_signed(),
            self.away.cast_signed(),
            self.settled,
            self.dropped,
            self.sum.to_le_bytes(),
            self.checksum(sealer),
        ])?;
        Ok(())
    }
}

/// All of them, the newest day first; `None` in place of one that was changed.
pub(in super::super) fn all(conn: &Connection, sealer: &Sealer) -> rusqlite::Result<Vec<Option<Entry>>> {
    let mut statement = conn.prepare_cached(SELECT)?;
    let rows = statement.query_map([], |row| Entry::take(row, sealer))?;
    rows.collect()
}

/// All of them, the newest day first; an error if one was changed. Passed over, its archive would be made anew from what
/// little of the day the database still has.
pub(in super::super) fn sound(conn: &Connection, sealer: &Sealer) -> rusqlite::Result<Vec<Entry>> {
    let entries: Option<Vec<Entry>> = all(conn, sealer)?.into_iter().collect();
    entries.ok_or_else(|| rusqlite::Error::ToSqlConversionFailure(Box::new(Unsound)))
}

/// The archive of `day`.
pub(super) fn of(day: Day, conn: &Connection, sealer: &Sealer) -> rusqlite::Result<Option<Entry>> {
    Ok(sound(conn, sealer)?.into_iter().find(|entry| entry.day == day))
}

/// A row about an archive was changed, or was written under another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what the store says of an archive is damaged")]
struct Unsound;

/// What the entries add to the sums of the store.
pub(in super::super) fn sum(entries: &[Entry], sealer: &Sealer) -> Share {
    entries.iter().fold(0, |sum, entry| sum.wrapping_add(entry.share(sealer)))
}

/// A payment of `day` is in the database again.
pub(in super::super) fn bring_back(
    day: Day,
    conn: &Connection,
    sealer: &Sealer,
    tally: &mut Tally,
) -> rusqlite::Result<()> {
    let Some(before) = of(day, conn, sealer)? else { return Ok(()) };
    let after = Entry { away: before.away.saturating_sub(1), ..before };
    after.put(Some(&before), conn, sealer, tally)
}
