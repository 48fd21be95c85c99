//! Which places of the slab, or chunks of the pool, are free.
#![expect(
    clippy::indexing_slicing,
    reason = "a bit beyond what `grow` made room for is a bug in here: passed over, it would lose a place in silence"
)]

/// Places that are given out together: neighbours, so that what is used together lies together.
const RUN: u32 = 16;

/// Free places in hand, taken out of the set.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    start: u32,
    /// A bit for each place from `start` on.
    bits: u16,
}

impl Run {
    pub(crate) const EMPTY: Self = Self { start: 0, bits: 0 };

    /// The next place.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<u32> {
        if self.bits == 0 {
            return None;
        }
        // Every place of a run is a `u32`.
        let place = self.start.saturating_add(self.bits.trailing_zeros());
        self.bits &= self.bits.wrapping_sub(1);
        Some(place)
    }

    /// Takes a place back if it is one of this run's.
    #[inline]
    pub(crate) fn add(&mut self, place: u32) -> bool {
        let bit = place.wrapping_sub(self.start);
        let is_ours = bit < RUN;
        if is_ours {
            self.bits |= 1 << bit;
        }
        is_ours
    }
}

/// A set of places as a tree of bit maps: a bit of one level says whether a word of the level below has any.
///
/// A list through the free places would do as well for a few. But it hands them out in the order in which they were
/// freed, which is as good as random: past the cache, each insertion would wait for memory. This gives neighbours out
/// one after the other, and keeps to the low end.
pub(crate) struct FreePlaces {
    levels: Vec<Vec<u64>>,
}

impl FreePlaces {
    pub(crate) const fn new() -> Self {
        Self { levels: Vec::new() }
    }

    /// Makes room for places up to `places`; there must be no free one.
    pub(crate) fn grow(&mut self, places: usize) {
        let mut words = places;
        for level in 0.. {
            words = words.div_ceil(64);
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            self.levels[level].resize(words, 0);
            if words == 1 {
                return;
            }
        }
    }

    /// Adds a place that [`FreePlaces::grow`] made room for.
    #[inline]
    pub(crate) fn add(&mut self, place: u32) {
        let mut bit = place as usize;
        for level in &mut self.levels {
            let word = &mut level[bit / 64];
            let was_empty = *word == 0;
            *word |= 1 << (bit % 64);
            if !was_empty {
                return;
            }
            bit /= 64;
        }
    }

    /// Takes the lowest free places, all of one run.
    pub(crate) fn take_run(&mut self) -> Option<Run> {
        let mut word = 0;
        let mut bits = 0;
        for level in self.levels.iter().rev() {
            bits = level[word];
            if bits == 0 {
                return None;
            }
            // A bit is set for words that are there, so this is the place of one.
            word = word.saturating_mul(64).saturating_add(bits.trailing_zeros() as usize);
        }
        if bits == 0 {
            return None; // There is no level yet.
        }
        // The last step went from a word to a bit of it.
        word /= 64;
        let first = bits.trailing_zeros() & !RUN.wrapping_sub(1); // A power of two.
        let [low, high, ..] = (bits >> first).to_le_bytes();
        let start = u32::try_from(word.saturating_mul(64)).ok()?.saturating_add(first); // A place is a `u32`.
        let left = &mut self.levels.first_mut()?[word];
        *left &= !(u64::from(u16::MAX) << first);
        let mut is_empty = *left == 0;
        for level in self.levels.iter_mut().skip(1) {
            if !is_empty {
                break;
            }
            let above = &mut level[word / 64];
            *above &= !(1 << (word % 64));
            is_empty = *above == 0;
            word /= 64;
        }
        Some(Run { start, bits: u16::from_le_bytes([low, high]) })
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.levels.iter().map(|level| level.capacity().saturating_mul(size_of::<u64>())).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_was_added_is_taken_once(
            places in 1..10_000_usize,
            rounds in prop::collection::vec((prop::collection::vec(any::<prop::sample::Index>(), 0..50), 0..60), 1..20),
        ) {
            let mut free = FreePlaces::new();
            for places in 1..=places {
                free.grow(places);
            }
            let mut run = Run::EMPTY;
            let mut model = BTreeSet::new();
            for (added, taken) in rounds {
                for index in added {
                    let place = u32::try_from(index.index(places)).unwrap();
                    if model.insert(place) && !run.add(place) {
                        free.add(place);
                    }
                }
                for _ in 0..taken {
                    let place = run.take().or_else(|| {
                        run = free.take_run()?;
                        run.take()
                    });
                    prop_assert_eq!(place.is_none(), model.is_empty());
                    if let Some(place) = place {
                        prop_assert!(model.remove(&place), "{} was not free", place);
                    }
                }
            }
        }
    }

    #[test]
    fn neighbours_are_taken_one_after_the_other() {
        let mut free = FreePlaces::new();
        free.grow(100_000);
        for place in [99_999, 70, 3, 5, 90_000, 4] {
            free.add(place);
        }
        let runs = std::iter::from_fn(|| free.take_run());
        let taken: Vec<_> = runs.flat_map(|mut run| std::iter::from_fn(move || run.take())).collect();
        assert_eq!(taken, [3, 4, 5, 70, 90_000, 99_999]);
    }
}
