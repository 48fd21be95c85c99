//! Tables A and B: one payment from its acceptance to its end.
//!
//! A [`Payment`] takes past facts and says, through [`Payment::next`], the one call that it wants and when.
//! Every decision changes the record; the shard makes it durable before anything acts on it.
//! *Unknown is not a state*: a lost or unclear answer leaves the order open, and it is asked again.
//! Source: wechatpay-v2 §4.5 A, B; faults-and-invariants.
//!
//! Table A is in `pay`, table B in `query`, what a payment decides and how it is reversed in `decide`, and
//! where it stands after a restart in `recover`.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use planted::planted;
use protocol::Fen;
use protocol::fact::{Paid, Row};
use timer_wheel::Tick;

use crate::absence::Attendance;
use crate::key::{BootId, Now, OrderKey, ProviderId};
use crate::planner::Urgency;
use crate::policy::Policy;
use crate::record::{Cause, Claim, Held, Record, State, TillReversal};
use crate::reversal::{Context, Reversal};
use crate::shard::{Alarm, Call, PayRequest};

#[cfg(feature = "model")]
mod canonical;
mod decide;
mod lesson;
mod pay;
mod query;
mod recover;

/// A success this much older than our acceptance is that of an earlier payment under the number, even if
/// nobody said that the number is taken. Wide, because a wall clock may be an hour wrong, or eight in another
/// zone: that must neither hold a payment nor stop a reversal (INV-27).
const EARLIER_MS: i64 = 12 * 3_600_000;

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
    Confirming {
        row: Row,
        until: Tick,
        /// Queries asked before the refusal came: their answers confirm nothing.
        asked: u32,
    },
    /// Refused because of the number (A12, A13): never reversed.
    Contested {
        row: Row,
        /// Answers in a row that show no money, to queries asked since.
        unpaid: u8,
        /// Queries asked before the refusal came: they may have been answered before the payment came.
        asked: u32,
    },
    /// A query said REFUND: the refunds are added up (B9).
    Weighing {
        paid: Box<Paid>,
        at: Tick,
        rounds: u32,
        /// Lists in a row without any refund, which contradicts the query.
        none: u8,
    },
    /// Paid, and nobody has been told: no till listened. The record stays open until one asks, or until the money
    /// goes back. In memory alone: after a restart the wallet is asked again, and the time begins anew.
    Unclaimed { paid: Box<Paid>, cause: Cause, until: Tick },
    /// Open, alarmed, the operator's.
    Held { at: Tick, rounds: u32, unpaid: u8 },
    /// Table C, or D for a repair refund.
    Reversing(Box<Reversal>),
    /// REVERSED by absence, or FAILED and then said to be paid: looked at again (C9, G5).
    Looking { at: Tick, rounds: u32 },
    /// Nothing is left to do.
    Settled,
}

/// A record that is shared with who published it last, until it changes: a payment that waits has one, not two.
#[derive(Clone, Debug)]
struct Shared(Arc<Record>);

impl Deref for Shared {
    type Target = Record;

    fn deref(&self) -> &Record {
        &self.0
    }
}

impl DerefMut for Shared {
    fn deref_mut(&mut self) -> &mut Record {
        Arc::make_mut(&mut self.0)
    }
}

/// One payment.
#[derive(Clone, Debug)]
pub struct Payment {
    record: Shared,
    stage: Stage,
    /// T0, or the latest it can be. `Tick::MAX` until the pay request is released.
    left_at: Tick,
    /// When the pay request's connection was closed or answered.
    closed_at: Option<Tick>,
    /// Not asked about before this.
    ask_from: Tick,
    /// When it was last asked about.
    asked_at: Option<Tick>,
    /// Whether a till has asked for it since.
    prompted: bool,
    /// When waiting ends.
    deadline: Tick,
    /// Its cashier has scanned again: it is not waited for any longer than it must be.
    hurried: bool,
    queries: u32,
    /// How old it was, in ms, when a query last said that the customer is being asked; `None` where it teaches
    /// nothing about that, since its age is not certain.
    open_ms: Option<u32>,
    /// Queries in a row without a usable answer (B1).
    unclear: u8,
    /// Who is there as the present event comes: said with every one.
    attendance: Attendance,
}

impl Payment {
    /// A payment that a till asks for: ACCEPTED, to be inserted if the number is unseen.
    #[must_use]
    pub fn accept(request: &PayRequest, now: Now, boot: BootId) -> Self {
        let mut record = Record::begun(request.key, request.provider, now, boot);
        record.amount = Some(request.amount);
        record.digest = request.digest;
        record.attach = request.attach;
        record.till = request.till;
        let payment = Self::with(record, Stage::Waiting { suspect: false, absent: 0 }, Tick::MAX);
        Self { open_ms: Some(0), ..payment }
    }

