//! What the committing and the folding thread share, and the folding thread.
//!
//! Locks are taken in this order: what folds, the files, the memory. A commit holds the files from its first lookup to
//! its last word, so that nothing else is committed in between; who folds holds them only to begin a new file.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rusqlite::Connection;

use super::archive::{Archives, Named, Shelf};
use super::checkpoint::Due;
use super::filter::Known;
use super::fold;
use super::gate::Gate;
use super::mark::Mark;
use super::recent::frame;
use super::recent::memory::Recent;
use super::recent::{Journal, Sealed};
use super::tally::Tally;
use crate::contract::{CommitError, Fence};
use crate::seal::Sealer;

/// The pause before a database that was busy or full is tried again.
const PAUSE: Duration = Duration::from_millis(50);

/// The files of recent records, and how much in them is not in the database.
pub(super) struct Hot {
    pub(super) journal: Journal,
    /// Records in the file that takes commits.
    pub(super) records: usize,
    /// Records in the file that is being folded.
    pub(super) folding: usize,
    /// Why folding does not get on.
    pub(super) stalled: Option<String>,
    /// It is because the disk is full: nothing new is taken then, even if there is room in the files yet.
    pub(super) is_full: bool,
}

impl Hot {
    /// Records that are not in the database.
    pub(super) const fn waiting(&self) -> usize {
        self.records.saturating_add(self.folding)
    }
}

/// The database's own side.
pub(super) struct Folder {
    conn: Connection,
    shelf: Shelf,
    due: Due,
    /// Given up to be folded, and not folded yet.
    sealed: Option<Sealed>,
}

impl Folder {
    pub(super) const fn new(conn: Connection, shelf: Shelf, due: Due) -> Self {
        Self { conn, shelf, due, sealed: None }
    }
}

