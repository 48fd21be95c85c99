//! The embedded store in a folder of its own, with processes that die without closing it.
//!
//! A process that dies leaves its files as they are: they are copied as they stand, recent records only as far as
//! the commit under way came, and the next process opens the copy.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use state_machine::shard::Outcome;
use state_machine::{OrderKey, Record};
use store::contract::{CommitError, Filter, Store};
use store::{OpenError, Options, SealKey, SqliteStore};

use super::disk::Fate;

/// The key that the rows of a run are sealed with.
const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// A folder with the store of each life.
#[derive(Debug)]
pub(super) struct SqliteDisk {
    folder: PathBuf,
    life: u32,
    store: Option<SqliteStore>,
    /// The commit that is under way: written when it is synced.
    under_way: Vec<Arc<Record>>,
    /// Whether somebody has removed the lock of this process.
    is_unlocked: bool,
    /// Rows to spoil before the next process starts.
    spoilt: Vec<(OrderKey, i64)>,
}

impl SqliteDisk {
    pub(super) fn new(folder: &Path, seed: u64) -> Self {
        let folder = folder.join(format!("hufu-world-{}-{seed}", std::process::id()));
        // What an earlier run of this seed has left.
        drop(std::fs::remove_dir_all(&folder));
        must("make the folder of the store", std::fs::create_dir_all(&folder));
        let mut disk = Self {
            folder,
            life: 0,
            store: None,
            under_way: Vec::new(),
            is_unlocked: false,
            spoilt: Vec::new(),
        };
        disk.store = Some(must("open the store", open(&disk.path())));
        disk
    }

    fn path(&self) -> PathBuf {
        self.folder.join(format!("store-{}.db", self.life))
    }

    pub(super) fn store(&mut self) -> &mut SqliteStore {
        self.store.as_mut().expect("open from the first life to the last")
    }

    pub(super) fn begin(&mut self, records: &[Arc<Record>]) -> Result<(), CommitError> {
        // A stale writer learns it from any commit, also from an empty one.
        self.store().commit(&[])?;
        records.clone_into(&mut self.under_way);
        Ok(())
    }

    pub(super) fn sync(&mut self) -> Result<Vec<Outcome>, CommitError> {
        let records = std::mem::take(&mut self.under_way);
        self.store().commit(&records)
    }

    /// See [`super::disk::Disk::crash`].
    pub(super) fn crash(&mut self, fate: Fate) -> Option<Vec<Outcome>> {
        let records = std::mem::take(&mut self.under_way);
        let before = read_recent(&self.path());
        let outcomes = match fate {
            Fate::Kept | Fate::Torn(_) if !records.is_empty() => self.store().commit(&records).ok(),
            Fate::Lost | Fate::Kept | Fate::Torn(_) => None,
        };
        let written = read_recent(&self.path());
        let kept = match fate {
            Fate::Torn(draw) => torn(&before, written, draw),
            Fate::Lost | Fate::Kept => written,
        };
        let dead = self.path();
        self.life += 1;
        must("copy the store", std::fs::copy(&dead, self.path()));
        must("copy the log", std::fs::copy(beside(&dead, "-wal"), beside(&self.path(), "-wal")));
        must("write the recent records", std::fs::write(beside(&self.path(), RECENT), kept));
        self.store = None;
        self.is_unlocked = false;
        for suffix in ["", "-wal", "-shm", "-mark", RECENT, "-recent-1", ".lock"] {
            drop(std::fs::remove_file(beside(&dead, suffix)));
        }
        self.spoil();
        self.store = Some(must("open the store after a crash", open(&self.path())));
        outcomes.filter(|_| fate == Fate::Kept)
    }

    /// See [`super::disk::Disk::close`].
    pub(super) fn close(&mut self) -> Option<Vec<Outcome>> {
        let records = std::mem::take(&mut self.under_way);
        let outcomes = (!records.is_empty()).then(|| self.store().commit(&records).ok()).flatten();
        self.store = None;
        self.is_unlocked = false;
        self.store = Some(must("open the store again", open(&self.path())));
        outcomes
    }

    /// Notes a row to be spoilt.
    pub(super) fn damage(&mut self, key: OrderKey) {
        // Two flips of one bit would heal it.
        let is_noted = self.spoilt.iter().any(|(noted, _)| *noted == key);
        if let (false, Ok(Some(record))) = (is_noted, self.store().find(&key)) {
            self.spoilt.push((key, record.accepted_at.0));
        }
    }

