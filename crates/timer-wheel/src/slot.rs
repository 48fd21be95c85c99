//! Where a deadline's timers hang: eight levels of 256 slots, and which of them are occupied.

use crate::slab::NIL;

/// A level for each byte of a deadline, so that every `u64` has a place and nothing overflows.
pub(crate) const LEVELS: usize = 8;

const SLOTS: usize = 256;

/// First and last timer of a slot; both are [`NIL`] in an empty one.
#[derive(Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) head: u32,
    pub(crate) tail: u32,
}

const EMPTY: Ends = Ends { head: NIL, tail: NIL };

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
        let shift = self.level * 8;
        let above = u64::MAX.checked_shl(shift_bits(shift + 8)).unwrap_or(0);
        (position & above) | ((self.byte as u64) << shift)
    }

    fn index(self) -> usize {
        self.level * SLOTS + self.byte
    }
}

/// All slots. Bit maps make finding the next occupied one a few instructions, however far away it is.
pub(crate) struct Slots {
    /// Bit `level` is set if any slot of that level is occupied.
    levels: u64,
    occupied: [[u64; SLOTS / 64]; LEVELS],
    ends: Box<[Ends]>,
}

impl Slots {
    pub(crate) fn new() -> Self {
        Self {
            levels: 0,
            occupied: [[0; SLOTS / 64]; LEVELS],
            ends: vec![EMPTY; LEVELS * SLOTS].into_boxed_slice(),
        }
    }

    /// The occupied slot that comes first in time. A lower level always comes before a higher one, and within a
    /// level slots come in the order of their byte: those that time has passed were emptied when it did.
    pub(crate) fn first(&self) -> Option<Place> {
        if self.levels == 0 {
            return None;
        }
        let level = self.levels.trailing_zeros() as usize;
        let words = &self.occupied[level];
        let word = words.iter().position(|&word| word != 0)?;
        Some(Place { level, byte: word * 64 + words[word].trailing_zeros() as usize })
    }

    pub(crate) fn ends(&self, place: Place) -> Ends {
        self.ends[place.index()]
    }

    /// Sets both ends and marks the slot occupied.
    pub(crate) fn set(&mut self, place: Place, ends: Ends) {
        self.ends[place.index()] = ends;
        self.occupied[place.level][place.byte / 64] |= 1 << (place.byte % 64);
        self.levels |= 1 << place.level;
    }

    /// Sets the first timer of an occupied slot.
    pub(crate) fn set_head(&mut self, place: Place, head: u32) {
        self.ends[place.index()].head = head;
    }

    /// Sets the last timer of an occupied slot.
    pub(crate) fn set_tail(&mut self, place: Place, tail: u32) {
        self.ends[place.index()].tail = tail;
    }

    /// Empties a slot and gives what it held.
    pub(crate) fn take(&mut self, place: Place) -> Ends {
        let words = &mut self.occupied[place.level];
        words[place.byte / 64] &= !(1 << (place.byte % 64));
        if words.iter().all(|&word| word == 0) {
            self.levels &= !(1 << place.level);
        }
        std::mem::replace(&mut self.ends[place.index()], EMPTY)
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        size_of::<Self>() + size_of_val(&*self.ends)
    }
}

/// At most 255 here, so the conversion costs nothing and cannot fail.
fn to_index(small: u64) -> usize {
    usize::try_from(small).expect("a level or a byte fits a usize")
}

fn shift_bits(bits: usize) -> u32 {
    u32::try_from(bits).expect("at most 64")
}
