//! One durable commit: the hot path.

use std::sync::{Arc, LazyLock};

use planted::planted;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection};
use state_machine::record::{State, TillReversal};
use state_machine::shard::Outcome;
use state_machine::step::Step;
use state_machine::till::{JsonState, json_state};
use state_machine::{OrderKey, Record};

use super::error::commit_error;
use super::events;
use super::mark::Mark;
use super::read::Reads;
use super::row::{self, CHECKSUM, COLUMNS, Scratch};
use super::tally::{self, Share, Tally, Unsound};
use crate::contract::{CommitError, Fence, stand_in};
use crate::seal::{NoRandomness, Sealer};

/// The parameter that says from which states the move is legal: bit *n* for the state recorded as *n*.
const LEGAL_FROM: usize = CHECKSUM + 1;

static INSERT: LazyLock<String> = LazyLock::new(|| {
    let parameters: Vec<String> = (1..=CHECKSUM).map(|at| format!("?{at}")).collect();
    format!(
        "INSERT INTO payments ({}, checksum) VALUES ({}) ON CONFLICT (merchant, out_trade_no) DO NOTHING",
        COLUMNS.join(", "),
        parameters.join(", "),
    )
});

/// Replaces everything but the key and `accepted_at`.
static UPDATE: LazyLock<String> = LazyLock::new(|| update(&[], ""));

/// The same for an order that stays open and unpaid: what indexes are made of is not touched, so their pages are
/// not written either.
static UPDATE_LIGHT: LazyLock<String> = LazyLock::new(|| {
    update(
        &["open", "transaction_id"],
        &format!(" AND open = ?{} AND transaction_id IS ?{}", parameter("open"), parameter("transaction_id")),
    )
});

/// What an update replaces, for the sums and the events: the sums lose it, so it must be what they were made of.
static BEFORE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {}, checksum, seq FROM payments WHERE merchant = ?1 AND out_trade_no = ?2",
        COLUMNS.join(", ")
    )
});

fn parameter(column: &str) -> usize {
    #[expect(
        clippy::expect_used,
        reason = "the names are constants of this file: the first commit of all runs this"
    )]
    let at = COLUMNS.iter().position(|name| *name == column).expect("a column of payments");
    at.saturating_add(1)
}

fn update(left_alone: &[&str], conditions: &str) -> String {
    let fixed = ["merchant", "out_trade_no", "accepted_at"];
    let set: Vec<String> = COLUMNS
        .iter()
        .filter(|column| !fixed.contains(column) && !left_alone.contains(column))
        .map(|column| format!("{column} = ?{}", parameter(column)))
        .collect();
    format!(
        "UPDATE payments SET {}, checksum = ?{CHECKSUM} WHERE merchant = ?1 AND out_trade_no = ?2 \
         AND version = ?{} - 1 AND accepted_at = ?{} AND ((?{LEGAL_FROM} >> state) & 1) = 1{conditions}",
        set.join(", "),
        parameter("version"),
        parameter("accepted_at"),
    )
}

fn legal_from(next: State) -> i64 {
    State::ALL
        .iter()
        .filter(|state| state.may_become(next))
        .fold(0, |mask, state| mask | (1_i64 << state.code()))
}

/// Why the records of a transaction were not all written.
pub(super) enum Stop {
    Sqlite(rusqlite::Error),
    Fenced(Fence),
    NoRandomness,
    Unsound(Unsound),
}

impl From<rusqlite::Error> for Stop {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<NoRandomness> for Stop {
    fn from(_: NoRandomness) -> Self {
        Self::NoRandomness
    }
}

/// The writer's side of one transaction.
pub(super) struct Write<'a> {
    pub(super) conn: &'a Connection,
    pub(super) sealer: &'a Sealer,
    pub(super) fence: Fence,
    pub(super) mark: &'a Mark,
    pub(super) scratch: &'a mut Scratch,
}

