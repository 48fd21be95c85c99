//! Where timers lie: one growing array.
#![expect(
    clippy::indexing_slicing,
    reason = "a place that is not there is a bug in here: passed over, it would be a deadline lost"
)]

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use crate::free::{FreePlaces, Run};
use crate::handle::Handle;

/// One place of the slab: 12 bytes with a 32-bit value.
struct Timer<T> {
    /// The lower half of the deadline.
    low: u32,
    /// Moves on when a timer is put in here and when one is cancelled.
    generation: u32,
    value: T,
}

/// All timers and free places.
///
/// Timers lie in the order in which they are put in, which is nobody's else: whoever looks for one by its handle waits for
/// memory. So what the wheel does with many at a time needs nothing of this but the bit map that says which are live.
///
/// A place whose timer is gone is not free before its owner releases it: where a queue still names it, it need not
/// say which of the timers was meant that have lain there.
pub(crate) struct Slab<T> {
    timers: Vec<Timer<T>>,
    live: Vec<u64>,
    /// Deadlines that were 2³² ms or more ahead when they were looked at last: 50 days, so hardly anybody has any.
    far: BTreeMap<u32, u64>,
    free: FreePlaces,
    /// Free places in hand.
    run: Run,
}

impl<T: Copy> Slab<T> {
    pub(crate) fn with_capacity(timers: u32) -> Self {
        Self {
            timers: Vec::with_capacity(timers as usize),
            live: Vec::with_capacity((timers as usize).div_ceil(64)),
            far: BTreeMap::new(),
            free: FreePlaces::new(),
            run: Run::EMPTY,
        }
    }

    /// Stores a timer that is due in `ahead` milliseconds; `None` where every place that 32 bits can name is used or used up.
    #[inline]
    pub(crate) fn insert(&mut self, deadline: u64, ahead: u64, value: T) -> Option<Handle> {
        loop {
            let index = match self.run.take() {
                Some(index) => index,
                None => self.next_place(value)?,
            };
            let timer = &mut self.timers[index as usize];
            // A place whose generations have run out is not used again, or a handle of old could name a new timer.
            let Some(generation) = timer.generation.checked_add(1).filter(|&it| it < u32::MAX) else {
                continue;
            };
            *timer = Timer { low: low(deadline), generation, value };
            if ahead > NEAR_MAX {
                self.far.insert(index, deadline);
            }
            self.live[index as usize / 64] |= 1 << (index % 64);
            return Some(Handle { index, generation: NonZeroU32::new(generation)? });
        }
    }

    /// A place where none is in hand; `value` is as good as any for one that is new.
    #[inline(never)]
    fn next_place(&mut self, value: T) -> Option<u32> {
        if let Some(run) = self.free.take_run() {
            self.run = run;
            return self.run.take();
        }
        let index = u32::try_from(self.timers.len()).ok()?;
        if self.timers.len() == self.timers.capacity() {
            // A tenth at a time, where doubling would leave up to 28 bytes a timer.
            self.timers.reserve_exact((self.timers.len() / 10).max(64));
        }
        self.timers.push(Timer { low: 0, generation: 0, value });
        if self.live.len() == self.live.capacity() {
            self.live.reserve_exact((self.live.len() / 10).max(1));
        }
        self.live.resize(self.timers.len().div_ceil(64), 0);
        self.free.grow(self.timers.len());
        Some(index)
    }

    /// Whether there is a timer at a place that is not free.
    #[inline]
    pub(crate) fn is_live(&self, index: u32) -> bool {
        self.live[index as usize / 64] >> (index % 64) & 1 == 1
    }

    /// The deadline of the timer at a place that is not free, for a wheel that stands at `position`.
    #[inline]
    pub(crate) fn deadline(&self, index: u32, position: u64) -> u64 {
        self.deadline_from(index, self.timers[index as usize].low, position)
    }

