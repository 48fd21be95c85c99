//! Tables A and B: one payment from its acceptance to its end.
//!
//! A [`Payment`] takes past facts and says, through [`Payment::next`], the one call that it wants and when.
//! Every decision changes the record; the shard makes it durable before anything acts on it.
//! *Unknown is not a state*: a lost or unclear answer leaves the order open, and it is asked again.
//! Source: wechatpay-v2 §4.5 A, B; faults-and-invariants.

use protocol::Fen;
use protocol::fact::{Paid, PayFact, QueryFact, RefundFact, RefundsFact, ReverseFact, Row};
use timer_wheel::Tick;

use crate::key::{BootId, Channel, Now, OrderKey, ProviderId};
use crate::planner::Urgency;
use crate::policy::{Policy, doubled};
use crate::record::{Cause, Claim, Held, Record, State, TillReversal};
use crate::reversal::{Context, Progress, Reversal};
use crate::shard::{Alarm, Call, PayRequest};

mod recover;

/// What an event did, besides changing the payment.
#[derive(Debug, Default)]
pub struct Effects {
    /// The record changed: a new version must become durable before anything acts on it.
    pub changed: bool,
    /// What the operator must hear, once that is durable.
    pub alarms: Vec<Alarm>,
}

/// What a payment wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A call, not before `at`.
    Call {
        /// Which.
        call: Call,
        /// When.
        at: Tick,
        /// How urgent.
        urgency: Urgency,
    },
    /// Nothing: settled, or waiting for the pay request to leave.
    Nothing,
}

/// Where the automaton stands; finer than the durable state.
#[derive(Clone, Debug)]
enum Stage {
    /// The pay request may have left: poll until the deadline.
    Waiting {
        /// Refused without a signature, and no query has shown the order since (A3): the deadline is T0+15 s.
        suspect: bool,
        /// Not-founds in a row after T0+15 s (B3).
        absent: u8,
    },
    /// Refused by a verified answer; one query confirms it before it is told (A9, A11).
    Confirming { row: Row, until: Tick },
    /// Refused because of the number (A12, A13): never reversed.
    Contested { row: Row, unpaid: u8 },
    /// A query said REFUND: the refunds are added up (B9).
    Weighing { paid: Box<Paid>, at: Tick, rounds: u32 },
    /// Open, alarmed, the operator's.
    Held { at: Tick, rounds: u32, unpaid: u8 },
    /// Table C, or D for a repair refund.
    Reversing(Box<Reversal>),
    /// REVERSED by absence: looked at again (C9).
    Looking { at: Tick },
    /// Nothing is left to do.
    Settled,
}

/// One payment.
#[derive(Clone, Debug)]
pub struct Payment {
    record: Record,
    stage: Stage,
    /// T0, or the latest it can be. `Tick::MAX` until the pay request is released.
    left_at: Tick,
    /// When the pay request's connection was closed or answered.
    closed_at: Option<Tick>,
    /// Not asked about before this.
    ask_from: Tick,
    /// When it was last asked about.
    asked_at: Option<Tick>,
    /// When waiting ends.
    deadline: Tick,
    queries: u32,
}

impl Payment {
    /// A payment that a till asks for: ACCEPTED, to be inserted if the number is unseen.
    #[must_use]
    pub fn accept(request: &PayRequest, now: Now, boot: BootId) -> Self {
        let mut record = blank(request.key, request.provider, now, boot);
        record.amount = Some(request.amount);
        record.digest = request.digest;
        record.attach = request.attach;
        Self::with(record, Stage::Waiting { suspect: false, absent: 0 }, Tick::MAX)
    }

    /// A number that is closed before its payment came: the till's reversal overtook it (NM-00).
    #[must_use]
    pub fn overtaken(key: OrderKey, provider: ProviderId, now: Now, boot: BootId) -> Self {
        let mut record = blank(key, provider, now, boot);
        record.state = State::Reversed;
        record.cause = Some(Cause::Overtaken);
        record.decided_at = Some(now.wall);
        record.till_reversal = TillReversal::Done;
        Self::with(record, Stage::Settled, Tick::MAX)
    }

    const fn with(record: Record, stage: Stage, left_at: Tick) -> Self {
        Self {
            record,
            stage,
            left_at,
            closed_at: None,
            ask_from: Tick::MAX,
            asked_at: None,
            deadline: Tick::MAX,
            queries: 0,
        }
    }

