//! Moves the write-ahead log into the database on a thread of its own, so that no commit waits for it.
//!
//! The log starts over only when all of it has been moved, which under load never happens by itself: commits go
//! on while it is moved. So the bulk is moved beside the commits, and the last few pages with commits held back
//! for a moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender, bounded};
use rusqlite::Connection;

use super::gate::Gate;

/// How often the bulk is moved before commits are held back, however much is left.
const PASSES_MAX: u32 = 4;

enum Job {
    Run,
    Stop,
}

pub(super) struct Checkpointer {
    jobs: Sender<Job>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// Starts the thread, and has `writer` wake it whenever the log is `pages` long or longer.
    pub(super) fn start(
        writer: &mut Connection,
        own: Connection,
        gate: Arc<Gate>,
        pages: u32,
    ) -> Result<Self, String> {
        let (jobs, inbox) = bounded(1);
        let due_at = Arc::new(AtomicU32::new(pages));
        let (wake, due) = (jobs.clone(), Arc::clone(&due_at));
        let hook = move |_: &mut _, log: i32| {
            if u32::try_from(log).is_ok_and(|log| log >= due.load(Ordering::Relaxed)) {
                // Full: it is awake already.
                let _ = wake.try_send(Job::Run);
            }
            Ok(())
        };
        writer.wal_hook(Some(hook)).map_err(|error| error.to_string())?;
        let thread = std::thread::Builder::new()
            .name("store-checkpoint".to_owned())
            .spawn(move || run(&inbox, &own, &gate, pages, &due_at))
            .map_err(|error| error.to_string())?;
        Ok(Self { jobs, thread: Some(thread) })
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        let _ = self.jobs.send(Job::Stop);
        if let Some(thread) = self.thread.take() {
            // It has nothing to say: failures were logged as they came.
            let _ = thread.join();
        }
    }
}

fn run(inbox: &Receiver<Job>, own: &Connection, gate: &Gate, pages: u32, due_at: &AtomicU32) {
    while let Ok(Job::Run) = inbox.recv() {
        let next = match checkpoint(own, gate, pages / 8) {
            Ok(Moved { log, left: 0 }) => {
                tracing::debug!(pages = log, "the store's log was moved into the database");
                pages
            }
            // A reader still needs the log: go on when it has grown by as much again.
            Ok(Moved { log, .. }) => log.saturating_add(pages),
            Err(error) => {
                tracing::warn!(%error, "the store's log could not be moved into the database; it grows until it can");
                due_at.load(Ordering::Relaxed).saturating_add(pages)
            }
        };
        due_at.store(next, Ordering::Relaxed);
    }
}

pub(super) struct Moved {
    log: u32,
    left: u32,
}

/// Moves the log; with at most `left_max` pages left of it commits are held back for the rest.
pub(super) fn checkpoint(own: &Connection, gate: &Gate, left_max: u32) -> rusqlite::Result<Moved> {
    for _ in 0..PASSES_MAX {
        if passive(own)?.left <= left_max {
            break;
        }
    }
    let _turn = gate.enter_urgently();
    passive(own)
}

/// Moves what no reader needs any more, without waiting for anybody.
fn passive(own: &Connection) -> rusqlite::Result<Moved> {
    own.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
        let (log, moved): (i64, i64) = (row.get(1)?, row.get(2)?);
        let pages = |count: i64| u32::try_from(count).unwrap_or(0);
        Ok(Moved { log: pages(log), left: pages(log.saturating_sub(moved)) })
    })
}
