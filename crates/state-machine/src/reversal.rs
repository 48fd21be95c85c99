//! Tables C and D: closing an order or returning its money, until that is proven.
//!
//! The loop is *reverse, ask, pause*. It ends by a query that shows it, by proven absence (C9), or by a
//! finished repair refund; never by the reversal's own SUCCESS. The same loop serves an order that gave up
//! and a PAID order whose merchant wants it reversed. Source: wechatpay-v2 §4.5 C, D.

use planted::planted;
use protocol::fact::{PayFact, QueryFact, RefundFact, RefundStatus, RefundsFact, ReverseFact, Row};
use timer_wheel::Tick;

use crate::policy::{Policy, doubled};
use crate::record::Held;
use crate::shard::{Alarm, Call};

#[cfg(feature = "model")]
mod canonical;

/// What the loop must know of its order.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The clocks.
    pub policy: &'a Policy,
    /// The present.
    pub now: Tick,
    /// T0: the latest moment at which the pay request can have left.
    pub left_at: Tick,
    /// When the pay request's connection was closed or answered; `None` while it is open.
    pub closed_at: Option<Tick>,
    /// When the query that is being answered was asked: an answer tells of no later moment.
    pub asked_at: Tick,
    /// The whole amount, fen.
    pub amount_fen: u64,
}

/// What one answer did to the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It goes on.
    Going,
    /// Proven: no money is kept.
    Proven(Row),
    /// From here on a repair refund returns the money; durable before it is sent.
    StartRepair,
    /// It cannot end by itself; it goes on slowly and is the operator's.
    Held(Held),
}

/// The next call of the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Turn {
    Reverse,
    Query,
    /// A query said REFUND: add up the refunds.
    Weigh,
    Refund,
    /// Ask for the repair refund.
    RefundQuery,
    /// The repair refund will not come: does the order still hold the money?
    Recheck,
}

/// The loop's memory. None of it needs to be durable: after a restart it begins again, which only makes the
/// proof later.
#[derive(Clone, Debug)]
pub struct Reversal {
    turn: Turn,
    at: Tick,
    started: Tick,
    /// Reversals answered or given up.
    attempts: u32,
    last: Option<ReverseFact>,
    /// Whether a verified answer said done.
    done: bool,
    /// Whether a verified answer said done or absent.
    answered: bool,
    /// The first not-found after that, with no other word since.
    absent_since: Option<Tick>,
    /// Refused reversals (C7) in a row, and when they began.
    refused: u32,
    refused_since: Tick,
    refused_untold: bool,
    expired: bool,
    /// Held: it asks, and neither reverses nor refunds.
    holding: bool,
    /// Slow questions asked, where reversing is over.
    slow_rounds: u32,
    /// Rounds of the repair refund.
    refund_rounds: u32,
    refund_refused: bool,
    /// A recheck said REFUND after a reversal that said done: without a refund on the list that is C1.
    returned_at_recheck: bool,
    slow_told: bool,
    stuck_told: bool,
}

impl Reversal {
    /// Starts the loop; the first reversal keeps the guard of 15 s after the pay request (INV-08).
    #[must_use]
    pub fn new(context: &Context<'_>) -> Self {
        let guard_ms = if planted!(GuardIgnored) { 0 } else { context.policy.reversal_guard_ms };
        let guard = context.left_at.saturating_add(guard_ms);
        Self {
            turn: Turn::Reverse,
            at: guard.max(context.now),
            started: context.now,
            attempts: 0,
            last: None,
            done: false,
            answered: false,
            absent_since: None,
            refused: 0,
            refused_since: context.now,
            refused_untold: false,
            expired: false,
            holding: false,
            slow_rounds: 0,
            refund_rounds: 0,
            refund_refused: false,
            returned_at_recheck: false,
            slow_told: false,
            stuck_told: false,
        }
    }

    /// Starts at the repair refund; `done` if a verified answer to a reversal said so before.
    #[must_use]
    pub fn repairing(context: &Context<'_>, done: bool) -> Self {
        Self { turn: Turn::Refund, at: context.now, done, ..Self::new(context) }
    }

