//! One durable commit: the hot path.
//!
//! Each record is judged against the payment as it stands: in this commit, among the recent records, or in the
//! database. What applies goes to the files of recent records with one append and one sync, and is seen by others
//! after that.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use planted::planted;
use rusqlite::Connection;
use state_machine::shard::Outcome;
use state_machine::step::Step;
use state_machine::{OrderKey, Record};

use super::archive::Shelf;
use super::error::commit_error;
use super::read::Reads;
use super::recent::memory::Entry;
use super::row::{self, Scratch};
use super::shared::{Hot, Shared, locked};
use crate::contract::{CommitError, Fence, stand_in};

/// The writer's side of one commit.
pub(super) struct Write<'a> {
    pub(super) conn: &'a Connection,
    pub(super) shared: &'a Shared,
    pub(super) shelf: &'a Shelf,
    pub(super) scratch: &'a mut Scratch,
    /// How many records may wait to be folded.
    pub(super) backlog_max: usize,
    /// How long to wait for room among them.
    pub(super) patience: Duration,
}

/// A payment as it stands.
enum There {
    Nothing,
    Sound(Arc<Record>),
    /// With the version that it claims.
    Damaged(u32),
}

/// What became of the records of a commit.
struct Judged {
    outcomes: Vec<Outcome>,
    /// What applies, and whether each is an event.
    applied: Vec<(Arc<Record>, bool)>,
}

impl Write<'_> {
    /// Makes `records` durable. Returns how many records wait to be folded now.
    pub(super) fn commit(&mut self, records: &[Arc<Record>]) -> Result<(Vec<Outcome>, usize), CommitError> {
        let shared = self.shared;
        let mut hot = with_room(shared, records.len(), self.backlog_max, self.patience)?;
        self.check_fence()?;
        let Judged { outcomes, applied } = self.judge(records, &mut hot)?;
        if !applied.is_empty() {
            let appended = hot.journal.append(&shared.sealer);
            let (commit, stamp) = appended.map_err(|error| append_error(&error))?;
            // A newer writer takes its fence first and then reads what is here: it has read this, or we are told now.
            self.check_fence().map_err(|error| {
                CommitError::Fatal(format!(
                    "{error} Whether the last records count is for that process to say."
                ))
            })?;
            shared.mark.put_recent(&stamp);
            hot.records = hot.records.saturating_add(applied.len());
            shared.waiting.store(hot.waiting(), Ordering::Relaxed);
            let keys: Vec<OrderKey> = applied.iter().map(|(record, _)| record.key).collect();
            let entry = |(record, is_event)| Entry { commit, record, is_event };
            shared.recent.publish(applied.into_iter().map(entry));
            // All of them: a payment that was recent for days may have gone to an archive, and comes back by this. And only
            // now: a filter that is being made anew takes up what is published, or is told here.
            keys.iter().for_each(|key| shared.filter.add(key));
        }
        Ok((outcomes, hot.records))
    }

    fn check_fence(&self) -> Result<(), CommitError> {
        let ours = self.shared.fence;
        let newest = self
            .conn
            .prepare_cached("SELECT fence FROM store WHERE id = 1")
            .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
            .map(|fence: i64| Fence(fence.cast_unsigned()))
            .map_err(|error| commit_error(&error))?;
        if newest != ours && !planted!(FenceIgnored) {
            return Err(CommitError::Fenced { ours, newer: newest });
        }
        Ok(())
    }

    /// Judges each record, and lays those that apply out in the frame.
    fn judge(&mut self, records: &[Arc<Record>], hot: &mut Hot) -> Result<Judged, CommitError> {
        let frame = hot.journal.frame();
        frame.begin();
        let mut judged = Judged {
            outcomes: Vec::with_capacity(records.len()),
            applied: Vec::with_capacity(records.len()),
        };
        // Few or none: a conflict means that somebody else was here first.
        let mut refused: Vec<OrderKey> = Vec::new();
        let mut newest: HashMap<OrderKey, Arc<Record>> = HashMap::with_capacity(records.len());
        for record in records {
            let there = match newest.get(&record.key) {
                Some(record) => There::Sound(Arc::clone(record)),
                None => self.look(&record.key)?,
            };
            if refused.contains(&record.key) || !follows(record, &there) {
                refused.push(record.key);
                judged.outcomes.push(conflict(record, &there));
                continue;
            }
            let row = row::encode(record, self.shared.fence, &self.shared.sealer, self.scratch)
                .map_err(|error| CommitError::Fatal(error.to_string()))?;
            frame.push(&row);
            let shows = Step::of(record).shows();
            let is_event = !matches!(&there, There::Sound(before) if Step::of(before).shows() == shows);
            judged.applied.push((Arc::clone(record), is_event));
            newest.insert(record.key, Arc::clone(record));
            judged.outcomes.push(Outcome::Applied);
        }
        Ok(judged)
    }

    /// The payment as it was before this commit.
    fn look(&self, key: &OrderKey) -> Result<There, CommitError> {
        let shared = self.shared;
        if let Some(record) = shared.recent.latest(key) {
            return Ok(There::Sound(record));
        }
        let reads = Reads { conn: self.conn, sealer: &shared.sealer };
        let look = || {
            let stored = if shared.filter.is_new(key) { None } else { reads.row(key)? };
            stored.map_or_else(|| self.shelf.row(key, &shared.sealer), |found| Ok(Some(found)))
        };
        let found = look().map_err(|error: rusqlite::Error| commit_error(&error))?;
        Ok(match found {
            None => There::Nothing,
            Some(Ok(record)) => There::Sound(Arc::new(record)),
            Some(Err((damaged, version))) => {
                tracing::error!(%damaged, "a write met a damaged row");
                There::Damaged(version)
            }
        })
    }
}

