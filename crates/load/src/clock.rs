//! The one place that reads clocks. Everything else is handed nanoseconds.

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Nanoseconds in a second.
pub(crate) const SECOND_NS: u64 = 1_000_000_000;

/// Nanoseconds of a clock that never steps.
pub(crate) fn now_ns() -> u64 {
    ns(clock_gettime(ClockId::Monotonic))
}

/// The processor time that this thread has used, in nanoseconds.
pub(crate) fn thread_cpu_ns() -> u64 {
    ns(clock_gettime(ClockId::ThreadCPUTime))
}

/// How long this thread was ready and did not get a processor, in nanoseconds, if the kernel tells.
pub(crate) fn runqueue_ns() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().nth(1)?.parse().ok()
}

/// A moment of [`now_ns`] as the kernel's timers take it.
pub(crate) fn timespec(at_ns: u64) -> Timespec {
    let part = |value| i64::try_from(value).unwrap_or(i64::MAX);
    Timespec { tv_sec: part(at_ns / SECOND_NS), tv_nsec: part(at_ns % SECOND_NS) }
}

fn ns(time: Timespec) -> u64 {
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    part(time.tv_sec).saturating_mul(SECOND_NS).saturating_add(part(time.tv_nsec))
}
