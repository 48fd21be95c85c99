//! The unit of time.

use std::fmt;
use std::num::NonZeroU64;

/// An instant of some monotonic clock of the caller's, in milliseconds since that clock's origin.
///
/// Only ticks of one clock can be compared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
// One more than the milliseconds, so that an `Option<Tick>` takes no more room: a payment that waits holds several.
pub struct Tick(NonZeroU64);

impl Default for Tick {
    fn default() -> Self {
        Self::ZERO
    }
}

impl fmt::Debug for Tick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tick").field(&self.as_ms()).finish()
    }
}

impl Tick {
    /// The clock's origin.
    pub const ZERO: Self = Self(NonZeroU64::MIN);

    /// The last instant there is: a deadline that no clock lives to see.
    pub const MAX: Self = Self(NonZeroU64::MAX);

    /// The instant `ms` milliseconds after the clock's origin, at most [`Tick::MAX`].
    #[must_use]
    pub const fn from_ms(ms: u64) -> Self {
        Self(NonZeroU64::MIN.saturating_add(ms))
    }

    /// Milliseconds since the clock's origin.
    #[must_use]
    pub const fn as_ms(self) -> u64 {
        self.0.get().wrapping_sub(1)
    }

    /// The instant `ms` milliseconds later, at most [`Tick::MAX`].
    #[must_use]
    pub const fn saturating_add(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// The instant `ms` milliseconds earlier, at least [`Tick::ZERO`].
    #[must_use]
    pub const fn saturating_sub(self, ms: u64) -> Self {
        Self::from_ms(self.as_ms().saturating_sub(ms))
    }

    /// Milliseconds from `earlier` to this instant; 0 if `earlier` is in truth later.
    #[must_use]
    pub const fn ms_since(self, earlier: Self) -> u64 {
        self.0.get().saturating_sub(earlier.0.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_last_instant_keep_their_places() {
        assert_eq!(size_of::<Option<Tick>>(), 8);
        assert_eq!((Tick::ZERO.as_ms(), Tick::default()), (0, Tick::from_ms(0)));
        assert_eq!(Tick::from_ms(Tick::MAX.as_ms()), Tick::MAX);
        assert_eq!(Tick::from_ms(u64::MAX), Tick::MAX);
        assert_eq!(Tick::MAX.saturating_add(1), Tick::MAX);
        assert_eq!(Tick::from_ms(3).saturating_sub(5), Tick::ZERO);
        assert_eq!(Tick::from_ms(3).saturating_sub(2), Tick::from_ms(1));
        assert_eq!(Tick::from_ms(9).ms_since(Tick::from_ms(2)), 7);
        assert_eq!(Tick::from_ms(2).ms_since(Tick::from_ms(9)), 0);
        assert!(Tick::from_ms(1) < Tick::from_ms(2) && Tick::from_ms(2) < Tick::MAX);
        assert_eq!(format!("{:?}", Tick::from_ms(7)), "Tick(7)");
    }
}
