//! From a hash to the slots that hold values of it: one open-addressed array of words, probed one after the other.
//!
//! An entry is a fingerprint of the hash and a slot. The array has at least two places for each slot, so that
//! searches are short. Removing an entry moves later ones back into its place, so that no markers of what is gone
//! gather and the array never has to be built anew. That is what a reader has to be guarded against.
//!
//! # Why a reader misses nothing
//!
//! A reader walks from a fingerprint's home to the first empty place. Take an entry that is in the index all the
//! while. Between its home and its place no place is ever empty, whatever the writer does: a place is emptied only
//! if no later entry of the run needs it. The entry itself only ever moves back. In a move the writer (1) stores it at
//! its new place, (2) advances the count of moves of its fingerprint, (3) overwrites the old place; only then may a
//! place between the two become empty. Each of these is a release, and every read of the reader acquires.
//!
//! The reader looks at the count before it starts and after it found nothing. By its first look it knows where the entry
//! was put last by the moves counted so far, as of (1). On its way there it found either something else in that very
//! place, or an empty place before it. Both were stored after a further move, so by (2) its last look sees a
//! greater count than its first, and it starts over.
//!
//! It starts over only after the writer has moved an entry that shares its count. It never waits for the writer: one
//! that stands still in the midst of a move holds up nobody.
#![expect(
    clippy::indexing_slicing,
    reason = "`home` and `after` give places of the array only; a probe that passed one over could miss an entry"
)]

use crate::handle::{high, low};
use crate::sync::{AtomicU64, Ordering, zeroed};

/// The most slots that entries can name: one value less than 32 bits have, and half of the array's places.
pub(crate) const SLOTS_MAX: u32 = u32::MAX / 2;

/// No entry. Entries hold their slot plus one, so none is 0.
const EMPTY: u64 = 0;

/// Counts of moves, each for the fingerprints of one remainder: with one for all, every move would send every reader
/// back that has found nothing.
const COUNTS: usize = if cfg!(loom) { 2 } else { 1024 };

/// The index of a table.
pub(crate) struct Index {
    places: Box<[AtomicU64]>,
    moves: Box<[AtomicU64]>,
}

/// What the index keeps of a hash. Its upper bits choose the home, so the halves are mixed for hashes that vary in one
/// half only.
#[inline]
pub(crate) fn fingerprint(hash: u64) -> u32 {
    high(hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (hash << 32))
}

impl Index {
    pub(crate) fn new(slots: u32) -> Self {
        // One place is always empty, or a search would not end.
        // Where that is more than a `usize` can say, there is no such memory either.
        let places = (slots as usize).saturating_mul(2).max(1);
        Self { places: zeroed(places), moves: zeroed(COUNTS) }
    }

    /// Calls `look` with every slot that may hold a value of this hash, until it gives something. It may be called with
    /// the same slot twice, and with slots of other hashes.
    #[inline]
    pub(crate) fn find<T>(&self, hash: u64, look: impl Fn(u32) -> Option<T>) -> Option<T> {
        let fingerprint = fingerprint(hash);
        let moves = self.moves(fingerprint);
        let mut moves_before = moves.load(Ordering::Acquire);
        loop {
            let found = self.probe(fingerprint, &look);
            if found.is_some() {
                return found;
            }
            let moves_after = moves.load(Ordering::Acquire);
            if moves_after == moves_before {
                return None;
            }
            moves_before = moves_after;
        }
    }

    /// As [`Index::find`], which a change may keep from finding what is there. The writer, which makes the changes, needs no
    /// more.
    #[inline]
    pub(crate) fn probe<T>(&self, fingerprint: u32, look: impl Fn(u32) -> Option<T>) -> Option<T> {
        let mut place = self.home(fingerprint);
        // Once round at most: a reader of an array that changes may meet no empty place, if only in theory.
        for _ in 0..self.places.len() {
            let entry = self.places[place].load(Ordering::Acquire);
            if entry == EMPTY {
                return None;
            }
            if high(entry) == fingerprint {
                let found = look(low(entry).saturating_sub(1));
                if found.is_some() {
                    return found;
                }
            }
            place = self.after(place);
        }
        None
    }

    /// Adds an entry. For the writer.
    #[inline]
    pub(crate) fn insert(&self, fingerprint: u32, slot: u32) {
        let mut place = self.home(fingerprint);
        while self.places[place].load(Ordering::Relaxed) != EMPTY {
            place = self.after(place);
        }
        self.places[place].store(entry(fingerprint, slot), Ordering::Release);
    }

    /// Removes an entry that is there. For the writer.
    #[inline]
    pub(crate) fn remove(&self, fingerprint: u32, slot: u32) {
        let removed = entry(fingerprint, slot);
        let mut hole = self.home(fingerprint);
        while self.places[hole].load(Ordering::Relaxed) != removed {
            hole = self.after(hole);
        }
        let mut place = hole;
        loop {
            place = self.after(place);
            let entry = self.places[place].load(Ordering::Relaxed);
            if entry == EMPTY {
                break;
            }
            // An entry may move back to the hole unless its home lies behind it.
            if self.distance(self.home(high(entry)), place) >= self.distance(hole, place) {
                self.places[hole].store(entry, Ordering::Release);
                let moves = self.moves(high(entry));
                moves.store(moves.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
                hole = place;
            }
        }
        self.places[hole].store(EMPTY, Ordering::Release);
    }

    #[inline]
    fn moves(&self, fingerprint: u32) -> &AtomicU64 {
        &self.moves[fingerprint as usize % COUNTS]
    }

    /// Where the search for a fingerprint starts: fingerprints in order are spread over the places in order.
    #[inline]
    fn home(&self, fingerprint: u32) -> usize {
        let scaled = u64::from(fingerprint).saturating_mul(self.places.len() as u64); // 32 bits by 32.
        high(scaled) as usize
    }

    #[inline]
    fn after(&self, place: usize) -> usize {
        let next = place.saturating_add(1); // A place is below `len`.
        if next == self.places.len() { 0 } else { next }
    }

    /// Steps from one place to another.
    #[inline]
    fn distance(&self, from: usize, to: usize) -> usize {
        let round = if from <= to { 0 } else { self.places.len() };
        to.saturating_add(round).saturating_sub(from)
    }
}

#[inline]
fn entry(fingerprint: u32, slot: u32) -> u64 {
    (u64::from(fingerprint) << 32) | u64::from(slot.saturating_add(1)) // `SLOTS_MAX` at most.
}
