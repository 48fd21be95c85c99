//! The primitives that the table stands on: those of `std`, or loom's when its models are run.

#[cfg(loom)]
pub(crate) use loom::{
    hint::spin_loop,
    sync::Arc,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence},
    thread::yield_now,
};
#[cfg(not(loom))]
pub(crate) use std::{
    hint::spin_loop,
    sync::Arc,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence},
    thread::yield_now,
};

/// So many words of 0, whose memory is not touched before they are.
#[cfg(not(loom))]
#[expect(
    unsafe_code,
    reason = "no safe way takes zeroed memory from the system as it comes, without writing to it"
)]
pub(crate) fn zeroed(words: usize) -> Box<[AtomicU64]> {
    let words = Box::new_zeroed_slice(words);
    // SAFETY: an `AtomicU64` has the same bit validity as a `u64`, for which all bits 0 is a value.
    unsafe { words.assume_init() }
}

#[cfg(loom)]
pub(crate) fn zeroed(words: usize) -> Box<[AtomicU64]> {
    (0..words).map(|_| AtomicU64::new(0)).collect()
}