pub(super) struct Shared {
    pub(super) sealer: Arc<Sealer>,
    pub(super) fence: Fence,
    pub(super) gate: Arc<Gate>,
    pub(super) mark: Mark,
    pub(super) recent: Arc<Recent>,
    pub(super) filter: Known,
    pub(super) archives: Arc<Archives>,
    pub(super) hot: Mutex<Hot>,
    /// Records that wait to be put into the database, for who must not wait for a commit to hear it.
    pub(super) waiting: AtomicUsize,
    /// Something was folded.
    pub(super) room: Condvar,
    pub(super) folder: Mutex<Folder>,
    /// Set by the first fatal error: nothing is written after it.
    pub(super) dead: Mutex<Option<CommitError>>,
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Records that wait to be put into the database.
    pub(super) fn backlog(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Puts everything that was committed until now into the database.
    pub(super) fn fold(&self) -> Result<(), CommitError> {
        let mut folder = locked(&self.folder);
        // What an earlier try has left, and what was committed since.
        for _ in 0..2 {
            self.fold_one(&mut folder)?;
        }
        Ok(())
    }

    fn fold_one(&self, folder: &mut Folder) -> Result<(), CommitError> {
        if let Some(error) = &*locked(&self.dead) {
            return Err(error.clone());
        }
        let sealed = match folder.sealed {
            Some(sealed) => sealed,
            None => {
                let old = {
                    let mut hot = locked(&self.hot);
                    if hot.records == 0 {
                        let old = self.recent.release();
                        // Commits do not wait until it is dropped.
                        drop(hot);
                        drop(old);
                        return Ok(());
                    }
                    folder.sealed = Some(hot.journal.switch());
                    hot.folding = std::mem::take(&mut hot.records);
                    self.recent.seal()
                };
                drop(old);
                let Some(sealed) = folder.sealed else { return Ok(()) };
                sealed
            }
        };
        let done = self.fold_file(folder, sealed);
        let mut hot = locked(&self.hot);
        match done {
            Ok(()) => {
                folder.sealed = None;
                self.recent.set_folded(sealed.commit);
                hot.folding = 0;
                self.waiting.store(hot.waiting(), Ordering::Relaxed);
                hot.stalled = None;
                hot.is_full = false;
                self.room.notify_all();
                Ok(())
            }
            Err((error, is_full)) => {
                hot.stalled = Some(error.to_string());
                hot.is_full = is_full;
                drop(hot);
                if matches!(error, CommitError::Fatal(_)) {
                    locked(&self.dead).get_or_insert_with(|| error.clone());
                }
                Err(error)
            }
        }
    }

    /// With an error comes whether the disk is full.
    fn fold_file(&self, folder: &Folder, sealed: Sealed) -> Result<(), (CommitError, bool)> {
        let reading = locked(&self.hot).journal.reading(sealed);
        let bytes = reading.read().map_err(|error| (CommitError::Fatal(error.to_string()), false))?;
        let contents = frame::read(&bytes, &self.sealer);
        if contents.end != bytes.len() {
            return Err((CommitError::Fatal("recent records are damaged".to_owned()), false));
        }
        let _turn = self.gate.enter();
        match fold::fold(&folder.conn, &self.sealer, self.fence, &folder.shelf, &contents.commits) {
            Ok(tally) => self.mark.put(&tally),
            Err(stop) => return Err((stop.as_commit_error(self.fence), stop.is_full())),
        }
        Ok(())
    }

    /// Forgets the numbers of payments that have left the database, seen by `conn`.
    pub(super) fn forget_numbers(&self, conn: &Connection) {
        let count = || {
            let named = Named::read(conn, &self.sealer)?.map_or(0, |named| named.away());
            let rows = Tally::load(conn, &self.sealer)?.1.map_or(0, |tally| tally.rows);
            Ok(rows.saturating_sub(named))
        };
        let on_the_way = || self.recent.unfolded().into_keys().collect();
        if let Err(error) = count().and_then(|rows| self.filter.renew(conn, rows, on_the_way)) {
            tracing::warn!(%error, "numbers that were archived go on being looked up in the database");
        }
    }

    /// Moves the database's log into it, on the calling thread.
    #[cfg(feature = "power-cut")]
    pub(super) fn checkpoint(&self) -> rusqlite::Result<()> {
        super::checkpoint::checkpoint(&locked(&self.folder).conn, &self.gate, 0).map(drop)
    }

    fn checkpoint_if_due(&self) {
        let mut folder = locked(&self.folder);
        let Folder { conn, due, .. } = &mut *folder;
        due.run(conn, &self.gate);
    }
}

enum Job {
    Fold,
    Stop,
}

/// The thread that folds.
pub(super) struct Folding {
    jobs: Sender<Job>,
    thread: Option<JoinHandle<()>>,
}

impl Folding {
    pub(super) fn start(shared: Arc<Shared>, after: Duration) -> Result<Self, String> {
        let (jobs, inbox) = bounded(1);
        let thread = std::thread::Builder::new()
            .name("store-fold".to_owned())
            .spawn(move || run(&inbox, &shared, after))
            .map_err(|error| error.to_string())?;
        Ok(Self { jobs, thread: Some(thread) })
    }

    /// There is enough to be folded.
    pub(super) fn wake(&self) {
        // Full: it knows already.
        let _ = self.jobs.try_send(Job::Fold);
    }
}

impl Drop for Folding {
    fn drop(&mut self) {
        let _ = self.jobs.send(Job::Stop);
        if let Some(thread) = self.thread.take() {
            // It has nothing to say: failures were logged as they came.
            let _ = thread.join();
        }
    }
}

fn run(inbox: &Receiver<Job>, shared: &Shared, after: Duration) {
    let mut wait = after;
    let mut said = false;
    while let Ok(Job::Fold) | Err(RecvTimeoutError::Timeout) = inbox.recv_timeout(wait) {
        wait = after;
        match shared.fold_some() {
            Ok(()) => {
                said = false;
                shared.checkpoint_if_due();
            }
            Err(CommitError::Fatal(why)) => {
                tracing::error!(why, "recent records are not put into the database any more");
                return;
            }
            // Who commits learns of a newer writer by itself.
            Err(error) => {
                wait = PAUSE;
                if !std::mem::replace(&mut said, true) {
                    tracing::warn!(%error, "recent records are not put into the database; they wait, and are safe");
                }
            }
        }
    }
}

impl Shared {
    fn fold_some(&self) -> Result<(), CommitError> {
        self.fold_one(&mut locked(&self.folder))
    }
}
