//! Recent records go into the database: thousands in one transaction, in the order of its indexes.
//!
//! A payment is written once, as it stands at the end, however often it changed meanwhile; its merchant's events are
//! all written, numbered in the order of the commits. The transaction says up to which commit the database has
//! everything ([`folded`]), so that what is folded twice, after a crash, counts once.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use planted::planted;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, ErrorCode};
use state_machine::UnixMs;
use state_machine::record::{State, TillReversal};
use state_machine::step::Step;
use state_machine::till::JsonState;

use super::archive::{self, Shelf};
use super::error::commit_error;
use super::events;
use super::recent::frame::{Commit, Row, Sound};
use super::recent::stamp::{End, Stamp};
use super::row::{self, CHECKSUM, COLUMNS, LEN};
use super::tally::{self, Share, Tally};
use crate::contract::{CommitError, Day, Fence};
use crate::seal::Sealer;

static INSERT: LazyLock<String> = LazyLock::new(|| insert(""));

/// The same under a number that the row had before.
static INSERT_AT: LazyLock<String> = LazyLock::new(|| insert(", seq"));

/// Replaces everything but the key and `accepted_at`.
static UPDATE: LazyLock<String> = LazyLock::new(|| update(&[]));

/// The same where what indexes are made of stays as it is, so that their pages are not written either.
static UPDATE_LIGHT: LazyLock<String> = LazyLock::new(|| update(&["open", "held", "transaction_id"]));

/// What an update replaces, for the sums and the events: the sums lose it, so it must be what they were made of.
static BEFORE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {}, checksum, seq FROM payments WHERE merchant = ?1 AND out_trade_no = ?2",
        COLUMNS.join(", ")
    )
});

const FOLDED: &str = "SELECT folded FROM store WHERE id = 1";

/// Behind the columns and the checksum: which row an update is for.
const SEQ: usize = CHECKSUM + 1;

fn insert(more: &str) -> String {
    let last = if more.is_empty() { CHECKSUM } else { SEQ };
    let parameters: Vec<String> = (1..=last).map(|at| format!("?{at}")).collect();
    format!(
        "INSERT INTO payments ({}, checksum{more}) VALUES ({}) ON CONFLICT DO NOTHING",
        COLUMNS.join(", "),
        parameters.join(", "),
    )
}

fn update(left_alone: &[&str]) -> String {
    let fixed = ["merchant", "out_trade_no", "accepted_at"];
    let set: Vec<String> = (1_usize..)
        .zip(COLUMNS)
        .filter(|(_, column)| !fixed.contains(column) && !left_alone.contains(column))
        .map(|(at, column)| format!("{column} = ?{at}"))
        .collect();
    format!("UPDATE payments SET {}, checksum = ?{CHECKSUM} WHERE seq = ?{SEQ}", set.join(", "))
}

/// Where a column stands in a row.
fn place(column: &str) -> usize {
    COLUMNS.iter().position(|name| *name == column).unwrap_or(LEN)
}

/// The last commit of payments that the database has; `None` if what it says of that is damaged.
pub(super) fn folded(conn: &Connection, sealer: &Sealer) -> rusqlite::Result<Option<Stamp>> {
    conn.prepare_cached(FOLDED)?
        .query_row([], |row| Ok(Stamp::head(row.get_ref(0)?.as_blob().unwrap_or_default(), sealer)))
}

/// Why recent records are still not in the database. Nothing of them is.
pub(super) enum Stop {
    Sqlite(rusqlite::Error),
    Fenced(Fence),
    /// They do not follow what the database holds.
    Contradicts(String),
}

impl From<rusqlite::Error> for Stop {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl Stop {
    /// Whether the disk is full.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Self::Sqlite(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull))
    }

    /// The same for who commits.
    pub(super) fn as_commit_error(&self, ours: Fence) -> CommitError {
        match self {
            Self::Sqlite(error) => commit_error(error),
            Self::Fenced(newer) => CommitError::Fenced { ours, newer: *newer },
            Self::Contradicts(what) => CommitError::Fatal(what.clone()),
        }
    }
}

