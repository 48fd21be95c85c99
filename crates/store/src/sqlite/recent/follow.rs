//! Reading recent records beside a writer of another process, or where none is: from the files.

use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use state_machine::step::Step;

use super::super::archive::Shelf;
use super::super::fold;
use super::super::layer::Layer;
use super::super::mark::Mark;
use super::super::read::{Reads, unreadable};
use super::super::row;
use super::memory::{Entry, Recent};
use crate::contract::StoreError;
use crate::seal::Sealer;

/// How often a writer may be faster with folding than we are with reading.
const TRIES_MAX: u32 = 16;

/// What of the files was read last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    folded: u64,
    last: u64,
}

/// Recent records as the files have them.
pub(in super::super) struct Follower {
    recent: Recent,
    seen: Option<Seen>,
}

impl Follower {
    pub(in super::super) fn new() -> Self {
        Self { recent: Recent::new(0), seen: None }
    }

    /// Looks for what is new. What the mark does not say to be durable yet is left out.
    pub(in super::super) fn refresh(
        &mut self,
        layer: &Layer,
        path: &Path,
        conn: &Connection,
        shelf: &Shelf,
        sealer: &Sealer,
    ) -> Result<&Recent, StoreError> {
        shelf.refresh(path, conn, sealer).map_err(|error| unreadable(&error))?;
        let mut known = 0;
        for _ in 0..TRIES_MAX {
            let folded = fold::folded(conn, sealer).map_err(|error| unreadable(&error))?;
            let folded =
                folded.ok_or_else(|| contradicts("what it says of its recent records is damaged"))?;
            let marked = Mark::read(layer, path, sealer).recent.filter(|stamp| stamp.store == folded.store);
            let durable = marked.map(|stamp| stamp.commit);
            let is_known =
                |seen: &Seen| durable.is_some_and(|last| *seen == Seen { folded: folded.commit, last });
            if self.seen.as_ref().is_some_and(is_known) {
                return Ok(&self.recent);
            }
            let files = super::read_both(layer, path);
            let files = files.map_err(|error| StoreError::Unreadable(error.to_string()))?;
            let found = super::find(&files, folded.store, folded.commit, sealer);
            let last = durable.unwrap_or(found.last).max(folded.commit);
            known = last.max(found.lost.unwrap_or(0));
            // Else the writer has begun a file anew meanwhile, and what it held is in the database.
            if last <= found.last && (found.lost.is_none() || durable.is_some()) {
                self.recent = load(&found, last, conn, shelf, sealer)?;
                self.recent.set_folded(folded.commit);
                self.seen = Some(Seen { folded: folded.commit, last });
                return Ok(&self.recent);
            }
        }
        Err(contradicts(&format!("commit {known} of payments was durable, and is not there")))
    }
}

fn contradicts(what: &str) -> StoreError {
    StoreError::Contradicts(what.to_owned())
}

/// Commits that were read, up to `last`, as they are asked for.
fn load(
    found: &super::Found<'_>,
    last: u64,
    conn: &Connection,
    shelf: &Shelf,
    sealer: &Sealer,
) -> Result<Recent, StoreError> {
    let recent = Recent::new(0);
    let reads = Reads { conn, sealer };
    for commit in found.commits.iter().take_while(|commit| commit.stamp.commit <= last) {
        for row in &commit.rows {
            let row = row.row().ok_or_else(|| contradicts("a recent record cannot be read"))?;
            let record = row::decode(&row.values, ValueRef::Blob(&row.checksum), sealer)
                .map_err(|why| contradicts(&format!("a recent record cannot be read: {why}")))?;
            let before = match recent.latest(&record.key) {
                Some(before) => Some(Step::of(&before).shows()),
                None if record.version > 1 => {
                    let stored = reads.row_or_archived(&record.key, shelf);
                    stored
                        .map_err(|error| unreadable(&error))?
                        .and_then(Result::ok)
                        .map(|record| Step::of(&record).shows())
                }
                None => None,
            };
            let is_event = before != Some(Step::of(&record).shows());
            let entry = Entry { commit: commit.stamp.commit, record: Arc::new(record), is_event };
            recent.publish(std::iter::once(entry));
        }
    }
    Ok(recent)
}
