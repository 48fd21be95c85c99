//! Table A: what the answer to the pay request does.

use planted::planted;
use protocol::fact::{PayFact, Row};
use timer_wheel::Tick;

use super::{Effects, Payment, Stage};
use crate::key::Now;
use crate::policy::Policy;
use crate::record::{Cause, Claim, Held, State};
use crate::reversal::Reversal;
use crate::shard::Alarm;

impl Payment {
    /// Table A: the pay request was answered or given up. `left_at` is `None` only if it is proven unsent.
    pub fn on_pay(
        &mut self,
        left_at: Option<Tick>,
        row: Row,
        fact: PayFact,
        now: Now,
        policy: &Policy,
        effects: &mut Effects,
    ) {
        if self.closed_at.replace(now.tick).is_some() {
            return; // It was answered before: later word about the same request changes nothing.
        }
        if let Some(at) = left_at
            && at != self.left_at
        {
            self.left(at, policy);
        }
        // What may have left is not unsent, whatever the answer says (G3).
        let fact = if left_at.is_some() && fact == PayFact::Unsent { PayFact::Unclear } else { fact };
        self.note_claim(&fact, effects);
        match &self.stage {
            Stage::Waiting { .. } => self.on_answered(row, fact, now, policy, effects),
            // Decided before the answer came: it changes nothing (G2), unless it proves that nothing was sent
            // or that the number is another's.
            Stage::Reversing(_) if self.record.state == State::Reversing => {
                if matches!(fact, PayFact::NumberTaken { .. }) {
                    self.hold(Held::NumberTaken, now, policy, effects);
                } else {
                    self.progress(Reversal::on_pay(&fact), now, policy, effects);
                }
            }
            // What a query found under the number is another's.
            Stage::Weighing { .. } | Stage::Unclaimed { .. } | Stage::Held { .. }
                if self.record.state.is_undecided() =>
            {
                if fact == PayFact::Unsent {
                    self.fail(Cause::Row(row), now, effects);
                } else if matches!(fact, PayFact::NumberTaken { .. }) {
                    self.hold(Held::NumberTaken, now, policy, effects);
                }
            }
            // G5: told as failed, and now paid after all, says the answer. A query decides.
            Stage::Settled if self.record.state == State::Failed && matches!(fact, PayFact::Paid(_)) => {
                self.record.looks_left = 1;
                effects.changed = true;
                self.stage = Stage::Looking { at: now.tick, rounds: 0 };
            }
            Stage::Reversing(_)
            | Stage::Confirming { .. }
            | Stage::Contested { .. }
            | Stage::Weighing { .. }
            | Stage::Unclaimed { .. }
            | Stage::Held { .. }
            | Stage::Looking { .. }
            | Stage::Settled => {}
        }
    }

    /// G4: that the number is not ours must survive a crash, wherever the order stands.
    fn note_claim(&mut self, fact: &PayFact, effects: &mut Effects) {
        if let PayFact::NumberTaken { refusal, ours_possible } = fact
            && self.record.state != State::Paid
        {
            self.record.claim = if *ours_possible { Claim::Contested } else { Claim::Foreign };
            if self.record.state.is_undecided() {
                self.record.refusal = Some(Box::new(refusal.clone()));
            }
            effects.changed = true;
            effects.alarms.push(Alarm::NumberTaken);
        }
    }

    /// Table A for an order that is waited for.
    fn on_answered(&mut self, row: Row, fact: PayFact, now: Now, policy: &Policy, effects: &mut Effects) {
        match fact {
            PayFact::Unsent => self.fail(Cause::Row(row), now, effects),
            _ if believed(row) => self.fail(Cause::Row(row), now, effects),
            // A2, A4, A5, A8, A10, A16, A17. Another amount would decide nothing either (A5).
            PayFact::Unclear => {}
            PayFact::RefusedUnsigned => {
                self.stage = Stage::Waiting { suspect: true, absent: 0 };
                self.deadline = self.guard(policy);
                effects.alarms.push(Alarm::UnsignedRefusal);
            }
            PayFact::Paid(paid) if Some(paid.amount) == self.record.amount || planted!(AmountNotCompared) => {
                self.pay(paid, Cause::Row(row), now, policy, effects);
            }
            PayFact::Paid(_) => {}
            PayFact::InProgress => self.pending(effects),
            PayFact::Refused(refusal) => {
                self.record.refusal = Some(Box::new(refusal));
                let until = now.tick.saturating_add(policy.confirm_ms);
                self.stage = Stage::Confirming { row, until, asked: self.queries };
            }
            PayFact::NumberTaken { .. } if planted!(OrderPaidReversed) => {
                self.reverse(Cause::Row(row), now, policy, effects);
            }
            PayFact::NumberTaken { .. } => {
                self.stage = Stage::Contested { row, unpaid: 0, asked: self.queries };
                // Whatever hurries it: whose the number is takes its time to be known.
                self.deadline = self.left_at.saturating_add(policy.give_up_ms);
            }
            PayFact::RefusedOutright(refusal) => {
                self.record.refusal = Some(Box::new(refusal));
                if row == Row::A15 {
                    effects.alarms.push(Alarm::Misconfigured);
                }
                self.fail(Cause::Row(row), now, effects);
            }
        }
    }
}

/// Whether a row that decides nothing is believed all the same: never, but for what is planted.
fn believed(row: Row) -> bool {
    [
        (Row::A2, planted!(TimeoutAsFailed)),
        (Row::A3, planted!(UnsignedBelieved)),
        (Row::A4, planted!(UnsignedBelieved)),
        (Row::A7, planted!(PasswordAsRefusal)),
        (Row::A8, planted!(SystemErrorAsRefusal)),
        (Row::A17, planted!(UnknownCodeAsRefusal)),
    ]
    .contains(&(row, true))
}
