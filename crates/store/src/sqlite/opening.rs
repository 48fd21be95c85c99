//! What is known of a store from beside it, and whether the store agrees.

use std::path::Path;

use super::error::OpenError;
use super::layer::Layer;
use super::log::{self, Log};
use super::mark::{Mark, beside};
use super::tally::Tally;
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
    mark: Option<Tally>,
}

impl Witness {
    pub(super) fn look(layer: &Layer, path: &Path, sealer: &Sealer) -> Result<Self, OpenError> {
        let unavailable = |error: std::io::Error| OpenError::Unavailable {
            path: path.to_owned(),
            cause: error.to_string(),
        };
        let file = layer.log(&beside(path, "-wal")).map_err(unavailable)?;
        let log = log::scan(file, sealer).map_err(unavailable)?;
        Ok(Self { log, mark: Mark::read(layer, path, sealer) })
    }

    /// Refuses a store that ends before what is known to be durable. `store`: what it says of itself, if it is
    /// there at all.
    pub(super) fn compare(&self, path: &Path, store: Option<&Tally>) -> Result<Opening, OpenError> {
        let found = store.map_or(0, |tally| tally.commits);
        let lost = |known: &Tally, witness| {
            Err(OpenError::Lost { path: path.to_owned(), found, known: known.commits, witness })
        };
        let is_other = |known: &Tally| store.is_some_and(|tally| tally.store != known.store);
        let next = store.map_or(0, |tally| tally.commits.saturating_add(1));
        match &self.log.newest {
            // A creation, commit 0, may be there in part, and another one began instead.
            Some(Tally { commits: 0, .. }) => {}
            Some(known) if is_other(known) => return lost(known, "the log, which is another store's,"),
            Some(known) if known.commits > next => return lost(known, "the log"),
            Some(_) | None => {}
        }
        match &self.mark {
            Some(known) if is_other(known) => return lost(known, "the mark, which is another store's,"),
            Some(known) if known.commits > found || store.is_none() => return lost(known, "the mark"),
            Some(_) | None => {}
        }
        let opening = Opening { log_frames: self.log.frames, dropped_frames: self.log.dropped };
        if opening.dropped_frames > 0 {
            let marked = self.mark.is_some_and(|known| known.commits == found);
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
        self.log.frames > 0 && self.mark.is_none_or(|mark| mark.commits < store.commits)
    }
}
