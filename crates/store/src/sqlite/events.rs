//! What merchants may be told, in order: one row for each state that a payment comes to show, written in the
//! transaction that folds the payment ([`super::fold`]), and numbered as the commits came.
//!
//! A row says which payment and where it was; the rest stands in the payment's own row. Its checksum covers the
//! payment's number too, so that it fits no other row. Rows are numbered for each merchant without gaps, so a row
//! that is missing is noticed where it is read; and their checksums are part of the store's sums, so that none comes
//! or goes unnoticed by the full check.

use std::ops::Range;
use std::sync::LazyLock;

use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Connection, Row, params};
use state_machine::record::{State, TillReversal};
use state_machine::step::Step;
use state_machine::{MerchantId, OrderKey, Record, UnixMs};

use super::away::Away;
use super::read::Reads;
use super::row::{COLUMNS, LEN, canonical_form};
use super::tally::{self, Share};
use crate::contract::{Damaged, Event, EventQuery};
use crate::seal::{CHECKSUM_LEN, Sealer};

/// The table, and what finds the events of one payment: that index grows at its end, as payments do. The last index is of
/// payments: lists by day go by it.
pub(super) const TABLE: &str = "
CREATE TABLE events (
    merchant INTEGER NOT NULL,
    number INTEGER NOT NULL,
    payment INTEGER NOT NULL,
    version INTEGER NOT NULL,
    state INTEGER NOT NULL,
    till_reversal INTEGER NOT NULL,
    at INTEGER NOT NULL,
    checksum BLOB NOT NULL,
    PRIMARY KEY (merchant, number)
) STRICT, WITHOUT ROWID;
";

/// See [`TABLE`].
pub(super) const INDEXES: &str = "
CREATE INDEX events_payment ON events (payment);
CREATE INDEX payments_merchant_time ON payments (merchant, accepted_at);
";

/// What is said of an event whose payment's row is older than it.
const EARLIER: &str = "its payment stands as it did earlier";
const LAST: &str = "SELECT coalesce(max(number), 0) FROM events WHERE merchant = ?1";
const INSERT: &str = "INSERT INTO events (merchant, number, payment, version, state, till_reversal, at, checksum) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

/// The writing side, within one transaction.
pub(super) struct Writer<'a> {
    sealer: &'a Sealer,
    last: CachedStatement<'a>,
    insert: CachedStatement<'a>,
    /// Merchant and number of the event before.
    before: Option<(i64, i64)>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(conn: &'a Connection, sealer: &'a Sealer) -> rusqlite::Result<Self> {
        Ok(Self {
            sealer,
            last: conn.prepare_cached(LAST)?,
            insert: conn.prepare_cached(INSERT)?,
            before: None,
        })
    }

    /// Writes the next event of `merchant`, the row of the payment `of` being `payment`. Returns its share of the sums.
    pub(super) fn add(
        &mut self,
        merchant: i64,
        of: &[u8],
        payment: i64,
        step: Step,
    ) -> rusqlite::Result<Share> {
        let number = match self.before {
            // Merchants come one after the other.
            Some((before, last)) if before == merchant => last,
            _ => self.last.query_row([merchant], |row| row.get(0))?,
        }
        .saturating_add(1);
        self.before = Some((merchant, number));
        let checksum = checksum(self.sealer, merchant, of, number, payment, step);
        self.insert.execute(params![
            merchant,
            number,
            payment,
            step.version,
            step.state.code(),
            step.till_reversal.code(),
            step.at.0,
            checksum,
        ])?;
        Ok(Share::from_le_bytes(checksum))
    }
}

fn checksum(
    sealer: &Sealer,
    merchant: i64,
    of: &[u8],
    number: i64,
    payment: i64,
    step: Step,
) -> [u8; CHECKSUM_LEN] {
    let values = [
        ValueRef::Text(b"events"),
        ValueRef::Integer(merchant),
        ValueRef::Text(of),
        ValueRef::Integer(number),
        ValueRef::Integer(payment),
        ValueRef::Integer(step.version.into()),
        ValueRef::Integer(step.state.code().into()),
        ValueRef::Integer(step.till_reversal.code().into()),
        ValueRef::Integer(step.at.0),
    ];
    let mut canonical = Vec::with_capacity(160);
    canonical_form(&values, &mut canonical);
    sealer.checksum(&canonical)
}