    /// Whether a verified answer to a reversal said done.
    #[must_use]
    pub const fn said_done(&self) -> bool {
        self.done
    }

    /// Resumes a repair refund after a restart: it may have been sent a moment ago, so it is asked for first,
    /// and sent again, under its one number, only if it is not there (D5, D10). `failed` if it was given up.
    #[must_use]
    pub fn resuming_repair(context: &Context<'_>, failed: bool) -> Self {
        Self { turn: Turn::RefundQuery, at: context.now, refund_refused: failed, ..Self::new(context) }
    }

    /// Resumes a held loop after a restart: it only asks.
    #[must_use]
    pub fn asking(context: &Context<'_>) -> Self {
        Self { turn: Turn::Query, at: context.now, holding: true, ..Self::new(context) }
    }

    /// Adds up the refunds of an order that is reversed already: it only asks (G5).
    #[must_use]
    pub fn weighing(context: &Context<'_>) -> Self {
        Self { turn: Turn::Weigh, at: context.now, holding: true, ..Self::new(context) }
    }

    /// The next call and when it is due.
    #[must_use]
    pub const fn next(&self) -> (Call, Tick) {
        let call = match self.turn {
            Turn::Reverse => Call::Reverse,
            Turn::Query | Turn::Recheck => Call::Query,
            Turn::Weigh | Turn::RefundQuery => Call::RefundQuery,
            Turn::Refund => Call::Refund,
        };
        (call, self.at)
    }

    /// Whether the next reversal should prefer the other host (C3).
    #[must_use]
    pub fn prefers_other_host(&self) -> bool {
        matches!(self.last, Some(ReverseFact::Unclear)) && self.attempts % 2 == 1
    }

    fn then(&mut self, turn: Turn, at: Tick) -> Progress {
        self.turn = turn;
        self.at = at;
        Progress::Going
    }

    /// When the next reversal may go out: 5, 10, 20, 40 s … 1 h after this one (§4.3).
    fn pause(&self, context: &Context<'_>) -> Tick {
        let policy = context.policy;
        let times = self.attempts.saturating_sub(1);
        context.now.saturating_add(doubled(policy.reversal_pause_ms, times, policy.reversal_pause_max_ms))
    }

    /// When to ask again where there is nothing to do but to ask.
    fn slow_pause(&mut self, context: &Context<'_>) -> Tick {
        let policy = context.policy;
        let pause = doubled(policy.held_pause_ms, self.slow_rounds, policy.held_pause_max_ms);
        self.slow_rounds = self.slow_rounds.saturating_add(1);
        context.now.saturating_add(pause)
    }

    /// C5 keeps its pace while a dialog can be open; a wallet that says so for ten minutes gets the usual
    /// pauses.
    fn in_dialog(&self, context: &Context<'_>) -> bool {
        matches!(self.last, Some(ReverseFact::InProgress))
            && context.now.ms_since(self.started) < context.policy.slow_ms
    }

    /// Takes the answer to a reversal (table C). None of them is proof.
    pub fn on_reverse(&mut self, fact: ReverseFact, context: &Context<'_>) -> Progress {
        let now = context.now;
        self.attempts = self.attempts.saturating_add(1);
        self.last = Some(fact);
        if !matches!(fact, ReverseFact::Refused | ReverseFact::Unclear) {
            self.refused = 0;
        }
        match fact {
            ReverseFact::Done if planted!(ReversalOwnProof) => Progress::Proven(Row::C1),
            ReverseFact::CallAgain if planted!(RecallIgnored) => Progress::Proven(Row::C1),
            ReverseFact::Absent if planted!(AbsentAtOnce) => Progress::Proven(Row::C9),
            // C1, C9: what it did is for a query to show.
            ReverseFact::Done | ReverseFact::Absent => {
                self.answered = true;
                self.done |= matches!(fact, ReverseFact::Done);
                self.then(Turn::Query, now)
            }
            // C4.
            ReverseFact::SystemError => self.then(Turn::Query, now),
            // C2, C3, C8: the query after the pause may end it before the same call goes out again.
            ReverseFact::CallAgain | ReverseFact::Unclear | ReverseFact::NoCertificate => {
                let at = self.pause(context);
                self.then(Turn::Query, at)
            }
            // C5: the dialog must end first.
            ReverseFact::InProgress => {
                let dialog = now.saturating_add(context.policy.dialog_query_ms);
                let at = if self.in_dialog(context) { dialog } else { self.pause(context) };
                self.then(Turn::Query, at)
            }
            // C6.
            ReverseFact::Expired => {
                self.expired = true;
                self.then(Turn::Query, now)
            }
            // C7.
            ReverseFact::Refused => {
                if self.refused == 0 {
                    self.refused_since = now;
                    self.refused_untold = true;
                }
                self.refused = self.refused.saturating_add(1);
                self.then(Turn::Query, now)
            }
        }
    }