/// Puts `commits` into the database, durably, leaving out those that it has. Returns the tally.
pub(super) fn fold(
    conn: &Connection,
    sealer: &Sealer,
    fence: Fence,
    shelf: &Shelf,
    commits: &[Commit<'_>],
) -> Result<[u8; tally::LEN], Stop> {
    conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let done = write(conn, sealer, fence, shelf, commits).and_then(|tally| {
        conn.prepare_cached("COMMIT")?.execute([])?;
        Ok(tally)
    });
    // Some errors end the transaction by themselves.
    if done.is_err() && !conn.is_autocommit() {
        conn.execute_batch("ROLLBACK")?;
    }
    done
}

fn write(
    conn: &Connection,
    sealer: &Sealer,
    fence: Fence,
    shelf: &Shelf,
    commits: &[Commit<'_>],
) -> Result<[u8; tally::LEN], Stop> {
    let (newest, tally) = Tally::load(conn, sealer)?;
    if newest != fence && !planted!(FenceIgnored) {
        return Err(Stop::Fenced(newest));
    }
    let mut tally = tally.map_err(|unsound| Stop::Contradicts(unsound.to_string()))?;
    let damaged = || Stop::Contradicts("what the store says of its recent records is damaged".to_owned());
    let mut last = folded(conn, sealer)?.ok_or_else(damaged)?;
    let mut rows: Vec<Sound<'_>> = Vec::new();
    for commit in commits {
        if commit.stamp.commit <= last.commit {
            continue;
        }
        if commit.stamp.commit != last.commit.saturating_add(1) {
            let what = format!("behind commit {} of payments comes {}", last.commit, commit.stamp.commit);
            return Err(Stop::Contradicts(what));
        }
        last = commit.stamp;
        rows.extend_from_slice(&commit.rows);
    }
    // By key, and the records of a payment as they were committed.
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_cached_key(|at| rows.get(*at).map(|row| (row.key(), *at)));
    let mut told: BTreeMap<(i64, usize), Event<'_>> = BTreeMap::new();
    let mut writer = Writer::new(conn, sealer, shelf)?;
    let same_key =
        |one: &usize, other: &usize| rows.get(*one).map(Sound::key) == rows.get(*other).map(Sound::key);
    let mut versions = Vec::new();
    for payment in order.chunk_by(same_key) {
        versions.clear();
        for at in payment {
            versions.push((*at, rows.get(*at).and_then(Sound::row).ok_or_else(damaged)?));
        }
        writer.payment(&versions, &mut tally, &mut told)?;
    }
    let mut events = events::Writer::new(conn, sealer)?;
    for ((merchant, _), event) in told {
        tally.add(events.add(merchant, event.number, event.payment, event.step)?);
    }
    if !rows.is_empty() {
        conn.prepare_cached("UPDATE store SET folded = ?1 WHERE id = 1")?
            .execute([last.encode(End::Head, sealer).as_slice()])?;
    }
    Ok(tally.store(conn, sealer)?)
}

/// Something to be told, by merchant and the place of its record.
struct Event<'a> {
    number: &'a [u8],
    payment: i64,
    step: Step,
}

fn key<'a>(row: &Row<'a>) -> (i64, &'a [u8]) {
    let [merchant, number, ..] = &row.values;
    (merchant.as_i64().unwrap_or_default(), number.as_bytes().unwrap_or_default())
}

