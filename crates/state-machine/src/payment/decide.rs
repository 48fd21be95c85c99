//! What a payment decides, how it is reversed, and what a till may ask of it.
//!
//! Each decision changes the record once; the shard's conditional write makes it the only one (INV-07).

use planted::planted;
use protocol::fact::{Paid, RefundFact, ReverseFact, Row};

use super::{Effects, Payment, Stage};
use crate::absence::Attendance;
use crate::key::Now;
use crate::policy::Policy;
use crate::record::{Cause, Claim, Held, State, TillReversal};
use crate::reversal::{Progress, Reversal};
use crate::shard::Alarm;

impl Payment {
    /// Table C: a reversal was answered or given up.
    pub fn on_reverse(&mut self, fact: ReverseFact, now: Now, policy: &Policy, effects: &mut Effects) {
        let context = self.context(now.tick, policy);
        let Stage::Reversing(reversal) = &mut self.stage else { return };
        let progress = reversal.on_reverse(fact, &context);
        effects.alarms.extend(reversal.alarms(&context));
        self.progress(progress, now, policy, effects);
    }

    /// Table D: the repair refund was answered or given up.
    pub fn on_refund(&mut self, fact: &RefundFact, now: Now, policy: &Policy, effects: &mut Effects) {
        let context = self.context(now.tick, policy);
        let Stage::Reversing(reversal) = &mut self.stage else { return };
        let progress = reversal.on_refund(fact, &context);
        effects.alarms.extend(reversal.alarms(&context));
        self.progress(progress, now, policy, effects);
    }

    /// The till asks for a reversal. Nothing is taken of a PAID order that is older than seven days or partly
    /// refunded already: then its record says neither asked nor done. Source: wechatpay-v2 §4.6 no. 6.
    pub fn on_reversal_asked(&mut self, now: Now, policy: &Policy, effects: &mut Effects) {
        match self.record.state {
            State::Accepted | State::Pending => match self.stage {
                Stage::Waiting { .. } | Stage::Unclaimed { .. } => {
                    self.record.till_reversal = TillReversal::Asked;
                    self.reverse(Cause::Till, now, policy, effects);
                }
                // Not ours to reverse yet, or ever (A13): remembered, and done as soon as it may be.
                Stage::Confirming { .. }
                | Stage::Contested { .. }
                | Stage::Weighing { .. }
                | Stage::Held { .. }
                | Stage::Reversing(_)
                | Stage::Looking { .. } => self.note_till(TillReversal::Asked, effects),
                // Set aside: its row takes no record.
                Stage::Settled => {}
            },
            State::Paid => {
                let age = now.wall.0.saturating_sub(self.record.accepted_at.0);
                let window = i64::try_from(policy.reversal_window_ms).unwrap_or(i64::MAX);
                let untouched = self.record.till_reversal == TillReversal::None;
                if untouched && age < window && self.record.refunded_fen == 0 {
                    self.note_till(TillReversal::Asked, effects);
                    self.start_reversal(now, policy);
                }
            }
            State::Failed => self.note_till(TillReversal::Done, effects),
            State::Reversing | State::Reversed => {}
        }
    }

    fn note_till(&mut self, wish: TillReversal, effects: &mut Effects) {
        if self.record.till_reversal != wish {
            self.record.till_reversal = wish;
            effects.changed = true;
        }
    }

    /// B4, B5.
    pub(super) fn pay_if_ours(
        &mut self,
        paid: Box<Paid>,
        row: Row,
        now: Now,
        policy: &Policy,
        effects: &mut Effects,
    ) {
        if self.is_same_money(&paid, policy) {
            self.pay(paid, Cause::Row(row), now, policy, effects);
        } else {
            self.hold(Held::Differs, now, policy, effects);
        }
    }

    /// B9, B5.
    pub(super) fn weigh_if_ours(
        &mut self,
        paid: Box<Paid>,
        now: Now,
        policy: &Policy,
        effects: &mut Effects,
    ) {
        if self.is_same_money(&paid, policy) {
            self.record.refusal = None; // Whatever was refused, there was money.
            self.stage = Stage::Weighing { paid, at: now.tick, rounds: 0, none: 0 };
        } else {
            self.hold(Held::Differs, now, policy, effects);
        }
    }

