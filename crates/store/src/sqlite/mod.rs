//! The embedded store: SQLite, write-ahead log, every commit synced before it is acknowledged.
//!
//! A commit goes to a file of recent records ([`recent`]) and from there, in the background, into the database
//! ([`fold`]); whoever reads sees both as one ([`view`]).
//!
//! One process writes at a time (a lock beside the file, and a fence in every transaction); readers work beside it
//! on connections of their own. Everything that names a payer or signs is sealed, every row carries a keyed
//! checksum, and a row that fails it is set aside while the others go on.

mod archive;
mod away;
mod checkpoint;
#[doc(hidden)]
pub mod codec;
mod commit;
mod depth;
mod error;
mod events;
mod filter;
mod fold;
mod gate;
pub(crate) mod layer;
mod lock;
mod log;
mod mark;
mod merchants;
mod opening;
mod read;
mod reader;
mod recent;
mod rotation;
mod row;
mod schema;
mod shared;
mod tally;
mod upgrade;
mod view;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use protocol::TransactionId;
use rusqlite::Connection;
use state_machine::shard::Outcome;
use state_machine::{MerchantId, OrderKey, Record};

use self::archive::{Archives, Named, Shelf};
use self::checkpoint::Due;
use self::commit::Write;
use self::filter::{Filling, Known, Numbers};
use self::gate::Gate;
use self::layer::Layer;
use self::lock::WriterLock;
use self::mark::Mark;
use self::opening::Witness;
use self::read::Reads;
use self::recent::Journal;
use self::recent::memory::Recent;
use self::row::Scratch;
use self::shared::{Folder, Folding, Hot, Shared, locked};
use self::tally::StoreId;
use self::view::View;
use crate::contract::{
    CommitError, EventQuery, Events, Fence, Filter, Listing, Recovered, Store, StoreError,
};
use crate::seal::{SealKey, Sealer};

pub use self::archive::archivist::{Archived, Archivist, Progress};
pub use self::depth::Depth;
pub use self::error::OpenError;
pub use self::merchants::MerchantBook;
pub use self::opening::Opening;
pub use self::reader::SqliteReader;

/// Settings of the embedded store; the defaults are for production.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes of a page, for a new file only: a power of two, 512 to 65,536.
    pub page_size: u32,
    /// The log is moved into the database when it holds this many pages.
    pub checkpoint_pages: u32,
    /// Memory for pages, in KiB, of the writing connection.
    pub cache_kib: u32,
    /// How long to wait for another program that holds the store before a commit counts as busy.
    pub busy_timeout: Duration,
    /// How long an opening waits for a reader that keeps a doubtful log from beginning anew. The switch takes no payment
    /// meanwhile; restarted at once instead, it would be given up by its supervisor.
    pub settle_max: Duration,
    /// The database never grows over this many pages; recent records that would need more wait.
    pub pages_max: Option<u32>,
    /// Recent records are put into the database when there are this many of them. [`u32::MAX`]: only at the opening, at
    /// the end, and when no more of them may wait; there is no thread for it then.
    pub fold_records: u32,
    /// Or after this time.
    pub fold_after: Duration,
    /// A commit that would let more records wait to be put into the database is busy.
    pub backlog_max: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            page_size: 4_096,
            checkpoint_pages: 16_384,
            cache_kib: 4_096,
            busy_timeout: Duration::from_millis(250),
            settle_max: Duration::from_secs(10),
            pages_max: None,
            fold_records: 8_192,
            fold_after: Duration::from_millis(500),
            backlog_max: 262_144,
        }
    }
}

/// The writer of an embedded store.
pub struct SqliteStore {
    // In the order in which they must be dropped: the thread and its connection before the writer's, the lock last.
    folding: Option<Folding>,
    filling: Option<Filling>,
    conn: Connection,
    shelf: Shelf,
    layer: Layer,
    path: PathBuf,
    id: StoreId,
    options: Options,
    shared: Arc<Shared>,
    opening: Opening,
    scratch: Scratch,
    lock: Arc<WriterLock>,
}

impl SqliteStore {
    /// Opens the store at `path` as its one writer, making it if there is none, and takes the next fence.
    ///
    /// # Errors
    ///
    /// [`OpenError`], in words for the operator; nothing but the fence and the lock file was written, recent records
    /// were put into the database, and, of a store of schema 2 or 3, its upgrade was made.
    pub fn open(path: &Path, key: &SealKey, options: Options) -> Result<Self, OpenError> {
        Self::open_on(Layer::Files, path, key, options)
    }