fn step(values: &[ValueRef<'_>; LEN]) -> Option<Step> {
    let number = |column| values.get(place(column)).and_then(|value| value.as_i64().ok());
    Some(Step {
        version: u32::try_from(number("version")?).ok()?,
        state: State::from_code(u8::try_from(number("state")?).ok()?)?,
        till_reversal: TillReversal::from_code(u8::try_from(number("till_reversal")?).ok()?)?,
        at: UnixMs(number("changed_at")?),
    })
}

/// What an update replaces.
struct Before {
    /// What it adds to the sums.
    share: Share,
    seq: i64,
    /// Of which day's archive it is; the database does not have it then.
    archived: Option<Day>,
    version: u32,
    /// What indexes are made of.
    indexed: Indexed,
    /// What its merchant saw.
    shows: Option<JsonState>,
}

/// What a row has in indexes that not every change touches.
#[derive(PartialEq, Eq)]
struct Indexed {
    open: bool,
    held: Option<i64>,
    transaction_id: Option<Vec<u8>>,
}

impl Indexed {
    fn of(values: &[ValueRef<'_>; LEN]) -> Self {
        let value = |column| values.get(place(column)).copied().unwrap_or(ValueRef::Null);
        Self {
            open: value("open") == ValueRef::Integer(1),
            held: value("held").as_i64().ok(),
            transaction_id: value("transaction_id").as_bytes().ok().map(<[u8]>::to_vec),
        }
    }
}

struct Writer<'a> {
    conn: &'a Connection,
    sealer: &'a Sealer,
    shelf: &'a Shelf,
    before: CachedStatement<'a>,
    insert: CachedStatement<'a>,
    insert_at: CachedStatement<'a>,
    update: CachedStatement<'a>,
    update_light: CachedStatement<'a>,
    canonical: Vec<u8>,
}

impl<'a> Writer<'a> {
    fn new(conn: &'a Connection, sealer: &'a Sealer, shelf: &'a Shelf) -> rusqlite::Result<Self> {
        Ok(Self {
            conn,
            sealer,
            shelf,
            before: conn.prepare_cached(&BEFORE)?,
            insert: conn.prepare_cached(&INSERT)?,
            insert_at: conn.prepare_cached(&INSERT_AT)?,
            update: conn.prepare_cached(&UPDATE)?,
            update_light: conn.prepare_cached(&UPDATE_LIGHT)?,
            canonical: Vec::new(),
        })
    }

    /// Writes a payment as the last of its new versions has it, and adds what is to be told of all of them.
    fn payment<'r>(
        &mut self,
        versions: &[(usize, Row<'r>)],
        tally: &mut Tally,
        told: &mut BTreeMap<(i64, usize), Event<'r>>,
    ) -> Result<(), Stop> {
        let ([(_, first), ..], [.., (_, last)]) = (versions, versions) else { return Ok(()) };
        let contradicts =
            || Stop::Contradicts("recent records do not follow the payment in the database".to_owned());
        let begins = step(&first.values).ok_or_else(contradicts)?.version;
        let before = if begins > 1 { self.before(first)? } else { None };
        if before.as_ref().map_or(0, |before| before.version).checked_add(1) != Some(begins) {
            return Err(contradicts());
        }
        let indexed = Indexed::of(&last.values);
        let seq = match &before {
            None => {
                if !bound(&mut self.insert, last, None)? {
                    return Err(contradicts());
                }
                self.conn.last_insert_rowid()
            }
            Some(Before { seq, archived: Some(_), .. }) => {
                if !bound(&mut self.insert_at, last, Some(*seq))? {
                    return Err(contradicts());
                }
                *seq
            }
            Some(before) => {
                let light = before.indexed == indexed;
                let statement = if light { &mut self.update_light } else { &mut self.update };
                if !bound(statement, last, Some(before.seq))? {
                    return Err(contradicts());
                }
                before.seq
            }
        };
        let after = (Share::from_le_bytes(last.checksum), indexed.open);
        match &before {
            Some(Before { archived: Some(day), .. }) => {
                tally.bring_back(after);
                archive::entry::bring_back(*day, self.conn, self.sealer, tally)?;
            }
            before => tally.change(before.as_ref().map(|before| (before.share, before.indexed.open)), after),
        }
        let mut shows = before.and_then(|before| before.shows);
        for (at, row) in versions {
            let step = step(&row.values).ok_or_else(contradicts)?;
            if shows.replace(step.shows()) != Some(step.shows()) {
                let (merchant, number) = key(row);
                told.insert((merchant, *at), Event { number, payment: seq, step });
            }
        }
        Ok(())
    }

    /// The row that an update is for, in the database or in an archive.
    fn before(&mut self, row: &Row<'_>) -> rusqlite::Result<Option<Before>> {
        let Self { sealer, shelf, before, canonical, .. } = self;
        if let Some(found) = replaced(before, row, sealer, canonical)? {
            return Ok(Some(found));
        }
        let Some(key) = row::key_of(&row.values) else { return Ok(None) };
        let found = shelf.first(&key, sealer, |reads| {
            replaced(&mut reads.conn.prepare_cached(&BEFORE)?, row, sealer, canonical)
        })?;
        Ok(found.map(|(day, found)| Before { archived: Some(day), ..found }))
    }
}

/// What stands under the key of `row`.
fn replaced(
    statement: &mut CachedStatement<'_>,
    row: &Row<'_>,
    sealer: &Sealer,
    canonical: &mut Vec<u8>,
) -> rusqlite::Result<Option<Before>> {
    for (at, value) in (1..).zip(row.values.iter().take(2)) {
        statement.raw_bind_parameter(at, ToSqlOutput::Borrowed(*value))?;
    }
    let mut rows = statement.raw_query();
    let Some(found) = rows.next()? else { return Ok(None) };
    let mut values = [ValueRef::Null; LEN];
    for (at, value) in values.iter_mut().enumerate() {
        *value = found.get_ref(at)?;
    }
    let checksum = found.get_ref(LEN)?;
    let seq = found.get(LEN.saturating_add(1))?;
    let share = checksum.as_blob().ok().and_then(tally::share).unwrap_or_default();
    let indexed = Indexed::of(&values);
    if let Err(why) = row::check(&values, checksum, sealer, canonical) {
        // What was committed is whole, and was committed over the row as it was before the damage.
        tracing::error!(row = seq, why, "a damaged row of a payment is replaced by a sound one");
        let begins = step(&row.values).map_or(0, |step| step.version);
        return Ok(Some(Before {
            share,
            seq,
            archived: None,
            version: begins.saturating_sub(1),
            indexed,
            shows: None,
        }));
    }
    let step = step(&values);
    let version = step.map_or(0, |step| step.version);
    Ok(Some(Before { share, seq, archived: None, version, indexed, shows: step.map(Step::shows) }))
}

/// Runs a prepared write of one row; whether it changed anything.
fn bound(statement: &mut CachedStatement<'_>, row: &Row<'_>, seq: Option<i64>) -> rusqlite::Result<bool> {
    for (at, value) in (1..).zip(&row.values) {
        statement.raw_bind_parameter(at, ToSqlOutput::Borrowed(*value))?;
    }
    statement.raw_bind_parameter(CHECKSUM, row.checksum.as_slice())?;
    if let Some(seq) = seq {
        statement.raw_bind_parameter(SEQ, seq)?;
    }
    Ok(statement.raw_execute()? == 1)
}
