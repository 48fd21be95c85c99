//! A mark beside the store: the newest commit that was synced, written right after it and never synced itself.
//!
//! What it says is true, since it is written after the sync; what it does not say is unknown, since a power cut may
//! take it back by some seconds. So a store that ends before its mark has lost something that was acknowledged,
//! whatever its log looks like: the last commit was damaged, or older files were put in its place (DB-17). It costs
//! a commit one write into the page cache.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::layer::{Layer, Small};
use super::tally::{self, Tally};
use crate::seal::Sealer;

/// The mark of an open store, and whether it was said that it cannot be written; clones write the same.
#[derive(Clone, Debug)]
pub(super) struct Mark(Option<Arc<Small>>, Arc<AtomicBool>);

impl Mark {
    /// What the mark beside the store at `path` says; `None` if there is none, or none that can be trusted.
    pub(super) fn read(layer: &Layer, path: &Path, sealer: &Sealer) -> Option<Tally> {
        let bytes = layer.read_small(&beside(path, "-mark"))?;
        let tally = Tally::decode(&bytes, sealer);
        if tally.is_none() {
            tracing::warn!("the store's mark cannot be read; the last commit is trusted without it");
        }
        tally
    }

    pub(super) fn open(layer: &Layer, path: &Path) -> Self {
        Self(layer.open_small(&beside(path, "-mark")).map(Arc::new), Arc::default())
    }

    /// Everything up to this tally is durable. Commits only ever come one after the other.
    pub(super) fn put(&self, tally: &[u8; tally::LEN]) {
        // A mark that cannot be written is missing, not wrong.
        if let Some(Err(error)) = self.0.as_ref().map(|file| file.write(tally))
            && !self.1.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(%error, "the store's mark cannot be written, and stays behind until it can");
        }
    }
}

/// `store.db` has `store.db-wal` and the like beside it.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
