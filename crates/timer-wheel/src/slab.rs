//! Where timers lie: one growing array.

use std::num::NonZeroU32;

use crate::free::FreePlaces;
use crate::handle::Handle;

/// One place of the slab, live or free: 16 bytes with a 32-bit value.
struct Timer<T> {
    deadline: u64,
    generation: NonZeroU32,
    value: T,
}

/// All timers, live and free.
pub(crate) struct Slab<T> {
    timers: Vec<Timer<T>>,
    free: FreePlaces,
}

impl<T: Copy> Slab<T> {
    pub(crate) fn with_capacity(timers: u32) -> Self {
        Self { timers: Vec::with_capacity(timers as usize), free: FreePlaces::new() }
    }

    /// Stores a timer; `None` where every place that 32 bits can name is used or used up.
    #[inline]
    pub(crate) fn insert(&mut self, deadline: u64, value: T) -> Option<Handle> {
        if let Some(index) = self.free.take() {
            let timer = self.timers.get_mut(index as usize)?;
            timer.deadline = deadline;
            timer.value = value;
            return Some(Handle { index, generation: timer.generation });
        }
        if self.timers.len() == self.timers.capacity() {
            // A quarter at a time, where doubling would leave up to 32 bytes a timer.
            self.timers.reserve_exact((self.timers.len() / 4).max(64));
        }
        let index = u32::try_from(self.timers.len()).ok()?;
        let generation = NonZeroU32::MIN;
        self.timers.push(Timer { deadline, generation, value });
        self.free.grow(self.timers.len());
        Some(Handle { index, generation })
    }

    /// The deadline at the place of `handle`, which this slab gave out, and whether its timer is still there.
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "a slab never shrinks, so a handle of its own has a place")]
    pub(crate) fn deadline(&self, handle: Handle) -> (u64, bool) {
        let timer = &self.timers[handle.index as usize];
        (timer.deadline, timer.generation == handle.generation)
    }

    /// Frees the timer that `handle` names, unless it was freed before: its deadline and value. The generation of its
    /// place moves on, so the handle is stale from here on.
    #[inline]
    pub(crate) fn remove(&mut self, handle: Handle) -> Option<(u64, T)> {
        let timer = self.timers.get_mut(handle.index as usize)?;
        if timer.generation != handle.generation {
            return None;
        }
        timer.generation = timer.generation.saturating_add(1);
        // A place whose generations have run out is not used again, or a handle of old could name a new timer.
        if timer.generation != NonZeroU32::MAX {
            self.free.add(handle.index);
        }
        Some((timer.deadline, timer.value))
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.timers.capacity().saturating_mul(size_of::<Timer<T>>()).saturating_add(self.free.memory_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_whose_generations_run_out_is_never_used_again() {
        let mut slab = Slab::with_capacity(0);
        let first = slab.insert(1, 'a').unwrap();
        let last = Handle { generation: NonZeroU32::new(u32::MAX - 1).unwrap(), ..first };
        slab.timers[0].generation = last.generation;
        assert_eq!(slab.remove(last), Some((1, 'a')));
        assert_eq!(slab.remove(last), None);
        let other = slab.insert(2, 'b').unwrap();
        assert_ne!(other.index, last.index);
        assert!(!slab.deadline(last).1);
    }
}
