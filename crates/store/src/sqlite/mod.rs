//! The embedded store: SQLite, write-ahead log, every commit synced before it is acknowledged.
//!
//! One process writes at a time (a lock beside the file, and a fence in every transaction); readers work beside it
//! on connections of their own. Everything that names a payer or signs is sealed, every row carries a keyed
//! checksum, and a row that fails it is set aside while the others go on.

mod checkpoint;
#[doc(hidden)]
pub mod codec;
mod commit;
mod error;
mod events;
mod gate;
pub(crate) mod layer;
mod lock;
mod log;
mod mark;
mod merchants;
mod opening;
mod read;
mod reader;
mod rotation;
mod row;
mod schema;
mod tally;
mod upgrade;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use protocol::TransactionId;
use rusqlite::Connection;
use state_machine::shard::Outcome;
use state_machine::{MerchantId, OrderKey, Record};

use self::checkpoint::Checkpointer;
use self::commit::Write;
use self::gate::Gate;
use self::layer::Layer;
use self::lock::WriterLock;
use self::mark::Mark;
use self::opening::Witness;
use self::read::Reads;
use self::row::Scratch;
use crate::contract::{
    CommitError, EventQuery, Events, Fence, Filter, Listing, Recovered, Store, StoreError,
};
use crate::seal::{SealKey, Sealer};

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
    /// The file never grows over this many pages; a commit that would need more is busy.
    pub pages_max: Option<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            page_size: 4_096,
            checkpoint_pages: 16_384,
            cache_kib: 16_384,
            busy_timeout: Duration::from_millis(250),
            settle_max: Duration::from_secs(10),
            pages_max: None,
        }
    }
}

/// The writer of an embedded store.
pub struct SqliteStore {
    // In the order in which they must be dropped: the checkpointer's connection before the writer's, the lock last.
    checkpointer: Option<Checkpointer>,
    conn: Connection,
    layer: Layer,
    path: PathBuf,
    options: Options,
    sealer: Arc<Sealer>,
    fence: Fence,
    gate: Arc<Gate>,
    mark: Mark,
    opening: Opening,
    scratch: Scratch,
    /// Set by the first fatal error: nothing is written after it.
    dead: Option<String>,
    lock: Arc<WriterLock>,
}

impl SqliteStore {
    /// Opens the store at `path` as its one writer, making it if there is none, and takes the next fence.
    ///
    /// # Errors
    ///
    /// [`OpenError`], in words for the operator; nothing but the fence and the lock file was written, and, of a store
    /// of schema 2, its upgrade.
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
        let sealer = Sealer::new(key);
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
        let opening = witness.compare(path, Some(&tally))?;
        if witness.is_doubtful(&tally) {
            schema::settle(&conn, path, &options)?;
        }
        if found < schema::SCHEMA {
            tally = upgrade::upgrade(&mut conn, path, &sealer, tally)?;
        }
        let (fence, bytes) = schema::next_fence(&mut conn, path, &sealer, tally)?;
        let mark = Mark::open(&layer, path);
        mark.put(&bytes);
        let gate = Arc::new(Gate::default());
        let own = schema::connect(&layer, path, &options)?;
        schema::make_durable(&layer, &own, path, &options)?;
        let checkpointer =
            Checkpointer::start(&mut conn, own, Arc::clone(&gate), options.checkpoint_pages.max(1))
                .map_err(|cause| OpenError::Broken { path: path.to_owned(), cause })?;
        Ok(Self {
            checkpointer: Some(checkpointer),
            conn,
            layer,
            path: path.to_owned(),
            options,
            sealer: Arc::new(sealer),
            fence,
            gate,
            mark,
            opening,
            scratch: Scratch::new(),
            dead: None,
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
        SqliteReader::beside(&self.layer, &self.path, Arc::clone(&self.sealer), &self.options)
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
            Arc::clone(&self.sealer),
            Arc::clone(&self.gate),
            self.mark.clone(),
            Arc::clone(&self.lock),
        ))
    }

    /// Moves the log into the database on the calling thread: the checker wants its steps in one order.
    #[cfg(feature = "power-cut")]
    pub(crate) fn checkpoint(&self) -> rusqlite::Result<()> {
        checkpoint::checkpoint(&self.conn, &self.gate, 0).map(drop)
    }

    fn reads(&self) -> Reads<'_> {
        Reads { conn: &self.conn, sealer: &self.sealer }
    }
}

impl Store for SqliteStore {
    fn fence(&self) -> Fence {
        self.fence
    }

    fn commit(&mut self, records: &[Arc<Record>]) -> Result<Vec<Outcome>, CommitError> {
        if let Some(why) = &self.dead {
            return Err(CommitError::Fatal(why.clone()));
        }
        let _turn = self.gate.enter();
        let mut write = Write {
            conn: &self.conn,
            sealer: &self.sealer,
            fence: self.fence,
            mark: &self.mark,
            scratch: &mut self.scratch,
        };
        let done = write.commit(records);
        if let Err(CommitError::Fatal(why)) = &done {
            self.dead = Some(why.clone());
        }
        done
    }

    fn open_orders(&mut self, visit: &mut dyn FnMut(Recovered)) -> Result<u64, StoreError> {
        self.reads().open_orders(visit)
    }

    fn find(&mut self, key: &OrderKey) -> Result<Option<Record>, StoreError> {
        self.reads().find(key)
    }

    fn find_by_transaction(
        &mut self,
        merchant: MerchantId,
        id: &TransactionId,
    ) -> Result<Option<Record>, StoreError> {
        self.reads().find_by_transaction(merchant, id)
    }

    fn list(&mut self, filter: &Filter) -> Result<Listing, StoreError> {
        self.reads().list(filter)
    }

    fn events(&mut self, query: &EventQuery) -> Result<Events, StoreError> {
        self.reads().events(query)
    }
}

impl Drop for SqliteStore {
    /// Moves the whole log into the database, if nobody still reads it: the next opening has less to do.
    fn drop(&mut self) {
        self.checkpointer = None;
        if self.dead.is_none() {
            let done = self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
            if let Err(error) = done {
                tracing::warn!(%error, "the store's log stays; the next opening reads it");
            }
        }
    }
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStore")
            .field("path", &self.path)
            .field("fence", &self.fence)
            .finish_non_exhaustive()
    }
}