    /// The same, for whoever has the lower half at hand.
    #[inline]
    pub(crate) fn deadline_from(&self, index: u32, half: u32, position: u64) -> u64 {
        // Wheels do not stand behind a live timer's deadline.
        let near = position.saturating_add(u64::from(half.wrapping_sub(low(position))));
        if self.far.is_empty() { near } else { self.far.get(&index).copied().unwrap_or(near) }
    }

    /// Looks again at a deadline that may have been far ahead.
    #[inline]
    pub(crate) fn approach(&mut self, index: u32, ahead: u64) {
        if !self.far.is_empty() && ahead <= NEAR_MAX {
            self.far.remove(&index);
        }
    }

    /// The deadline of the timer that `handle` names.
    pub(crate) fn deadline_of(&self, handle: Handle, position: u64) -> Option<u64> {
        let timer = self.timers.get(handle.index as usize)?;
        let is_named = timer.generation == handle.generation.get() && self.is_live(handle.index);
        is_named.then(|| self.deadline(handle.index, position))
    }

    /// Makes the handle of a timer stale and gives the value, unless it went before. The timer counts as live until it is
    /// [taken](Self::take_deadline): there should be as little as possible to do with what comes from memory.
    #[inline]
    pub(crate) fn cancel(&mut self, handle: Handle) -> Option<T> {
        let timer = self.timers.get_mut(handle.index as usize)?;
        let is_live = self.live[handle.index as usize / 64] >> (handle.index % 64) & 1 == 1;
        if timer.generation != handle.generation.get() || !is_live {
            return None;
        }
        timer.generation = timer.generation.wrapping_add(1);
        Some(timer.value)
    }

    /// Takes out the timer at a place, which was cancelled, and gives its deadline. The place is not free yet.
    #[inline]
    pub(crate) fn take_deadline(&mut self, index: u32, position: u64) -> u64 {
        self.live[index as usize / 64] &= !(1 << (index % 64));
        let deadline = self.deadline(index, position);
        self.approach(index, 0);
        deadline
    }

    /// Frees a place, and takes out its timer; false if that went before.
    #[inline]
    pub(crate) fn take(&mut self, index: u32) -> bool {
        let (live, bit) = (&mut self.live[index as usize / 64], 1 << (index % 64));
        let was_live = *live & bit != 0;
        *live &= !bit;
        self.release(index);
        was_live
    }

    /// Frees a place whose timer is gone.
    #[inline]
    pub(crate) fn release(&mut self, index: u32) {
        self.free.add(index);
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        let timers = self.timers.capacity().saturating_mul(size_of::<Timer<T>>());
        let live = self.live.capacity().saturating_mul(size_of::<u64>());
        // What the map takes besides is its own affair.
        let far = self.far.len().saturating_mul(size_of::<(u32, u64)>());
        timers.saturating_add(live).saturating_add(far).saturating_add(self.free.memory_bytes())
    }
}

/// The furthest that a lower half tells by itself.
const NEAR_MAX: u64 = u32::MAX as u64;

/// The lower half of a deadline.
#[inline]
pub(crate) fn low(deadline: u64) -> u32 {
    let [a, b, c, d, ..] = deadline.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_whose_generations_run_out_is_never_used_again() {
        let mut slab = Slab::with_capacity(0);
        let first = slab.insert(1, 1, 'a').unwrap();
        let last = Handle { generation: NonZeroU32::new(u32::MAX - 1).unwrap(), ..first };
        slab.timers[first.index as usize].generation = u32::MAX - 1;
        assert_eq!(slab.cancel(last), Some('a'));
        assert_eq!(slab.cancel(last), None);
        assert_eq!(slab.take_deadline(last.index, 0), 1);
        slab.release(last.index);
        for _ in 0..100 {
            assert_ne!(slab.insert(2, 2, 'b').unwrap().index, last.index);
        }
        assert_eq!(slab.deadline_of(last, 0), None);
    }
}