/// Columns of an event behind those of its payment.
const NUMBER: usize = LEN + 1;

/// Where [`WALK`] has the version that the payment has now.
const VERSION_NOW: usize = 2;

/// Every event, its columns in the places that they have behind a payment's.
static WALK: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT e.merchant, p.out_trade_no, p.version, {} e.number, e.payment, e.version, e.state, e.till_reversal, e.at, \
         e.checksum FROM events AS e LEFT JOIN payments AS p ON p.seq = e.payment ORDER BY e.merchant, e.number",
        "NULL, ".repeat(NUMBER.saturating_sub(3))
    )
});

fn select(rest: &str) -> String {
    let payment: Vec<String> = COLUMNS.iter().map(|column| format!("p.{column}")).collect();
    format!(
        "SELECT {}, p.checksum, e.number, e.payment, e.version, e.state, e.till_reversal, e.at, e.checksum \
         FROM events AS e LEFT JOIN payments AS p ON p.seq = e.payment \
         WHERE e.merchant = ?1 AND e.number > ?2 {rest} ORDER BY e.number LIMIT ?3",
        payment.join(", ")
    )
}

impl Reads<'_> {
    /// The number of the last event of `merchant`: the database always has it.
    pub(super) fn last_event(&self, merchant: MerchantId) -> rusqlite::Result<u64> {
        let last = self.conn.prepare_cached(LAST)?.query_row([merchant.0], |row| row.get::<_, i64>(0))?;
        Ok(last.cast_unsigned())
    }

    /// The events that this file has, in order; payments are shown as `newest` has them, given what stands here. One that
    /// is damaged is an event all the same, which says so.
    pub(super) fn events(
        &self,
        query: &EventQuery,
        newest: &dyn Fn(Record) -> rusqlite::Result<Record>,
    ) -> rusqlite::Result<Vec<Event>> {
        let after = i64::try_from(query.after).unwrap_or(i64::MAX);
        let mut found = Vec::new();
        let mut take = |rows: &mut rusqlite::Rows<'_>| {
            while let Some(row) = rows.next()? {
                let number = row.get::<_, i64>(NUMBER)?.cast_unsigned();
                found.push(Event { number, payment: self.event(row, query.merchant, number, newest)? });
            }
            Ok::<_, rusqlite::Error>(())
        };
        match query.number {
            None => {
                let mut statement = self.conn.prepare_cached(&select(""))?;
                take(&mut statement.query(params![query.merchant.0, after, query.limit()])?)?;
            }
            Some(number) => {
                let mut statement = self.conn.prepare_cached(&select(
                    "AND e.payment = (SELECT seq FROM payments WHERE merchant = ?1 AND out_trade_no = ?4)",
                ))?;
                take(&mut statement.query(params![
                    query.merchant.0,
                    after,
                    query.limit(),
                    number.as_str()
                ])?)?;
            }
        }
        Ok(found)
    }

    fn checksum_of(&self, key: &OrderKey, number: u64, payment: i64, step: Step) -> [u8; CHECKSUM_LEN] {
        let (merchant, of) = (key.merchant.0.into(), key.number.as_str().as_bytes());
        checksum(self.sealer, merchant, of, number.cast_signed(), payment, step)
    }

    fn event(
        &self,
        row: &Row<'_>,
        merchant: MerchantId,
        number: u64,
        newest: &dyn Fn(Record) -> rusqlite::Result<Record>,
    ) -> rusqlite::Result<Result<Box<Record>, Damaged>> {
        let present = match self.take(row)? {
            Ok(record) => record,
            Err((damaged, _)) => return Ok(Err(damaged)),
        };
        let step = step(row);
        let payment: i64 = row.get(NUMBER + 1)?;
        let stored = row.get_ref(NUMBER + 6)?.as_blob().unwrap_or_default();
        let sound = step.filter(|step| {
            let checksum = self.checksum_of(&present.key, number, payment, *step);
            present.key.merchant == merchant && checksum.as_slice() == stored
        });
        Ok(match sound {
            Some(step) if present.version < step.version => Err(damaged(number, EARLIER)),
            Some(step) => Ok(Box::new(step.seen_in(newest(present)?))),
            None => Err(damaged(number, "its checksum does not match")),
        })
    }

    /// Whether an event is what was written, for the payment that it is of; of a row of [`WALK`].
    fn is_sound(&self, row: &Row<'_>) -> rusqlite::Result<bool> {
        let stored = row.get_ref(NUMBER + 6)?.as_blob().unwrap_or_default();
        let number = row.get::<_, i64>(NUMBER)?.cast_unsigned();
        let sound = || {
            let key = OrderKey {
                merchant: MerchantId(row.get(0).ok()?),
                number: row.get_ref(1).ok()?.as_str().ok()?.parse().ok()?,
            };
            let payment = row.get(NUMBER + 1).ok()?;
            Some(self.checksum_of(&key, number, payment, step(row)?).as_slice() == stored)
        };
        Ok(sound() == Some(true))
    }

    /// Looks at every event of an archive: tells each one's share of the sums, and whether it is sound.
    pub(super) fn each_event(&self, tell: &mut dyn FnMut(Share, bool)) -> rusqlite::Result<()> {
        let mut statement = self.conn.prepare(&WALK)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let stored = row.get_ref(NUMBER + 6)?.as_blob().unwrap_or_default();
            tell(tally::share(stored).unwrap_or_default(), self.is_sound(row)?);
        }
        Ok(())
    }

    /// Looks at every event there is: tells what is wrong, and whether a payment stands as it did earlier;
    /// returns what their checksums add up to.
    pub(super) fn walk_events(
        &self,
        away: &Away<'_>,
        wrong: &mut dyn FnMut(Damaged, bool),
    ) -> rusqlite::Result<Share> {
        let mut statement = self.conn.prepare(&WALK)?;
        let mut rows = statement.query([])?;
        let mut sum = Share::default();
        let mut before = (None, 0_u64);
        while let Some(row) = rows.next()? {
            let stored = row.get_ref(NUMBER + 6)?.as_blob().unwrap_or_default();
            sum = sum.wrapping_add(tally::share(stored).unwrap_or_default());
            let (merchant, number): (i64, i64) = (row.get(0)?, row.get(NUMBER)?);
            if before.0 != Some(merchant) {
                before = (Some(merchant), 0);
            }
            let expected = before.1.saturating_add(1);
            before.1 = number.cast_unsigned();
            if expected != before.1 && !away.has_events(merchant, expected..before.1)? {
                wrong(damaged(expected, "it is missing"), false);
            }
            let sound = self.is_sound(row)?;
            if !sound {
                wrong(damaged(before.1, "its checksum does not match"), false);
            } else if row.get::<_, i64>(VERSION_NOW)? < row.get::<_, i64>(NUMBER + 2)? {
                wrong(damaged(before.1, EARLIER), true);
            }
        }
        Ok(sum)
    }
}

/// How many events of a merchant a file has between two numbers, the second not included.
pub(super) fn numbers_between(
    conn: &Connection,
    merchant: i64,
    numbers: &Range<u64>,
) -> rusqlite::Result<Vec<u64>> {
    let sql = "SELECT number FROM events WHERE merchant = ?1 AND number >= ?2 AND number < ?3";
    let mut statement = conn.prepare_cached(sql)?;
    let range = params![merchant, numbers.start.cast_signed(), numbers.end.cast_signed()];
    let found = statement.query_map(range, |row| row.get::<_, i64>(0).map(i64::cast_unsigned))?;
    found.collect()
}

fn step(row: &Row<'_>) -> Option<Step> {
    Some(Step {
        version: row.get(NUMBER + 2).ok()?,
        state: State::from_code(row.get(NUMBER + 3).ok()?)?,
        till_reversal: TillReversal::from_code(row.get(NUMBER + 4).ok()?)?,
        at: UnixMs(row.get(NUMBER + 5).ok()?),
    })
}

fn damaged(number: u64, why: &str) -> Damaged {
    Damaged { key: None, why: format!("event {number}: {why}") }
}
