//! Reading beside the writer: a connection of its own, for another thread or another process.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use protocol::TransactionId;
use rusqlite::Connection;
use state_machine::{MerchantId, OrderKey, Record};

use super::archive::{Archives, Shelf};
use super::layer::Layer;
use super::read::Reads;
use super::recent::follow::Follower;
use super::recent::memory::Recent;
use super::view::View;
use super::{Options, merchants, schema};
use crate::contract::{Damaged, EventQuery, Events, Filter, Listing, StoreError};
use crate::merchant::{MerchantRow, Merchants, ProviderRow};
use crate::seal::{SealKey, Sealer};

use super::error::OpenError;

/// Reads a store while its writer works. What it shows is durable, but for a commit whose sync has just failed.
pub struct SqliteReader {
    conn: Connection,
    sealer: Arc<Sealer>,
    layer: Layer,
    path: PathBuf,
    shelf: Shelf,
    recent: Source,
}

/// Where recent records are read.
enum Source {
    /// In the memory of the writer.
    Shared(Arc<Recent>),
    /// In the files.
    Files(Box<Follower>),
}

impl SqliteReader {
    /// Opens the store at `path` to read, whether or not a writer has it open.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; nothing was changed.
    pub fn open(path: &Path, key: &SealKey) -> Result<Self, OpenError> {
        Self::beside(&Layer::Files, path, Arc::new(Sealer::new(key)), &Options::default(), None)
    }

    pub(super) fn beside(
        layer: &Layer,
        path: &Path,
        sealer: Arc<Sealer>,
        options: &Options,
        shared: Option<(Arc<Recent>, Arc<Archives>)>,
    ) -> Result<Self, OpenError> {
        let conn = schema::connect_reader(layer, path, options)?;
        schema::check(&conn, path, &sealer)?;
        let (recent, archives) = shared.map_or_else(
            || (Source::Files(Box::new(Follower::new())), Arc::default()),
            |(recent, archives)| (Source::Shared(recent), archives),
        );
        let shelf = Shelf::new(layer, &archives);
        Ok(Self { conn, sealer, layer: layer.clone(), path: path.to_owned(), shelf, recent })
    }

    /// The durable record under `key`.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn find(&mut self, key: &OrderKey) -> Result<Option<Record>, StoreError> {
        self.view()?.find(key)
    }

    /// The durable record of `merchant` that holds the channel's number `id`; the oldest, should there be more.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn find_by_transaction(
        &mut self,
        merchant: MerchantId,
        id: &TransactionId,
    ) -> Result<Option<Record>, StoreError> {
        self.view()?.find_by_transaction(merchant, id)
    }

    /// The durable records that `filter` lets through, by the time they were accepted.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unreadable`].
    pub fn list(&mut self, filter: &Filter) -> Result<Listing, StoreError> {
        self.view()?.list(filter)
    }

    /// What a merchant may be told, in order ([`crate::Store::events`]).
    ///
    /// # Errors
    ///
    /// [`StoreError::Unreadable`].
    pub fn events(&mut self, query: &EventQuery) -> Result<Events, StoreError> {
        self.view()?.events(query)
    }

    /// Looks at every row there is and visits those that cannot be trusted. Returns the number of rows that can.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unreadable`] if the rows cannot even be counted, [`StoreError::Contradicts`] if each row is
    /// sound and all together are not what was committed.
    pub fn verify(&mut self, damaged: &mut dyn FnMut(Damaged)) -> Result<u64, StoreError> {
        // From the files, wherever else recent records are read: the disk is what is checked.
        let shelf = Shelf::new(&self.layer, &Arc::default());
        let mut follower = Follower::new();
        let recent = follower.refresh(&self.layer, &self.path, &self.conn, &shelf, &self.sealer)?.unfolded();
        (Reads { conn: &self.conn, sealer: &self.sealer }).verify(&recent, &shelf, damaged)
    }

    /// Every merchant.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unreadable`].
    pub fn merchants(&mut self) -> Result<Merchants, StoreError> {
        merchants::all(&self.conn, &self.sealer)
    }

    /// One merchant.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unreadable`], also if its row is damaged.
    pub fn merchant(&mut self, id: MerchantId) -> Result<Option<MerchantRow>, StoreError> {
        merchants::one(&self.conn, &self.sealer, id)
    }

    /// Every provider.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unreadable`].
    pub fn providers(&mut self) -> Result<Vec<ProviderRow>, StoreError> {
        merchants::providers(&self.conn)
    }

    fn view(&mut self) -> Result<View<'_>, StoreError> {
        let (conn, sealer) = (&self.conn, &*self.sealer);
        let recent = match &mut self.recent {
            Source::Shared(recent) => &**recent,
            Source::Files(follower) => {
                follower.refresh(&self.layer, &self.path, conn, &self.shelf, sealer)?
            }
        };
        Ok(View { conn, sealer, recent, shelf: &self.shelf })
    }
}

impl std::fmt::Debug for SqliteReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SqliteReader(…)")
    }
}
