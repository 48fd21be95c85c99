//! The wheel itself: slots of lists of timers, and the present.

use std::fmt;

use crate::chunk::{CHUNK, Entry};
use crate::handle::{Full, Handle};
use crate::slab::{Slab, low};
use crate::slot::{Place, Slots};
use crate::tick::Tick;

/// Timers of a distant slot that [`Wheel::next_deadline`] looks through for the earliest.
const LOOKED_THROUGH_MAX: usize = 64;

/// Cancelled timers that are settled together.
const GONE_MAX: usize = 64;

/// A timing wheel: values of type `T`, each kept until its deadline.
///
/// It takes 25 bytes a timer when `T` has 4 (27 with what growth keeps in reserve), and 5 KiB for each level of slots that
/// was ever needed: two for deadlines a minute ahead, and another one now and then. A cancelled timer may leave its bytes
/// behind until its slot's time comes, but no more than one for each live one in the slot.
///
/// The wheel's *present* is the latest `now` it was given. No timer fires before its deadline; those that are due
/// come in the order of their deadlines, and those of one deadline in the order in which they were put in. A
/// timer put in for an instant already past counts as due at the present.
pub struct Wheel<T> {
    /// The present, in milliseconds; while timers are due, the deadline of the one given out last.
    position: u64,
    /// Timers that are live or not settled.
    len: u32,
    timers_max: u32,
    slots: Slots<T>,
    slab: Slab<T>,
    gone: Gone,
}

/// Places of cancelled timers that nobody else knows of yet. To cancel is to wait for the timer's memory; the less there
/// is to do with what comes from it, the more of such waits a processor has going at a time.
struct Gone {
    timers: [u32; GONE_MAX],
    /// At most `GONE_MAX`, and that only within a call.
    count: u32,
}

impl Gone {
    fn timers(&self) -> &[u32] {
        self.timers.get(..self.count as usize).unwrap_or_default()
    }
}

impl<T: Copy> Wheel<T> {
    /// The most timers that any wheel can hold.
    pub const TIMERS_MAX: u32 = u32::MAX;

    /// An empty wheel whose present is `now`, for up to [`Wheel::TIMERS_MAX`] timers.
    #[must_use]
    pub fn new(now: Tick) -> Self {
        Self::with_capacity(now, 0)
    }

    /// The same, with room for `timers` timers before it has to ask for memory.
    #[must_use]
    pub fn with_capacity(now: Tick, timers: u32) -> Self {
        Self {
            position: now.as_ms(),
            len: 0,
            timers_max: Self::TIMERS_MAX,
            slots: Slots::with_capacity(timers),
            slab: Slab::with_capacity(timers),
            gone: Gone { timers: [0; GONE_MAX], count: 0 },
        }
    }

    /// Limits the wheel to `timers_max` timers at a time.
    #[must_use]
    pub fn with_timers_max(mut self, timers_max: u32) -> Self {
        self.timers_max = timers_max;
        self
    }