    /// Takes the answer to a query.
    pub fn on_query(&mut self, fact: &QueryFact, context: &Context<'_>) -> Progress {
        let now = context.now;
        if now.ms_since(context.left_at) >= context.policy.reversal_window_ms {
            self.expired = true; // C10: after seven days as C6.
        }
        match fact {
            QueryFact::Closed | QueryFact::Revoked => return Progress::Proven(Row::B8),
            QueryFact::Returned(_) if self.turn != Turn::Recheck => {
                self.absent_since = None;
                return self.then(Turn::Weigh, now);
            }
            QueryFact::Returned(_)
            | QueryFact::NotFound
            | QueryFact::Unclear
            | QueryFact::Paid(_)
            | QueryFact::Unpaid
            | QueryFact::PayError
            | QueryFact::InProgress
            | QueryFact::UnknownState => {}
        }
        if self.turn == Turn::Recheck {
            return self.on_rechecked(fact, context);
        }
        // A query that was under way before the reversal may prove the end; it does not set the pace.
        if self.turn != Turn::Query {
            return Progress::Going;
        }
        match fact {
            QueryFact::NotFound => return self.on_absent(context),
            QueryFact::Unclear => return self.again(context),
            QueryFact::Paid(_) if self.repair_is_due(context) => return Progress::StartRepair,
            // C6: what cannot be paid any more keeps no money.
            QueryFact::Unpaid | QueryFact::PayError if self.expired && !self.holding => {
                return Progress::Proven(Row::C6);
            }
            QueryFact::Closed
            | QueryFact::Revoked
            | QueryFact::Returned(_)
            | QueryFact::Paid(_)
            | QueryFact::Unpaid
            | QueryFact::PayError
            | QueryFact::InProgress
            | QueryFact::UnknownState => {}
        }
        self.absent_since = None;
        self.again(context)
    }

    /// D5, D8, D9: a reversal that arrived late may have been what refused the refund. Where it was not, the order
    /// is the operator's; the refunds go on being asked for, and nothing is reversed any more (a refund may be paid
    /// out by hand).
    fn on_rechecked(&mut self, fact: &QueryFact, context: &Context<'_>) -> Progress {
        let going = self.ask_for_refund(context);
        let returned = self.done && matches!(fact, QueryFact::Returned(_));
        match fact {
            QueryFact::Unclear | QueryFact::InProgress | QueryFact::UnknownState => going,
            QueryFact::Closed | QueryFact::Revoked => Progress::Proven(Row::B8),
            QueryFact::Paid(_)
            | QueryFact::Returned(_)
            | QueryFact::NotFound
            | QueryFact::Unpaid
            | QueryFact::PayError => {
                let before = std::mem::replace(&mut self.returned_at_recheck, returned);
                // The list comes next and may prove C1: nobody is called to pay it out by hand meanwhile.
                if returned && !before { going } else { Progress::Held(Held::RefundFailed) }
            }
        }
    }

    /// From here it only asks: what the wallet shows is not the order's own money.
    pub fn hold(&mut self, context: &Context<'_>) {
        self.holding = true;
        self.again(context);
    }

