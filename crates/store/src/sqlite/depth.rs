//! How much a store has to do, for who watches it.

use std::sync::Arc;

use super::shared::Shared;

/// How much a store has to do yet, and has put away; see [`super::SqliteStore::depth`].
#[derive(Clone)]
pub struct Depth {
    shared: Arc<Shared>,
    backlog_max: usize,
}

impl Depth {
    pub(super) const fn new(shared: Arc<Shared>, backlog_max: usize) -> Self {
        Self { shared, backlog_max }
    }

    /// Records that wait to be put into the database.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.shared.backlog()
    }

    /// How many may.
    #[must_use]
    pub const fn backlog_max(&self) -> usize {
        self.backlog_max
    }

    /// Days that have a file of their own.
    #[must_use]
    pub fn archives(&self) -> usize {
        self.shared.archives.count()
    }
}

impl std::fmt::Debug for Depth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Depth").field("backlog_max", &self.backlog_max).finish_non_exhaustive()
    }
}
