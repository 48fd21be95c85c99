//! Where deadlines hang: eight levels of 256 slots, which of them are occupied, and by whom.
#![expect(
    clippy::indexing_slicing,
    reason = "a level and a byte are below 8 and 256 by construction; passed over, a slot would be deadlines lost"
)]

use std::ops::Range;

use crate::chunk::{Chunks, Entry, Queue};

/// A level for each byte of a deadline, so that every `u64` has a place and nothing overflows.
const LEVELS: usize = 8;

const SLOTS: usize = 256;

/// A slot that holds fewer timers is not worth tidying. The model's timers are few, so for them it is.
const TIDIED_MIN: u32 = if cfg!(test) { 8 } else { 64 };

/// The timers of one slot. Cancelled ones stay among them until the slot is emptied or tidied:
/// to take one out at once, its neighbours would have to be fetched from memory as well.
#[derive(Clone, Copy)]
struct Slot {
    timers: Queue,
    /// How many of them are live; where none is, the queue is empty.
    live: u32,
}

/// One slot: the values of byte `level` of the deadlines that hang there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    level: usize,
    byte: usize,
}

impl Place {
    /// Where `deadline` hangs while the wheel stands at `position`: on the level of the highest byte in which they
    /// differ. It stays right until the wheel enters that very slot, which is when the slot is emptied, so a timer's
    /// slot need not be remembered.
    #[inline]
    pub(crate) fn of(deadline: u64, position: u64) -> Self {
        let differing = (deadline ^ position) | 1;
        let level = differing.ilog2() >> 3;
        let byte = (deadline >> (level << 3)) & 0xff;
        Self { level: to_index(u64::from(level)), byte: to_index(byte) }
    }

    /// A slot of level 0 holds one single millisecond.
    pub(crate) fn is_one_tick(self) -> bool {
        self.level == 0
    }

    /// The first millisecond of this slot, for a wheel that stands at `position`.
    pub(crate) fn start(self, position: u64) -> u64 {
        // At most 56, and 64 above the highest level, where nothing is left.
        let shift = u32::try_from(self.level).unwrap_or(u32::MAX).saturating_mul(8);
        let above = u64::MAX.checked_shl(shift.saturating_add(8)).unwrap_or(0);
        (position & above) | (self.byte as u64).checked_shl(shift).unwrap_or(0)
    }

    #[inline]
    fn index(self) -> usize {
        self.level.saturating_mul(SLOTS).saturating_add(self.byte)
    }
}

/// All slots. Bit maps make finding the next occupied one a few instructions, however far away it is.
pub(crate) struct Slots<T> {
    /// Bit `level` is set if any slot of that level is occupied.
    levels: u64,
    occupied: [[u64; SLOTS / 64]; LEVELS],
    /// Of the levels up to the highest that was ever needed.
    slots: Vec<Slot>,
    chunks: Chunks<T>,
}

impl<T: Copy> Slots<T> {
    /// Empty slots, with room for `timers` timers before they have to ask for memory.
    pub(crate) fn with_capacity(timers: u32) -> Self {
        Self {
            levels: 0,
            occupied: [[0; SLOTS / 64]; LEVELS],
            slots: Vec::new(),
            chunks: Chunks::with_capacity(timers),
        }
    }

    /// The occupied slot that comes first in time. A lower level always comes before a higher one, and within a
    /// level slots come in the order of their byte: those that time has passed were emptied when it did.
    #[inline]
    pub(crate) fn first(&self) -> Option<Place> {
        if self.levels == 0 {
            return None;
        }
        let level = self.levels.trailing_zeros() as usize;
        let words = &self.occupied[level];
        let word = words.iter().position(|&word| word != 0)?;
        Some(Place {
            level,
            byte: word.saturating_mul(64).saturating_add(words[word].trailing_zeros() as usize),
        })
    }

