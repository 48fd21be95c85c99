//! Slots that one writer publishes and every thread reads without a lock.
//!
//! [`table`] gives a [`Writer`] and a [`Reader`]. The writer puts values of `WORDS` 64-bit words into slots, changes and
//! removes them; readers, cloned as often as there are threads, look them up by a hash or by a [`Handle`]. Neither
//! side ever waits for a lock, and a reader never returns a value that was not published as it is, whole.
//!
//! ```
//! let (mut writer, reader) = state_table::table::<2>(1_000);
//! let (key, paid) = (0xfeed, 1);
//! let order = writer.insert(key, &[key, 0])?;
//! writer.update(order, &[key, paid]);
//! assert_eq!(reader.find(key, |words| words[0] == key), Some((order, [key, paid])));
//! writer.remove(order);
//! assert_eq!(reader.get(order), None);
//! # Ok::<(), state_table::Full>(())
//! ```
//!
//! # What a reader may rely on
//!
//! - What the writer did before it told a reader of it, in whatever way, the reader finds, or something later.
//! - A value that stays in the table while [`Reader::find`] runs is found, whatever happens to the others.
//! - A handle names one value and its updates; once that value is removed the handle is stale for good.
//!
//! # Memory
//!
//! All of it is reserved by [`table`]: 8 × `WORDS` + 32 bytes for each of `slots_max` slots, and the writer's list of
//! free slots. None of it is touched before it is used. Slots are used from the low end, so a table
//! that is mostly empty takes little memory; the index (16 of those bytes) is spread by hash and fills in sooner.
//! With `WORDS` = 6 or 14 a slot takes whole cache lines, one or two.
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

mod handle;
mod index;
mod slot;
mod sync;

use std::fmt;

pub use handle::{Full, Handle};
use index::Index;
use slot::Slots;
use sync::{Arc, AtomicUsize, Ordering};

/// The most slots that a table can have.
pub const SLOTS_MAX: u32 = index::SLOTS_MAX;

/// Makes a table for up to `slots_max` values at a time (at most [`SLOTS_MAX`]).
///
/// # Panics
///
/// If `slots_max` is over [`SLOTS_MAX`], or so much memory cannot be reserved.
#[must_use]
pub fn table<const WORDS: usize>(slots_max: u32) -> (Writer<WORDS>, Reader<WORDS>) {
    assert!(slots_max <= SLOTS_MAX, "a table has at most SLOTS_MAX slots");
    let shared = Arc::new(Shared {
        slots: Slots::new(slots_max),
        index: Index::new(slots_max),
        len: AtomicUsize::new(0),
    });
    let reader = Reader { shared: Arc::clone(&shared) };
    (Writer { shared, slots_max, fresh: 0, free: Vec::with_capacity(slots_max as usize) }, reader)
}

struct Shared<const WORDS: usize> {
    slots: Slots<WORDS>,
    index: Index,
    len: AtomicUsize,
}

impl<const WORDS: usize> Shared<WORDS> {
    fn find(&self, hash: u64, matches: impl Fn(&[u64; WORDS]) -> bool) -> Option<(Handle, [u64; WORDS])> {
        self.index.find(hash, |slot| {
            // The entry may be of old: the slot may be free by now, or hold another value.
            let (handle, words) = self.slots.read(slot)?;
            matches(&words).then_some((handle, words))
        })
    }

    fn get(&self, handle: Handle) -> Option<[u64; WORDS]> {
        let (current, words) = self.slots.read(handle.slot)?;
        (current == handle).then_some(words)
    }
}

/// The one side that changes the table. There is one for each table; it can move to another thread.
pub struct Writer<const WORDS: usize> {
    shared: Arc<Shared<WORDS>>,
    slots_max: u32,
    /// Slots from here on were never used.
    fresh: u32,
    /// Slots to use again; what was freed last comes first, while it is in the cache.
    free: Vec<u32>,
}

