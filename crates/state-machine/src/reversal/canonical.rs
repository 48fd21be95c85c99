//! A reversal as seen from the present.

use std::hash::{Hash, Hasher};

use super::Reversal;
use crate::canonical::{Present, variant};

impl Reversal {
    /// Hashes what can still make a difference.
    pub(crate) fn canonical(&self, present: Present<'_>, into: &mut impl Hasher) {
        let Self { turn, at, started, attempts, last, done, answered, absent_since, .. } = self;
        let policy = present.policy;
        (turn, present.until(*at), present.to(*started, policy.stuck_ms)).hash(into);
        (present.rounds(*attempts), done, answered).hash(into);
        last.iter().for_each(|fact| variant(fact, into));
        absent_since.map(|since| present.to(since, policy.absent_apart_ms)).hash(into);
        let refused_for = present.to(self.refused_since, policy.refused_ms);
        (self.refused.min(3), (self.refused > 0).then_some(refused_for)).hash(into);
        (self.refused_untold, self.expired, self.holding).hash(into);
        (self.refund_refused, self.returned_at_recheck).hash(into);
        (present.rounds(self.slow_rounds), present.rounds(self.refund_rounds)).hash(into);
        (self.slow_told, self.stuck_told).hash(into);
    }

    /// Whether a query that was asked at `asked` is late enough to prove absence, as things stand (C9).
    pub(crate) fn proves_absence(&self, asked: timer_wheel::Tick, apart_ms: u64) -> bool {
        self.absent_since.is_some_and(|since| asked >= since.saturating_add(apart_ms))
    }
}
