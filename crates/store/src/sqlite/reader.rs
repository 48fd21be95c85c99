//! Reading beside the writer: a connection of its own, for another thread or another process.

use std::path::Path;
use std::sync::Arc;

use protocol::TransactionId;
use rusqlite::Connection;
use state_machine::{MerchantId, OrderKey, Record};

use super::layer::Layer;
use super::read::Reads;
use super::{Options, merchants, schema};
use crate::contract::{Damaged, EventQuery, Events, Filter, Listing, StoreError};
use crate::merchant::{MerchantRow, Merchants, ProviderRow};
use crate::seal::{SealKey, Sealer};

use super::error::OpenError;

/// Reads a store while its writer works. What it shows is durable, but for a commit whose sync has just failed.
pub struct SqliteReader {
    conn: Connection,
    sealer: Arc<Sealer>,
}

impl SqliteReader {
    /// Opens the store at `path` to read, whether or not a writer has it open.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; nothing was changed.
    pub fn open(path: &Path, key: &SealKey) -> Result<Self, OpenError> {
        Self::beside(&Layer::Files, path, Arc::new(Sealer::new(key)), &Options::default())
    }

    pub(super) fn beside(
        layer: &Layer,
        path: &Path,
        sealer: Arc<Sealer>,
        options: &Options,
    ) -> Result<Self, OpenError> {
        let conn = schema::connect_reader(layer, path, options)?;
        schema::check(&conn, path, &sealer)?;
        Ok(Self { conn, sealer })
    }

    /// The durable record under `key`.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn find(&mut self, key: &OrderKey) -> Result<Option<Record>, StoreError> {
        self.reads().find(key)
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
        self.reads().find_by_transaction(merchant, id)
    }

    /// The durable records that `filter` lets through, by the time they were accepted.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unreadable`].
    pub fn list(&mut self, filter: &Filter) -> Result<Listing, StoreError> {
        self.reads().list(filter)
    }

    /// What a merchant may be told, in order ([`crate::Store::events`]).
    ///
    /// # Errors
    ///
    /// [`StoreError::Unreadable`].
    pub fn events(&mut self, query: &EventQuery) -> Result<Events, StoreError> {
        self.reads().events(query)
    }

    /// Looks at every row there is and visits those that cannot be trusted. Returns the number of rows that can.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unreadable`] if the rows cannot even be counted, [`StoreError::Contradicts`] if each row is
    /// sound and all together are not what was committed.
    pub fn verify(&mut self, damaged: &mut dyn FnMut(Damaged)) -> Result<u64, StoreError> {
        self.reads().verify(damaged)
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

    fn reads(&self) -> Reads<'_> {
        Reads { conn: &self.conn, sealer: &self.sealer }
    }
}

impl std::fmt::Debug for SqliteReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SqliteReader(…)")
    }
}