    /// Flips a bit of each noted row, in the file itself.
    fn spoil(&mut self) {
        if self.spoilt.is_empty() {
            return;
        }
        // The log goes into the database, so that each row stands in one place.
        let mut store = must("open the store to spoil it", open(&self.path()));
        let noted = std::mem::take(&mut self.spoilt);
        let changed_at = |key: &OrderKey, store: &mut SqliteStore| {
            store.find(key).ok().flatten().map(|record| record.changed_at.0.to_be_bytes())
        };
        let noted: Vec<_> = noted
            .into_iter()
            .map(|(key, accepted_at)| (key, accepted_at, changed_at(&key, &mut store)))
            .collect();
        drop(store);
        let mut bytes = must("read the store", std::fs::read(self.path()));
        for (key, accepted_at, changed_at) in noted {
            let number = key.number.as_str().as_bytes();
            let moment = accepted_at.to_be_bytes();
            let Some(moment) = moment.get(2..) else { continue };
            let places: Vec<usize> = bytes
                .windows(number.len())
                .enumerate()
                .filter(|(_, window)| *window == number)
                .map(|(at, _)| at + number.len())
                .collect();
            for place in places {
                // In the row the moment of acceptance stands a few bytes behind the number, and the last bit of
                // the moment of the last change, which no index knows, behind that.
                let Some(near) = bytes.get(place..(place + 24).min(bytes.len())) else { continue };
                let Some(at) = near.windows(moment.len()).position(|window| window == moment) else {
                    continue;
                };
                let changed = place + at + moment.len();
                // The two moments are years apart from nothing else: an index has no second one there.
                let merchant = place.checked_sub(number.len() + 1).and_then(|at| bytes.get(at));
                // What is left of an earlier version may end in the middle of something else.
                let present = changed_at.as_ref().and_then(|at| at.get(2..));
                let is_row = bytes.get(changed..changed + moment.len()) == present
                    && merchant.is_some_and(|merchant| u32::from(*merchant) == key.merchant.0);
                if let Some(byte) = bytes.get_mut(changed + moment.len() - 1).filter(|_| is_row) {
                    *byte ^= 1;
                }
            }
        }
        must("spoil the store", std::fs::write(self.path(), bytes));
    }

    /// A second process: it is refused by the lock; where an operator removes the lock, the first is stale.
    pub(super) fn usurp(&mut self) -> Result<(), String> {
        let path = self.path();
        if std::mem::replace(&mut self.is_unlocked, true) {
            drop(must("open the store as one more writer", open(&path)));
            return Ok(());
        }
        match open(&path) {
            Err(OpenError::InUse { .. }) => {}
            Err(other) => return Err(format!("a second writer was refused, but for {other}")),
            Ok(_) => return Err("a second writer was let in".to_owned()),
        }
        let mut lock = path.as_os_str().to_owned();
        lock.push(".lock");
        must("remove the lock", std::fs::remove_file(lock));
        drop(must("open the store as a second writer", open(&path)));
        Ok(())
    }

    /// Every durable record.
    pub(super) fn all(&mut self) -> Vec<Arc<Record>> {
        let mut filter = Filter::default();
        let mut all = Vec::new();
        loop {
            let page = must("list the store", self.store().list(&filter));
            all.extend(page.records.into_iter().map(Arc::new));
            filter.after = page.next;
            if filter.after.is_none() {
                return all;
            }
        }
    }
}

impl Drop for SqliteDisk {
    fn drop(&mut self) {
        self.store = None;
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

fn open(path: &Path) -> Result<SqliteStore, OpenError> {
    let key = SealKey::from_hex(KEY).expect("64 hex digits");
    // Nothing is folded while a process lives: what a crash leaves must not depend on a thread's pace.
    SqliteStore::open(path, &key, Options { fold_records: u32::MAX, ..Options::default() })
}

/// The file that every commit of a process goes to, since nothing is folded.
const RECENT: &str = "-recent-0";

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Empty if there is none.
fn read_recent(path: &Path) -> Vec<u8> {
    std::fs::read(beside(path, RECENT)).unwrap_or_default()
}

/// The file with the commit written up to one of its bytes, never the last: behind it stands what stood there before,
/// for a file that begins anew is written over.
fn torn(before: &[u8], mut written: Vec<u8>, draw: u64) -> Vec<u8> {
    let differs = |at: &usize| before.get(*at) != written.get(*at);
    let Some(first) = (0..written.len()).find(differs) else { return written };
    let last = (0..written.len()).rfind(differs).unwrap_or(first);
    let cut = first + usize::try_from(draw).unwrap_or(usize::MAX) % (last + 1 - first);
    written.truncate(cut);
    written.extend_from_slice(before.get(cut..).unwrap_or_default());
    written
}

/// What only a broken machine refuses: a run without its folder proves nothing.
fn must<T, E: std::fmt::Display>(what: &str, result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(why) => panic!("cannot {what}: {why}"),
    }
}