    /// A number that is closed before its payment came: the till's reversal overtook it (NM-00).
    #[must_use]
    pub fn overtaken(key: OrderKey, provider: ProviderId, now: Now, boot: BootId) -> Self {
        let mut record = Record::begun(key, provider, now, boot);
        record.state = State::Reversed;
        record.cause = Some(Cause::Overtaken);
        record.decided_at = Some(now.wall);
        record.till_reversal = TillReversal::Done;
        Self::with(record, Stage::Settled, Tick::MAX)
    }

    fn with(record: Record, stage: Stage, left_at: Tick) -> Self {
        Self {
            record: Shared(Arc::new(record)),
            stage,
            left_at,
            closed_at: None,
            ask_from: Tick::MAX,
            asked_at: None,
            prompted: false,
            deadline: Tick::MAX,
            hurried: false,
            queries: 0,
            open_ms: None,
            unclear: 0,
            attendance: Attendance { reverse_after_ms: None, listens: false },
        }
    }

    /// What is, or will be, durable.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The same, to be kept: what the payment changes later does not show in it.
    #[must_use]
    pub fn shared_record(&self) -> Arc<Record> {
        Arc::clone(&self.record.0)
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

    /// Whether it is proven paid, and held back until a till asks.
    #[must_use]
    pub const fn is_unclaimed(&self) -> bool {
        matches!(self.stage, Stage::Unclaimed { .. })
    }

    /// Says who is there as the next event comes.
    pub const fn attend(&mut self, attendance: Attendance) {
        self.attendance = attendance;
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

    /// The pay request left, or can have left, at `at`: the latest word about T0 counts, earlier or later. It
    /// is recorded with whatever is recorded next.
    pub fn left(&mut self, at: Tick, policy: &Policy) {
        self.left_at = at;
        self.record.left_tick = Some(at);
        self.ask_from = at.saturating_add(policy.first_query_ms);
        self.deadline = at.saturating_add(policy.give_up_ms);
        if self.hurried {
            self.hurry(at, policy);
        }
    }

    /// From here a reversal may go out (INV-08).
    const fn guard(&self, policy: &Policy) -> Tick {
        self.left_at.saturating_add(policy.reversal_guard_ms)
    }

    /// A till asks for it. Where the outcome is waited for, that moves the next query forward: before the first one
    /// is due, if the wallet has answered the pay request; but never closer than the gap to the one before, or to the
    /// pay request. `false` where it changes nothing.
    pub const fn prompt(&mut self) -> bool {
        let waited_for = matches!(self.stage, Stage::Waiting { .. } | Stage::Contested { .. });
        waited_for && !std::mem::replace(&mut self.prompted, true)
    }

    /// Its cashier has scanned again (`rescan`): it is given up now, but not before its pay request has had the time to be
    /// answered. The last query, and the reversal behind it, are as at any deadline.
    pub fn hurry(&mut self, now: Tick, policy: &Policy) {
        self.hurried = true;
        if matches!(self.stage, Stage::Waiting { .. }) && self.left_at != Tick::MAX {
            let soonest = self.left_at.saturating_add(policy.first_query_ms);
            self.deadline = self.deadline.min(now.max(soonest));
        }
    }

    /// The one call that is wanted, as things stand at `now`.
    #[must_use]
    pub fn next(&self, now: Tick, policy: &Policy) -> Next {
        let after_gap = |from: Tick| {
            self.asked_at.map_or(from, |asked| from.max(asked.saturating_add(policy.query_gap_ms)))
        };
        let asks = if self.prompted { Urgency::Prompted } else { Urgency::Asks };
        let (call, at, urgency) = match &self.stage {
            Stage::Waiting { .. } if self.left_at == Tick::MAX => return Next::Nothing,
            Stage::Waiting { .. } => {
                let earlier = self.prompted && self.closed_at.is_some();
                let gap_over = self.left_at.saturating_add(policy.query_gap_ms);
                let at = after_gap(if earlier { self.ask_from.min(gap_over) } else { self.ask_from });
                if at >= self.deadline || now >= self.deadline {
                    (Call::LastQuery, self.deadline, Urgency::Decides)
                } else {
                    (Call::Query, at, asks)
                }
            }
            Stage::Confirming { .. } => (Call::Query, now, Urgency::Decides),
            Stage::Contested { .. } => (Call::Query, after_gap(self.ask_from), asks),
            Stage::Weighing { at, .. } => (Call::RefundQuery, *at, Urgency::Decides),
            Stage::Held { at, .. } | Stage::Looking { at, .. } => (Call::Query, *at, Urgency::Asks),
            Stage::Reversing(reversal) => match reversal.next() {
                // Whatever the loop was told when it began: T0 may have turned out to be later.
                (call, at) if planted!(GuardIgnored) => (call, at, Urgency::Decides),
                (Call::Reverse, at) => (Call::Reverse, at.max(self.guard(policy)), Urgency::Decides),
                (call, at) => (call, at, Urgency::Decides),
            },
            Stage::Unclaimed { .. } | Stage::Settled => return Next::Nothing,
        };
        Next::Call { call, at, urgency }
    }

    /// When something happens whether or not an answer or room comes before: see [`Payment::on_due`].
    #[must_use]
    pub fn expires_at(&self, policy: &Policy) -> Option<Tick> {
        match &self.stage {
            Stage::Unclaimed { .. } if planted!(AbsenceForgotten) => None,
            Stage::Confirming { until, .. } | Stage::Unclaimed { until, .. } => Some(*until),
            Stage::Waiting { .. } if planted!(GapBeforeReversal) => Some(self.deadline),
            Stage::Contested { .. } => Some(self.deadline),
            Stage::Reversing(reversal) => reversal.alarm_at(policy),
            Stage::Waiting { .. }
            | Stage::Weighing { .. }
            | Stage::Held { .. }
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
            | Stage::Unclaimed { .. }
            | Stage::Held { .. }
            | Stage::Reversing(_)
            | Stage::Looking { .. }
            | Stage::Settled => None,
        }
    }

    /// Whether the next call should prefer the other host (B1: after two in a row without a usable answer;
    /// C3).
    #[must_use]
    pub fn prefers_other_host(&self) -> bool {
        match &self.stage {
            Stage::Reversing(reversal) => reversal.prefers_other_host(),
            Stage::Waiting { .. }
            | Stage::Confirming { .. }
            | Stage::Contested { .. }
            | Stage::Weighing { .. }
            | Stage::Unclaimed { .. }
            | Stage::Held { .. }
            | Stage::Looking { .. }
            | Stage::Settled => (self.unclear / 2) % 2 == 1,
        }
    }

    /// A call goes out.
    pub fn on_sent(&mut self, call: Call, now: Tick) {
        match call {
            Call::Query | Call::LastQuery => {
                self.asked_at = Some(now);
                self.prompted = false;
                self.queries = self.queries.saturating_add(1);
            }
            Call::Reverse | Call::RefundQuery | Call::Refund => {}
        }
    }

    /// [`Payment::expires_at`] has come: a refusal stands unconfirmed (A9, A11); a contested number is held
    /// (A13); a reversal is not proven for long (C10); no till has asked about money that is there.
    pub fn on_due(&mut self, now: Now, policy: &Policy, effects: &mut Effects) {
        let context = self.context(now.tick, policy);
        match &mut self.stage {
            Stage::Confirming { row, until, .. } if now.tick >= *until => {
                let row = *row;
                self.fail(Cause::Row(row), now, effects);
            }
            Stage::Contested { .. } if now.tick >= self.deadline => {
                self.hold(Held::NumberTaken, now, policy, effects);
            }
            Stage::Waiting { .. } if planted!(GapBeforeReversal) && now.tick >= self.deadline => {
                self.reverse(Cause::Deadline, now, policy, effects);
            }
            Stage::Reversing(reversal) => effects.alarms.extend(reversal.alarms(&context)),
            Stage::Unclaimed { until, .. } if now.tick >= *until => self.give_back(now, policy, effects),
            Stage::Confirming { .. }
            | Stage::Unclaimed { .. }
            | Stage::Contested { .. }
            | Stage::Waiting { .. }
            | Stage::Weighing { .. }
            | Stage::Held { .. }
            | Stage::Looking { .. }
            | Stage::Settled => {}
        }
    }

    fn context<'a>(&self, now: Tick, policy: &'a Policy) -> Context<'a> {
        Context {
            policy,
            now,
            left_at: self.left_at,
            closed_at: self.closed_at,
            asked_at: self.asked_at.unwrap_or(Tick::ZERO),
            amount_fen: self.record.amount.map_or(0, Fen::get),
        }
    }