    /// Puts in a timer that is due at `at`, and names it for [`Wheel::cancel`]. Constant time.
    ///
    /// # Panics
    ///
    /// If `timers_max` timers are in already: for owners whose own limits keep it from happening, as a shard's
    /// `orders_max` does. The others call [`Wheel::try_insert`].
    #[expect(
        clippy::expect_used,
        reason = "a timer that is not put in is a deadline lost: the owner's process must end, and recover"
    )]
    pub fn insert(&mut self, at: Tick, value: T) -> Handle {
        self.try_insert(at, value).expect("the owner's limits keep the wheel under timers_max")
    }

    /// As [`Wheel::insert`], but refuses the timer when there is no room.
    ///
    /// # Errors
    ///
    /// [`Full`] if `timers_max` timers are in already.
    #[inline]
    pub fn try_insert(&mut self, at: Tick, value: T) -> Result<Handle, Full> {
        if self.len >= self.timers_max {
            self.settle();
            if self.len >= self.timers_max {
                return Err(Full);
            }
        }
        let deadline = at.as_ms().max(self.position);
        let handle = self.slab.insert(deadline, deadline.saturating_sub(self.position), value).ok_or(Full)?;
        self.len = self.len.saturating_add(1); // At most `timers_max`.
        self.slots.push(
            Place::of(deadline, self.position),
            Entry { timer: handle.index, low: low(deadline), value },
        );
        Ok(handle)
    }

    /// Takes a timer out and gives its value; `None` if it fired or was cancelled before. Constant time, if spread
    /// over many calls: now and then one tidies up.
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "a remainder")]
    pub fn cancel(&mut self, handle: Handle) -> Option<T> {
        let value = self.slab.cancel(handle)?;
        let count = self.gone.count;
        self.gone.timers[count as usize % GONE_MAX] = handle.index;
        self.gone.count = count.wrapping_add(1);
        if self.gone.count as usize == GONE_MAX {
            self.settle();
        }
        Some(value)
    }

    /// When the timer is due; `None` if it fired or was cancelled before.
    #[must_use]
    pub fn deadline(&self, handle: Handle) -> Option<Tick> {
        self.slab.deadline_of(handle, self.position).map(Tick::from_ms)
    }

    /// Sets the present of an empty wheel to `now`, also to an earlier one: for an owner who goes back in time, as
    /// a model checker does, and need not make a wheel each time.
    ///
    /// # Panics
    ///
    /// If there is a timer.
    pub fn restart(&mut self, now: Tick) {
        assert!(self.is_empty(), "the slots of timers depend on the present");
        self.settle();
        self.position = now.as_ms();
    }

    /// Takes out the first timer that is due at `now`: its deadline and its value. Call it until it says `None`;
    /// only then has the present come to `now`. A `now` before the present counts as the present.
    ///
    /// Timers may be put in and cancelled between two calls. One that is put in for an instant up to `now` comes
    /// out in the same round, so that an owner who always does that never gets to `None`.
    #[inline]
    pub fn pop_due(&mut self, now: Tick) -> Option<(Tick, T)> {
        if self.gone.count > 0 {
            self.settle();
        }
        let now = now.as_ms().max(self.position);
        while let Some(place) = self.slots.first() {
            let start = place.start(self.position);
            if start > now {
                break;
            }
            // The present enters this slot, the earliest there is, so no other timer's slot changes by it.
            self.position = start;
            if place.is_one_tick() {
                return Some(self.pop_front(place));
            }
            self.spread(place);
        }
        self.position = now;
        None
    }

    /// Takes out every timer that is due at `now`, in order, and gives its deadline and value to `fired`.
    pub fn advance(&mut self, now: Tick, mut fired: impl FnMut(Tick, T)) {
        while let Some((deadline, value)) = self.pop_due(now) {
            fired(deadline, value);
        }
    }

    /// When to call [`Wheel::pop_due`] next: never later than the earliest deadline, and `None` if there is none.
    ///
    /// It is that deadline itself when it lies within the present's run of 256 ms, or when at most 64 timers share
    /// its slot. Otherwise it may be the start of the slot, which is later than the present; each wake-up at
    /// such a start brings the answer nearer, and seven of them at most lead to the deadline.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Tick> {
        let gone = self.gone.timers();
        let gone_in = |place| gone.iter().filter(|timer| self.place_of(**timer) == place).count();
        let place = self.slots.occupied().find(|&place| self.slots.live(place) > gone_in(place))?;
        let start = place.start(self.position);
        if place.is_one_tick() {
            return Some(Tick::from_ms(start));
        }
        let mut earliest = u64::MAX;
        for (looked_through, timer) in self.slots.timers(place).enumerate() {
            if looked_through == LOOKED_THROUGH_MAX {
                return Some(Tick::from_ms(start));
            }
            if self.slab.is_live(timer.timer) && !gone.contains(&timer.timer) {
                earliest = earliest.min(self.slab.deadline_from(timer.timer, timer.low, self.position));
            }
        }
        Some(Tick::from_ms(earliest))
    }

    /// The number of timers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len.saturating_sub(self.gone.count) as usize
    }

    /// Whether there is no timer.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The present: the latest `now` that [`Wheel::pop_due`] came to.
    #[must_use]
    pub fn now(&self) -> Tick {
        Tick::from_ms(self.position)
    }

    /// Bytes of memory taken, reserves included.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>().saturating_add(self.slots.memory_bytes()).saturating_add(self.slab.memory_bytes())
    }

    /// Where the timer hangs that lies at a place of the slab.
    fn place_of(&self, timer: u32) -> Place {
        Place::of(self.slab.deadline(timer, self.position), self.position)
    }

    /// Tells everybody which timers are gone, before the present goes on: where a timer hung depends on it.
    #[inline(never)]
    fn settle(&mut self) {
        let count = std::mem::take(&mut self.gone.count);
        self.len = self.len.saturating_sub(count); // They were counted.
        for at in 0..count as usize {
            let Some(&timer) = self.gone.timers.get(at) else { break };
            let place = Place::of(self.slab.take_deadline(timer, self.position), self.position);
            if self.slots.gone(place) {
                self.spread(place);
            }
        }
    }

    /// Takes the first timer out of an occupied slot of one tick, the present.
    #[inline]
    fn pop_front(&mut self, place: Place) -> (Tick, T) {
        loop {
            let timer = self.slots.pop(place);
            if self.slab.take(timer.timer) {
                self.len = self.len.saturating_sub(1); // A timer was there, so it was counted.
                if self.slots.gone(place) {
                    self.spread(place);
                }
                return (Tick::from_ms(self.position), timer.value);
            }
        }
    }

    /// Hangs the timers of a slot anew, without those that are gone: on lower levels if the present has just entered the
    /// slot, otherwise in the same one. They keep their order, and nothing can hang on those lower levels before
    /// them, so timers of one deadline stay in the order in which they were put in.
    #[inline(never)]
    #[expect(
        clippy::indexing_slicing,
        reason = "all ranges lie within a chunk; a timer passed over in silence would be a deadline lost"
    )]
    fn spread(&mut self, place: Place) {
        let mut timers = self.slots.take(place);
        while let Some((chunk, range)) = self.slots.first_chunk(timers) {
            if range.is_empty() {
                self.slots.drop_chunk(&mut timers);
                continue;
            }
            // First which of them are live, without a branch on any, since half of them may be.
            let (mut live, mut gone) = ([0; CHUNK], [0; CHUNK]);
            let (mut live_count, mut gone_count) = (0_usize, 0_usize);
            for at in range {
                let is_live = self.slab.is_live(self.slots.entry(chunk, at).timer);
                live[live_count % CHUNK] = at;
                gone[gone_count % CHUNK] = at;
                live_count = live_count.saturating_add(usize::from(is_live)); // At most `CHUNK`, as the other.
                gone_count = gone_count.saturating_add(usize::from(!is_live));
            }
            for &at in &live[..live_count] {
                let timer = self.slots.entry(chunk, at);
                let deadline = self.slab.deadline_from(timer.timer, timer.low, self.position);
                self.slab.approach(timer.timer, deadline.saturating_sub(self.position));
                self.slots.push(Place::of(deadline, self.position), timer);
            }
            for &at in &gone[..gone_count] {
                self.slab.release(self.slots.entry(chunk, at).timer);
            }
            self.slots.drop_chunk(&mut timers);
        }
    }
}

impl<T> fmt::Debug for Wheel<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { position, len, timers_max, gone, .. } = self;
        let mut debug = f.debug_struct("Wheel");
        debug
            .field("position", position)
            .field("len", &len.saturating_sub(gone.count))
            .field("timers_max", timers_max);
        debug.finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
