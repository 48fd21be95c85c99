//! Table B: what the answers to queries do, and to refund queries where a query said REFUND.

use planted::planted;
use protocol::fact::{Paid, QueryFact, RefundsFact, Row};

use super::{Effects, Payment, Stage};
use crate::key::Now;
use crate::policy::{Policy, doubled};
use crate::record::{Cause, Claim, Held, State, TillReversal};
use crate::reversal::Reversal;
use crate::shard::Alarm;

/// Refund lists in a row without any refund, for an order that is said to have one, until it is held.
const NONE_MAX: u8 = 3;

impl Payment {
    /// Table B: a query was answered or given up. `last` if the reversal was to follow it.
    pub fn on_query(
        &mut self,
        last: bool,
        row: Row,
        fact: QueryFact,
        now: Now,
        policy: &Policy,
        effects: &mut Effects,
    ) {
        self.unclear = if fact == QueryFact::Unclear { self.unclear.wrapping_add(1) } else { 0 };
        match self.stage {
            Stage::Waiting { .. } => self.on_polled(last, row, fact, now, policy, effects),
            Stage::Confirming { row: refused, asked, .. } => {
                self.on_confirmed(refused, self.queries > asked, row, fact, now, policy, effects);
            }
            Stage::Contested { row: refused, unpaid, asked } => {
                self.on_contested(refused, unpaid, asked, fact, now, policy, effects);
            }
            Stage::Held { rounds, unpaid, .. } => self.on_held(rounds, unpaid, fact, now, policy, effects),
            Stage::Reversing(_) => self.on_query_reversing(&fact, now, policy, effects),
            Stage::Looking { rounds, .. } => self.on_looked(rounds, fact, now, policy, effects),
            // G5: it was under way when the refusal was decided.
            Stage::Settled if self.record.state == State::Failed => {
                if matches!(fact, QueryFact::Paid(_) | QueryFact::Returned(_)) {
                    self.on_looked(0, fact, now, policy, effects);
                }
            }
            // Proven already: a query that was under way then proves nothing new.
            Stage::Unclaimed { .. } | Stage::Weighing { .. } | Stage::Settled => {}
        }
    }

    /// Table B for an order that is waited for.
    fn on_polled(
        &mut self,
        last: bool,
        row: Row,
        fact: QueryFact,
        now: Now,
        policy: &Policy,
        effects: &mut Effects,
    ) {
        let late = self.asked_at.is_some_and(|asked| asked >= self.guard(policy));
        let Stage::Waiting { suspect, absent } = &mut self.stage else { return };
        let shown = match fact {
            QueryFact::Unclear if planted!(OneFailedQueryEnds) => {
                return self.reverse(Cause::Deadline, now, policy, effects);
            }
            QueryFact::NotFound if planted!(NotFoundAsFailed) => {
                return self.fail(Cause::Row(Row::B2), now, effects);
            }
            QueryFact::PayError if planted!(PayErrorAsFailed) => {
                return self.fail(Cause::Row(row), now, effects);
            }
            QueryFact::Returned(_) if planted!(PartAsWhole) => {
                return self.fail(Cause::Row(row), now, effects);
            }
            QueryFact::Paid(paid) => return self.pay_if_ours(paid, row, now, policy, effects),
            QueryFact::Returned(paid) => return self.weigh_if_ours(paid, now, policy, effects),
            QueryFact::PayError => return self.reverse(Cause::Row(Row::B7), now, policy, effects),
            QueryFact::Closed | QueryFact::Revoked => return self.fail(Cause::Row(Row::B8), now, effects),
            QueryFact::NotFound => {
                *absent = absent.saturating_add(u8::from(late));
                if last || *absent >= 2 {
                    return self.reverse(Cause::Row(Row::B3), now, policy, effects);
                }
                false
            }
            QueryFact::InProgress => {
                self.pending(effects);
                true
            }
            QueryFact::Unpaid | QueryFact::UnknownState => true,
            QueryFact::Unclear if last && *suspect => {
                return self.reverse(Cause::Row(Row::A3), now, policy, effects);
            }
            QueryFact::Unclear => false,
        };
        if shown && planted!(PollsForEver) {
            self.deadline = now.tick.saturating_add(policy.give_up_ms);
        }
        if shown && let Stage::Waiting { suspect, absent } = &mut self.stage {
            *absent = 0;
            if std::mem::take(suspect) {
                self.deadline = self.left_at.saturating_add(policy.give_up_ms); // A3: as usual from here.
                if self.hurried {
                    self.hurry(now.tick, policy);
                }
            }
        }
        if last && now.tick >= self.deadline {
            let cause = if self.hurried { Cause::Rescan } else { Cause::Deadline };
            self.reverse(cause, now, policy, effects);
        } else if self.record.till_reversal == TillReversal::Asked {
            // Asked for before a restart, when it was not ours to reverse yet.
            self.reverse(Cause::Till, now, policy, effects);
        }
    }

