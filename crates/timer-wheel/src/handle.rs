//! What names a timer, and what refuses one.

use std::error::Error;
use std::fmt;
use std::num::NonZeroU32;

/// Names one timer of one wheel, and never another: once the timer fired or was cancelled, the handle is stale.
///
/// An `Option<Handle>` is as small as a `Handle`: 8 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle {
    pub(crate) index: u32,
    pub(crate) generation: NonZeroU32,
}

/// The wheel holds `timers_max` timers already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the wheel holds timers_max timers")
    }
}

impl Error for Full {}