    pub(crate) fn open_on(
        layer: Layer,
        path: &Path,
        key: &SealKey,
        options: Options,
    ) -> Result<Self, OpenError> {
        let lock = layer.lock(path)?;
        let sealer = Arc::new(Sealer::new(key));
        let witness = Witness::look(&layer, path, &sealer)?;
        if !layer.holds_something(path) {
            witness.compare(path, None)?;
        }
        let mut conn = schema::connect(&layer, path, &options)?;
        if schema::is_new(&conn, path)? {
            witness.compare(path, None)?;
            schema::create(&mut conn, path, &sealer, &options)?;
        }
        let found = schema::check_from(&conn, path, &sealer, upgrade::OLDEST)?;
        schema::make_durable(&layer, &conn, path, &options)?;
        let mut tally = schema::tally(&conn, path, &sealer)?;
        let mut opening = witness.compare(path, Some(&tally))?;
        let compare = |conn: &Connection| witness.compare_recent(&layer, conn, path, &sealer);
        let compared = (found == schema::SCHEMA).then(|| compare(&conn)).transpose()?;
        if witness.is_doubtful(&tally) {
            schema::settle(&conn, path, &options)?;
        }
        if found < schema::SCHEMA {
            tally = upgrade::upgrade(&mut conn, path, &sealer, tally, found)?;
        }
        // A store of an earlier schema says nothing of recent records.
        let torn = compared.map_or_else(|| compare(&conn), Ok)?;
        opening.dropped_frames = opening.dropped_frames.saturating_add(torn);
        let id = tally.store;
        let read = |error| schema::broken(path, &error);
        let away = Named::read(&conn, &sealer).map_err(read)?.map_or(0, |named| named.away());
        let rows = tally.rows.saturating_sub(away);
        let archives = Arc::new(Archives::open(&layer, path, id, &conn, &sealer)?);
        let shelf = Shelf::new(&layer, &archives);
        let (fence, bytes) = schema::next_fence(&mut conn, path, &sealer, tally)?;
        let mark = Mark::open(&layer, path);
        mark.put(&bytes);
        // From the fence on no other writer acknowledges anything; what it has acknowledged is there now.
        let last = opening::fold_recent(&layer, &conn, path, &sealer, fence, &shelf, &mark)?;
        let journal = Journal::open(&layer, path, id, fence, last)?;
        let gate = Arc::new(Gate::default());
        let mut own = schema::connect(&layer, path, &options)?;
        schema::make_durable(&layer, &own, path, &options)?;
        let broken = |cause| OpenError::Broken { path: path.to_owned(), cause };
        let due = Due::watch(&mut own, options.checkpoint_pages.max(1)).map_err(broken)?;
        let numbers = Arc::new(Numbers::new(rows));
        let shared = Arc::new(Shared {
            sealer,
            fence,
            gate,
            mark,
            recent: Arc::new(Recent::new(last)),
            filter: Known::new(Arc::clone(&numbers)),
            hot: Mutex::new(Hot { journal, records: 0, folding: 0, stalled: None, is_full: false }),
            waiting: AtomicUsize::new(0),
            room: Condvar::new(),
            folder: Mutex::new(Folder::new(own, Shelf::new(&layer, &archives), due)),
            archives,
            dead: Mutex::new(None),
        });
        let reading = schema::connect_reader(&layer, path, &options)?;
        let filling = Filling::start(numbers, reading, rows).map_err(broken)?;
        let folding = if options.fold_records == u32::MAX {
            None
        } else {
            Some(Folding::start(Arc::clone(&shared), options.fold_after).map_err(broken)?)
        };
        Ok(Self {
            folding,
            filling: Some(filling),
            conn,
            shelf,
            layer,
            path: path.to_owned(),
            id,
            options,
            shared,
            opening,
            scratch: Scratch::new(),
            lock: Arc::new(lock),
        })
    }

    /// What the opening found at the end of the log.
    #[must_use]
    pub const fn opening(&self) -> Opening {
        self.opening
    }

    /// A connection that reads beside this one, for another thread.
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    pub fn reader(&self) -> Result<SqliteReader, OpenError> {
        let recent = Some((Arc::clone(&self.shared.recent), Arc::clone(&self.shared.archives)));
        SqliteReader::beside(&self.layer, &self.path, Arc::clone(&self.shared.sealer), &self.options, recent)
    }

    /// The merchants of this store, to read and to change, for another thread. As long as it lives, the store
    /// counts as in use.
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    pub fn merchant_book(&self) -> Result<MerchantBook, OpenError> {
        let conn = schema::connect(&self.layer, &self.path, &self.options)?;
        schema::make_durable(&self.layer, &conn, &self.path, &self.options)?;
        Ok(MerchantBook::new(
            conn,
            Arc::clone(&self.shared.sealer),
            Arc::clone(&self.shared.gate),
            self.shared.mark.clone(),
            Arc::clone(&self.lock),
        ))
    }

