//! Makes the archive of a day: one file, one transaction, every row checked on its way.

use std::path::Path;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};
use state_machine::UnixMs;

use super::super::layer::Layer;
use super::super::row::{self, COLUMNS, LEN, canonical_form};
use super::super::tally::{self, Share, StoreId};
use super::super::{events, schema};
use super::entry::Entry;
use super::numbers::{Numbers, Print};
use crate::contract::Day;
use crate::seal::{CHECKSUM_LEN, Sealer};

/// Payments that are copied between two looks at whether to go on.
const CHUNK: u32 = 2_000;

/// What an archive says of itself.
const ABOUT: &str = "
CREATE TABLE archive (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    store_id BLOB NOT NULL,
    numbers BLOB NOT NULL,
    checksum BLOB NOT NULL
) STRICT;
";

const EVENTS: &str = "SELECT merchant, number, payment, version, state, till_reversal, at, checksum FROM events \
     WHERE payment = ?1";
const INSERT_EVENT: &str = "INSERT INTO events (merchant, number, payment, version, state, till_reversal, at, checksum) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
/// Values of an event.
const EVENT_LEN: usize = 8;

/// What is to be archived.
pub(super) struct Source<'a> {
    pub(super) conn: &'a Connection,
    pub(super) sealer: &'a Sealer,
    pub(super) id: StoreId,
    pub(super) day: Day,
    pub(super) page_size: u32,
}

/// What came of it.
pub(super) enum Made {
    /// The file is durable, and this is what to say of it.
    Whole(Entry),
    /// It was not to go on; what is there is removed by the next try.
    Stopped,
}

/// Makes the file at `path`, in place of one that nobody names: what a crash has left, whose payments are all in the
/// database yet. One that has any that is not there is no such leftover, and stays.
pub(super) fn make(
    source: &Source<'_>,
    layer: &Layer,
    path: &Path,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Made, String> {
    if layer.holds_something(path) && has_more(source, layer, path) {
        return Err(format!(
            "{} has payments that the database does not have; is the database an old copy? Move that file away, or put the \
             database back that belongs to it",
            path.display()
        ));
    }
    layer.remove_database(path).map_err(|error| error.to_string())?;
    layer.create(path).map_err(|error| error.to_string())?;
    fill(source, layer, path, go_on).map_err(|error| error.to_string())
}

/// Whether an archive that nobody names has a payment that the database has not. One that cannot be read was not finished.
fn has_more(source: &Source<'_>, layer: &Layer, path: &Path) -> bool {
    let look = || {
        let archive = super::connect(layer, path)?;
        let mut rows = archive.prepare("SELECT merchant, out_trade_no FROM payments")?;
        let mut rows = rows.query([])?;
        let mut there =
            source.conn.prepare("SELECT 1 FROM payments WHERE merchant = ?1 AND out_trade_no = ?2")?;
        while let Some(row) = rows.next()? {
            if !there.exists(params![row.get_ref(0)?.as_i64()?, row.get_ref(1)?.as_str()?])? {
                return Ok(true);
            }
        }
        Ok::<_, rusqlite::Error>(false)
    };
    look().unwrap_or(false)
}

fn fill(
    source: &Source<'_>,
    layer: &Layer,
    path: &Path,
    go_on: &mut dyn FnMut() -> bool,
) -> rusqlite::Result<Made> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = layer.connect(path, flags)?;
    conn.pragma_update(None, "page_size", source.page_size)?;
    conn.pragma_update(None, "cache_size", super::archivist::CACHE_KIB.saturating_neg())?;
    conn.pragma_update(None, "locking_mode", "exclusive")?;
    conn.pragma_update(None, "journal_mode", "delete")?;
    // The name of the deleted journal too: one that came back would take the file's content with it.
    conn.pragma_update(None, "synchronous", "extra")?;
    conn.pragma_update(None, "fullfsync", true)?;
    let transaction = conn.unchecked_transaction()?;
    transaction.execute_batch(schema::PAYMENTS)?;
    transaction.execute_batch(events::TABLE)?;
    transaction.execute_batch(ABOUT)?;
    let mut copy = Copy::begin(source, &transaction)?;
    while copy.some()? {
        if !go_on() {
            return Ok(Made::Stopped);
        }
    }
    let Copy { entry, prints, .. } = copy;
    // Sorted at once, they cost a fraction.
    transaction.execute_batch(schema::PAYMENT_INDEXES)?;
    transaction.execute_batch(events::INDEXES)?;
    let numbers = Numbers::of(&prints).to_bytes();
    let checksum = about(source.sealer, source.id, &entry, &numbers);
    transaction.execute(
        "INSERT INTO archive (id, store_id, numbers, checksum) VALUES (1, ?1, ?2, ?3)",
        params![source.id, numbers, checksum],
    )?;
    transaction.commit()?;
    Ok(Made::Whole(entry))
}

/// Rows on their way.
struct Copy<'a> {
    source: &'a Source<'a>,
    to: &'a Connection,
    select: String,
    insert: String,
    /// The last row: accepted at, merchant, number of the row.
    after: (i64, i64, i64),
    entry: Entry,
    prints: Vec<Print>,
    canonical: Vec<u8>,
}

