//! Archives days that are over, and gives up those that need not be kept, beside the writer and on a thread of its own.

use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};

use super::super::checkpoint::Due;
use super::super::error::OpenError;
use super::super::fold::Stop;
use super::super::layer::Layer;
use super::super::shared::{Shared, locked};
use super::super::tally::{self, StoreId};
use super::super::{Options, schema};
use super::entry;
use super::make::{self, Made, Source};
use super::{Archive, Shelf, moving, path_of};
use crate::contract::{CommitError, Day};

/// KiB of pages for the time of one day: what one transaction of [`moving`] touches.
pub(super) const CACHE_KIB: i64 = 131_072;

/// Archives days of an open store.
pub struct Archivist {
    conn: Connection,
    due: Due,
    layer: Layer,
    path: PathBuf,
    id: StoreId,
    page_size: u32,
    shared: Arc<Shared>,
    shelf: Shelf,
}

/// A day that was archived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Archived {
    /// Which.
    pub day: Day,
    /// Payments in its archive.
    pub payments: u64,
    /// Those of them that the database has no more.
    pub away: u64,
}

/// What one call came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// This day is done; there may be more.
    Day(Archived),
    /// Nothing is left to be archived.
    Nothing,
    /// It was not to go on; the next call does.
    Stopped,
}

impl Archivist {
    pub(in super::super) fn new(
        layer: &Layer,
        path: PathBuf,
        id: StoreId,
        options: &Options,
        shared: Arc<Shared>,
    ) -> Result<Self, OpenError> {
        let mut conn = schema::connect(layer, &path, options)?;
        schema::make_durable(layer, &conn, &path, options)?;
        // Else pages go to the log several times in one transaction.
        let cache = |error| schema::broken(&path, &error);
        conn.pragma_update(None, "cache_size", CACHE_KIB.saturating_neg()).map_err(cache)?;
        let due = Due::watch(&mut conn, options.checkpoint_pages.max(1));
        let due = due.map_err(|cause| OpenError::Broken { path: path.clone(), cause })?;
        let shelf = Shelf::new(layer, &shared.archives);
        Ok(Self { conn, due, layer: layer.clone(), path, id, page_size: options.page_size, shared, shelf })
    }

    /// Archives the oldest day before `before` that is not archived yet: copies what is closed, and deletes it in the
    /// database once the copy is durable. `go_on` is asked every few thousand rows, with no lock held: it may wait, so
    /// that others get the processor, or say that this call is to end.
    ///
    /// # Errors
    ///
    /// [`CommitError`], as a commit has it. What was copied or deleted until then stands, and the next call goes on.
    pub fn archive(&mut self, before: Day, go_on: &mut dyn FnMut() -> bool) -> Result<Progress, CommitError> {
        let entries = self.read(|conn| entry::sound(conn, &self.shared.sealer))?;
        // A crash came between naming it and the last of its rows.
        if let Some(entry) = entries.iter().find(|entry| !entry.settled && !entry.dropped) {
            return self.settle(entry.day, go_on);
        }
        let from =
            entries.first().map_or(Day(i64::MIN / Day::MS), |newest| Day(newest.day.0.saturating_add(1)));
        let Some(day) = self.oldest(from)?.filter(|day| *day < before) else { return Ok(Progress::Nothing) };
        let path = path_of(&self.path, day);
        let source = Source {
            conn: &self.conn,
            sealer: &self.shared.sealer,
            id: self.id,
            day,
            page_size: self.page_size,
        };
        let made = make::make(&source, &self.layer, &path, go_on);
        let entry =
            match made.map_err(|cause| CommitError::Busy(format!("{day} is not archived: {cause}")))? {
                Made::Whole(entry) => entry,
                Made::Stopped => return Ok(Progress::Stopped),
            };
        let read = || {
            let conn = super::connect(&self.layer, &path).map_err(|error| error.to_string())?;
            make::read_numbers(&conn, self.id, &entry, &self.shared.sealer)
        };
        let numbers = read().map_err(|cause| CommitError::Busy(format!("{day} is not archived: {cause}")))?;
        self.write(|conn, shared| {
            moving::name(conn, &shared.sealer, shared.fence, &entry).map(|bytes| ((), bytes))
        })?;
        // Before anything is deleted: who does not find it in the database finds it here.
        let archive = Archive { day, path, numbers: Some(numbers) };
        self.shared.archives.change(|list| list.push(Arc::new(archive)));
        self.settle(day, go_on)
    }

