//! What names a value, and what refuses one.

use std::error::Error;
use std::fmt;
use std::num::NonZeroU32;

/// Names one value of one table, and never another: once it is removed, the handle is stale.
///
/// An `Option<Handle>` is as small as a `Handle`: 8 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle {
    pub(crate) slot: u32,
    pub(crate) generation: NonZeroU32,
}

impl Handle {
    /// The handle as one word, never 0.
    #[must_use]
    pub fn to_u64(self) -> u64 {
        (u64::from(self.generation.get()) << 32) | u64::from(self.slot)
    }

    /// The handle that [`Handle::to_u64`] made into `word`; `None` for words that it makes of no handle. A word of
    /// other origin gives a handle that is stale or names whatever it happens to hit.
    #[must_use]
    pub fn from_u64(word: u64) -> Option<Self> {
        let generation = NonZeroU32::new(high(word))?;
        Some(Self { slot: low(word), generation })
    }
}

/// The table holds `slots_max` values already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the table holds slots_max values")
    }
}

impl Error for Full {}

/// The upper half of a word.
pub(crate) fn high(word: u64) -> u32 {
    let [a, b, c, d, ..] = word.to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

/// The lower half of a word.
pub(crate) fn low(word: u64) -> u32 {
    let [a, b, c, d, ..] = word.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}