impl<'a> Copy<'a> {
    fn begin(source: &'a Source<'a>, to: &'a Connection) -> rusqlite::Result<Self> {
        let columns = COLUMNS.join(", ");
        let parameters: Vec<String> = (1..=LEN + 2).map(|at| format!("?{at}")).collect();
        let day = source.day;
        let entry = Entry {
            day,
            payments: 0,
            events: 0,
            away: 0,
            settled: false,
            dropped: false,
            sum: Share::default(),
        };
        Ok(Self {
            source,
            to,
            select: format!(
                "SELECT {columns}, checksum, seq FROM payments INDEXED BY payments_time \
                 WHERE accepted_at < ?1 AND open = 0 AND held IS NULL \
                 AND (accepted_at, merchant, seq) > (?2, ?3, ?4) ORDER BY accepted_at, merchant, seq LIMIT {CHUNK}"
            ),
            insert: format!(
                "INSERT INTO payments ({columns}, checksum, seq) VALUES ({})",
                parameters.join(", ")
            ),
            after: (day.start().0, i64::MIN, i64::MIN),
            entry,
            prints: Vec::new(),
            canonical: Vec::new(),
        })
    }

    /// Copies some; whether there may be more. The rows of one call are of one moment of the database.
    fn some(&mut self) -> rusqlite::Result<bool> {
        let Self { source, to, select, insert, .. } = self;
        let (source, to) = (*source, *to);
        let (mut select, mut insert) = (source.conn.prepare_cached(select)?, to.prepare_cached(insert)?);
        let mut found = source.conn.prepare_cached(EVENTS)?;
        let mut insert_event = to.prepare_cached(INSERT_EVENT)?;
        let UnixMs(end) = source.day.end();
        let mut rows = select.query(params![end, self.after.0, self.after.1, self.after.2])?;
        let mut any = false;
        while let Some(row) = rows.next()? {
            any = true;
            let (values, seq) = values_of(row)?;
            let checksum = row.get_ref(LEN)?;
            self.after = (row.get("accepted_at")?, row.get("merchant")?, seq);
            let key = row::key_of(&values);
            let (Some(key), Ok(())) =
                (key, row::check(&values, checksum, source.sealer, &mut self.canonical))
            else {
                tracing::error!(row = seq, "a damaged row stays in the database, and is not archived");
                continue;
            };
            for (at, value) in (1..).zip(values.iter().chain([&checksum, &ValueRef::Integer(seq)])) {
                insert.raw_bind_parameter(at, ToSqlOutput::Borrowed(*value))?;
            }
            insert.raw_execute()?;
            self.prints.push(Print::of(&key, source.sealer));
            self.entry.payments = self.entry.payments.saturating_add(1);
            let mut sum =
                self.entry.sum.wrapping_add(checksum.as_blob().ok().and_then(tally::share).unwrap_or(0));
            let mut events = found.query([seq])?;
            while let Some(event) = events.next()? {
                for at in 0..EVENT_LEN {
                    insert_event.raw_bind_parameter(
                        at.saturating_add(1),
                        ToSqlOutput::Borrowed(event.get_ref(at)?),
                    )?;
                }
                insert_event.raw_execute()?;
                let checksum = event.get_ref(EVENT_LEN - 1)?;
                sum = sum.wrapping_add(checksum.as_blob().ok().and_then(tally::share).unwrap_or(0));
                self.entry.events = self.entry.events.saturating_add(1);
            }
            self.entry.sum = sum;
        }
        Ok(any)
    }
}

fn values_of<'a>(row: &'a Row<'_>) -> rusqlite::Result<([ValueRef<'a>; LEN], i64)> {
    let mut values = [ValueRef::Null; LEN];
    for (at, value) in values.iter_mut().enumerate() {
        *value = row.get_ref(at)?;
    }
    Ok((values, row.get(LEN.saturating_add(1))?))
}

/// What an archive's word of itself is worth: of which store and day, with what in it.
fn about(sealer: &Sealer, id: StoreId, entry: &Entry, numbers: &[u8]) -> [u8; CHECKSUM_LEN] {
    let sum = entry.sum.to_le_bytes();
    let values = [
        ValueRef::Text(b"archive"),
        ValueRef::Blob(&id),
        ValueRef::Integer(entry.day.0),
        ValueRef::Integer(entry.payments.cast_signed()),
        ValueRef::Integer(entry.events.cast_signed()),
        ValueRef::Blob(&sum),
        ValueRef::Blob(numbers),
    ];
    let mut canonical = Vec::with_capacity(numbers.len().saturating_add(256));
    canonical_form(&values, &mut canonical);
    sealer.checksum(&canonical)
}

/// The numbers in an archive, if it is the one that `entry` means.
pub(super) fn read_numbers(
    conn: &Connection,
    id: StoreId,
    entry: &Entry,
    sealer: &Sealer,
) -> Result<Numbers, String> {
    let read = "SELECT numbers, checksum FROM archive WHERE id = 1";
    let found: Option<(Vec<u8>, Vec<u8>)> = conn
        .query_row(read, [], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
        .map_err(|error| error.to_string())?;
    let sound = found
        .filter(|(numbers, checksum)| about(sealer, id, entry, numbers).as_slice() == checksum.as_slice());
    let numbers = sound.and_then(|(numbers, _)| Numbers::from_bytes(&numbers));
    numbers.ok_or_else(|| "it is not the archive that was made of this day".to_owned())
}