    /// What archives days of this store, on another thread. It does nothing more once the store is dropped.
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    pub fn archivist(&self) -> Result<Archivist, OpenError> {
        Archivist::new(&self.layer, self.path.clone(), self.id, &self.options, Arc::clone(&self.shared))
    }

    /// Puts every record that was committed until now into the database, durably, on the calling thread; else that is
    /// done in the background.
    ///
    /// # Errors
    ///
    /// [`CommitError::Busy`]: the records wait, and are safe; call again. Others as [`Store::commit`] has them.
    pub fn fold(&self) -> Result<(), CommitError> {
        self.shared.fold()
    }

    /// Records that wait to be put into the database.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.shared.backlog()
    }

    /// What tells how much the store has to do yet, for who watches it from another thread.
    #[must_use]
    pub fn depth(&self) -> Depth {
        let backlog_max = usize::try_from(self.options.backlog_max).unwrap_or(usize::MAX);
        Depth::new(Arc::clone(&self.shared), backlog_max)
    }

    /// Moves the log into the database on the calling thread: the checker wants its steps in one order.
    #[cfg(feature = "power-cut")]
    pub(crate) fn checkpoint(&self) -> rusqlite::Result<()> {
        self.shared.checkpoint()
    }

    fn reads(&self) -> Reads<'_> {
        Reads { conn: &self.conn, sealer: &self.shared.sealer }
    }

    fn view(&self) -> View<'_> {
        let (conn, sealer) = (&self.conn, &*self.shared.sealer);
        View { conn, sealer, recent: &self.shared.recent, shelf: &self.shelf }
    }
}

impl Store for SqliteStore {
    fn fence(&self) -> Fence {
        self.shared.fence
    }

    fn commit(&mut self, records: &[Arc<Record>]) -> Result<Vec<Outcome>, CommitError> {
        if let Some(error) = &*locked(&self.shared.dead) {
            return Err(error.clone());
        }
        let backlog_max = usize::try_from(self.options.backlog_max).unwrap_or(usize::MAX);
        if self.folding.is_none()
            && (self.backlog().saturating_add(records.len()) > backlog_max
                || locked(&self.shared.hot).is_full)
        {
            self.shared.fold()?;
        }
        let mut write = Write {
            conn: &self.conn,
            shared: &self.shared,
            shelf: &self.shelf,
            scratch: &mut self.scratch,
            backlog_max,
            patience: self.options.busy_timeout,
        };
        match write.commit(records) {
            Ok((outcomes, waiting)) => {
                let enough = u32::try_from(waiting).is_ok_and(|waiting| waiting >= self.options.fold_records);
                if let Some(folding) = self.folding.as_ref().filter(|_| enough) {
                    folding.wake();
                }
                Ok(outcomes)
            }
            Err(error) => {
                if matches!(error, CommitError::Fatal(_)) {
                    locked(&self.shared.dead).get_or_insert_with(|| error.clone());
                }
                Err(error)
            }
        }
    }

    fn open_orders(&mut self, visit: &mut dyn FnMut(Recovered)) -> Result<u64, StoreError> {
        // The list of open orders is the database's.
        self.shared.fold().map_err(|error| StoreError::Unreadable(error.to_string()))?;
        self.reads().open_orders(&self.shelf, visit)
    }

    fn find(&mut self, key: &OrderKey) -> Result<Option<Record>, StoreError> {
        self.view().find(key)
    }

    fn find_by_transaction(
        &mut self,
        merchant: MerchantId,
        id: &TransactionId,
    ) -> Result<Option<Record>, StoreError> {
        self.view().find_by_transaction(merchant, id)
    }

    fn list(&mut self, filter: &Filter) -> Result<Listing, StoreError> {
        self.view().list(filter)
    }

    fn events(&mut self, query: &EventQuery) -> Result<Events, StoreError> {
        self.view().events(query)
    }
}

impl Drop for SqliteStore {
    /// Puts everything into the database file, if nobody still reads its log: the next opening has less to do, and one
    /// file is the whole store.
    fn drop(&mut self) {
        self.folding = None;
        self.filling = None;
        if locked(&self.shared.dead).is_some() {
            return;
        }
        match self.shared.fold() {
            Ok(()) => {
                if let Err(error) = locked(&self.shared.hot).journal.clear() {
                    tracing::debug!(%error, "the files of recent records keep their room");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "recent records stay beside the database; the next opening puts them there");
            }
        }
        let done = self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        if let Err(error) = done {
            tracing::warn!(%error, "the store's log stays; the next opening reads it");
        }
    }
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStore")
            .field("path", &self.path)
            .field("fence", &self.shared.fence)
            .finish_non_exhaustive()
    }
}
