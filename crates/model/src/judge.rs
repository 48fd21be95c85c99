//! The rules, and the book that each payment is judged by.
//!
//! The book is kept from what the wallet holds, what left for it, what the store acknowledged and what tills were
//! told; nothing of what a shard keeps in memory is believed.

use std::sync::Arc;

use state_machine::Record;
use state_machine::record::{Cause, Claim, State, TillReversal};
use timer_wheel::Tick;

use crate::wallet::{Order, Wallet};

macro_rules! rules {
    ($($(#[$doc:meta])* $rule:ident = $name:literal,)*) => {
        /// A rule that holds in every state, by its id in the project's list of faults and invariants.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Rule { $($(#[$doc])* $rule,)* }

        impl Rule {
            /// Every rule.
            pub const ALL: &'static [Self] = &[$(Self::$rule,)*];

            /// Its id.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$rule => $name,)* }
            }
        }
    };
}

rules! {
    /// The wallet never takes our money twice for a number.
    OneCharge = "INV-01",
    /// A pay request leaves once, whatever crashes.
    OnePayRequest = "INV-02",
    /// PAID is recorded and told only where the wallet took the money.
    SuccessSound = "INV-04",
    /// What is told as paid is never reversed unasked, and never told otherwise.
    SuccessStable = "INV-05",
    /// What is recorded or told as failed or reversed keeps no money.
    FailureTrue = "INV-06",
    /// PAID and REVERSING exclude each other, and no reversal leaves without its durable decision.
    DecideOnce = "INV-07",
    /// No reversal leaves within 15 s of the pay request.
    NotEarly = "INV-08",
    /// REVERSED is recorded only where nothing can be paid any more.
    ReversalFinished = "INV-09",
    /// Nothing ends unpaid while its pay request can still arrive.
    NotFoundIsNotFailure = "INV-11",
    /// Every run ends, and then every order is decided, or held for a contradiction.
    Convergence = "INV-12",
    /// What was told is still true after a crash.
    NothingForgotten = "INV-13",
    /// Nothing leaves, and nothing is told, without the durable record that explains it.
    RecordBeforeAct = "INV-14",
    /// Records make only legal moves, one version at a time, and no automaton panics.
    LegalMoves = "INV-15",
    /// A process that lost the store to another writes nothing.
    OneActor = "INV-17",
    /// Money that its merchant wants back goes back if no till asks in time, and stays if one does.
    AbsentTill = "absent-till",
    /// A payment of somebody else's is never reversed once the wallet has said that the number is taken.
    StrangersMoney = "UB-09",
}

/// What was broken, in one step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Breach {
    /// Each rule and what was seen.
    pub rules: Vec<(Rule, &'static str)>,
}

/// What is known of one payment, besides what the wallet holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Page {
    /// The newest record that the store acknowledged.
    pub(crate) durable: Option<Arc<Record>>,
    /// Pay requests that left.
    pub(crate) sends: u8,
    /// When the first did.
    pub(crate) left_at: Option<Tick>,
    /// The number of the newest version that a till was told of.
    pub(crate) told: u32,
    /// Told as paid; told as never to be paid; told as returned or closed for good.
    pub(crate) told_paid: bool,
    pub(crate) told_failed: bool,
    pub(crate) told_reversed: bool,
    /// A till ordered the reversal.
    pub(crate) ordered: bool,
    /// When a till asked last, and when one was there last.
    pub(crate) asked_at: Option<Tick>,
    pub(crate) there_at: Option<Tick>,
}

/// What a judge sees around a page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    pub(crate) now: Tick,
    pub(crate) guard_ms: u64,
    pub(crate) wallet: &'a Wallet,
    /// The process that acts has heard that the number is taken.
    pub(crate) heard_taken: bool,
    /// The pay request has left, or is to leave, and can still arrive.
    pub(crate) on_its_way: bool,
    /// What the merchant wants done with money that no till asks about: back after this, milliseconds.
    pub(crate) reverse_after_ms: Option<u64>,
    /// A till waits, and is there.
    pub(crate) listens: bool,
    /// The tick of wall time 0.
    pub(crate) wall_ms: i64,
}

