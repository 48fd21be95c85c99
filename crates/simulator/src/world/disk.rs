//! The store under the process: the model that loses what was not synced, or the real one in a folder.
//!
//! A commit is begun, and is durable once it is synced. A process that dies in between finds it whole or not at
//! all at its next start, whatever of it had reached the disk (DB-01, DB-10).

use std::sync::Arc;

use state_machine::record::State;
use state_machine::shard::Outcome;
use state_machine::{OrderKey, Record, UnixMs};
use store::contract::{CommitError, Filter, Recovered, Store, StoreError};
use store::memory::CrashStore;

use super::setup::Storage;
use super::sqlite::SqliteDisk;

/// What becomes of the commit that is under way when its process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing of it reached the disk.
    Lost,
    /// All of it did, and nobody heard of it.
    Kept,
    /// A part of it did: where it is cut off is drawn from this.
    Torn(u64),
}

/// What the next process finds.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Open orders, by key.
    pub(super) open: Vec<Record>,
    /// Rows that were set aside.
    pub(super) damaged: u64,
}

/// The model of a store.
#[derive(Debug, Default)]
pub(super) struct Model {
    store: CrashStore,
    /// What the commit under way comes to, which is known from its beginning.
    promised: Option<Vec<Outcome>>,
    /// Another writer has opened it since.
    is_stale: bool,
}

/// The store of a run.
#[derive(Debug)]
pub(super) enum Disk {
    /// The model.
    Model(Box<Model>),
    /// The embedded store.
    Sqlite(Box<SqliteDisk>),
}

impl Disk {
    pub(super) fn new(storage: &Storage, seed: u64) -> Self {
        match storage {
            Storage::Model => Self::Model(Box::new(Model { store: CrashStore::new(), ..Model::default() })),
            Storage::Sqlite(folder) => Self::Sqlite(Box::new(SqliteDisk::new(folder, seed))),
        }
    }

    /// Hands over the records of a commit.
    pub(super) fn begin(&mut self, records: &[Arc<Record>]) -> Result<(), CommitError> {
        match self {
            Self::Model(model) => {
                model.promised = Some(model.store.commit(records)?);
                Ok(())
            }
            Self::Sqlite(disk) => disk.begin(records),
        }
    }

    /// What the commit under way will come to, as the model knows before it is durable.
    pub(super) fn promised(&self) -> Option<Vec<Outcome>> {
        match self {
            Self::Model(model) => model.promised.clone(),
            Self::Sqlite(_) => None,
        }
    }

    /// Makes the commit under way durable.
    pub(super) fn sync(&mut self) -> Result<Vec<Outcome>, CommitError> {
        match self {
            // The fence is checked in the transaction that writes, which ends here.
            Self::Model(model) if model.is_stale => model.store.commit(&[]),
            Self::Model(model) => {
                model.store.sync();
                Ok(model.promised.take().unwrap_or_default())
            }
            Self::Sqlite(disk) => disk.sync(),
        }
    }

    /// The process dies, and the store is opened again. What the commit under way came to, if it is durable.
    pub(super) fn crash(&mut self, fate: Fate) -> Option<Vec<Outcome>> {
        match self {
            Self::Model(model) => {
                let kept = fate == Fate::Kept && !model.is_stale;
                model.is_stale = false;
                model.store.crash(usize::from(kept));
                model.promised.take().filter(|_| kept)
            }
            Self::Sqlite(disk) => disk.crash(fate),
        }
    }

    /// The process stops in good order: what it was given is durable.
    pub(super) fn close(&mut self) -> Option<Vec<Outcome>> {
        match self {
            Self::Model(_) => self.crash(Fate::Kept),
            Self::Sqlite(disk) => disk.close(),
        }
    }

    /// Another process opens the store as its writer. `Err` if it was let in where it must not be.
    pub(super) fn usurp(&mut self) -> Result<(), String> {
        match self {
            Self::Model(model) => {
                model.store.usurp();
                model.is_stale = true;
                Ok(())
            }
            Self::Sqlite(disk) => disk.usurp(),
        }
    }

    /// Bits of this order's row flip; to be called before [`Disk::crash`].
    pub(super) fn damage(&mut self, key: OrderKey) {
        match self {
            Self::Model(model) => model.store.damage(key),
            Self::Sqlite(disk) => disk.damage(key),
        }
    }

    /// Open orders, by key, and how many rows are not to be trusted.
    pub(super) fn recover(&mut self) -> Result<Found, StoreError> {
        let mut found = Found::default();
        let mut visit = |recovered| match recovered {
            Recovered::Open(record) => found.open.push(*record),
            Recovered::Damaged(_) => found.damaged += 1,
        };
        match self {
            Self::Model(model) => model.store.open_orders(&mut visit),
            Self::Sqlite(disk) => disk.store().open_orders(&mut visit),
        }?;
        found.open.sort_by_key(|record| record.key);
        Ok(found)
    }

    /// What was accepted from this moment on and is paid.
    pub(super) fn paid_since(&mut self, from: UnixMs) -> Result<Vec<Record>, StoreError> {
        let mut filter = Filter { from: Some(from), state: Some(State::Paid), ..Filter::default() };
        let mut found = Vec::new();
        loop {
            let listing = match self {
                Self::Model(model) => model.store.list(&filter),
                Self::Sqlite(disk) => disk.store().list(&filter),
            }?;
            found.extend(listing.records);
            match listing.next {
                Some(next) => filter.after = Some(next),
                None => return Ok(found),
            }
        }
    }

    /// The durable record under `key`.
    pub(super) fn find(&mut self, key: &OrderKey) -> Result<Option<Record>, StoreError> {
        match self {
            Self::Model(model) => model.store.find(key),
            Self::Sqlite(disk) => disk.store().find(key),
        }
    }

    /// Every durable record, damaged ones too where they can still be read: for the judges.
    pub(super) fn all(&mut self) -> Vec<Arc<Record>> {
        match self {
            Self::Model(model) => model.store.durable().cloned().collect(),
            Self::Sqlite(disk) => disk.all(),
        }
    }
}