    /// C6, C7: when a reversal cannot do it any more.
    fn repair_is_due(&self, context: &Context<'_>) -> bool {
        let refused_for = context.now.ms_since(self.refused_since);
        let refused = self.refused >= 3 && refused_for >= context.policy.refused_ms;
        !self.holding && (self.expired || refused)
    }

    /// Reverses again after the pause; asks again instead where reversing is over.
    fn again(&mut self, context: &Context<'_>) -> Progress {
        if planted!(ReversalGivesUp) && self.attempts >= 3 {
            return self.then(Turn::Reverse, Tick::MAX);
        }
        if self.expired || self.holding {
            let at = self.slow_pause(context);
            return self.then(Turn::Query, at);
        }
        let at = match self.last {
            Some(ReverseFact::InProgress) if self.in_dialog(context) => {
                context.now.saturating_add(context.policy.dialog_query_ms)
            }
            // The pause is over: it came before the query.
            Some(
                ReverseFact::CallAgain
                | ReverseFact::Unclear
                | ReverseFact::NoCertificate
                | ReverseFact::InProgress,
            ) => context.now,
            Some(
                ReverseFact::Done
                | ReverseFact::Absent
                | ReverseFact::SystemError
                | ReverseFact::Expired
                | ReverseFact::Refused,
            )
            | None => self.pause(context),
        };
        // Never twice at one moment, whatever the order of answers.
        self.then(Turn::Reverse, at.max(context.now.saturating_add(1)))
    }

    /// C9: two not-founds 30 s apart, the last 60 s after the pay connection was closed, and a verified
    /// answer to a reversal before them.
    fn on_absent(&mut self, context: &Context<'_>) -> Progress {
        let Context { policy, now, closed_at, asked_at, .. } = *context;
        if !self.answered {
            let progress = self.again(context);
            // Even after seven days: without an answer to a reversal this would never be proven (INV-11).
            if !self.holding {
                self.turn = Turn::Reverse;
            }
            return progress;
        }
        let since = *self.absent_since.get_or_insert(now);
        let Some(closed_at) = closed_at else { return self.again(context) };
        let proven_at = since
            .saturating_add(policy.absent_apart_ms)
            .max(closed_at.saturating_add(policy.absent_grace_ms));
        if asked_at >= proven_at {
            return Progress::Proven(Row::C9);
        }
        self.again(context);
        if self.at > proven_at {
            self.then(Turn::Query, proven_at.max(now));
        }
        Progress::Going
    }

    /// Takes the list of refunds.
    pub fn on_refunds(&mut self, fact: RefundsFact, context: &Context<'_>) -> Progress {
        match self.turn {
            Turn::RefundQuery => self.on_repair_listed(fact, context),
            Turn::Weigh | Turn::Reverse | Turn::Query | Turn::Refund | Turn::Recheck => {
                self.on_weighed(fact, context)
            }
        }
    }

    /// C1, REFUND: the full sum, or no refund at all after a reversal that said done, proves that the
    /// reversal took effect.
    fn on_weighed(&mut self, fact: RefundsFact, context: &Context<'_>) -> Progress {
        match fact {
            RefundsFact::Listed { returned_fen, .. } if returned_fen >= context.amount_fen => {
                Progress::Proven(Row::C1)
            }
            RefundsFact::None if self.done => Progress::Proven(Row::C1),
            RefundsFact::Listed { returned_fen, pending_fen, .. }
                if returned_fen.saturating_add(pending_fen) < context.amount_fen =>
            {
                self.hold(context);
                Progress::Held(Held::PartlyReturned)
            }
            RefundsFact::Listed { .. } => {
                let at = self.slow_pause(context);
                self.then(Turn::Query, at)
            }
            RefundsFact::None | RefundsFact::Unclear => self.again(context),
        }
    }

