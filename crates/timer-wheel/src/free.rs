//! Which places of the slab, or chunks of the pool, are free.
#![expect(
    clippy::indexing_slicing,
    reason = "a bit beyond what `grow` made room for is a bug in here: passed over, it would lose a place in silence"
)]

/// A set of places as a tree of bit maps: a bit of one level says whether a word of the level below has any.
///
/// A list through the free places would do as well for a few. But it hands them out in the order in which they were
/// freed, which is as good as random: past the cache, each insertion would wait for memory. This gives neighbours out
/// one after the other, and keeps to the low end.
pub(crate) struct FreePlaces {
    /// Free places in hand, as a word of level 0 that was taken out of the tree.
    run: u64,
    /// The place of bit 0 of `run`.
    run_start: u32,
    levels: Vec<Vec<u64>>,
}

impl FreePlaces {
    pub(crate) fn new() -> Self {
        Self { run: 0, run_start: 0, levels: Vec::new() }
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
        // Beside those in hand it will be given out next, and the tree need not be touched for it.
        if let Some(run_bit) = place.checked_sub(self.run_start).filter(|bit| *bit < u64::BITS) {
            self.run |= 1 << run_bit;
            return;
        }
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

    /// Takes a place: the next of the run in hand, or else the lowest of all.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<u32> {
        if self.run == 0 {
            self.take_run()?;
        }
        // Every place that was added is a `u32`, and the run has a bit.
        let place = self.run_start.saturating_add(self.run.trailing_zeros());
        self.run &= self.run.wrapping_sub(1);
        Some(place)
    }

    /// Takes the lowest word with a free place out of the tree.
    fn take_run(&mut self) -> Option<()> {
        let mut word = 0;
        for level in self.levels.iter().rev() {
            let bits = level[word];
            if bits == 0 {
                return None;
            }
            // A bit is set for words that are there, so this is the place of one.
            word = word.saturating_mul(64).saturating_add(bits.trailing_zeros() as usize);
        }
        // The last step went from a word to a bit of it.
        word /= 64;
        self.run_start = u32::try_from(word.saturating_mul(64)).ok()?; // A place is a `u32`.
        self.run = std::mem::take(self.levels.first_mut()?.get_mut(word)?);
        for level in self.levels.iter_mut().skip(1) {
            let above = &mut level[word / 64];
            *above &= !(1 << (word % 64));
            if *above != 0 {
                break;
            }
            word /= 64;
        }
        Some(())
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
            let mut model = BTreeSet::new();
            for (added, taken) in rounds {
                for index in added {
                    let place = u32::try_from(index.index(places)).unwrap();
                    if model.insert(place) {
                        free.add(place);
                    }
                }
                for _ in 0..taken {
                    let place = free.take();
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
        let taken: Vec<_> = std::iter::from_fn(|| free.take()).collect();
        assert_eq!(taken, [3, 4, 5, 70, 90_000, 99_999]);
    }
}