    /// Proven paid. That is told at once, unless nobody is there to hear it and the merchant then wants it back.
    pub(super) fn pay(
        &mut self,
        paid: Box<Paid>,
        cause: Cause,
        now: Now,
        policy: &Policy,
        effects: &mut Effects,
    ) {
        let Attendance { reverse_after_ms, listens } = self.attendance;
        if let Some(after_ms) = reverse_after_ms
            && !listens
            && self.may_be_given_back()
            && !planted!(AbsenceNotHeld)
        {
            self.record.refusal = None; // Whatever was refused, there is money.
            let until = now.tick.saturating_add(after_ms);
            self.stage = Stage::Unclaimed { paid, cause, until };
            return;
        }
        self.settle_paid(paid, cause, now, policy, effects);
    }

    /// Whether this order may be reversed by nobody's order but the absence of its till: it is ours beyond doubt, the
    /// wallet holds all of it, and neither a till nor an operator has a say in it yet.
    fn may_be_given_back(&self) -> bool {
        matches!(self.record.claim, Claim::Ours)
            && matches!(self.record.till_reversal, TillReversal::None)
            && self.record.held.is_none()
            && self.record.refunded_fen == 0
    }

    /// A till asks about an order that is held back: it is paid, and stays so.
    pub fn on_claimed(&mut self, now: Now, policy: &Policy, effects: &mut Effects) {
        if planted!(ClaimIgnored) {
            return;
        }
        if let Some((paid, cause)) = self.take_unclaimed() {
            self.settle_paid(paid, cause, now, policy, effects);
            if planted!(ClaimedGivenBack) {
                self.start_reversal(now, policy);
            }
        }
    }

    /// No till has asked in time: the money goes back. Where the merchant has changed its mind meanwhile, it is kept.
    pub(super) fn give_back(&mut self, now: Now, policy: &Policy, effects: &mut Effects) {
        let Some((paid, cause)) = self.take_unclaimed() else { return };
        if self.attendance.reverse_after_ms.is_none() {
            return self.settle_paid(paid, cause, now, policy, effects);
        }
        effects.alarms.push(Alarm::AbsentTill);
        self.record.paid = Some(paid); // For the books: this is what goes back.
        self.reverse(Cause::AbsentTill, now, policy, effects);
    }

    fn take_unclaimed(&mut self) -> Option<(Box<Paid>, Cause)> {
        let Stage::Unclaimed { paid, cause, .. } = &self.stage else { return None };
        let taken = (paid.clone(), *cause);
        self.stage = Stage::Settled;
        Some(taken)
    }

    fn settle_paid(
        &mut self,
        paid: Box<Paid>,
        cause: Cause,
        now: Now,
        policy: &Policy,
        effects: &mut Effects,
    ) {
        self.record.paid = Some(paid);
        self.record.refusal = None;
        self.decide(State::Paid, cause, now, effects);
        self.stage = Stage::Settled;
        if planted!(PaidReversed) {
            self.start_reversal(now, policy);
        }
        if self.record.till_reversal == TillReversal::Asked {
            if self.record.refunded_fen > 0 {
                self.record.till_reversal = TillReversal::None; // What is partly refunded is not reversed.
            } else {
                self.start_reversal(now, policy);
            }
        }
    }

    pub(super) fn fail(&mut self, cause: Cause, now: Now, effects: &mut Effects) {
        self.decide(State::Failed, cause, now, effects);
        if self.record.till_reversal == TillReversal::Asked {
            self.record.till_reversal = TillReversal::Done;
        }
        self.stage = Stage::Settled;
    }

    pub(super) fn reverse(&mut self, cause: Cause, now: Now, policy: &Policy, effects: &mut Effects) {
        self.decide(State::Reversing, cause, now, effects);
        self.start_reversal(now, policy);
    }

    fn start_reversal(&mut self, now: Now, policy: &Policy) {
        self.stage = Stage::Reversing(Box::new(Reversal::new(&self.context(now.tick, policy))));
    }