    /// Takes the answer to the repair refund (D1–D5).
    pub fn on_refund(&mut self, fact: &RefundFact, context: &Context<'_>) -> Progress {
        let policy = context.policy;
        self.refund_refused = matches!(fact, RefundFact::Refused(_));
        match fact {
            RefundFact::Accepted => {
                self.then(Turn::RefundQuery, context.now.saturating_add(policy.refund_query_ms))
            }
            RefundFact::Unclear | RefundFact::NotEnough | RefundFact::Throttled => {
                let at = self.refund_pause(context);
                self.then(Turn::Refund, at)
            }
            RefundFact::Refused(_) => {
                let at = self.refund_pause(context);
                self.then(Turn::RefundQuery, at)
            }
        }
    }

    /// At least a minute, and longer each time.
    fn refund_pause(&mut self, context: &Context<'_>) -> Tick {
        let policy = context.policy;
        let pause = doubled(policy.refund_pause_ms, self.refund_rounds, policy.reversal_pause_max_ms);
        self.refund_rounds = self.refund_rounds.saturating_add(1);
        context.now.saturating_add(pause)
    }

    /// D6–D10.
    fn on_repair_listed(&mut self, fact: RefundsFact, context: &Context<'_>) -> Progress {
        let (ours, returned_fen) = match fact {
            RefundsFact::Unclear => return self.ask_for_refund(context),
            RefundsFact::None => (None, 0),
            RefundsFact::Listed { ours, returned_fen, .. } => (ours, returned_fen),
        };
        if returned_fen >= context.amount_fen {
            return Progress::Proven(Row::D7);
        }
        match ours {
            Some(RefundStatus::Success) => Progress::Proven(Row::D7),
            Some(RefundStatus::Processing) => self.ask_for_refund(context),
            // C1: REFUND, and a minute later no refund at all.
            None if self.returned_at_recheck && matches!(fact, RefundsFact::None) => {
                Progress::Proven(Row::C1)
            }
            // D8, D9, and D5 once no record is found: an operator's decision, if the order holds the money still.
            Some(RefundStatus::Closed | RefundStatus::Change) => self.then(Turn::Recheck, context.now),
            None if self.refund_refused => self.then(Turn::Recheck, context.now),
            // D10: the same number and content again, a minute after the last call at the earliest.
            None => {
                let at = self.refund_pause(context);
                self.then(Turn::Refund, at)
            }
        }
    }

    fn ask_for_refund(&mut self, context: &Context<'_>) -> Progress {
        let at = self.refund_pause(context);
        self.then(Turn::RefundQuery, at)
    }

    /// Takes what became of the pay request while the loop was already running. A request proven unsent
    /// proves the end.
    #[must_use]
    pub const fn on_pay(fact: &PayFact) -> Progress {
        match fact {
            PayFact::Unsent => Progress::Proven(Row::A1),
            PayFact::Unclear
            | PayFact::RefusedUnsigned
            | PayFact::Paid(_)
            | PayFact::InProgress
            | PayFact::Refused(_)
            | PayFact::NumberTaken { .. }
            | PayFact::RefusedOutright(_) => Progress::Going,
        }
    }

    /// What the operator must hear of, each once: a refusal, ten minutes without proof, a day (C7, C10).
    pub fn alarms(&mut self, context: &Context<'_>) -> Vec<Alarm> {
        let running = context.now.ms_since(self.started);
        let slow = running >= context.policy.slow_ms && !std::mem::replace(&mut self.slow_told, true);
        let stuck = running >= context.policy.stuck_ms && !std::mem::replace(&mut self.stuck_told, true);
        let refused = std::mem::take(&mut self.refused_untold);
        [(refused, Alarm::ReversalRefused), (slow, Alarm::ReversalSlow), (stuck, Alarm::ReversalStuck)]
            .into_iter()
            .filter_map(|(due, alarm)| due.then_some(alarm))
            .collect()
    }

    /// When the next of them is due, whether or not an answer comes.
    #[must_use]
    pub const fn alarm_at(&self, policy: &Policy) -> Option<Tick> {
        if !self.slow_told {
            Some(self.started.saturating_add(policy.slow_ms))
        } else if !self.stuck_told {
            Some(self.started.saturating_add(policy.stuck_ms))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests;