    /// A9, A11: only a query that was asked after the refusal confirms it, but any may show money.
    #[expect(clippy::too_many_arguments, reason = "the row of the refusal and that of the query both count")]
    fn on_confirmed(
        &mut self,
        refused: Row,
        after: bool,
        row: Row,
        fact: QueryFact,
        now: Now,
        policy: &Policy,
        effects: &mut Effects,
    ) {
        match fact {
            QueryFact::Paid(paid) => self.pay_if_ours(paid, row, now, policy, effects),
            QueryFact::Returned(paid) => self.weigh_if_ours(paid, now, policy, effects),
            QueryFact::InProgress if after => {
                self.record.refusal = None;
                self.resume_waiting(now, policy, effects);
                self.pending(effects);
            }
            QueryFact::InProgress
            | QueryFact::Unpaid
            | QueryFact::UnknownState
            | QueryFact::PayError
            | QueryFact::Closed
            | QueryFact::Revoked
            | QueryFact::NotFound
            | QueryFact::Unclear => {
                if after {
                    self.fail(Cause::Row(refused), now, effects);
                }
            }
        }
    }

    /// A12, A13: any answer may show money, but only one to a query that was asked after the refusal shows none.
    #[expect(clippy::too_many_arguments, reason = "what has been asked so far comes with the answer")]
    fn on_contested(
        &mut self,
        row: Row,
        unpaid: u8,
        asked: u32,
        fact: QueryFact,
        now: Now,
        policy: &Policy,
        effects: &mut Effects,
    ) {
        let late = self.asked_at.is_some_and(|asked| asked >= self.guard(policy));
        let unpaid = match fact {
            QueryFact::Paid(paid) if self.is_ours(&paid, policy) || planted!(ForeignMoneyTaken) => {
                return self.pay(paid, Cause::Row(Row::B4), now, policy, effects);
            }
            QueryFact::Paid(_) | QueryFact::Returned(_) => {
                return self.hold(Held::NumberTaken, now, policy, effects);
            }
            QueryFact::NotFound
            | QueryFact::Unpaid
            | QueryFact::PayError
            | QueryFact::Closed
            | QueryFact::Revoked => unpaid.saturating_add(u8::from(self.queries > asked)),
            QueryFact::InProgress | QueryFact::UnknownState | QueryFact::Unclear => 0,
        };
        if unpaid >= 2 && late {
            return self.fail(Cause::Row(row), now, effects);
        }
        self.stage = Stage::Contested { row, unpaid, asked };
        if now.tick >= self.deadline {
            self.hold(Held::NumberTaken, now, policy, effects);
        }
    }

