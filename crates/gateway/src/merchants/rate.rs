//! How often somebody may ask.

use std::sync::atomic::{AtomicU64, Ordering};

/// A merchant's request rate: a virtual clock that runs ahead of the real one by what was asked too early
/// (GCRA), in one word.
#[derive(Debug, Default)]
pub struct Rate(AtomicU64);

impl Rate {
    /// Takes one request at `now_us` microseconds; `false` if `burst` requests at `per_second` are used up.
    pub fn take(&self, now_us: u64, per_second: u32, burst: u32) -> bool {
        let step = 1_000_000_u64.checked_div(u64::from(per_second)).unwrap_or(1_000_000);
        let ahead_max = step.saturating_mul(u64::from(burst.max(1)));
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |at| {
                let next = at.max(now_us).saturating_add(step);
                (next.saturating_sub(now_us) <= ahead_max).then_some(next)
            })
            .is_ok()
    }

    /// Goes on from where `was` stands.
    pub(super) fn resume(&self, was: &Self) {
        self.0.store(was.0.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}
