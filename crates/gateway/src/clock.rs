//! The one place that reads clocks. Everything else is handed a [`Now`], a [`Tick`] or a deadline.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use state_machine::{BootId, Now, Tick, UnixMs};
use tokio::time::{Instant, Sleep, sleep_until};

/// Where the kernel names the boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The machine's clocks.
///
/// Ticks come from CLOCK_BOOTTIME: it never steps and counts suspension, so a guard or a deadline that
/// passed while the machine slept is known to have passed (INV-27).
#[derive(Clone, Copy, Debug)]
pub struct Clock;

impl Clock {
    /// The present moment on both clocks.
    #[must_use]
    pub fn now() -> Now {
        Now { tick: Self::tick(), wall: Self::wall() }
    }

    /// Milliseconds since the machine was started, suspension included.
    #[must_use]
    pub fn tick() -> Tick {
        Tick::from_ms(u64::try_from(ms(ClockId::Boottime)).unwrap_or(0))
    }

    /// UTC wall time. For records and people only.
    #[must_use]
    pub fn wall() -> UnixMs {
        UnixMs(ms(ClockId::Realtime))
    }

    /// Nanoseconds of a clock that never steps: for measuring, not for deciding.
    #[must_use]
    pub fn monotonic_ns() -> u64 {
        let time = clock_gettime(ClockId::Monotonic);
        let whole = u64::try_from(time.tv_sec).unwrap_or(0).saturating_mul(1_000_000_000);
        whole.saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
    }

    /// The runtime's instant for `tick`; at once if it has passed.
    ///
    /// Timers of the runtime do not count suspension: they may fire late, never early. Where lateness
    /// matters the tick itself is looked at again.
    #[must_use]
    pub fn instant(tick: Tick) -> Instant {
        // Tick::MAX is "never": further than the runtime's timers reach.
        const FAR: u64 = 365 * 24 * 3600 * 1000;
        Self::after(Duration::from_millis(tick.ms_since(Self::tick()).min(FAR)))
    }

    /// The runtime's instant that is `duration` from now.
    #[must_use]
    pub fn after(duration: Duration) -> Instant {
        later(Instant::now(), duration)
    }
}

/// The instant `duration` after `at`. A moment that no clock can name is at once: a deadline may be early, never
/// absent.
pub(crate) fn later(at: Instant, duration: Duration) -> Instant {
    at.checked_add(duration).unwrap_or(at)
}

/// A timer for one deadline after another, each mostly later than the one before: it is set again only when it fires too
/// early, so that a deadline that is not reached costs no change of the runtime's timers.
#[derive(Debug, Default)]
pub(crate) struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Ready at `deadline` or later; wakes whoever polled last, perhaps sooner.
    pub(crate) fn poll_at(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        loop {
            if sleep.deadline() > deadline {
                sleep.as_mut().reset(deadline);
            }
            ready!(sleep.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

/// Names this boot of the machine, so that ticks of another one are not compared with its own.
///
/// # Errors
///
/// If the kernel does not tell. Then nothing is known, and every start must count as a new boot.
pub fn boot_id() -> io::Result<BootId> {
    std::fs::read_to_string(BOOT_ID).map(|text| hash(text.trim()))
}

/// FNV-1a, 64 bits: the id is random already, this only makes it fit.
fn hash(text: &str) -> BootId {
    BootId(
        text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        }),
    )
}

/// A clock's time in whole milliseconds.
fn ms(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec.saturating_mul(1000).saturating_add(time.tv_nsec / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::{Clock, boot_id, hash};
    use state_machine::Tick;
    use std::time::Duration;
    use tokio::time::Instant;

    #[test]
    fn ticks_do_not_go_back_and_the_wall_clock_is_this_century() {
        let (first, second) = (Clock::now(), Clock::now());
        assert!(first.tick <= second.tick && first.tick > Tick::ZERO);
        assert!(first.wall.0 > 1_700_000_000_000, "{first:?}");
    }

    #[tokio::test]
    async fn a_tick_becomes_an_instant() {
        let before = Instant::now();
        let in_a_minute = Clock::instant(Clock::tick().saturating_add(60_000));
        assert!(in_a_minute >= before + Duration::from_secs(59));
        assert!(in_a_minute <= before + Duration::from_secs(90));
        assert!(Clock::instant(Tick::ZERO) <= Instant::now(), "what has passed is due at once");
        assert!(Clock::instant(Tick::MAX) > before + Duration::from_secs(86_400), "never is far away");
    }

    #[test]
    fn the_boot_has_one_name() {
        let first = boot_id().expect("Linux tells");
        assert_eq!(first, boot_id().expect("Linux tells"));
        assert_ne!(
            hash("5e1c9e1b-0000-4000-8000-000000000000"),
            hash("5e1c9e1b-0000-4000-8000-000000000001")
        );
    }
}