    /// Every occupied slot, the first in time first.
    pub(crate) fn occupied(&self) -> impl Iterator<Item = Place> {
        bits(self.levels).flat_map(move |level| {
            self.occupied[level].iter().enumerate().flat_map(move |(word, &slots)| {
                bits(slots).map(move |bit| Place { level, byte: word.saturating_mul(64).saturating_add(bit) })
            })
        })
    }

    /// The number of live timers in a slot, as far as it knows.
    pub(crate) fn live(&self, place: Place) -> usize {
        self.slots[place.index()].live as usize
    }

    /// Adds a live timer, last.
    #[inline]
    pub(crate) fn push(&mut self, place: Place, timer: Entry<T>) {
        if place.index() >= self.slots.len() {
            self.grow(place.level);
        }
        let slot = &mut self.slots[place.index()];
        self.chunks.push(&mut slot.timers, timer);
        slot.live = slot.live.saturating_add(1); // At most the timers of the wheel, which is a `u32`.
        if slot.live == 1 {
            self.occupied[place.level][place.byte / 64] |= 1 << (place.byte % 64);
            self.levels |= 1 << place.level;
        }
    }

    #[cold]
    fn grow(&mut self, level: usize) {
        let slots = level.saturating_add(1).saturating_mul(SLOTS);
        self.slots.reserve_exact(slots.saturating_sub(self.slots.len()));
        self.slots.resize(slots, Slot { timers: Queue::EMPTY, live: 0 });
    }

    /// Takes the first timer, live or not, out of an occupied slot. If it is live, a call of [`Slots::gone`] must
    /// follow.
    #[inline]
    pub(crate) fn pop(&mut self, place: Place) -> Entry<T> {
        self.chunks.pop(&mut self.slots[place.index()].timers)
    }

    /// A timer that hung in this slot is gone. If the answer is true, what the slot holds must be taken and hung anew:
    /// none of it is live, or most is not, so the effort is paid for by the timers that went before.
    #[inline]
    pub(crate) fn gone(&mut self, place: Place) -> bool {
        let slot = &mut self.slots[place.index()];
        slot.live = slot.live.saturating_sub(1); // It hung here, so it was counted.
        let held = slot.timers.len();
        slot.live <= held / 2 && (slot.live == 0 || held >= TIDIED_MIN)
    }

    /// Empties a slot and gives what it held, to be read with [`Slots::drain`].
    pub(crate) fn take(&mut self, place: Place) -> Queue {
        let words = &mut self.occupied[place.level];
        words[place.byte / 64] &= !(1 << (place.byte % 64));
        if words.iter().all(|&word| word == 0) {
            self.levels &= !(1 << place.level);
        }
        let slot = &mut self.slots[place.index()];
        slot.live = 0;
        std::mem::replace(&mut slot.timers, Queue::EMPTY)
    }

    /// The first chunk of what [`Slots::take`] gave, and which of its entries count; `None` when there are no more.
    #[inline]
    pub(crate) fn first_chunk(&self, timers: Queue) -> Option<(u32, Range<usize>)> {
        self.chunks.first_chunk(timers)
    }

    /// An entry of such a chunk.
    #[inline]
    pub(crate) fn entry(&self, chunk: u32, at: usize) -> Entry<T> {
        self.chunks.entry(chunk, at)
    }

    /// Goes on to the next chunk.
    #[inline]
    pub(crate) fn drop_chunk(&mut self, timers: &mut Queue) {
        self.chunks.drop_chunk(timers);
    }

    /// The timers of a slot, live or not.
    pub(crate) fn timers(&self, place: Place) -> impl Iterator<Item = Entry<T>> {
        self.chunks.iter(self.slots[place.index()].timers)
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.slots.capacity().saturating_mul(size_of::<Slot>()).saturating_add(self.chunks.memory_bytes())
    }
}

/// The places of the bits of a word, lowest first.
fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros() as usize);
        word &= word.wrapping_sub(1);
        bit
    })
}

/// The lowest byte: `small` is at most 255 here.
fn to_index(small: u64) -> usize {
    let [lowest, ..] = small.to_le_bytes();
    usize::from(lowest)
}