/// The files, when there is room for `more` records.
fn with_room(
    shared: &Shared,
    more: usize,
    backlog_max: usize,
    patience: Duration,
) -> Result<MutexGuard<'_, Hot>, CommitError> {
    // A call without records asks only whether this writer is still the one.
    let is_full = |hot: &mut Hot| {
        let waiting = hot.waiting();
        more > 0 && waiting > 0 && (waiting.saturating_add(more) > backlog_max || hot.is_full)
    };
    let mut hot = locked(&shared.hot);
    if is_full(&mut hot) {
        let waited = shared.room.wait_timeout_while(hot, patience, is_full);
        hot = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
    if is_full(&mut hot) {
        let why = hot.stalled.as_deref().unwrap_or("the disk is too slow");
        let waiting = hot.waiting();
        let why = format!("{waiting} recent records wait to be put into the database ({why})");
        return Err(CommitError::Busy(why));
    }
    Ok(hot)
}

/// Whether the contract lets `record` be written where `there` is.
fn follows(record: &Record, there: &There) -> bool {
    match there {
        There::Nothing => record.version == 1,
        There::Sound(before) => {
            record.version > 1
                && record.version.checked_sub(1) == Some(before.version)
                && before.state.may_become(record.state)
                && before.accepted_at == record.accepted_at
        }
        // Written over it, a damaged row would leave sums that no row explains.
        There::Damaged(_) => false,
    }
}

fn conflict(offered: &Record, there: &There) -> Outcome {
    Outcome::Conflict(Box::new(match there {
        There::Nothing => stand_in(offered, 0),
        There::Sound(record) => Record::clone(record),
        There::Damaged(version) => stand_in(offered, *version),
    }))
}

/// Whether an append that failed may be tried again.
fn append_error(error: &std::io::Error) -> CommitError {
    if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
        return CommitError::Busy(format!("the disk is full: {error}"));
    }
    // Everything else: whether the disk did what it was told is not known (DB-09).
    CommitError::Fatal(error.to_string())
}
