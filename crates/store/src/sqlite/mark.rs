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
use super::recent::stamp::{self, Stamp};
use super::tally::{self, Tally};
use crate::seal::Sealer;

/// Where the newest commit of payments stands in it; the newest of the database stands at its beginning.
const RECENT: usize = 128;
const _: () = assert!(tally::LEN <= RECENT, "two places");

/// What a mark says is durable.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Marked {
    /// In the database.
    pub(super) tally: Option<Tally>,
    /// The newest commit of payments.
    pub(super) recent: Option<Stamp>,
}

/// The mark of an open store, and whether it was said that it cannot be written; clones write the same.
#[derive(Clone, Debug)]
pub(super) struct Mark(Option<Arc<Small>>, Arc<AtomicBool>);

impl Mark {
    /// What the mark beside the store at `path` says; nothing if there is none, or none that can be trusted.
    pub(super) fn read(layer: &Layer, path: &Path, sealer: &Sealer) -> Marked {
        let Some(bytes) = layer.read_small(&beside(path, "-mark")) else { return Marked::default() };
        let tally = Tally::decode(&bytes, sealer);
        let recent = bytes.get(RECENT..).filter(|bytes| bytes.iter().any(|byte| *byte != 0));
        let stamp = recent.and_then(|bytes| Stamp::head(bytes, sealer));
        if tally.is_none() || recent.is_some() != stamp.is_some() {
            tracing::warn!("the store's mark cannot be read; the last commit is trusted without it");
        }
        Marked { tally, recent: stamp }
    }

    pub(super) fn open(layer: &Layer, path: &Path) -> Self {
        Self(layer.open_small(&beside(path, "-mark")).map(Arc::new), Arc::default())
    }

    /// Everything in the database up to this tally is durable. Commits only ever come one after the other.
    pub(super) fn put(&self, tally: &[u8; tally::LEN]) {
        self.write(0, tally);
    }

    /// So is every commit of payments up to this one.
    pub(super) fn put_recent(&self, stamp: &[u8; stamp::LEN]) {
        self.write(RECENT as u64, stamp);
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        // A mark that cannot be written is missing, not wrong.
        if let Some(Err(error)) = self.0.as_ref().map(|file| file.write_at(at, bytes))
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
