//! Days that are over, each in a file of its own beside the database, which so keeps the size of a few days.
//!
//! An archive holds the closed payments of one day (by the moment they were accepted, +08:00) with their events and
//! indexes, row for row as the database had them ([`make`]). It is written once and never changed. The database says
//! which there are ([`entry`]), and only behind that are rows deleted there ([`moving`]); so a power cut leaves a
//! payment in the database, in the archive, or in both.
//!
//! Whoever reads looks into the database first: what is there counts. A payment of an archived day that changes later
//! comes back into the database under its old row number and stays there. The last event of a merchant stays too,
//! with its payment: the next one is numbered behind it.

pub(super) mod archivist;
pub(super) mod entry;
mod make;
mod moving;
pub(super) mod numbers;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use protocol::TransactionId;
use protocol::wechat_v2::time::format_compact;
use rusqlite::{Connection, OpenFlags};
use state_machine::{MerchantId, OrderKey, Record};

use self::entry::Entry;
use self::numbers::{Numbers, Print};
use super::error::OpenError;
use super::layer::Layer;
use super::mark::beside;
use super::read::Reads;
use super::schema::broken;
use super::tally::StoreId;
use crate::contract::{Damaged, Day};
use crate::seal::Sealer;

/// Archives that each reader has open: with six readers fewer descriptors than are kept for the store.
const OPEN_MAX: usize = 12;
/// KiB of pages that each reader of an archive keeps in memory.
const CACHE_KIB: i64 = 512;

/// The file of a day's archive.
pub(super) fn path_of(store: &Path, day: Day) -> PathBuf {
    let name = day.start().0.checked_div(1_000).and_then(format_compact);
    let name = name
        .as_ref()
        .and_then(|name| name.as_str().get(..8))
        .map_or_else(|| day.0.to_string(), str::to_owned);
    beside(store, &format!("-day-{name}"))
}

/// An archive that can be looked into.
#[derive(Debug)]
pub(super) struct Archive {
    pub(super) day: Day,
    path: PathBuf,
    /// Not read where one only looks now and then.
    numbers: Option<Numbers>,
}

/// The archives of an open store, the newest day first.
#[derive(Debug, Default)]
pub(super) struct Archives(RwLock<Arc<Vec<Arc<Archive>>>>);

impl Archives {
    /// Every archive that the database names, each found to be the one that was made.
    pub(super) fn open(
        layer: &Layer,
        store: &Path,
        id: StoreId,
        conn: &Connection,
        sealer: &Sealer,
    ) -> Result<Self, OpenError> {
        let entries = entry::all(conn, sealer).map_err(|error| broken(store, &error))?;
        let mut archives = Vec::with_capacity(entries.len());
        for entry in entries {
            let entry = entry.ok_or_else(|| OpenError::Contradicts {
                path: store.to_owned(),
                what: "what it says of an archive is damaged".to_owned(),
            })?;
            if entry.dropped {
                continue;
            }
            let path = path_of(store, entry.day);
            let look = || {
                let conn = connect(layer, &path).map_err(|error| error.to_string())?;
                make::read_numbers(&conn, id, &entry, sealer)
            };
            let numbers =
                look().map_err(|cause| OpenError::Archive { path: path.clone(), day: entry.day, cause })?;
            archives.push(Arc::new(Archive { day: entry.day, path, numbers: Some(numbers) }));
        }
        Ok(Self(RwLock::new(Arc::new(archives))))
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.0.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn list(&self) -> Arc<Vec<Arc<Archive>>> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Archive>>)) {
        let mut list = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = list.to_vec();
        change(&mut next);
        next.sort_by_key(|archive| std::cmp::Reverse(archive.day));
        *list = Arc::new(next);
    }
}

/// Opens an archive to read.
fn connect(layer: &Layer, path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = layer.connect(path, flags)?;
    conn.set_prepared_statement_cache_capacity(16);
    conn.pragma_update(None, "cache_size", CACHE_KIB.saturating_neg())?;
    conn.pragma_update(None, "cell_size_check", true)?;
    conn.pragma_update(None, "trusted_schema", false)?;
    Ok(conn)
}

/// One reader's way into the archives: the connections that it has opened.
pub(super) struct Shelf {
    layer: Layer,
    archives: Arc<Archives>,
    /// The one used last is at the end.
    open: RefCell<Vec<(Day, Connection)>>,
}

impl Shelf {
    pub(super) fn new(layer: &Layer, archives: &Arc<Archives>) -> Self {
        Self { layer: layer.clone(), archives: Arc::clone(archives), open: RefCell::default() }
    }

    /// The archives as they are now. What is read of the database must be read before: what is not there any more is
    /// here.
    pub(super) fn list(&self) -> Arc<Vec<Arc<Archive>>> {
        self.archives.list()
    }