    /// What is, or will be, durable.
    #[must_use]
    pub const fn record(&self) -> &Record {
        &self.record
    }

    /// Queries asked so far.
    #[must_use]
    pub const fn queries(&self) -> u32 {
        self.queries
    }

    /// Whether nothing is left to do.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        matches!(self.stage, Stage::Settled)
    }

    /// Whether the pay request was answered or given up.
    #[must_use]
    pub const fn pay_is_over(&self) -> bool {
        self.closed_at.is_some()
    }

    /// Names the version that the next durable record has.
    pub fn next_version(&mut self, now: Now) {
        self.record.version = self.record.version.saturating_add(1);
        self.record.changed_at = now.wall;
    }

    /// The record is durable and the pay request is released: from now it may leave.
    pub fn released(&mut self, now: Tick, policy: &Policy) {
        self.left(now.saturating_add(policy.leave_ms), policy);
    }

    /// The pay request left, or can have left, at `at`.
    pub fn left(&mut self, at: Tick, policy: &Policy) {
        self.left_at = at;
        self.record.left_tick = Some(at);
        self.ask_from = at.saturating_add(policy.first_query_ms);
        self.deadline = at.saturating_add(policy.give_up_ms);
    }

    /// The one call that is wanted, as things stand at `now`.
    #[must_use]
    pub fn next(&self, now: Tick, policy: &Policy) -> Next {
        let after_gap = |from: Tick| {
            self.asked_at.map_or(from, |asked| from.max(asked.saturating_add(policy.query_gap_ms)))
        };
        let (call, at, urgency) = match &self.stage {
            Stage::Waiting { .. } if self.left_at == Tick::MAX => return Next::Nothing,
            Stage::Waiting { .. } => {
                let at = after_gap(self.ask_from);
                if at >= self.deadline || now >= self.deadline {
                    (Call::LastQuery, self.deadline, Urgency::Decides)
                } else {
                    (Call::Query, at, Urgency::Asks)
                }
            }
            Stage::Confirming { .. } => (Call::Query, now, Urgency::Decides),
            Stage::Contested { .. } => (Call::Query, after_gap(self.ask_from), Urgency::Asks),
            Stage::Weighing { at, .. } => (Call::RefundQuery, *at, Urgency::Decides),
            Stage::Held { at, .. } | Stage::Looking { at } => (Call::Query, *at, Urgency::Asks),
            Stage::Reversing(reversal) => {
                let (call, at) = reversal.next();
                (call, at, Urgency::Decides)
            }
            Stage::Settled => return Next::Nothing,
        };
        Next::Call { call, at, urgency }
    }

    /// When waiting for an answer or for room must end, whatever comes: see [`Payment::on_due`].
    #[must_use]
    pub const fn expires_at(&self) -> Option<Tick> {
        match &self.stage {
            Stage::Confirming { until, .. } => Some(*until),
            Stage::Contested { .. } => Some(self.deadline),
            Stage::Waiting { .. }
            | Stage::Weighing { .. }
            | Stage::Held { .. }
            | Stage::Reversing(_)
            | Stage::Looking { .. }
            | Stage::Settled => None,
        }
    }

    /// The deadline at which an order that is waited for becomes a last query, whether or not its turn to be
    /// asked has come.
    #[must_use]
    pub const fn gives_up_at(&self) -> Option<Tick> {
        match &self.stage {
            Stage::Waiting { .. } => Some(self.deadline),
            Stage::Confirming { .. }
            | Stage::Contested { .. }
            | Stage::Weighing { .. }
            | Stage::Held { .. }
            | Stage::Reversing(_)
            | Stage::Looking { .. }
            | Stage::Settled => None,
        }
    }

    /// Whether the next call should prefer the other host (C3).
    #[must_use]
    pub fn prefers_other_host(&self) -> bool {
        match &self.stage {
            Stage::Reversing(reversal) => reversal.prefers_other_host(),
            Stage::Waiting { .. }
            | Stage::Confirming { .. }
            | Stage::Contested { .. }
            | Stage::Weighing { .. }
            | Stage::Held { .. }
            | Stage::Looking { .. }
            | Stage::Settled => false,
        }
    }

    /// Whether the provider's certificate was refused again and again (C8).
    #[must_use]
    pub fn suspends_provider(&self) -> bool {
        matches!(&self.stage, Stage::Reversing(reversal) if reversal.suspends_provider())
    }

    /// A call goes out.
    pub fn on_sent(&mut self, call: Call, now: Tick) {
        match call {
            Call::Query | Call::LastQuery => {
                self.asked_at = Some(now);
                self.queries = self.queries.saturating_add(1);
            }
            Call::Reverse | Call::RefundQuery | Call::Refund => {}
        }
    }

    /// [`Payment::expires_at`] has come: a refusal stands unconfirmed (A9, A11); a contested number is held
    /// (A13).
    pub fn on_due(&mut self, now: Now, policy: &Policy, effects: &mut Effects) {
        match self.stage {
            Stage::Confirming { row, until } if now.tick >= until => self.fail(Cause::Row(row), now, effects),
            Stage::Contested { .. } if now.tick >= self.deadline => {
                self.hold(Held::NumberTaken, now, policy, effects);
            }
            Stage::Confirming { .. }
            | Stage::Contested { .. }
            | Stage::Waiting { .. }
            | Stage::Weighing { .. }
            | Stage::Held { .. }
            | Stage::Reversing(_)
            | Stage::Looking { .. }
            | Stage::Settled => {}
        }
    }

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
        if let Some(at) = left_at.filter(|at| *at < self.left_at) {
            self.left(at, policy);
        }
        // G4: that the number is not ours must survive a crash, wherever the order stands.
        if let PayFact::NumberTaken { ours_possible, .. } = &fact {
            self.record.claim = if *ours_possible { Claim::Contested } else { Claim::Foreign };
            effects.changed = true;
            effects.alarms.push(Alarm::NumberTaken);
        }
        match &mut self.stage {
            Stage::Waiting { suspect, .. } => match fact {
                PayFact::Unsent => self.fail(Cause::Row(row), now, effects),
                PayFact::Unclear => {}
                PayFact::RefusedUnsigned => {
                    *suspect = true;
                    self.deadline = self.left_at.saturating_add(policy.reversal_guard_ms);
                    effects.alarms.push(Alarm::UnsignedRefusal);
                }
                // Verified means the same number and amount; another amount would decide nothing (A5).
                PayFact::Paid(paid) if Some(paid.amount) == self.record.amount => {
                    self.pay(paid, Cause::Row(row), now, policy, effects);
                }
                PayFact::Paid(_) => {}
                PayFact::InProgress => self.pending(effects),
                PayFact::Refused(refusal) => {
                    self.record.refusal = Some(Box::new(refusal));
                    self.stage = Stage::Confirming { row, until: now.tick.saturating_add(policy.confirm_ms) };
                }
                PayFact::NumberTaken { refusal, .. } => {
                    self.record.refusal = Some(Box::new(refusal));
                    self.stage = Stage::Contested { row, unpaid: 0 };
                }
                PayFact::RefusedOutright(refusal) => {
                    self.record.refusal = Some(Box::new(refusal));
                    if row == Row::A15 {
                        effects.alarms.push(Alarm::Misconfigured);
                    }
                    self.fail(Cause::Row(row), now, effects);
                }
            },
            // Decided before the answer came: it changes nothing (G2), unless it proves that nothing was sent
            // or that the number is another's.
            Stage::Reversing(_) if self.record.state == State::Reversing => {
                if matches!(fact, PayFact::NumberTaken { .. }) {
                    self.hold(Held::NumberTaken, now, policy, effects);
                } else {
                    self.progress(Reversal::on_pay(&fact), now, policy, effects);
                }
            }
            Stage::Reversing(_)
            | Stage::Confirming { .. }
            | Stage::Contested { .. }
            | Stage::Weighing { .. }
            | Stage::Held { .. }
            | Stage::Looking { .. }
            | Stage::Settled => {}
        }
    }

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
        match self.stage {
            Stage::Waiting { .. } => self.on_polled(last, row, fact, now, policy, effects),
            Stage::Confirming { row: refused, .. } => match fact {
                QueryFact::Paid(paid) => self.pay_if_ours(paid, row, now, policy, effects),
                QueryFact::Returned(paid) => self.weigh_if_ours(paid, now, policy, effects),
                QueryFact::InProgress => {
                    self.record.refusal = None;
                    self.resume_waiting(now, policy, effects);
                    self.pending(effects);
                }
                QueryFact::Unpaid
                | QueryFact::UnknownState
                | QueryFact::PayError
                | QueryFact::Closed
                | QueryFact::Revoked
                | QueryFact::NotFound
                | QueryFact::Unclear => self.fail(Cause::Row(refused), now, effects),
            },
            Stage::Contested { row: refused, unpaid } => {
                self.on_contested(refused, unpaid, fact, now, policy, effects);
            }
            Stage::Held { rounds, unpaid, .. } => self.on_held(rounds, unpaid, fact, now, policy, effects),
            Stage::Reversing(_) => {
                // An order that we hold as paid is not absent because a query misses it.
                let missed = self.record.state == State::Paid && fact == QueryFact::NotFound;
                let fact = if missed { QueryFact::Unclear } else { fact };
                let context = self.context(now.tick, policy);
                if let Stage::Reversing(reversal) = &mut self.stage {
                    let progress = reversal.on_query(&fact, &context);
                    self.progress(progress, now, policy, effects);
                }
            }
            Stage::Looking { .. } => self.on_looked(fact, now, policy, effects),
            Stage::Weighing { .. } | Stage::Settled => {}
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
        let guard = self.left_at.saturating_add(policy.reversal_guard_ms);
        let Stage::Waiting { absent, .. } = &mut self.stage else { return };
        let shown = match fact {
            QueryFact::Paid(paid) => return self.pay_if_ours(paid, row, now, policy, effects),
            QueryFact::Returned(paid) => return self.weigh_if_ours(paid, now, policy, effects),
            QueryFact::PayError => return self.reverse(Cause::Row(Row::B7), now, policy, effects),
            QueryFact::Closed | QueryFact::Revoked => return self.fail(Cause::Row(Row::B8), now, effects),
            QueryFact::NotFound if last => return self.reverse(Cause::Row(Row::B3), now, policy, effects),
            QueryFact::NotFound => {
                if now.tick >= guard {
                    *absent = absent.saturating_add(1);
                    if *absent >= 2 {
                        self.reverse(Cause::Row(Row::B3), now, policy, effects);
                    }
                }
                return;
            }
            QueryFact::InProgress => {
                self.pending(effects);
                true
            }
            QueryFact::Unpaid | QueryFact::UnknownState => true,
            QueryFact::Unclear => false,
        };
        if shown && let Stage::Waiting { suspect, absent } = &mut self.stage {
            *absent = 0;
            if std::mem::take(suspect) {
                self.deadline = self.left_at.saturating_add(policy.give_up_ms); // A3: as usual from here.
            }
        } else if let Stage::Waiting { suspect, .. } = &self.stage
            && *suspect
            && last
        {
            return self.reverse(Cause::Row(Row::A3), now, policy, effects);
        }
        if last && now.tick >= self.deadline {
            self.reverse(Cause::Deadline, now, policy, effects);
        }
    }

    /// A12, A13.
    fn on_contested(
        &mut self,
        row: Row,
        unpaid: u8,
        fact: QueryFact,
        now: Now,
        policy: &Policy,
        effects: &mut Effects,
    ) {
        let late = now.tick >= self.left_at.saturating_add(policy.reversal_guard_ms);
        let unpaid = match fact {
            QueryFact::Paid(paid) if self.is_ours(&paid, policy) => {
                return self.pay(paid, Cause::Row(Row::B4), now, policy, effects);
            }
            QueryFact::Paid(_) | QueryFact::Returned(_) => {
                return self.hold(Held::NumberTaken, now, policy, effects);
            }
            QueryFact::NotFound
            | QueryFact::Unpaid
            | QueryFact::PayError
            | QueryFact::Closed
            | QueryFact::Revoked => unpaid.saturating_add(1),
            QueryFact::InProgress | QueryFact::UnknownState | QueryFact::Unclear => 0,
        };
        if unpaid >= 2 && late {
            return self.fail(Cause::Row(row), now, effects);
        }
        self.stage = Stage::Contested { row, unpaid };
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

    /// C9: an order that ended by absence is looked at again.
    fn on_looked(&mut self, fact: QueryFact, now: Now, policy: &Policy, effects: &mut Effects) {
        match fact {
            QueryFact::Paid(paid)
                if self.is_same_money(&paid, policy) && self.record.claim == Claim::Ours =>
            {
                effects.alarms.push(Alarm::LateSuccess);
                self.repair(now, policy, effects);
            }
            QueryFact::Paid(_) => self.hold(Held::Differs, now, policy, effects),
            QueryFact::Closed | QueryFact::Revoked | QueryFact::Returned(_) => {
                self.record.looks_left = 0;
                effects.changed = true;
                self.stage = Stage::Settled;
            }
            QueryFact::NotFound => {
                self.record.looks_left = self.record.looks_left.saturating_sub(1);
                effects.changed = true;
                self.look_again(now, policy);
            }
            // It has come to light after all and may still be paid: keep an eye on it.
            QueryFact::Unpaid
            | QueryFact::PayError
            | QueryFact::InProgress
            | QueryFact::UnknownState
            | QueryFact::Unclear => {
                self.stage = Stage::Looking { at: now.tick.saturating_add(policy.held_pause_ms) };
            }
        }
    }

    fn look_again(&mut self, now: Now, policy: &Policy) {
        let [first, second] = policy.looks_ms;
        self.stage = match self.record.looks_left {
            0 => Stage::Settled,
            1 => Stage::Looking { at: now.tick.saturating_add(second.saturating_sub(first)) },
            _ => Stage::Looking { at: now.tick.saturating_add(first) },
        };
    }

    /// Table C: a reversal was answered or given up.
    pub fn on_reverse(&mut self, fact: ReverseFact, now: Now, policy: &Policy, effects: &mut Effects) {
        let context = self.context(now.tick, policy);
        let Stage::Reversing(reversal) = &mut self.stage else { return };
        let progress = reversal.on_reverse(fact, &context);
        effects.alarms.extend(reversal.alarm(&context));
        self.progress(progress, now, policy, effects);
    }

    /// Tables B9, C1 and D: the refunds were listed, or not.
    pub fn on_refunds(&mut self, fact: RefundsFact, now: Now, policy: &Policy, effects: &mut Effects) {
        let context = self.context(now.tick, policy);
        let (paid, rounds) = match &mut self.stage {
            Stage::Reversing(reversal) => {
                let progress = reversal.on_refunds(fact, &context);
                return self.progress(progress, now, policy, effects);
            }
            Stage::Weighing { paid, rounds, .. } => (paid, rounds),
            Stage::Waiting { .. }
            | Stage::Confirming { .. }
            | Stage::Contested { .. }
            | Stage::Held { .. }
            | Stage::Looking { .. }
            | Stage::Settled => return,
        };
        match fact {
            RefundsFact::Listed { returned_fen, .. } if returned_fen >= context.amount_fen => {
                effects.alarms.push(Alarm::ReturnedUpstream);
                self.record.refunded_fen = returned_fen;
                self.fail(Cause::Row(Row::B9), now, effects);
            }
            RefundsFact::Listed { returned_fen, pending_fen, .. }
                if returned_fen.saturating_add(pending_fen) < context.amount_fen =>
            {
                effects.alarms.push(Alarm::ReturnedUpstream);
                self.record.refunded_fen = returned_fen.saturating_add(pending_fen);
                let paid = paid.clone();
                self.pay(paid, Cause::Row(Row::B9), now, policy, effects);
            }
            // All of it is on its way back, or the answer says nothing: ask again, also past the deadline.
            RefundsFact::Listed { .. } | RefundsFact::None | RefundsFact::Unclear => {
                let pause = doubled(policy.reversal_pause_ms, *rounds, policy.reversal_pause_max_ms);
                let rounds = rounds.saturating_add(1);
                let paid = paid.clone();
                self.stage = Stage::Weighing { paid, at: now.tick.saturating_add(pause), rounds };
            }
        }
    }

    /// Table D: the repair refund was answered or given up.
    pub fn on_refund(&mut self, fact: &RefundFact, now: Now, policy: &Policy, effects: &mut Effects) {
        let context = self.context(now.tick, policy);
        if let Stage::Reversing(reversal) = &mut self.stage {
            let progress = reversal.on_refund(fact, &context);
            self.progress(progress, now, policy, effects);
        }
    }

    /// The till asks for a reversal. `false` if it can no longer be taken: older than seven days, or partly
    /// refunded already. Source: wechatpay-v2 §4.6 no. 6.
    pub fn on_reversal_asked(&mut self, now: Now, policy: &Policy, effects: &mut Effects) -> bool {
        match self.stage {
            Stage::Waiting { .. } => {
                self.record.till_reversal = TillReversal::Asked;
                self.reverse(Cause::Till, now, policy, effects);
            }
            // Not ours to reverse yet, or ever (A13): remembered, and done as soon as it may be.
            Stage::Confirming { .. }
            | Stage::Contested { .. }
            | Stage::Weighing { .. }
            | Stage::Held { .. } => {
                if self.record.till_reversal == TillReversal::None {
                    self.record.till_reversal = TillReversal::Asked;
                    effects.changed = true;
                }
            }
            Stage::Reversing(_) | Stage::Looking { .. } => {}
            Stage::Settled => match (self.record.state, self.record.till_reversal) {
                (State::Paid, TillReversal::None) => {
                    let age = now.wall.0.saturating_sub(self.record.accepted_at.0);
                    let window = i64::try_from(policy.reversal_window_ms).unwrap_or(i64::MAX);
                    if age >= window || self.record.refunded_fen > 0 {
                        return false;
                    }
                    self.record.till_reversal = TillReversal::Asked;
                    effects.changed = true;
                    self.start_reversal(now, policy);
                }
                (State::Failed, TillReversal::None | TillReversal::Asked) => {
                    self.record.till_reversal = TillReversal::Done;
                    effects.changed = true;
                }
                (
                    State::Paid
                    | State::Failed
                    | State::Reversed
                    | State::Accepted
                    | State::Pending
                    | State::Reversing,
                    TillReversal::None | TillReversal::Asked | TillReversal::Done,
                ) => {}
            },
        }
        true
    }

    // Decisions. Each changes the record once; the shard's conditional write makes it the only one (INV-07).

    /// B4, B5.
    fn pay_if_ours(&mut self, paid: Box<Paid>, row: Row, now: Now, policy: &Policy, effects: &mut Effects) {
        if self.is_same_money(&paid, policy) {
            self.pay(paid, Cause::Row(row), now, policy, effects);
        } else {
            self.hold(Held::Differs, now, policy, effects);
        }
    }

    /// B9, B5.
    fn weigh_if_ours(&mut self, paid: Box<Paid>, now: Now, policy: &Policy, effects: &mut Effects) {
        if self.is_same_money(&paid, policy) {
            self.stage = Stage::Weighing { paid, at: now.tick, rounds: 0 };
        } else {
            self.hold(Held::Differs, now, policy, effects);
        }
    }

    fn pay(&mut self, paid: Box<Paid>, cause: Cause, now: Now, policy: &Policy, effects: &mut Effects) {
        self.record.paid = Some(paid);
        self.record.refusal = None;
        self.decide(State::Paid, cause, now, effects);
        self.stage = Stage::Settled;
        if self.record.till_reversal == TillReversal::Asked {
            self.start_reversal(now, policy);
        }
    }

    fn fail(&mut self, cause: Cause, now: Now, effects: &mut Effects) {
        self.decide(State::Failed, cause, now, effects);
        if self.record.till_reversal == TillReversal::Asked {
            self.record.till_reversal = TillReversal::Done;
        }
        self.stage = Stage::Settled;
    }

    fn reverse(&mut self, cause: Cause, now: Now, policy: &Policy, effects: &mut Effects) {
        self.decide(State::Reversing, cause, now, effects);
        self.start_reversal(now, policy);
    }

    fn start_reversal(&mut self, now: Now, policy: &Policy) {
        self.stage = Stage::Reversing(Box::new(Reversal::new(&self.context(now.tick, policy))));
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

    fn pending(&mut self, effects: &mut Effects) {
        if self.record.state == State::Accepted {
            self.change(State::Pending, effects);
        }
    }

    /// Back to polling after a refusal that a query did not confirm.
    fn resume_waiting(&mut self, now: Now, policy: &Policy, effects: &mut Effects) {
        self.stage = Stage::Waiting { suspect: false, absent: 0 };
        if self.record.till_reversal == TillReversal::Asked {
            self.reverse(Cause::Till, now, policy, effects);
        }
    }

    fn hold(&mut self, held: Held, now: Now, policy: &Policy, effects: &mut Effects) {
        self.record.held = Some(held);
        effects.changed = true;
        effects.alarms.push(Alarm::Held(held));
        let at = now.tick.saturating_add(policy.held_pause_ms);
        self.stage = Stage::Held { at, rounds: 1, unpaid: 0 };
    }

    /// A held order turns out to hold no money.
    fn end_unpaid(&mut self, cause: Cause, now: Now, policy: &Policy, effects: &mut Effects) {
        match self.record.state {
            State::Accepted | State::Pending => self.fail(cause, now, effects),
            State::Reversing => self.proven(Row::B8, now, policy, effects),
            State::Reversed => {
                self.record.held = None;
                self.record.looks_left = 0;
                effects.changed = true;
                self.stage = Stage::Settled;
            }
            State::Paid | State::Failed => {}
        }
    }

    fn progress(&mut self, progress: Progress, now: Now, policy: &Policy, effects: &mut Effects) {
        match progress {
            Progress::Going => {}
            Progress::Proven(row) => self.proven(row, now, policy, effects),
            Progress::StartRepair => self.repair(now, policy, effects),
            // The loop itself goes on slowly; the order is on the operator's list.
            Progress::Held(held) if self.record.held == Some(held) => {}
            Progress::Held(held) => {
                self.record.held = Some(held);
                effects.changed = true;
                effects.alarms.push(Alarm::Held(held));
            }
        }
    }

    fn proven(&mut self, row: Row, now: Now, policy: &Policy, effects: &mut Effects) {
        self.record.proof = Some(row);
        self.record.held = None;
        effects.changed = true;
        if self.record.till_reversal == TillReversal::Asked {
            self.record.till_reversal = TillReversal::Done;
        }
        self.stage = Stage::Settled;
        match self.record.state {
            State::Paid | State::Failed => {}
            State::Reversed => self.record.looks_left = 0,
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
    fn repair(&mut self, now: Now, policy: &Policy, effects: &mut Effects) {
        self.record.repair = true;
        effects.changed = true;
        effects.alarms.push(Alarm::RepairRefund);
        self.stage = Stage::Reversing(Box::new(Reversal::repairing(&self.context(now.tick, policy))));
    }

    fn context<'a>(&self, now: Tick, policy: &'a Policy) -> Context<'a> {
        Context {
            policy,
            now,
            left_at: self.left_at,
            closed_at: self.closed_at,
            amount_fen: self.record.amount.map_or(0, Fen::get),
        }
    }

    /// Whether a success is for this payment: amount and merchant equal, and not older than our acceptance.
    fn is_same_money(&self, paid: &Paid, policy: &Policy) -> bool {
        let earliest_s = self.record.accepted_at.0.saturating_sub(policy.ours_skew_ms).div_euclid(1_000);
        paid.merchant_matches
            && Some(paid.amount) == self.record.amount
            && paid.time_end_s.is_none_or(|end| end >= earliest_s)
    }

    /// *Ours*, for a number that may be another's: as above, and provably so. Source: wechatpay-v2 §4.5, terms.
    fn is_ours(&self, paid: &Paid, policy: &Policy) -> bool {
        let attach = self.record.attach == 0 || self.record.attach == paid.attach;
        self.record.claim != Claim::Foreign
            && attach
            && (self.record.claim == Claim::Ours || paid.time_end_s.is_some())
            && self.is_same_money(paid, policy)
    }
}

/// A record with nothing in it but whose it is.
fn blank(key: OrderKey, provider: ProviderId, now: Now, boot: BootId) -> Record {
    Record {
        key,
        channel: Channel::WechatV2,
        provider,
        version: 1,
        state: State::Accepted,
        cause: None,
        proof: None,
        amount: None,
        digest: [0; 16],
        attach: 0,
        accepted_at: now.wall,
        accepted_tick: now.tick,
        boot,
        left_tick: None,
        changed_at: now.wall,
        decided_at: None,
        refusal: None,
        paid: None,
        refunded_fen: 0,
        claim: Claim::Ours,
        held: None,
        till_reversal: TillReversal::None,
        repair: false,
        looks_left: 0,
    }
}

#[cfg(test)]
mod tests;