impl Write<'_> {
    /// Writes `records` in one transaction.
    pub(super) fn commit(&mut self, records: &[Arc<Record>]) -> Result<Vec<Outcome>, CommitError> {
        self.conn
            .prepare_cached("BEGIN IMMEDIATE")
            .and_then(|mut begin| begin.execute([]))
            .map_err(|error| commit_error(&error))?;
        let done = self.apply(records).and_then(|done| {
            self.conn.prepare_cached("COMMIT")?.execute([])?;
            Ok(done)
        });
        let stop = match done {
            Ok((outcomes, tally)) => {
                if let Some(tally) = tally {
                    self.mark.put(&tally);
                }
                return Ok(outcomes);
            }
            Err(stop) => stop,
        };
        // Some errors end the transaction by themselves.
        if !self.conn.is_autocommit() {
            self.conn
                .execute_batch("ROLLBACK")
                .map_err(|error| CommitError::Fatal(format!("a commit could not be taken back: {error}")))?;
        }
        Err(match stop {
            Stop::Sqlite(error) => commit_error(&error),
            Stop::Fenced(newer) => CommitError::Fenced { ours: self.fence, newer },
            Stop::NoRandomness => CommitError::Fatal(NoRandomness.to_string()),
            Stop::Unsound(unsound) => CommitError::Fatal(unsound.to_string()),
        })
    }

    /// The outcomes, and the tally where anything was written.
    fn apply(&mut self, records: &[Arc<Record>]) -> Result<(Vec<Outcome>, Option<[u8; tally::LEN]>), Stop> {
        let (newest, tally) = Tally::load(self.conn, self.sealer)?;
        if newest != self.fence && !planted!(FenceIgnored) {
            return Err(Stop::Fenced(newest));
        }
        let mut tally = tally.map_err(Stop::Unsound)?;
        let mut before = self.conn.prepare_cached(&BEFORE)?;
        let mut insert = self.conn.prepare_cached(&INSERT)?;
        let mut update = self.conn.prepare_cached(&UPDATE)?;
        let mut update_light = self.conn.prepare_cached(&UPDATE_LIGHT)?;
        let mut events = events::Writer::new(self.conn, self.sealer)?;
        let mut canonical = Vec::with_capacity(512);
        let mut outcomes = Vec::with_capacity(records.len());
        // Few or none: a conflict means that somebody else was here first.
        let mut refused: Vec<OrderKey> = Vec::new();
        let mut any = false;
        for record in records {
            let applied = !refused.contains(&record.key) && {
                let row = row::encode(record, self.fence, self.sealer, self.scratch)?;
                let legal_from = legal_from(record.state);
                let there = match record.version {
                    0 | 1 => Before::Nothing,
                    _ => find_before(&mut before, &row, self.sealer, &mut canonical)?,
                };
                let applied = match record.version {
                    0 => false,
                    // Written over it, a damaged row would leave sums that no row explains.
                    _ if matches!(there, Before::Damaged) => false,
                    1 => write(&mut insert, &row, None)?,
                    _ if record.is_open() && record.paid.is_none() => {
                        write(&mut update_light, &row, Some(legal_from))?
                            || write(&mut update, &row, Some(legal_from))?
                    }
                    _ => write(&mut update, &row, Some(legal_from))?,
                };
                if applied {
                    let there = if let Before::Sound(there) = there { Some(there) } else { None };
                    let after = (Share::from_le_bytes(row.checksum), record.is_open());
                    tally.change(there.as_ref().map(|there| (there.share, there.open)), after);
                    if there.as_ref().is_none_or(|there| there.shows != Some(Step::of(record).shows())) {
                        let payment = there.map_or_else(|| self.conn.last_insert_rowid(), |there| there.seq);
                        tally.add(events.add(record, payment)?);
                    }
                }
                applied
            };
            if applied {
                any = true;
                outcomes.push(Outcome::Applied);
            } else {
                refused.push(record.key);
                outcomes.push(self.conflict(record)?);
            }
        }
        let tally = if any { Some(tally.store(self.conn, self.sealer)?) } else { None };
        Ok((outcomes, tally))
    }

    fn conflict(&self, offered: &Record) -> Result<Outcome, Stop> {
        let shown = match (Reads { conn: self.conn, sealer: self.sealer }).row(&offered.key)? {
            Some(Ok(record)) => record,
            Some(Err((damaged, version))) => {
                tracing::error!(%damaged, "a write met a damaged row");
                stand_in(offered, version)
            }
            None => stand_in(offered, 0),
        };
        Ok(Outcome::Conflict(Box::new(shown)))
    }
}

/// What stands where an update is to be written.
enum Before {
    Nothing,
    Sound(Replaced),
    Damaged,
}

/// What an update replaces.
struct Replaced {
    /// What it adds to the sums.
    share: Share,
    open: bool,
    seq: i64,
    /// What its merchant saw.
    shows: Option<JsonState>,
}

fn find_before(
    statement: &mut CachedStatement<'_>,
    row: &row::Row<'_>,
    sealer: &Sealer,
    canonical: &mut Vec<u8>,
) -> rusqlite::Result<Before> {
    for (at, value) in (1..).zip(row.values.iter().take(2)) {
        statement.raw_bind_parameter(at, ToSqlOutput::Borrowed(*value))?;
    }
    let mut rows = statement.raw_query();
    let Some(found) = rows.next()? else { return Ok(Before::Nothing) };
    let mut values = [ValueRef::Null; row::LEN];
    for (at, value) in values.iter_mut().enumerate() {
        *value = found.get_ref(at)?;
    }
    let checksum = found.get_ref(row::LEN)?;
    if row::check(&values, checksum, sealer, canonical).is_err() {
        return Ok(Before::Damaged);
    }
    let column = |name| parameter(name).saturating_sub(1);
    let state = found.get(column("state")).ok().and_then(State::from_code);
    let till_reversal = found.get(column("till_reversal")).ok().and_then(TillReversal::from_code);
    Ok(Before::Sound(Replaced {
        share: checksum.as_blob().ok().and_then(tally::share).unwrap_or_default(),
        open: found.get_ref(column("open"))? == ValueRef::Integer(1),
        seq: found.get(row::LEN.saturating_add(1))?,
        shows: state.zip(till_reversal).map(|(state, till_reversal)| json_state(state, till_reversal)),
    }))
}

/// Runs a prepared write of one row; whether it changed anything.
fn write(
    statement: &mut CachedStatement<'_>,
    row: &row::Row<'_>,
    legal_from: Option<i64>,
) -> rusqlite::Result<bool> {
    for (at, value) in (1..).zip(&row.values) {
        statement.raw_bind_parameter(at, ToSqlOutput::Borrowed(*value))?;
    }
    statement.raw_bind_parameter(CHECKSUM, row.checksum.as_slice())?;
    if let Some(legal_from) = legal_from {
        statement.raw_bind_parameter(LEGAL_FROM, legal_from)?;
    }
    Ok(statement.raw_execute()? == 1)
}
