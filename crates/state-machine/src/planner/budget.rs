//! A hard limit on any sliding second, that halves and grows back (AIMD).

use std::collections::VecDeque;

use planted::planted;
use timer_wheel::Tick;

/// The window of a budget: a second, and what a network may compress it by.
pub const WINDOW_MS: u64 = 1_050;

/// A limit on any sliding second.
#[derive(Debug)]
#[cfg_attr(feature = "model", derive(Clone))]
pub(super) struct Budget {
    /// The present limit, 1 to `limit_max`.
    pub(super) limit: u32,
    pub(super) limit_max: u32,
    /// When the limit was last halved, and last changed at all.
    halved: Option<Tick>,
    changed: Tick,
    /// When the granted calls of the last window went out, oldest first.
    granted: VecDeque<Tick>,
    /// Room held for calls that are certain to come.
    pub(super) reserved: u32,
}

impl Budget {
    pub(super) fn new(limit: u32) -> Self {
        let (granted, changed) = (VecDeque::new(), Tick::ZERO);
        Self { limit, limit_max: limit, halved: None, changed, granted, reserved: 0 }
    }

    /// The wallet said that this was too often: half from here, once per window.
    pub(super) fn throttle(&mut self, now: Tick) {
        if self.halved.is_none_or(|at| now.ms_since(at) >= WINDOW_MS) {
            self.limit = (self.limit / 2).max(1).min(self.limit_max);
            self.halved = Some(now);
            self.changed = now;
        }
    }

    /// Whether the limit is as it was given.
    pub(super) const fn is_whole(&self) -> bool {
        self.limit == self.limit_max
    }

    /// How many more calls may go out at `now`.
    pub(super) fn room(&mut self, now: Tick) -> u32 {
        if planted!(BudgetIgnored) {
            return self.limit;
        }
        let quiet = now.ms_since(self.changed) / WINDOW_MS;
        if self.limit < self.limit_max && quiet > 0 {
            // A twentieth more for each window without complaint.
            let step = u64::from((self.limit_max / 20).max(1)).saturating_mul(quiet);
            let grown = u64::from(self.limit).saturating_add(step);
            self.limit = u32::try_from(grown).unwrap_or(u32::MAX).min(self.limit_max);
            self.changed = now;
        }
        while self.granted.front().is_some_and(|at| now.ms_since(*at) >= WINDOW_MS) {
            self.granted.pop_front();
        }
        let used = u32::try_from(self.granted.len()).unwrap_or(u32::MAX);
        self.limit.saturating_sub(used.saturating_add(self.reserved))
    }

    /// How many went out in the window that ends at `now`.
    pub(super) fn used(&self, now: Tick) -> u32 {
        let gone = self.granted.partition_point(|at| now.ms_since(*at) >= WINDOW_MS);
        u32::try_from(self.granted.len().saturating_sub(gone)).unwrap_or(u32::MAX)
    }

    pub(super) fn take(&mut self, now: Tick) {
        self.granted.push_back(now);
    }

    /// Holds room for a call that is certain to come.
    pub(super) const fn reserve(&mut self) {
        self.reserved = self.reserved.saturating_add(1);
    }

    /// Gives reserved room back.
    pub(super) const fn release(&mut self) {
        self.reserved = self.reserved.saturating_sub(1);
    }

    /// Turns reserved room into a call.
    pub(super) fn use_reserved(&mut self, now: Tick) {
        self.release();
        self.take(now);
    }

    /// When the oldest call leaves the window, or the limit grows, if there is no room before.
    pub(super) fn frees_at(&self) -> Option<Tick> {
        let used = u32::try_from(self.granted.len()).unwrap_or(u32::MAX).saturating_add(self.reserved);
        if used < self.limit {
            return None;
        }
        let grows = (self.limit < self.limit_max).then_some(&self.changed);
        self.granted.front().into_iter().chain(grows).map(|at| at.saturating_add(WINDOW_MS)).min()
    }
}
