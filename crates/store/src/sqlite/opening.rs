//! What is known of a store from beside it, and whether the store agrees.

use std::path::Path;

use rusqlite::Connection;

use super::archive::Shelf;
use super::error::OpenError;
use super::fold::{self, Stop};
use super::layer::Layer;
use super::log::{self, Log};
use super::mark::{Mark, Marked, beside};
use super::recent::stamp::Stamp;
use super::recent::{self, read_both};
use super::schema::broken;
use super::tally::Tally;
use crate::contract::Fence;
use crate::seal::Sealer;

/// What an opening found at the end of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opening {
    /// Frames of whole commits in the log: what was not moved into the database yet.
    pub log_frames: u64,
    /// Frames behind them that were left out: of a commit that never became durable, and so was acknowledged to
    /// nobody. Only where the mark beside the store is missing too may it be the last commit, damaged later.
    pub dropped_frames: u64,
}

/// What the log and the mark say, read before SQLite looks at anything.
pub(super) struct Witness {
    log: Log,
    marked: Marked,
    /// The newest commit in the files of recent records.
    recent: Option<Stamp>,
}

impl Witness {
    pub(super) fn look(layer: &Layer, path: &Path, sealer: &Sealer) -> Result<Self, OpenError> {
        let unavailable = |error: std::io::Error| OpenError::Unavailable {
            path: path.to_owned(),
            cause: error.to_string(),
        };
        let file = layer.log(&beside(path, "-wal")).map_err(unavailable)?;
        let log = log::scan(file, sealer).map_err(unavailable)?;
        let files = read_both(layer, path).map_err(unavailable)?;
        let recent = files.iter().filter_map(|file| Stamp::newest_in(file, sealer));
        let recent = recent.max_by_key(|stamp| stamp.commit);
        Ok(Self { log, marked: Mark::read(layer, path, sealer), recent })
    }

    /// Refuses a store that ends before what is known to be durable. `store`: what it says of itself, if it is
    /// there at all.
    pub(super) fn compare(&self, path: &Path, store: Option<&Tally>) -> Result<Opening, OpenError> {
        let found = store.map_or(0, |tally| tally.commits);
        let lost = |known: &Tally, witness| {
            Err(OpenError::Lost { path: path.to_owned(), found, known: known.commits, witness })
        };
        if let (None, Some(stamp)) = (store, self.recent.or(self.marked.recent)) {
            let (path, known) = (path.to_owned(), stamp.commit);
            return Err(OpenError::Lost { path, found, known, witness: RECENT });
        }
        let is_other = |known: &Tally| store.is_some_and(|tally| tally.store != known.store);
        let next = store.map_or(0, |tally| tally.commits.saturating_add(1));
        match &self.log.newest {
            // A creation, commit 0, may be there in part, and another one began instead.
            Some(Tally { commits: 0, .. }) => {}
            Some(known) if is_other(known) => return lost(known, "the log, which is another store's,"),
            Some(known) if known.commits > next => return lost(known, "the log"),
            Some(_) | None => {}
        }
        match &self.marked.tally {
            Some(known) if is_other(known) => return lost(known, "the mark, which is another store's,"),
            Some(known) if known.commits > found || store.is_none() => return lost(known, "the mark"),
            Some(_) | None => {}
        }
        let opening = Opening { log_frames: self.log.frames, dropped_frames: self.log.dropped };
        if opening.dropped_frames > 0 {
            let marked = self.marked.tally.is_some_and(|known| known.commits == found);
            tracing::warn!(
                frames = opening.dropped_frames,
                commit = found,
                "the store's log ends in what is no whole commit; it is left out, and {}",
                if marked {
                    "nobody was told of it"
                } else {
                    "as far as can be known, nobody was told of it"
                }
            );
        }
        Ok(opening)
    }

    /// Whether the last commit is only *seen* to be whole. After a sync that failed the page cache shows what the
    /// disk does not hold, until the machine goes down; the mark ends before such a commit.
    pub(super) fn is_doubtful(&self, store: &Tally) -> bool {
        self.log.frames > 0 && self.marked.tally.is_none_or(|mark| mark.commits < store.commits)
    }

    /// Refuses a store whose recent records end before what is known to be durable. Returns how many commits, none or
    /// one, are left out as not whole.
    pub(super) fn compare_recent(
        &self,
        layer: &Layer,
        conn: &Connection,
        path: &Path,
        sealer: &Sealer,
    ) -> Result<u64, OpenError> {
        let folded = folded(conn, path, sealer)?;
        let files = read_both(layer, path).map_err(|error| unavailable(path, &error))?;
        let found = recent::find(&files, folded.store, folded.commit, sealer);
        let lost =
            |known, witness| OpenError::Lost { path: path.to_owned(), found: found.last, known, witness };
        if let Some(known) = found.lost {
            return Err(lost(known, RECENT));
        }
        match &self.marked.recent {
            Some(known) if known.store != folded.store => {
                return Err(lost(known.commit, "the mark, which is another store's,"));
            }
            Some(known) if known.commit > found.last => return Err(lost(known.commit, "the mark")),
            Some(_) | None => {}
        }
        if found.torn {
            let marked = self.marked.recent.is_some_and(|known| known.commit == found.last);
            tracing::warn!(
                commit = found.last,
                "recent records end in what is no whole commit; it is left out, and {}",
                if marked {
                    "nobody was told of it"
                } else {
                    "as far as can be known, nobody was told of it"
                }
            );
        }
        Ok(u64::from(found.torn))
    }
}

const RECENT: &str = "the file of recent records";

fn unavailable(path: &Path, error: &std::io::Error) -> OpenError {
    OpenError::Unavailable { path: path.to_owned(), cause: error.to_string() }
}

fn folded(conn: &Connection, path: &Path, sealer: &Sealer) -> Result<Stamp, OpenError> {
    let folded = fold::folded(conn, sealer).map_err(|error| broken(path, &error))?;
    folded.ok_or_else(|| OpenError::Contradicts {
        path: path.to_owned(),
        what: "what it says of its recent records is damaged".to_owned(),
    })
}

/// Puts what a writer before has left into the database. Returns the number of the last commit.
pub(super) fn fold_recent(
    layer: &Layer,
    conn: &Connection,
    path: &Path,
    sealer: &Sealer,
    fence: Fence,
    shelf: &Shelf,
    mark: &Mark,
) -> Result<u64, OpenError> {
    let folded = folded(conn, path, sealer)?;
    let files = read_both(layer, path).map_err(|error| unavailable(path, &error))?;
    let found = recent::find(&files, folded.store, folded.commit, sealer);
    if found.commits.is_empty() {
        return Ok(found.last);
    }
    tracing::info!(commits = found.commits.len(), "recent records are put into the database");
    let tally = fold::fold(conn, sealer, fence, shelf, &found.commits).map_err(|stop| match stop {
        Stop::Sqlite(error) => broken(path, &error),
        Stop::Fenced(_) => OpenError::InUse { path: path.to_owned(), pid: None },
        Stop::Contradicts(what) => OpenError::Contradicts { path: path.to_owned(), what },
    })?;
    mark.put(&tally);
    Ok(found.last)
}
