//! Recent records: where a commit of payments becomes durable, before it is in the database.
//!
//! A commit is one append to one of two files beside the database and one sync: what a database does beside that,
//! above all a page of an index at a random place for each record, is done later, for thousands of records at once
//! and in the order of the indexes ([`super::fold`]). While the one file is folded into the database, the other takes
//! commits; so a file is written from its beginning, over what the database has long had.
//!
//! Until a record is folded it is in memory too ([`memory`]), where it is looked up first; what only reads, beside
//! another process, reads it from the files ([`follow`]).

pub(super) mod follow;
pub(super) mod frame;
pub(super) mod memory;
pub(super) mod stamp;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::frame::{Contents, Frame};
use self::stamp::Stamp;
use super::error::OpenError;
use super::layer::{Layer, Segment};
use super::mark::beside;
use super::schema::wanted_synchronous;
use super::tally::StoreId;
use crate::contract::Fence;
use crate::seal::Sealer;

/// The two files, by the end of their names.
pub(super) const SUFFIXES: [&str; 2] = ["-recent-0", "-recent-1"];

/// The paths of both files.
pub(super) fn paths(store: &Path) -> [PathBuf; 2] {
    SUFFIXES.map(|suffix| beside(store, suffix))
}

/// Both files as they are.
pub(super) fn read_both(layer: &Layer, store: &Path) -> io::Result<[Vec<u8>; 2]> {
    let [first, second] = paths(store);
    Ok([layer.read_segment(&first)?, layer.read_segment(&second)?])
}

/// The writer's side.
pub(super) struct Journal {
    segments: [Arc<Segment>; 2],
    active: usize,
    /// Where the next frame goes.
    at: u64,
    /// Commits so far.
    commit: u64,
    store: StoreId,
    fence: Fence,
    frame: Frame,
}

/// A file that takes no more commits and is to be folded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sealed {
    segment: usize,
    length: u64,
    /// Its last commit.
    pub(super) commit: u64,
}

impl Journal {
    /// Makes the files anew, to write behind commit `commit`; whatever they held must be in the database. A writer that
    /// was replaced may still write into the old ones, which nobody reads any more.
    pub(super) fn open(
        layer: &Layer,
        store: &Path,
        id: StoreId,
        fence: Fence,
        commit: u64,
    ) -> Result<Self, OpenError> {
        let [first, second] = paths(store);
        let segments = [Arc::new(layer.new_segment(&first)?), Arc::new(layer.new_segment(&second)?)];
        Ok(Self { segments, active: 0, at: 0, commit, store: id, fence, frame: Frame::default() })
    }

    /// Where the rows of the next commit are put together.
    pub(super) const fn frame(&mut self) -> &mut Frame {
        &mut self.frame
    }

    /// Makes the frame durable as the next commit. Returns its number and the stamp for the mark.
    ///
    /// After an error nothing counts as written: the next frame goes to the same place.
    pub(super) fn append(&mut self, sealer: &Sealer) -> io::Result<(u64, [u8; stamp::LEN])> {
        let commit = self.commit.saturating_add(1);
        let stamp = Stamp { store: self.store, commit, fence: self.fence.0, ..Stamp::default() };
        let (bytes, stamp) = self.frame.finish(stamp, sealer);
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let Some(segment) = self.segments.get(self.active) else { return Err(io::Error::other("no file")) };
        segment.write_at(self.at, bytes)?;
        if wanted_synchronous() == "full" {
            segment.sync().map_err(not_synced)?;
        }
        self.at = self.at.saturating_add(length);
        self.commit = commit;
        Ok((commit, stamp))
    }

    /// From now on commits go into the other file, whose commits must all be in the database.
    pub(super) const fn switch(&mut self) -> Sealed {
        let sealed = Sealed { segment: self.active, length: self.at, commit: self.commit };
        self.active ^= 1;
        self.at = 0;
        sealed
    }

    /// A file that takes no more commits, to be read while the other one takes some.
    pub(super) fn reading(&self, sealed: Sealed) -> Reading {
        Reading { segment: self.segments.get(sealed.segment).map(Arc::clone), length: sealed.length }
    }

    /// Gives the room of both files back; all of it must be in the database, and durable there.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        self.at = 0;
        self.segments.iter().try_for_each(|segment| segment.clear())
    }
}

/// A file that takes no more commits.
pub(super) struct Reading {
    segment: Option<Arc<Segment>>,
    length: u64,
}

impl Reading {
    /// All that was committed there.
    pub(super) fn read(&self) -> io::Result<Vec<u8>> {
        let length = usize::try_from(self.length).map_err(io::Error::other)?;
        self.segment.as_ref().map_or_else(|| Ok(Vec::new()), |segment| segment.read(length))
    }
}

/// Never taken for a full disk: what the disk holds is unknown.
fn not_synced(error: io::Error) -> io::Error {
    io::Error::other(error)
}

/// Commits that are not in the database yet, in order, and what is behind them.
pub(super) struct Found<'a> {
    pub(super) commits: Vec<frame::Commit<'a>>,
    /// The last commit there is, in the database or here.
    pub(super) last: u64,
    /// Behind it lies what is left of a commit that is not whole.
    pub(super) torn: bool,
    /// A commit that is known to have been durable, and cannot be reached; or one of another store.
    pub(super) lost: Option<u64>,
}

/// Puts together what both files hold behind the commit `folded`.
pub(super) fn find<'a>(files: &'a [Vec<u8>; 2], id: StoreId, folded: u64, sealer: &Sealer) -> Found<'a> {
    let mut found = Found { commits: Vec::new(), last: folded, torn: false, lost: None };
    let mut newest = folded;
    let mut read: Vec<Contents<'a>> = Vec::new();
    for file in files {
        let contents = frame::read(file, sealer);
        let behind = file.get(contents.end..).unwrap_or_default();
        // In a file that was never written over, the end of a commit may be all that is missing.
        found.torn |= Stamp::is_cut(behind);
        if let Some(stamp) = Stamp::newest_in(behind, sealer) {
            newest = newest.max(stamp.commit);
            found.lost = found.lost.max((stamp.store != id).then_some(stamp.commit));
        }
        read.push(contents);
    }
    read.sort_by_key(|contents| contents.commits.first().map_or(0, |commit| commit.stamp.commit));
    for commit in read.into_iter().flat_map(|contents| contents.commits) {
        newest = newest.max(commit.stamp.commit);
        found.lost = found.lost.max((commit.stamp.store != id).then_some(commit.stamp.commit));
        if commit.stamp.store == id && commit.stamp.commit == found.last.saturating_add(1) {
            found.last = commit.stamp.commit;
            found.commits.push(commit);
        }
    }
    found.torn |= newest == found.last.saturating_add(1);
    found.lost = found.lost.max((newest > found.last.saturating_add(1)).then_some(newest));
    found
}
