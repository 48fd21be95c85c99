//! Where a payment stands after a restart.
//!
//! Nothing is sent blindly: a recovered ACCEPTED counts as sent, is asked about, and is reversed at its
//! deadline. What the process knew beyond the record is gone, so its clocks are taken at their safest.
//! Source: wechatpay-v2 §4.5 (T0), §4.6 no. 1; DESIGN §1, clock.

use planted::planted;
use protocol::fact::Row;
use timer_wheel::Tick;

use super::{Payment, Stage};
use crate::key::{BootId, Now};
use crate::policy::Policy;
use crate::record::{Claim, Held, Record, State};
use crate::reversal::Reversal;

impl Payment {
    /// Takes up `record` where it stood.
    #[must_use]
    pub fn recover(record: Record, now: Now, boot: BootId, policy: &Policy) -> Self {
        let same_boot = record.boot == boot;
        // Once the moment is lost, the request can have left as late as this event.
        let left_at = record.left_tick.filter(|_| same_boot).unwrap_or(now.tick).min(now.tick);
        let left_at = if planted!(WallClockAtRestart) {
            let age_ms = now.wall.0.saturating_sub(record.accepted_at.0);
            now.tick.saturating_sub(u64::try_from(age_ms).unwrap_or(0))
        } else {
            left_at
        };
        let deadline = Self::recovered_deadline(&record, left_at, same_boot, now, policy);
        let asked_from = record.accepted_tick.saturating_add(policy.first_query_ms);
        let ask_from = if same_boot { asked_from.max(now.tick) } else { now.tick };
        let mut payment = Self::with(record, Stage::Settled, left_at);
        payment.closed_at = Some(now.tick); // With the process, its connections were closed.
        payment.ask_from = ask_from;
        payment.deadline = deadline;
        payment.stage = payment.recovered_stage(now, policy);
        payment
    }

    /// An order whose row in the store cannot be trusted: `record` is what may be told of it (open, held), and
    /// nothing is done for it until an operator has looked at the row (DB-11).
    #[must_use]
    pub fn set_aside(record: Record) -> Self {
        Self::with(record, Stage::Settled, Tick::MAX)
    }

    /// Where T0 is known the deadline stands. Else it is due as soon as the guard allows, but a customer who
    /// is still typing keeps the usual time; and a number that may be another's keeps it too, since it ends
    /// by two answers after the guard, or with the operator.
    fn recovered_deadline(
        record: &Record,
        left_at: Tick,
        same_boot: bool,
        now: Now,
        policy: &Policy,
    ) -> Tick {
        if planted!(DeadlineLost) {
            return Tick::MAX;
        }
        let usual = left_at.saturating_add(policy.give_up_ms);
        let guard = now.tick.saturating_add(policy.reversal_guard_ms);
        if record.claim != Claim::Ours {
            return usual.max(guard);
        }
        if same_boot && record.left_tick.is_some() {
            return usual;
        }
        if same_boot { guard.max(record.accepted_tick.saturating_add(policy.give_up_ms)) } else { guard }
    }

    fn recovered_stage(&self, now: Now, policy: &Policy) -> Stage {
        let context = self.context(now.tick, policy);
        let record = &self.record;
        let held = Stage::Held { at: now.tick, rounds: 0, unpaid: 0 };
        let contested = record.claim != Claim::Ours;
        if !record.is_open() {
            return Stage::Settled;
        }
        let is_held = record.held.is_some();
        match record.state {
            State::Accepted | State::Pending if is_held => held,
            State::Accepted | State::Pending if contested => {
                Stage::Contested { row: Row::A13, unpaid: 0, asked: 0 }
            }
            State::Accepted | State::Pending => Stage::Waiting { suspect: false, absent: 0 },
            // Held because of what the wallet shows, which is not this order's own money: it only asks.
            State::Reversing | State::Reversed | State::Failed | State::Paid
                if record.repair && record.held.is_some_and(|held| held != Held::RefundFailed) =>
            {
                Stage::Reversing(Box::new(Reversal::asking(&context)))
            }
            State::Reversing | State::Reversed | State::Failed | State::Paid if record.repair => {
                let failed = record.held == Some(Held::RefundFailed);
                Stage::Reversing(Box::new(Reversal::resuming_repair(&context, failed)))
            }
            State::Reversing if contested => held,
            State::Reversing | State::Paid if is_held => {
                Stage::Reversing(Box::new(Reversal::asking(&context)))
            }
            State::Reversing | State::Paid => Stage::Reversing(Box::new(Reversal::new(&context))),
            State::Reversed | State::Failed if is_held => held,
            State::Reversed | State::Failed => {
                let [first, second] = policy.looks_ms;
                let pause = if record.looks_left > 1 { first } else { second };
                Stage::Looking { at: now.tick.saturating_add(pause), rounds: 0 }
            }
        }
    }
}