/// Where rules that do not hold are noted.
pub(crate) type Broken = Vec<(Rule, &'static str)>;

fn hold(broken: &mut Broken, rule: Rule, holds: bool, what: &'static str) {
    if !holds {
        broken.push((rule, what));
    }
}

impl Page {
    /// The state that the store acknowledged last.
    pub(crate) fn state(&self) -> Option<State> {
        self.durable.as_ref().map(|record| record.state)
    }

    /// The store acknowledged a record.
    pub(crate) fn acknowledged(&mut self, record: &Arc<Record>, view: View<'_>, broken: &mut Broken) {
        let was = self.durable.replace(Arc::clone(record));
        if let Some(was) = &was {
            hold(
                broken,
                Rule::LegalMoves,
                was.state.may_become(record.state),
                "an illegal move was recorded",
            );
            let decided_twice = matches!(
                (was.state, record.state),
                (State::Paid, State::Reversing | State::Reversed)
                    | (State::Reversing | State::Reversed, State::Paid)
            );
            hold(broken, Rule::DecideOnce, !decided_twice, "PAID and REVERSING were both recorded");
        }
        self.judge_absence(was.as_deref(), record, view, broken);
        let version = was.as_ref().map_or(0, |was| was.version);
        hold(broken, Rule::LegalMoves, record.version == version.saturating_add(1), "a version was skipped");
        if was.is_none_or(|was| was.state != record.state) {
            self.decided(record, view, broken);
        }
    }

    /// Whether a till was there, by the moment at which it was decided.
    fn judge_absence(&self, was: Option<&Record>, record: &Record, view: View<'_>, broken: &mut Broken) {
        let decided = record.decided_at.and_then(|at| u64::try_from(at.0.saturating_sub(view.wall_ms)).ok());
        let (Some(decided), Some(was)) = (decided.map(Tick::from_ms), was) else { return };
        if !was.state.is_undecided() || record.state.is_undecided() {
            return;
        }
        if record.cause == Some(Cause::AbsentTill) {
            let after_ms = view.reverse_after_ms.unwrap_or(u64::MAX);
            let asked = self.asked_at.is_some_and(|at| at < decided && decided.ms_since(at) < after_ms);
            hold(broken, Rule::AbsentTill, !asked, "given back although a till had asked");
        }
        let kept = record.state == State::Paid && view.reverse_after_ms.is_some();
        let nobody_else = record.till_reversal == TillReversal::None
            && was.held.is_none()
            && record.claim == Claim::Ours
            && record.refunded_fen == 0;
        if kept && nobody_else {
            let there = view.listens || self.there_at.is_some_and(|at| at >= decided);
            hold(broken, Rule::AbsentTill, there, "kept although no till was there");
        }
    }

    fn decided(&self, record: &Record, view: View<'_>, broken: &mut Broken) {
        let View { wallet, on_its_way, .. } = view;
        match record.state {
            State::Accepted | State::Pending | State::Reversing => {}
            State::Paid => {
                hold(broken, Rule::SuccessSound, wallet.captured > 0, "PAID was recorded without our money");
                let told = self.told_failed || self.told_reversed;
                hold(broken, Rule::NothingForgotten, !told, "PAID was recorded after a failure was told");
            }
            State::Failed => {
                hold(
                    broken,
                    Rule::NotFoundIsNotFailure,
                    !on_its_way,
                    "FAILED while the pay request can arrive",
                );
            }
            State::Reversed => {
                hold(
                    broken,
                    Rule::NotFoundIsNotFailure,
                    !on_its_way,
                    "REVERSED while the pay request can arrive",
                );
                hold(
                    broken,
                    Rule::ReversalFinished,
                    !wallet.can_be_paid(),
                    "REVERSED while the dialog is open",
                );
                hold(
                    broken,
                    Rule::ReversalFinished,
                    !wallet.holds_money(),
                    "REVERSED while the money is kept",
                );
            }
        }
    }

    /// After every step.
    pub(crate) fn continuous(&self, view: View<'_>, broken: &mut Broken) {
        let wallet = view.wallet;
        hold(broken, Rule::OneCharge, wallet.captured <= 1, "the money was taken twice");
        hold(broken, Rule::OnePayRequest, self.sends <= 1, "a second pay request left");
        if wallet.holds_money() {
            let ended = matches!(self.state(), Some(State::Failed | State::Reversed));
            hold(broken, Rule::FailureTrue, !ended, "recorded as failed or reversed, and the money is kept");
            hold(broken, Rule::FailureTrue, !self.told_reversed, "told as reversed, and the money is kept");
        }
    }

    /// A pay request is handed out.
    pub(crate) fn pay_released(&self, record: &Record, broken: &mut Broken) {
        let explained = self.durable.as_deref() == Some(record) && record.state == State::Accepted;
        hold(broken, Rule::RecordBeforeAct, explained, "a pay request without its durable record");
    }

    /// A pay request leaves.
    pub(crate) fn pay_left(&mut self, now: Tick) {
        self.sends = self.sends.saturating_add(1);
        self.left_at.get_or_insert(now);
    }

    /// A call other than a reversal leaves.
    pub(crate) fn call_left(&self, record: &Record, broken: &mut Broken) {
        let explained = self.durable.as_deref() == Some(record);
        hold(broken, Rule::RecordBeforeAct, explained, "a call without its durable record");
    }

    /// A reversal leaves.
    pub(crate) fn reversal_left(&self, view: View<'_>, broken: &mut Broken) {
        let durable = self.durable.as_deref();
        let (decided, paid) = match durable.map(|record| record.state) {
            Some(State::Reversing) => (true, false),
            Some(State::Paid) => {
                let asked = durable.is_some_and(|record| record.till_reversal == TillReversal::Asked);
                (asked && self.ordered, true)
            }
            Some(State::Accepted | State::Pending | State::Failed | State::Reversed) | None => (false, false),
        };
        if paid || self.told_paid {
            hold(broken, Rule::SuccessStable, decided && self.ordered, "a paid order is reversed unasked");
        }
        hold(broken, Rule::DecideOnce, decided, "a reversal left without its durable decision");
        let told_so = view.heard_taken || durable.is_some_and(|record| record.claim != Claim::Ours);
        let strangers = told_so && view.wallet.order == Order::Stranger;
        hold(broken, Rule::StrangersMoney, !strangers, "somebody else's payment is reversed");
        let early = self.left_at.is_some_and(|left| view.now.ms_since(left) < view.guard_ms);
        hold(broken, Rule::NotEarly, !early, "a reversal left within 15 s of the pay request");
    }

    /// Something is told from `record`.
    pub(crate) fn told_from(&mut self, record: &Record, broken: &mut Broken) {
        let durable = self.durable.as_deref();
        let explained = durable.is_some_and(|durable| {
            record.version < durable.version || record.version == durable.version && record == durable
        });
        hold(broken, Rule::RecordBeforeAct, explained, "told without a durable record");
        self.told = self.told.max(record.version);
    }

    /// A till is told that it has its money.
    pub(crate) fn told_paid(&mut self, wallet: &Wallet, broken: &mut Broken) {
        let sound = wallet.captured > 0 && self.state() == Some(State::Paid);
        hold(broken, Rule::SuccessSound, sound, "told as paid without money or record");
        let contradicts = self.told_failed || self.told_reversed;
        hold(broken, Rule::NothingForgotten, !contradicts, "told as paid after it was told as failed");
        self.told_paid = true;
    }

    /// A till is told that it does not get its money.
    pub(crate) fn told_failed(&mut self, broken: &mut Broken) {
        let ordered =
            self.ordered && self.durable.as_ref().is_some_and(|r| r.till_reversal != TillReversal::None);
        hold(
            broken,
            Rule::SuccessStable,
            !self.told_paid || ordered,
            "told as failed after it was told as paid",
        );
        let recorded = !matches!(self.state(), None | Some(State::Accepted | State::Pending));
        let paid = self.state() == Some(State::Paid) && !ordered;
        hold(broken, Rule::SuccessStable, !paid, "told as failed though it is PAID");
        hold(broken, Rule::FailureTrue, recorded, "told as failed without a decision");
        self.told_failed = true;
    }

    /// A till is told that its reversal is done.
    pub(crate) fn told_reversed(&mut self, wallet: &Wallet, broken: &mut Broken) {
        hold(broken, Rule::FailureTrue, !wallet.holds_money(), "told as reversed, and the money is kept");
        self.told_reversed = true;
    }

    /// The process came back; `found` is what the store shows.
    pub(crate) fn after_crash(&mut self, found: Option<&Arc<Record>>, broken: &mut Broken) {
        let version = found.map_or(0, |record| record.version);
        let known = self.durable.as_ref().map_or(0, |record| record.version);
        hold(
            broken,
            Rule::NothingForgotten,
            version >= known.max(self.told),
            "the store lost what it acknowledged",
        );
    }

    /// Nothing more can happen but time: the order is decided and done with, or held for a reason.
    pub(crate) fn at_rest(&self, wallet: &Wallet, broken: &mut Broken) {
        let Some(record) = &self.durable else { return };
        // A number that was said to be taken is no reason where the money under it is the order's own.
        let taken = record.claim != Claim::Ours && wallet.order != Order::Paid;
        let contradiction = taken || wallet.order == Order::Stranger || record.repair;
        let held = record.held.is_some() && contradiction;
        hold(broken, Rule::Convergence, !record.is_open() || held, "the run ends and the order does not");
        let overtaken = record.cause == Some(Cause::Overtaken);
        hold(broken, Rule::FailureTrue, !(overtaken && self.sends > 0), "a closed number was sent");
    }
}