    /// A held order ends by a verified query that its row decides.
    fn on_held(
        &mut self,
        rounds: u32,
        unpaid: u8,
        fact: QueryFact,
        now: Now,
        policy: &Policy,
        effects: &mut Effects,
    ) {
        let undecided = self.record.state.is_undecided();
        let contested = self.record.claim != Claim::Ours;
        let unpaid = match fact {
            QueryFact::Paid(paid) if undecided && self.is_ours(&paid, policy) => {
                return self.pay(paid, Cause::Row(Row::B4), now, policy, effects);
            }
            QueryFact::Returned(paid) if undecided && !contested && self.is_same_money(&paid, policy) => {
                self.stage = Stage::Weighing { paid, at: now.tick, rounds, none: 0 };
                return;
            }
            // The request came twice, the first was charged and the second refused, when the order was being reversed
            // already: its own money goes back (G2, B4). That it is its own is durable before the reversal goes out.
            QueryFact::Paid(ref paid) | QueryFact::Returned(ref paid)
                if contested && self.record.state == State::Reversing && self.is_ours(paid, policy) =>
            {
                self.resume_reversal(now, policy, effects);
                return self.on_query_reversing(&fact, now, policy, effects);
            }
            QueryFact::Closed | QueryFact::Revoked if !contested => {
                return self.end_unpaid(Cause::Row(Row::B8), now, policy, effects);
            }
            QueryFact::NotFound
            | QueryFact::Unpaid
            | QueryFact::PayError
            | QueryFact::Closed
            | QueryFact::Revoked => unpaid.saturating_add(1),
            QueryFact::Paid(_)
            | QueryFact::Returned(_)
            | QueryFact::InProgress
            | QueryFact::UnknownState
            | QueryFact::Unclear => 0,
        };
        if contested && unpaid >= 2 {
            return self.end_unpaid(Cause::Row(Row::A13), now, policy, effects);
        }
        let pause = doubled(policy.held_pause_ms, rounds, policy.held_pause_max_ms);
        self.stage =
            Stage::Held { at: now.tick.saturating_add(pause), rounds: rounds.saturating_add(1), unpaid };
    }

    /// The loop of table C asked. What is not this order's own money is no answer to it.
    fn on_query_reversing(&mut self, fact: &QueryFact, now: Now, policy: &Policy, effects: &mut Effects) {
        let ours = match fact {
            QueryFact::Paid(paid) | QueryFact::Returned(paid) => self.is_same_money(paid, policy),
            QueryFact::Unclear
            | QueryFact::NotFound
            | QueryFact::InProgress
            | QueryFact::Unpaid
            | QueryFact::UnknownState
            | QueryFact::PayError
            | QueryFact::Closed
            | QueryFact::Revoked => true,
        };
        // An order that we hold as paid is neither absent nor unpaid because a query says so (UB-12).
        let missed = self.record.state == State::Paid
            && matches!(fact, QueryFact::NotFound | QueryFact::Unpaid | QueryFact::PayError);
        let fact = if missed { &QueryFact::Unclear } else { fact };
        let context = self.context(now.tick, policy);
        let Stage::Reversing(reversal) = &mut self.stage else { return };
        let progress = if ours {
            reversal.on_query(fact, &context)
        } else {
            reversal.hold(&context);
            crate::reversal::Progress::Held(Held::Differs)
        };
        effects.alarms.extend(reversal.alarms(&context));
        self.progress(progress, now, policy, effects);
    }

    /// C9, G5: an order that ended without money is looked at again.
    fn on_looked(&mut self, rounds: u32, fact: QueryFact, now: Now, policy: &Policy, effects: &mut Effects) {
        let others = self.record.claim != Claim::Ours
            || matches!(self.record.cause, Some(Cause::Row(Row::A1 | Row::A12 | Row::A13 | Row::A14)));
        match fact {
            QueryFact::Paid(_) | QueryFact::Returned(_) if planted!(LateSuccessDropped) => {
                self.stop_looking(effects);
            }
            // The money may belong to an earlier order: the operator's.
            QueryFact::Paid(_) | QueryFact::Returned(_) if others => {
                effects.alarms.push(Alarm::LateSuccess);
                self.stop_looking(effects);
            }
            QueryFact::Paid(paid) if self.is_same_money(&paid, policy) => {
                effects.alarms.push(Alarm::LateSuccess);
                self.record.looks_left = self.record.looks_left.max(1);
                self.repair(now, policy, effects);
            }
            // Refunded, but all of it? The refunds tell.
            QueryFact::Returned(paid) if self.is_same_money(&paid, policy) => {
                effects.alarms.push(Alarm::LateSuccess);
                self.record.looks_left = self.record.looks_left.max(1);
                effects.changed = true;
                let context = self.context(now.tick, policy);
                self.stage = Stage::Reversing(Box::new(Reversal::weighing(&context)));
            }
            QueryFact::Paid(_) | QueryFact::Returned(_) => {
                self.record.looks_left = self.record.looks_left.max(1);
                self.hold(Held::Differs, now, policy, effects);
            }
            QueryFact::Closed | QueryFact::Revoked => self.stop_looking(effects),
            QueryFact::NotFound => {
                self.record.looks_left = self.record.looks_left.saturating_sub(1);
                effects.changed = true;
                self.look_again(now, policy);
            }
            // It has come to light after all and may still be paid: keep an eye on it, ever more slowly, but not
            // for ever. What comes after the channel's window is for the bill to show.
            QueryFact::Unpaid | QueryFact::PayError | QueryFact::InProgress | QueryFact::UnknownState
                if now.tick.ms_since(self.left_at) >= policy.reversal_window_ms =>
            {
                self.stop_looking(effects);
            }
            QueryFact::Unpaid
            | QueryFact::PayError
            | QueryFact::InProgress
            | QueryFact::UnknownState
            | QueryFact::Unclear => {
                let pause = doubled(policy.held_pause_ms, rounds, policy.held_pause_max_ms);
                let at = now.tick.saturating_add(pause);
                self.stage = Stage::Looking { at, rounds: rounds.saturating_add(1) };
            }
        }
    }

