//! Slots: values that are overwritten in place while others read them.
//!
//! A slot is a sequence lock. Its sequence is odd while the writer changes it, and moves on with every change; what a
//! reader copied between two looks at the same even sequence is one published state. The sequence has 64 bits
//! and does not come round again, so a reader cannot be fooled by however many changes. Which value a slot holds is
//! told by the generation, which is part of what the lock protects.
//!
//! Source of the memory orders: Boehm, "Can Seqlocks Get Along With Programming Language Memory Models?", 2012.

use std::num::NonZeroU32;

use crate::handle::{Handle, high, low};
use crate::sync::{AtomicU64, Ordering, fence, spin_loop, yield_now, zeroed};

/// Looks at a slot that is being changed before the reader lets others run.
const SPINS_MAX: u32 = 64;

/// Words before those of the value.
const HEADER: usize = 2;

/// Bytes of a cache line.
const LINE: usize = 64;

/// All slots: of each the sequence, the tag, and the value's words. A tag is the generation and the fingerprint of the
/// value's hash; the generation is odd while the slot is in use.
pub(crate) struct Slots<const WORDS: usize> {
    words: Box<[AtomicU64]>,
    /// Words to skip, so that the first slot starts a cache line: a slot of 8 words then takes one line, not two.
    skipped: usize,
}

impl<const WORDS: usize> Slots<WORDS> {
    /// Words of a slot.
    const EACH: usize = HEADER + WORDS;

    #[expect(clippy::expect_used, reason = "made once, at the start: `table` says that it panics")]
    pub(crate) fn new(slots: u32) -> Self {
        const SPARE: usize = LINE / size_of::<u64>() - 1;
        let used = (slots as usize).checked_mul(Self::EACH);
        let words =
            used.and_then(|used| used.checked_add(SPARE)).expect("so many slots fit no address space");
        let words = zeroed(words);
        let skipped =
            Some(words.as_ptr().align_offset(LINE)).filter(|&skipped| skipped <= SPARE).unwrap_or(0);
        Self { words, skipped }
    }

    /// A value, whole, and its handle; `None` if the slot is empty or there is none such.
    ///
    /// It ends: the writer is inside a change for a few stores, without a call that could block, so a reader that
    /// yields lets it finish; and a reader starts over only if the writer has finished another change meanwhile.
    #[inline]
    pub(crate) fn read(&self, slot: u32) -> Option<(Handle, [u64; WORDS])> {
        let (sequence, tag, words) = self.parts(slot)?;
        let mut spins = 0_u32;
        loop {
            let before = sequence.load(Ordering::Acquire);
            if before & 1 == 0 {
                let tag = tag.load(Ordering::Relaxed);
                let words: [u64; WORDS] = words.each_ref().map(|word| word.load(Ordering::Relaxed));
                // Whoever saw a word of a later change sees that change's sequence now.
                fence(Ordering::Acquire);
                if sequence.load(Ordering::Relaxed) == before {
                    let generation =
                        NonZeroU32::new(high(tag)).filter(|generation| generation.get() & 1 == 1)?;
                    return Some((Handle { slot, generation }, words));
                }
            }
            if spins < SPINS_MAX {
                spins = spins.saturating_add(1);
                spin_loop();
            } else {
                yield_now();
            }
        }
    }

    /// As [`Slots::read`], for the writer: what it does not change itself stays as it is.
    #[inline]
    pub(crate) fn read_own(&self, slot: u32) -> Option<(Handle, [u64; WORDS])> {
        let (_, tag, words) = self.parts(slot)?;
        let generation = high(tag.load(Ordering::Relaxed));
        let generation = NonZeroU32::new(generation).filter(|generation| generation.get() & 1 == 1)?;
        Some((Handle { slot, generation }, words.each_ref().map(|word| word.load(Ordering::Relaxed))))
    }