    /// Gives up the archives of days before `before`, and removes their files. Returns the days.
    ///
    /// # Errors
    ///
    /// As [`Archivist::archive`].
    pub fn give_up(&mut self, before: Day) -> Result<Vec<Day>, CommitError> {
        let entries = self.read(|conn| entry::sound(conn, &self.shared.sealer))?;
        let mut days = Vec::new();
        for entry in entries.into_iter().filter(|entry| entry.settled && entry.day < before) {
            let path = path_of(&self.path, entry.day);
            if !entry.dropped {
                self.write(|conn, shared| {
                    moving::give_up(conn, &shared.sealer, shared.fence, entry.day).map(|bytes| ((), bytes))
                })?;
                self.shared.archives.change(|list| list.retain(|archive| archive.day != entry.day));
                days.push(entry.day);
            }
            // Also after a crash in between.
            if let Err(error) = self.layer.remove_database(&path) {
                tracing::warn!(%error, path = %path.display(), "an archive that was given up cannot be removed");
            }
        }
        Ok(days)
    }

    /// Deletes in the database what the archive of `day` has.
    fn settle(&mut self, day: Day, go_on: &mut dyn FnMut() -> bool) -> Result<Progress, CommitError> {
        let list = self.shelf.list();
        let Some(archive) = list.iter().find(|archive| archive.day == day) else {
            return Err(CommitError::Fatal(format!("the archive of {day} is not open")));
        };
        let mut after = Bound::Unbounded;
        loop {
            let looked =
                self.shelf.look(archive, &self.shared.sealer, |reads| moving::next(reads.conn, after));
            let rows = looked.map_err(|error| busy(&error))?.unwrap_or_default();
            self.write(|conn, shared| moving::delete(conn, &shared.sealer, shared.fence, day, &rows))?;
            self.due.run(&self.conn, &self.shared.gate);
            let Some((last, _)) = rows.last() else { break };
            after = Bound::Excluded(*last);
            if !go_on() {
                return Ok(Progress::Stopped);
            }
        }
        let entry = self.read(|conn| entry::of(day, conn, &self.shared.sealer))?;
        self.shared.forget_numbers(&self.conn);
        if let Err(error) = self.conn.execute_batch("PRAGMA shrink_memory") {
            tracing::debug!(%error, "the memory that archiving took stays taken");
        }
        Ok(entry.map_or(Progress::Nothing, |entry| {
            Progress::Day(Archived { day, payments: entry.payments, away: entry.away })
        }))
    }

    /// The oldest day from `from` on that the database has payments of.
    fn oldest(&self, from: Day) -> Result<Option<Day>, CommitError> {
        let sql = "SELECT accepted_at FROM payments INDEXED BY payments_time WHERE accepted_at >= ?1 \
             ORDER BY accepted_at LIMIT 1";
        let at = self.read(|conn| {
            conn.prepare_cached(sql)?.query_row([from.start().0], |row| row.get(0)).optional()
        })?;
        Ok(at.map(|at| Day::of(state_machine::UnixMs(at))))
    }

    fn read<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, CommitError> {
        read(&self.conn).map_err(|error| busy(&error))
    }

    fn write<T>(
        &self,
        write: impl FnOnce(&Connection, &Shared) -> Result<(T, [u8; tally::LEN]), Stop>,
    ) -> Result<T, CommitError> {
        let shared = &*self.shared;
        if let Some(error) = &*locked(&shared.dead) {
            return Err(error.clone());
        }
        let _turn = shared.gate.enter();
        let (done, bytes) = write(&self.conn, shared).map_err(|stop| stop.as_commit_error(shared.fence))?;
        shared.mark.put(&bytes);
        Ok(done)
    }
}

/// A read that failed says nothing of what is durable.
fn busy(error: &rusqlite::Error) -> CommitError {
    CommitError::Busy(error.to_string())
}

impl std::fmt::Debug for Archivist {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Archivist").field("path", &self.path).finish_non_exhaustive()
    }
}
