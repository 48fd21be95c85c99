//! What makes two moments equal to everything that can still happen: times as seen from the present.
//!
//! An exhaustive model knows a state again by what these modules hash. Left out is only what can no longer make
//! a difference: how long ago something was, once that is longer than every clock it is held against; counters
//! beyond the end of their doubling; labels for people.

use std::hash::{Hash, Hasher};
use std::mem::discriminant;

use timer_wheel::Tick;

use crate::policy::Policy;
use crate::record::{Cause, Record, State};

/// Doubled pauses have reached their longest after as many rounds.
const ROUNDS_MAX: u32 = 16;

/// The present, and the clocks that ages are held against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Present<'a> {
    pub(crate) now: Tick,
    pub(crate) policy: &'a Policy,
}

impl Present<'_> {
    /// From the present to `tick`; an age counts up to `age_max_ms` only.
    pub(crate) fn to(self, tick: Tick, age_max_ms: u64) -> (u64, u64) {
        (self.until(tick), self.now.ms_since(tick).min(age_max_ms))
    }

    /// From the present to `tick`; what is over is over, and never is never.
    pub(crate) fn until(self, tick: Tick) -> u64 {
        if tick == Tick::MAX { u64::MAX } else { tick.ms_since(self.now) }
    }

    /// Rounds of a pause that doubles.
    pub(crate) fn rounds(self, rounds: u32) -> u32 {
        rounds.min(ROUNDS_MAX)
    }

    /// A record. The moments in one that is settled, and the wall times of all, are labels.
    pub(crate) fn record(self, record: &Record, into: &mut impl Hasher) {
        let Record { version, state, cause, proof, amount, digest, claim, held, till_reversal, till, .. } =
            record;
        (version, state, proof, digest, claim, held, till).hash(into);
        (till_reversal, record.repair, record.looks_left, record.refunded_fen).hash(into);
        cause.map(Cause::code).hash(into);
        amount.map(protocol::Fen::get).hash(into);
        record.refusal.as_ref().map(|refusal| refusal.code).hash(into);
        record.paid.as_ref().map(|paid| (paid.amount.get(), paid.merchant_matches)).hash(into);
        let earlier_s = record.paid.as_ref().and_then(|paid| paid.time_end_s);
        earlier_s.map(|end| end.saturating_sub(record.accepted_at.0.div_euclid(1_000))).hash(into);
        record.boot.0.hash(into);
        let guard_ms = self.policy.reversal_guard_ms;
        match state {
            State::Accepted | State::Pending => {
                self.to(record.accepted_tick, u64::MAX).hash(into);
                record.left_tick.map(|left| self.to(left, u64::MAX)).hash(into);
            }
            State::Paid | State::Reversing => record.left_tick.map(|left| self.to(left, guard_ms)).hash(into),
            State::Failed | State::Reversed => {}
        }
    }
}

/// Which variant, of an enum that is not hashed otherwise.
pub(crate) fn variant<T>(value: &T, into: &mut impl Hasher) {
    discriminant(value).hash(into);
}
