//! What the switch adds to plain channels where one thread hands something to another, small enough for loom.
//!
//! | module | who uses it | what loom explores |
//! |---|---|---|
//! | [`bound`] | requests on their way into a shard | never more than the limit, no place lost, none refused while places are free |
//! | [`request`] | the same | each request is taken or refused, exactly once, also while the shard stops |
//! | [`waiting`] | tills that wait for an answer | each is answered at most once, and nothing stays behind |
//! | [`mailbox`] | a shard's way in, the committer's queue | no letter is lost, no reader left asleep that should be woken |
//! | [`door`], [`batches`] | batches on their way to the committer | each batch that was taken is answered, after it is durable, also while the committer ends |
//!
//! Other channels are crossbeam's and tokio's, the map of the waiting is dashmap's: they are explored by their
//! authors, and stand-ins of a lock and a queue take their place in `tests/loom`. Where nothing is added to a
//! channel (lookups in the store, a till's one answer) there is nothing of ours to explore. Open payments that tills read are published by `state-table`, explored there.
//! The merchants' directory is one `arc-swap` pointer to an immutable value.
#![forbid(unsafe_code)]
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

pub mod batches;
pub mod bound;
pub mod door;
pub mod mailbox;
mod map;
pub mod request;
mod sync;
pub mod waiting;