    /// Whether a success is for this payment: amount and merchant equal, and not that of an earlier payment.
    fn is_same_money(&self, paid: &Paid, policy: &Policy) -> bool {
        let earliest_s = self.earliest_s(policy.ours_skew_ms.max(EARLIER_MS));
        paid.merchant_matches
            && (Some(paid.amount) == self.record.amount || planted!(AmountNotCompared))
            && paid.time_end_s.is_none_or(|end| end >= earliest_s)
    }

    /// *Ours*, for a number that may be another's: as above, and provably so. Source: wechatpay-v2 §4.5,
    /// terms.
    fn is_ours(&self, paid: &Paid, policy: &Policy) -> bool {
        let attach = self.record.attach == 0 || self.record.attach == paid.attach;
        let earliest_s = self.earliest_s(policy.ours_skew_ms);
        self.record.claim != Claim::Foreign
            && attach
            && (self.record.claim == Claim::Ours || paid.time_end_s.is_some_and(|end| end >= earliest_s))
            && self.is_same_money(paid, policy)
    }

    /// The first second, by the wallet's clock, that a payment of ours can bear.
    fn earliest_s(&self, skew_ms: i64) -> i64 {
        self.record.accepted_at.0.saturating_sub(skew_ms).div_euclid(1_000)
    }
}

#[cfg(test)]
mod tests;