    fn stop_looking(&mut self, effects: &mut Effects) {
        effects.changed |= std::mem::take(&mut self.record.looks_left) > 0;
        self.stage = Stage::Settled;
    }

    pub(super) fn look_again(&mut self, now: Now, policy: &Policy) {
        let [first, second] = policy.looks_ms;
        let pause = match self.record.looks_left {
            0 => return self.stage = Stage::Settled,
            1 => second.saturating_sub(first),
            _ => first,
        };
        self.stage = Stage::Looking { at: now.tick.saturating_add(pause), rounds: 0 };
    }

    /// Tables B9, C1 and D: the refunds were listed, or not.
    pub fn on_refunds(&mut self, fact: RefundsFact, now: Now, policy: &Policy, effects: &mut Effects) {
        let context = self.context(now.tick, policy);
        match &mut self.stage {
            Stage::Reversing(reversal) => {
                let progress = reversal.on_refunds(fact, &context);
                effects.alarms.extend(reversal.alarms(&context));
                self.progress(progress, now, policy, effects);
            }
            Stage::Weighing { paid, rounds, none, .. } => {
                let (paid, rounds, none) = (paid.clone(), *rounds, *none);
                self.on_weighed(paid, rounds, none, fact, now, policy, effects);
            }
            Stage::Waiting { .. }
            | Stage::Confirming { .. }
            | Stage::Contested { .. }
            | Stage::Unclaimed { .. }
            | Stage::Held { .. }
            | Stage::Looking { .. }
            | Stage::Settled => {}
        }
    }

    /// B9: all of it returned, or less.
    #[expect(clippy::too_many_arguments, reason = "what has been asked so far comes with the answer")]
    fn on_weighed(
        &mut self,
        paid: Box<Paid>,
        rounds: u32,
        none: u8,
        fact: RefundsFact,
        now: Now,
        policy: &Policy,
        effects: &mut Effects,
    ) {
        let amount_fen = paid.amount.get();
        let none = match fact {
            RefundsFact::Listed { returned_fen, .. } if returned_fen >= amount_fen => {
                effects.alarms.push(Alarm::ReturnedUpstream);
                self.record.refunded_fen = returned_fen;
                return self.fail(Cause::Row(Row::B9), now, effects);
            }
            RefundsFact::Listed { returned_fen, pending_fen, .. }
                if returned_fen.saturating_add(pending_fen) < amount_fen =>
            {
                effects.alarms.push(Alarm::ReturnedUpstream);
                self.record.refunded_fen = returned_fen.saturating_add(pending_fen);
                return self.pay(paid, Cause::Row(Row::B9), now, policy, effects);
            }
            RefundsFact::None => none.saturating_add(1),
            RefundsFact::Listed { .. } | RefundsFact::Unclear => 0,
        };
        // All of it is on its way back, or the answer says nothing: ask again, also past the deadline.
        if none >= NONE_MAX {
            self.put_on_list(Held::Differs, effects);
        }
        let pause = doubled(policy.reversal_pause_ms, rounds, policy.reversal_pause_max_ms);
        let at = now.tick.saturating_add(pause);
        self.stage = Stage::Weighing { paid, at, rounds: rounds.saturating_add(1), none };
    }
}