    /// Takes up what the database names, where no writer of this process says what is new.
    pub(super) fn refresh(&self, store: &Path, conn: &Connection, sealer: &Sealer) -> rusqlite::Result<()> {
        let named = entry::sound(conn, sealer)?;
        let named = || named.iter().filter(|entry| !entry.dropped).map(|entry| entry.day);
        if !named().eq(self.list().iter().map(|archive| archive.day)) {
            let archive = |day| Arc::new(Archive { day, path: path_of(store, day), numbers: None });
            self.archives.change(|list| *list = named().map(archive).collect());
        }
        Ok(())
    }

    /// Looks into one archive; `None` if it has been given up meanwhile.
    pub(super) fn look<T>(
        &self,
        archive: &Archive,
        sealer: &Sealer,
        look: impl FnOnce(Reads<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Option<T>> {
        let mut open = self.open.borrow_mut();
        let conn = if let Some(at) = open.iter().position(|(day, _)| *day == archive.day) {
            open.remove(at).1
        } else {
            let list = self.list();
            let is_named = |day: Day| list.iter().any(|archive| archive.day == day);
            open.retain(|(day, _)| is_named(*day));
            let too_many = open.len().saturating_sub(OPEN_MAX.saturating_sub(1));
            open.drain(..too_many);
            match connect(&self.layer, &archive.path) {
                Ok(conn) => conn,
                Err(_) if !is_named(archive.day) => return Ok(None),
                Err(error) => return Err(error),
            }
        };
        let looked = look(Reads { conn: &conn, sealer });
        open.push((archive.day, conn));
        looked.map(Some)
    }

    /// The archives that may have the payment under `key`.
    fn with(&self, key: &OrderKey, sealer: &Sealer) -> Vec<Arc<Archive>> {
        let list = self.list();
        if list.is_empty() {
            return Vec::new();
        }
        let print = Print::of(key, sealer);
        let may_have =
            |archive: &&Arc<Archive>| archive.numbers.as_ref().is_none_or(|numbers| numbers.may_have(print));
        list.iter().filter(may_have).map(Arc::clone).collect()
    }

    /// What `find` finds of the payment under `key`, in the first archive that has anything; and the day of that.
    pub(super) fn first<T>(
        &self,
        key: &OrderKey,
        sealer: &Sealer,
        mut find: impl FnMut(Reads<'_>) -> rusqlite::Result<Option<T>>,
    ) -> rusqlite::Result<Option<(Day, T)>> {
        for archive in self.with(key, sealer) {
            if let Some(found) = self.look(&archive, sealer, &mut find)?.flatten() {
                return Ok(Some((archive.day, found)));
            }
        }
        Ok(None)
    }

    /// The archived row under `key`; with damage comes the version that it claims.
    pub(super) fn row(
        &self,
        key: &OrderKey,
        sealer: &Sealer,
    ) -> rusqlite::Result<Option<Result<Record, (Damaged, u32)>>> {
        Ok(self.first(key, sealer, |reads| reads.row(key))?.map(|(_, found)| found))
    }

    /// Archived payments of `merchant` that hold the wallet's number `id` and that `passes`: of each day the oldest.
    pub(super) fn by_transaction(
        &self,
        merchant: MerchantId,
        id: &TransactionId,
        sealer: &Sealer,
        passes: &dyn Fn(&OrderKey) -> bool,
    ) -> rusqlite::Result<Vec<Result<Record, Damaged>>> {
        let mut found = Vec::new();
        for archive in self.list().iter() {
            let one = self.look(archive, sealer, |reads| reads.by_transaction(merchant, id, passes))?;
            found.extend(one.flatten());
        }
        Ok(found)
    }
}

/// What the entries say of days whose files are there, and how many payments went with those that are not.
pub(super) struct Named {
    pub(super) entries: Vec<Entry>,
}

impl Named {
    /// All entries; `None` if one was changed.
    pub(super) fn read(conn: &Connection, sealer: &Sealer) -> rusqlite::Result<Option<Self>> {
        let entries: Option<Vec<Entry>> = entry::all(conn, sealer)?.into_iter().collect();
        Ok(entries.map(|entries| Self { entries }))
    }

    /// Payments that only an archive has.
    pub(super) fn away(&self) -> u64 {
        self.entries.iter().fold(0, |away, entry| away.saturating_add(entry.away))
    }

    /// Payments whose archive was given up.
    pub(super) fn given_up(&self) -> u64 {
        self.entries
            .iter()
            .filter(|entry| entry.dropped)
            .fold(0, |away, entry| away.saturating_add(entry.away))
    }
}