    /// Whether `handle` names the value in its slot. For the writer.
    #[inline]
    pub(crate) fn is_current(&self, handle: Handle) -> bool {
        let generation = self.parts(handle.slot).map(|(_, tag, _)| high(tag.load(Ordering::Relaxed)));
        // An even generation is that of an empty slot.
        generation == Some(handle.generation.get()) && handle.generation.get() & 1 == 1
    }

    /// The fingerprint of the value in a slot. For the writer.
    pub(crate) fn fingerprint(&self, slot: u32) -> u32 {
        let (_, tag, _) = self.own(slot);
        low(tag.load(Ordering::Relaxed))
    }

    /// Puts a value into an empty slot. For the writer.
    #[inline]
    pub(crate) fn fill(&self, slot: u32, fingerprint: u32, words: &[u64; WORDS]) -> Handle {
        let (_, tag, _) = self.own(slot);
        let generation = NonZeroU32::MIN | high(tag.load(Ordering::Relaxed)); // Odd.
        self.change(slot, |tag, value| {
            tag.store((u64::from(generation.get()) << 32) | u64::from(fingerprint), Ordering::Relaxed);
            store(value, words);
        });
        Handle { slot, generation }
    }

    /// Replaces the words of the value in a slot. For the writer.
    #[inline]
    pub(crate) fn update(&self, slot: u32, words: &[u64; WORDS]) {
        self.change(slot, |_, value| store(value, words));
    }

    /// Empties a slot. False if it must not be used again: its generations have run out, so that a handle of old could
    /// name a new value. For the writer.
    #[inline]
    pub(crate) fn empty(&self, slot: u32) -> bool {
        let (_, tag, _) = self.own(slot);
        let generation = high(tag.load(Ordering::Relaxed)).checked_add(1);
        self.change(slot, |tag, _| tag.store(u64::from(generation.unwrap_or(0)) << 32, Ordering::Relaxed));
        generation.is_some()
    }

    #[inline]
    fn change(&self, slot: u32, publish: impl FnOnce(&AtomicU64, &[AtomicU64; WORDS])) {
        let (sequence, tag, words) = self.own(slot);
        let before = sequence.load(Ordering::Relaxed);
        sequence.store(before.wrapping_add(1), Ordering::Relaxed);
        // Whoever sees a word stored from here on, and then an acquire fence, sees the odd sequence or a later one.
        fence(Ordering::Release);
        publish(tag, words);
        sequence.store(before.wrapping_add(2), Ordering::Release);
    }

    /// The parts of a slot that the writer has used.
    #[inline]
    #[expect(
        clippy::expect_used,
        reason = "published nowhere, a state would be lost: the process must end instead"
    )]
    fn own(&self, slot: u32) -> (&AtomicU64, &AtomicU64, &[AtomicU64; WORDS]) {
        self.parts(slot).expect("the writer keeps to its slots")
    }

    #[inline]
    fn parts(&self, slot: u32) -> Option<(&AtomicU64, &AtomicU64, &[AtomicU64; WORDS])> {
        // Out of the array is out of the table.
        let start = (slot as usize).checked_mul(Self::EACH)?.checked_add(self.skipped)?;
        let slot = self.words.get(start..)?;
        let ([sequence, tag], words) = slot.split_first_chunk::<HEADER>()?;
        Some((sequence, tag, words.first_chunk()?))
    }
}

#[inline]
fn store<const WORDS: usize>(value: &[AtomicU64; WORDS], words: &[u64; WORDS]) {
    for (word, &new) in value.iter().zip(words) {
        word.store(new, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn a_slot_whose_generations_run_out_is_given_up() {
        let slots = Slots::<1>::new(1);
        slots.own(0).1.store(u64::from(u32::MAX - 1) << 32, Ordering::Relaxed);
        let last = slots.fill(0, 5, &[7]);
        assert_eq!(slots.read(0), Some((last, [7])));
        assert!(!slots.empty(0));
        assert_eq!(slots.read(0), None);
        assert!(!slots.is_current(last));
    }
}
