//! Where deadlines hang: eight levels of 256 slots, which of them are occupied, and by whom.
#![expect(
    clippy::indexing_slicing,
    reason = "a level and a byte are below 8 and 256 by construction; passed over, a slot would be deadlines lost"
)]

use std::ops::Range;

use crate::chunk::{CHUNK, Chunks, Queue};
use crate::handle::Handle;

/// A level for each byte of a deadline, so that every `u64` has a place and nothing overflows.
const LEVELS: usize = 8;

const SLOTS: usize = 256;

/// A slot that holds fewer handles is not worth tidying. The model's timers are few, so for them it is.
const TIDIED_MIN: u32 = if cfg!(test) { 8 } else { 64 };

/// The handles of one slot. Those of cancelled timers stay among them until the slot is emptied or tidied: to take one
/// out at once, its neighbours would have to be fetched from memory as well.
#[derive(Clone, Copy)]
struct Slot {
    handles: Queue,
    /// How many of them name a timer; an empty slot has none.
    live: u32,
}

/// One slot: the values of byte `level` of the deadlines that hang there.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    level: usize,
    byte: usize,
}

impl Place {
    /// Where `deadline` hangs while the wheel stands at `position`: on the level of the highest byte in which they
    /// differ. It stays right until the wheel enters that very slot, which is when the slot is emptied, so a timer's
    /// slot need not be remembered.
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

    fn index(self) -> usize {
        self.level.saturating_mul(SLOTS).saturating_add(self.byte)
    }
}

/// All slots. Bit maps make finding the next occupied one a few instructions, however far away it is.
pub(crate) struct Slots {
    /// Bit `level` is set if any slot of that level is occupied.
    levels: u64,
    occupied: [[u64; SLOTS / 64]; LEVELS],
    slots: Box<[Slot]>,
    chunks: Chunks,
}

impl Slots {
    /// Empty slots, with room for `handles` handles before they have to ask for memory.
    pub(crate) fn with_capacity(handles: u32) -> Self {
        Self {
            levels: 0,
            occupied: [[0; SLOTS / 64]; LEVELS],
            slots: vec![Slot { handles: Queue::EMPTY, live: 0 }; LEVELS * SLOTS].into_boxed_slice(),
            chunks: Chunks::with_capacity(handles),
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

    /// Adds the handle of a live timer, last.
    #[inline]
    pub(crate) fn push(&mut self, place: Place, handle: Handle) {
        let slot = &mut self.slots[place.index()];
        self.chunks.push(&mut slot.handles, handle);
        slot.live = slot.live.saturating_add(1); // At most the timers of the wheel, which is a `u32`.
        if slot.live == 1 {
            self.occupied[place.level][place.byte / 64] |= 1 << (place.byte % 64);
            self.levels |= 1 << place.level;
        }
    }

    /// Takes the first handle, live or not, out of an occupied slot. If it is live, a call of [`Slots::gone`] must
    /// follow.
    #[inline]
    pub(crate) fn pop(&mut self, place: Place) -> Handle {
        self.chunks.pop(&mut self.slots[place.index()].handles)
    }

    /// A timer that hung in this slot is gone. The slot wants tidying if the answer is true: two thirds of what it
    /// holds are stale, so the effort is paid for by the timers that went before.
    #[inline]
    pub(crate) fn gone(&mut self, place: Place) -> bool {
        let slot = &mut self.slots[place.index()];
        slot.live = slot.live.saturating_sub(1); // It hung here, so it was counted.
        if slot.live == 0 {
            let mut handles = self.take(place);
            self.chunks.clear(&mut handles);
            return false;
        }
        let held = slot.handles.len();
        held >= TIDIED_MIN && held / 3 > slot.live
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
        std::mem::replace(&mut slot.handles, Queue::EMPTY)
    }

    /// Takes the first few handles out of what [`Slots::take`] gave, those in the given range; `None` when there are no
    /// more.
    pub(crate) fn drain(&mut self, handles: &mut Queue) -> Option<([Handle; CHUNK], Range<usize>)> {
        self.chunks.pop_chunk(handles)
    }

    /// The handles of a slot, live or not.
    pub(crate) fn handles(&self, place: Place) -> impl Iterator<Item = Handle> {
        self.chunks.iter(self.slots[place.index()].handles)
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.slots).saturating_add(self.chunks.memory_bytes())
    }
}

/// The lowest byte: `small` is at most 255 here.
fn to_index(small: u64) -> usize {
    let [lowest, ..] = small.to_le_bytes();
    usize::from(lowest)
}
