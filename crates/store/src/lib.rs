//! Durable records, conditional writes, recovery.
//!
//! Read in this order: [`contract`] (what every store promises), [`sqlite`] (the embedded store),
//! [`committer`] (its thread: many batches, one commit), [`merchant`] and [`settings`] (who may be paid, and how),
//! [`seal`] (how secrets
//! and checksums are kept), [`memory`] (the simulation's store, which can lose what was not synced).
#![cfg_attr(not(feature = "power-cut"), forbid(unsafe_code))]
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::get_unwrap,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice
    )
)]

pub mod committer;
pub mod contract;
pub mod memory;
pub mod merchant;
#[cfg(feature = "power-cut")]
pub mod power_cut;
pub mod seal;
pub mod settings;
pub mod sqlite;

pub use committer::{CommitQueue, Committer, CommitterOptions, Ended, Observer, ShardIndex};
pub use contract::{
    CommitError, Cursor, Damaged, Day, Event, EventQuery, Events, Fence, Filter, Listing, Recovered, Store,
    StoreError, stand_in,
};
pub use merchant::{MerchantError, MerchantRow, NewMerchant};
pub use seal::SealKey;
pub use settings::{SettingError, Settings};
pub use sqlite::{
    Archived, Archivist, Depth, MerchantBook, OpenError, Opening, Options, Progress, SqliteReader,
    SqliteStore,
};