    /// The number was said to be taken, and the money under it is this order's own: its held reversal goes on.
    pub(super) fn resume_reversal(&mut self, now: Now, policy: &Policy, effects: &mut Effects) {
        self.record.claim = Claim::Ours;
        self.record.held = None;
        effects.changed = true;
        self.start_reversal(now, policy);
    }

    fn decide(&mut self, state: State, cause: Cause, now: Now, effects: &mut Effects) {
        self.change(state, effects);
        self.record.cause = Some(cause);
        self.record.held = None;
        self.record.decided_at = Some(now.wall);
    }

    fn change(&mut self, state: State, effects: &mut Effects) {
        assert!(self.record.state.may_become(state), "{:?} never becomes {state:?}", self.record.state);
        self.record.state = state;
        effects.changed = true;
    }

    pub(super) fn pending(&mut self, effects: &mut Effects) {
        if self.record.state == State::Accepted {
            self.change(State::Pending, effects);
        }
    }

    /// Back to polling after a refusal that a query did not confirm.
    pub(super) fn resume_waiting(&mut self, now: Now, policy: &Policy, effects: &mut Effects) {
        self.stage = Stage::Waiting { suspect: false, absent: 0 };
        if self.hurried {
            self.hurry(now.tick, policy);
        }
        if self.record.till_reversal == TillReversal::Asked {
            self.reverse(Cause::Till, now, policy, effects);
        }
    }

    /// Alarmed and on the operator's list, once.
    pub(super) fn put_on_list(&mut self, held: Held, effects: &mut Effects) {
        if self.record.held.replace(held) != Some(held) {
            effects.changed = true;
            effects.alarms.push(Alarm::Held(held));
        }
    }

    pub(super) fn hold(&mut self, held: Held, now: Now, policy: &Policy, effects: &mut Effects) {
        self.put_on_list(held, effects);
        let at = now.tick.saturating_add(policy.held_pause_ms);
        self.stage = Stage::Held { at, rounds: 1, unpaid: 0 };
    }

    /// A held order turns out to hold no money.
    pub(super) fn end_unpaid(&mut self, cause: Cause, now: Now, policy: &Policy, effects: &mut Effects) {
        match self.record.state {
            State::Accepted | State::Pending => self.fail(cause, now, effects),
            State::Reversing => self.proven(Row::B8, now, policy, effects),
            State::Reversed | State::Failed => {
                self.record.held = None;
                self.record.looks_left = 0;
                effects.changed = true;
                self.stage = Stage::Settled;
            }
            State::Paid => {}
        }
    }

    pub(super) fn progress(&mut self, progress: Progress, now: Now, policy: &Policy, effects: &mut Effects) {
        match progress {
            Progress::Going => {}
            Progress::Proven(row) => self.proven(row, now, policy, effects),
            Progress::StartRepair => self.repair(now, policy, effects),
            // The loop itself goes on slowly.
            Progress::Held(held) => self.put_on_list(held, effects),
        }
    }

    fn proven(&mut self, row: Row, now: Now, policy: &Policy, effects: &mut Effects) {
        self.record.proof = Some(row);
        self.record.held = None;
        effects.changed = true;
        if row == Row::C6 {
            effects.alarms.push(Alarm::ReversalStuck); // Nothing was reversed: the operator's list.
        }
        if self.record.till_reversal == TillReversal::Asked {
            self.record.till_reversal = TillReversal::Done;
        }
        self.stage = Stage::Settled;
        match self.record.state {
            State::Paid => {}
            State::Reversed | State::Failed => self.record.looks_left = 0,
            State::Accepted | State::Pending | State::Reversing => {
                self.change(State::Reversed, effects);
                if row == Row::C9 {
                    self.record.looks_left = 2;
                    self.look_again(now, policy);
                }
            }
        }
    }

    /// C6, C7, G5: from here no reversal any more, and the refund's number is durable before it is sent.
    pub(super) fn repair(&mut self, now: Now, policy: &Policy, effects: &mut Effects) {
        self.record.repair = true;
        effects.changed = true;
        effects.alarms.push(Alarm::RepairRefund);
        let done = matches!(&self.stage, Stage::Reversing(reversal) if reversal.said_done());
        self.stage = Stage::Reversing(Box::new(Reversal::repairing(&self.context(now.tick, policy), done)));
    }
}
