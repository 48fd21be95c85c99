//! Where a payment stands after a restart.
//!
//! Nothing is sent blindly: a recovered ACCEPTED counts as sent, is asked about, and is reversed at its
//! deadline. What the process knew beyond the record is gone, so its clocks are taken at their safest.
//! Source: wechatpay-v2 §4.5 (T0), §4.6 no. 1; DESIGN §1, clock.

use protocol::fact::Row;
use timer_wheel::Tick;

use super::{Payment, Stage};
use crate::key::{BootId, Now};
use crate::policy::Policy;
use crate::record::{Claim, Record, State, TillReversal};
use crate::reversal::Reversal;

impl Payment {
    /// Takes up `record` where it stood.
    #[must_use]
    pub fn recover(record: Record, now: Now, boot: BootId, policy: &Policy) -> Self {
        let same_boot = record.boot == boot;
        // Once the moment is lost, the request can have left as late as this event.
        let left_at = record.left_tick.filter(|_| same_boot).unwrap_or(now.tick).min(now.tick);
        let accepted = if same_boot { record.accepted_tick } else { Tick::ZERO };
        let known = record.left_tick.is_some() && same_boot;
        let deadline = if known {
            left_at.saturating_add(policy.give_up_ms)
        } else {
            // Due as soon as the guard allows, but a customer who is still typing keeps the usual time.
            let guard = now.tick.saturating_add(policy.reversal_guard_ms);
            guard.max(if same_boot { accepted.saturating_add(policy.give_up_ms) } else { Tick::ZERO })
        };
        let ask_from = if same_boot { accepted.saturating_add(policy.first_query_ms) } else { now.tick };
        let mut payment = Self::with(record, Stage::Settled, left_at);
        payment.closed_at = Some(now.tick); // With the process, its connections were closed.
        payment.ask_from = ask_from.max(now.tick);
        payment.deadline = deadline;
        payment.stage = payment.recovered_stage(now, policy);
        payment
    }

    fn recovered_stage(&self, now: Now, policy: &Policy) -> Stage {
        let context = self.context(now.tick, policy);
        let reversing = || Stage::Reversing(Box::new(Reversal::new(&context)));
        let repairing = || Stage::Reversing(Box::new(Reversal::repairing(&context)));
        let held = Stage::Held { at: now.tick, rounds: 0, unpaid: 0 };
        let contested = self.record.claim != Claim::Ours;
        match self.record.state {
            State::Accepted | State::Pending if self.record.held.is_some() => held,
            State::Accepted | State::Pending if contested => Stage::Contested { row: Row::A13, unpaid: 0 },
            State::Accepted | State::Pending => Stage::Waiting { suspect: false, absent: 0 },
            State::Reversing | State::Reversed if self.record.repair && self.record.is_open() => repairing(),
            State::Reversing if contested => held,
            State::Reversing if self.record.held.is_some() => {
                Stage::Reversing(Box::new(Reversal::asking(&context)))
            }
            State::Reversing => reversing(),
            State::Paid if self.record.till_reversal == TillReversal::Asked && self.record.repair => {
                repairing()
            }
            State::Paid if self.record.till_reversal == TillReversal::Asked => reversing(),
            State::Reversed if self.record.held.is_some() && self.record.looks_left > 0 => held,
            State::Reversed if self.record.looks_left > 0 => {
                let [first, second] = policy.looks_ms;
                let pause = if self.record.looks_left > 1 { first } else { second };
                Stage::Looking { at: now.tick.saturating_add(pause) }
            }
            State::Paid | State::Failed | State::Reversed => Stage::Settled,
        }
    }
}
