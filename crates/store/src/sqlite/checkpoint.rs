//! Moves the write-ahead log into the database, beside whoever reads and changes merchants.
//!
//! The log starts over only when all of it has been moved. So the bulk is moved beside other writers, and the last few
//! pages with them held back for a moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rusqlite::Connection;

use super::gate::Gate;

/// How often the bulk is moved before other writers are held back, however much is left.
const PASSES_MAX: u32 = 4;

/// When the log is to be moved next.
pub(super) struct Due {
    /// Pages in the log, as of the last commit.
    log: Arc<AtomicU32>,
    at: u32,
    /// The log is moved when it is this long or longer.
    pages: u32,
}

impl Due {
    /// Has `conn` tell how long the log is.
    pub(super) fn watch(conn: &mut Connection, pages: u32) -> Result<Self, String> {
        let log = Arc::new(AtomicU32::new(0));
        let told = Arc::clone(&log);
        let hook = move |_: &mut _, pages: i32| {
            told.store(u32::try_from(pages).unwrap_or(0), Ordering::Relaxed);
            Ok(())
        };
        conn.wal_hook(Some(hook)).map_err(|error| error.to_string())?;
        Ok(Self { log, at: pages, pages })
    }

    /// Moves the log if it is time.
    pub(super) fn run(&mut self, conn: &Connection, gate: &Gate) {
        if self.log.load(Ordering::Relaxed) < self.at {
            return;
        }
        self.at = match checkpoint(conn, gate, self.pages / 8) {
            Ok(Moved { log, left: 0 }) => {
                tracing::debug!(pages = log, "the store's log was moved into the database");
                self.pages
            }
            // A reader still needs the log: go on when it has grown by as much again.
            Ok(Moved { log, .. }) => log.saturating_add(self.pages),
            Err(error) => {
                tracing::warn!(%error, "the store's log could not be moved into the database; it grows until it can");
                self.at.saturating_add(self.pages)
            }
        };
    }
}

pub(super) struct Moved {
    log: u32,
    left: u32,
}

/// Moves the log; with at most `left_max` pages left of it other writers are held back for the rest.
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