impl<const WORDS: usize> Writer<WORDS> {
    /// Publishes a new value under `hash`, which should be a good one: keys chosen by strangers must not be able to
    /// collide at will. It does not look for a value of the same key: keys are unique only if the owner keeps them so.
    ///
    /// # Errors
    ///
    /// [`Full`] if `slots_max` values are in already.
    #[inline]
    pub fn insert(&mut self, hash: u64, words: &[u64; WORDS]) -> Result<Handle, Full> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.fresh < self.slots_max => {
                let slot = self.fresh;
                self.fresh = slot.saturating_add(1); // At most `slots_max`.
                slot
            }
            None => return Err(Full),
        };
        let fingerprint = index::fingerprint(hash);
        let handle = self.shared.slots.fill(slot, fingerprint, words);
        self.shared.index.insert(fingerprint, slot);
        self.shared.len.store(self.len().saturating_add(1), Ordering::Relaxed);
        Ok(handle)
    }

    /// Publishes new words for a value; false if the handle is stale.
    #[inline]
    pub fn update(&mut self, handle: Handle, words: &[u64; WORDS]) -> bool {
        let current = self.shared.slots.is_current(handle);
        if current {
            self.shared.slots.update(handle.slot, words);
        }
        current
    }

    /// Takes a value out of the table; false if the handle is stale.
    #[inline]
    pub fn remove(&mut self, handle: Handle) -> bool {
        if !self.shared.slots.is_current(handle) {
            return false;
        }
        let fingerprint = self.shared.slots.fingerprint(handle.slot);
        // The slot first: an entry that leads to an empty slot is passed over, so the value is gone at one instant.
        let reusable = self.shared.slots.empty(handle.slot);
        self.shared.index.remove(fingerprint, handle.slot);
        if reusable {
            self.free.push(handle.slot);
        }
        self.shared.len.store(self.len().saturating_sub(1), Ordering::Relaxed);
        true
    }

    /// The words of a value, unless the handle is stale.
    #[must_use]
    #[inline]
    pub fn get(&self, handle: Handle) -> Option<[u64; WORDS]> {
        let (current, words) = self.shared.slots.read_own(handle.slot)?;
        (current == handle).then_some(words)
    }

    /// As [`Reader::find`], but nothing changes meanwhile.
    #[must_use]
    #[inline]
    pub fn find(&self, hash: u64, matches: impl Fn(&[u64; WORDS]) -> bool) -> Option<(Handle, [u64; WORDS])> {
        self.shared.index.probe(index::fingerprint(hash), |slot| {
            let (handle, words) = self.shared.slots.read_own(slot)?;
            matches(&words).then_some((handle, words))
        })
    }

    /// Another reader of this table.
    #[must_use]
    pub fn reader(&self) -> Reader<WORDS> {
        Reader { shared: Arc::clone(&self.shared) }
    }

    /// The number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.len.load(Ordering::Relaxed)
    }

    /// Whether there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The most values that the table holds at a time.
    #[must_use]
    pub fn slots_max(&self) -> u32 {
        self.slots_max
    }
}

/// A side that looks at the table; clone it for each thread.
pub struct Reader<const WORDS: usize> {
    shared: Arc<Shared<WORDS>>,
}

impl<const WORDS: usize> Reader<WORDS> {
    /// Finds the value that was put in under `hash` and that `matches`, which should compare the whole key: other
    /// values may come up for the same hash. Of several that match, any one.
    #[must_use]
    #[inline]
    pub fn find(&self, hash: u64, matches: impl Fn(&[u64; WORDS]) -> bool) -> Option<(Handle, [u64; WORDS])> {
        self.shared.find(hash, matches)
    }

    /// The words of a value, unless the handle is stale.
    #[must_use]
    #[inline]
    pub fn get(&self, handle: Handle) -> Option<[u64; WORDS]> {
        self.shared.get(handle)
    }

    /// The number of values at some recent instant.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.len.load(Ordering::Relaxed)
    }

    /// Whether there was no value at some recent instant.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<const WORDS: usize> Clone for Reader<WORDS> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<const WORDS: usize> fmt::Debug for Writer<WORDS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Writer");
        debug.field("len", &self.len()).field("slots_max", &self.slots_max).finish_non_exhaustive()
    }
}

impl<const WORDS: usize> fmt::Debug for Reader<WORDS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
