//! Where timers lie: one growing array, linked into lists by 32-bit indexes.

use std::num::NonZeroU32;

use crate::handle::Handle;

/// No timer: the end of a list.
pub(crate) const NIL: u32 = u32::MAX;

/// One timer, live or free: 24 bytes with a 32-bit value.
pub(crate) struct Timer<T> {
    pub(crate) deadline: u64,
    /// The next timer of the same slot, or of the free list.
    pub(crate) next: u32,
    /// The timer before it in the same slot.
    pub(crate) prev: u32,
    generation: NonZeroU32,
    pub(crate) value: T,
}

/// All timers, with a list of the free ones: what was freed last is used first, while it is in the cache.
pub(crate) struct Slab<T> {
    timers: Vec<Timer<T>>,
    free: u32,
}

impl<T: Copy> Slab<T> {
    pub(crate) fn with_capacity(timers: u32) -> Self {
        Self { timers: Vec::with_capacity(timers as usize), free: NIL }
    }

    /// Stores a timer that hangs in no list yet.
    pub(crate) fn insert(&mut self, deadline: u64, value: T) -> Handle {
        if let Some(timer) = self.timers.get_mut(self.free as usize) {
            let handle = Handle { index: self.free, generation: timer.generation };
            self.free = timer.next;
            timer.deadline = deadline;
            timer.value = value;
            return handle;
        }
        if self.timers.len() == self.timers.capacity() {
            // A quarter at a time, where doubling would leave up to 48 bytes a timer.
            self.timers.reserve_exact((self.timers.len() / 4).max(64));
        }
        let index = u32::try_from(self.timers.len()).ok().filter(|&index| index != NIL);
        let index = index.expect("timers_max keeps indexes under NIL");
        let generation = NonZeroU32::MIN;
        self.timers.push(Timer { deadline, next: NIL, prev: NIL, generation, value });
        Handle { index, generation }
    }

    /// The timer that `handle` names, unless it was freed.
    pub(crate) fn get(&self, handle: Handle) -> Option<&Timer<T>> {
        self.timers.get(handle.index as usize).filter(|timer| timer.generation == handle.generation)
    }

    pub(crate) fn at(&self, index: u32) -> &Timer<T> {
        &self.timers[index as usize]
    }

    pub(crate) fn at_mut(&mut self, index: u32) -> &mut Timer<T> {
        &mut self.timers[index as usize]
    }

    /// Frees a timer that hangs in no list. Its generation moves on, which makes its handle stale at once.
    pub(crate) fn free(&mut self, index: u32) {
        let timer = &mut self.timers[index as usize];
        timer.generation = timer.generation.saturating_add(1);
        if timer.generation == NonZeroU32::MAX {
            // Its generations have run out: were it used again, a handle of old could name a new timer.
            return;
        }
        timer.next = self.free;
        self.free = index;
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.timers.capacity() * size_of::<Timer<T>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_whose_generations_run_out_is_never_used_again() {
        let mut slab = Slab::with_capacity(0);
        let handle = slab.insert(1, 'a');
        slab.at_mut(handle.index).generation = NonZeroU32::new(u32::MAX - 1).unwrap();
        let last = Handle { generation: slab.at(handle.index).generation, ..handle };
        assert!(slab.get(last).is_some());
        slab.free(last.index);
        assert!(slab.get(last).is_none());
        let fresh = slab.insert(2, 'b');
        assert_ne!(fresh.index, last.index);
        assert!(slab.get(last).is_none());
    }
}
