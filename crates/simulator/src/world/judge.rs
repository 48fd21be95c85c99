//! The judges. They read the wallet's ledger, the wire, the tills' notebook and the durable records, as each
//! of them grows, and nothing of what the switch keeps in memory. Source: faults-and-invariants.

use std::collections::VecDeque;
use std::sync::Arc;

use protocol::fact::Row;
use state_machine::Record;
use state_machine::planner::Quota;
use state_machine::record::{Cause, Held, State, TillReversal};

use super::probes::{Probes, state_name};
use super::told::Told;
use crate::ledger::{self, Entry};

pub(super) mod finish;

/// Violations that one run keeps; the first is the one that matters.
const VIOLATIONS_MAX: usize = 20;
/// No reversal sooner than this after the pay request. Source: INV-08.
const GUARD_MS: u64 = 15_000;
/// The window of a budget. Source: DESIGN §3, any sliding second.
const SECOND_MS: u64 = 1_000;

/// The book in which a judge found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Book {
    /// The durable records.
    Records,
    /// The log of what left for the wallet.
    Wire,
    /// The notebook of what tills were told.
    Notebook,
    /// The wallet's ledger, compared with the records once the calm is over.
    Ledger,
    /// The world itself: the driver's own promises.
    World,
}

impl Book {
    /// Its name in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Records => "records",
            Self::Wire => "wire",
            Self::Notebook => "notebook",
            Self::Ledger => "ledger",
            Self::World => "world",
        }
    }
}

/// A rule that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Who found it.
    pub book: Book,
    /// Events of the run until then.
    pub events: u64,
    /// Its id, as in faults-and-invariants.
    pub rule: &'static str,
    /// The payment's place in the run, if it concerns one.
    pub n: Option<u32>,
    /// Milliseconds since the start of the run.
    pub at_ms: u64,
    /// What was seen.
    pub what: String,
}

impl Violation {
    /// One that no payment is concerned by, found by whoever runs the world.
    #[must_use]
    pub const fn of_the_world(rule: &'static str, what: String) -> Self {
        Self { book: Book::World, events: 0, rule, n: None, at_ms: 0, what }
    }
}

/// A request on the wire to the wallet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    Pay,
    Query,
    Reverse,
    Refund,
    RefundQuery,
}

impl Wire {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Pay => "pay",
            Self::Query => "query",
            Self::Reverse => "reverse",
            Self::Refund => "refund",
            Self::RefundQuery => "refundquery",
        }
    }
}

/// One payment's page: what the four books have said of it so far.
#[derive(Clone, Debug, Default)]
struct Page {
    durable: Option<Arc<Record>>,
    /// Pay requests that left, and when the first did.
    pays: u8,
    paid_left_at: u64,
    reversed: bool,
    /// A reversal was begun while REVERSING was durable, and has not left yet.
    reversal_begun: bool,
    /// Told so far.
    paid: bool,
    never: bool,
    returned: bool,
    known: bool,
    /// A till asked for a reversal.
    asked: bool,
    /// Its row was spoilt: it is an operator's, and nothing is promised of it but that nothing certain is told.
    damaged: bool,
}

/// Calls of one kind in the last second.
#[derive(Clone, Debug, Default)]
struct Window {
    limit: usize,
    at: VecDeque<u64>,
    broken: bool,
}

/// The judges of one run.
#[derive(Clone, Debug)]
pub(super) struct Judge {
    pages: Vec<Page>,
    pub(super) violations: Vec<Violation>,
    /// For each provider: pay, query, reverse.
    windows: Vec<[Window; 3]>,
    /// Which book the present look is into.
    book: Book,
    pub(super) events: u64,
    /// Durable records that something must still be done for, held ones apart.
    pub(super) open: u64,
    pub(super) peak_open: u64,
    /// Of these the undecided ones.
    pub(super) pending: u64,
    pub(super) peak_pending: u64,
    pub(super) now: u64,
    pub(super) probes: Probes,
}

/// Whether an order must still come to its end by itself.
fn is_due(record: &Record) -> bool {
    record.is_open() && record.held.is_none()
}

impl Judge {
    pub(super) fn new(orders: u32, providers: usize, quota: Quota) -> Self {
        let window =
            |limit: u32| Window { limit: usize::try_from(limit).unwrap_or(usize::MAX), ..Window::default() };
        Self {
            pages: vec![Page::default(); usize::try_from(orders).unwrap_or(0)],
            violations: Vec::new(),
            windows: vec![[window(quota.pay), window(quota.query), window(quota.reverse)]; providers],
            book: Book::World,
            events: 0,
            open: 0,
            peak_open: 0,
            pending: 0,
            peak_pending: 0,
            now: 0,
            probes: Probes::default(),
        }
    }

    pub(super) fn break_rule(&mut self, rule: &'static str, n: Option<u32>, what: impl Into<String>) {
        if self.violations.len() < VIOLATIONS_MAX {
            let Self { book, events, now, .. } = *self;
            self.violations.push(Violation { book, events, rule, n, at_ms: now, what: what.into() });
        }
    }

    fn page(&mut self, n: u32) -> &mut Page {
        let index = usize::try_from(n).unwrap_or(usize::MAX);
        #[expect(clippy::indexing_slicing, reason = "every payment of the run has a page")]
        &mut self.pages[index]
    }

    /// The newest durable record of a payment.
    pub(super) fn durable(&self, n: u32) -> Option<&Arc<Record>> {
        self.pages.get(usize::try_from(n).unwrap_or(usize::MAX))?.durable.as_ref()
    }

    /// A record became durable: the moves are legal, the amount stays, and every end has its cause (INV-03, 07,
    /// 15, 28).
    pub(super) fn on_durable(&mut self, n: u32, record: &Arc<Record>) {
        self.look(Book::Records, |judge| judge.read_record(n, record));
    }

    /// Looks into a book: what is found there is that judge's.
    fn look(&mut self, book: Book, read: impl FnOnce(&mut Self)) {
        let outer = std::mem::replace(&mut self.book, book);
        read(self);
        self.book = outer;
    }

    fn read_record(&mut self, n: u32, record: &Arc<Record>) {
        let before = self.page(n).durable.replace(Arc::clone(record));
        self.probes.record(before.as_deref(), record);
        let was_due = before.as_deref().is_some_and(is_due);
        self.open = self.open + u64::from(is_due(record)) - u64::from(was_due);
        self.peak_open = self.peak_open.max(self.open);
        let was_pending = before.as_deref().is_some_and(|was| was.state.is_undecided());
        self.pending = self.pending + u64::from(record.state.is_undecided()) - u64::from(was_pending);
        self.peak_pending = self.peak_pending.max(self.pending);
        let was = before.as_deref();
        if was.map_or(0, |was| was.version) + 1 != record.version {
            self.break_rule("INV-15", Some(n), format!("version {} follows another", record.version));
        }
        if let Some(was) = was {
            if !was.state.may_become(record.state) {
                let what = format!("{} became {}", state_name(was.state), state_name(record.state));
                self.break_rule("INV-07", Some(n), what);
            }
            if was.amount != record.amount
                || was.accepted_at != record.accepted_at
                || was.digest != record.digest
            {
                self.break_rule("INV-03", Some(n), "amount, content or moment of acceptance changed");
            }
        }
        let (undecided, overtaken) = (record.state.is_undecided(), record.cause == Some(Cause::Overtaken));
        if undecided != record.cause.is_none() {
            self.break_rule(
                "INV-28",
                Some(n),
                format!("{} with {:?}", state_name(record.state), record.cause),
            );
        }
        if record.state == State::Reversed && record.proof.is_none() && !overtaken {
            self.break_rule("INV-09", Some(n), "REVERSED without a proof");
        }
        let proven = record
            .proof
            .is_none_or(|row| matches!(row, Row::A1 | Row::B8 | Row::C1 | Row::C6 | Row::C9 | Row::D7));
        if !proven {
            self.break_rule("INV-09", Some(n), format!("proof {:?}", record.proof));
        }
        if record.state == State::Paid && record.paid.as_ref().map(|paid| paid.amount) != record.amount {
            self.break_rule("INV-03", Some(n), "PAID with another amount than was asked for");
        }
    }

    /// A request leaves for the wallet: what explains it is durable, and nothing forbids it (INV-02, 05, 07, 08,
    /// 14).
    pub(super) fn on_wire(&mut self, n: u32, wire: Wire) {
        self.look(Book::Wire, |judge| judge.read_wire(n, wire));
    }

    fn read_wire(&mut self, n: u32, wire: Wire) {
        let now = self.now;
        let page = self.page(n);
        let Some(record) = page.durable.clone() else {
            return self.break_rule("INV-14", Some(n), format!("{} without a durable record", wire.as_str()));
        };
        match wire {
            Wire::Pay => {
                page.pays += 1;
                let (pays, reversed) = (page.pays, page.reversed);
                if pays == 1 {
                    page.paid_left_at = now;
                } else {
                    self.break_rule("INV-02", Some(n), format!("pay request number {pays}"));
                }
                if reversed {
                    self.break_rule("INV-02", Some(n), "pay request after a reversal");
                }
                if record.amount.is_none() {
                    self.break_rule("INV-02", Some(n), "pay request for a number that was closed");
                }
            }
            Wire::Reverse => {
                let since = (page.pays > 0).then(|| now - page.paid_left_at);
                page.reversed = true;
                let (paid, asked) = (page.paid, page.asked);
                // It was under way when it was proven that no byte of the pay request had left: it meets nothing.
                let begun = std::mem::take(&mut page.reversal_begun);
                let moot = begun && page.pays == 0 && record.proof == Some(Row::A1);
                let ordered = record.state == State::Paid && record.till_reversal == TillReversal::Asked;
                if moot {
                    self.probes.other("reverse_of_what_never_left");
                } else if record.state != State::Reversing && !ordered {
                    let what = format!("reverse while {} is durable", state_name(record.state));
                    self.break_rule("INV-07", Some(n), what);
                }
                if let Some(since) = since.filter(|since| *since < GUARD_MS) {
                    self.break_rule("INV-08", Some(n), format!("reverse {since} ms after the pay request"));
                }
                if paid && !asked {
                    self.break_rule("INV-05", Some(n), "reverse after SUCCESS was told");
                }
            }
            Wire::Refund => {
                let (paid, asked) = (page.paid, page.asked);
                if !record.repair {
                    self.break_rule("INV-14", Some(n), "refund without a durable order for it");
                }
                if paid && !asked {
                    self.break_rule("INV-05", Some(n), "refund after SUCCESS was told");
                }
            }
            Wire::Query | Wire::RefundQuery => {}
        }
    }

    /// A reversal is begun: it leaves when it has a connection.
    pub(super) fn on_reversal_begun(&mut self, n: u32) {
        let page = self.page(n);
        page.reversal_begun = page.durable.as_ref().is_some_and(|record| record.state == State::Reversing);
    }

    /// A call takes its place in the budget of its provider (INV-23; DESIGN §3).
    pub(super) fn on_call(&mut self, provider: usize, wire: Wire) {
        self.look(Book::Wire, |judge| judge.read_call(provider, wire));
    }

    fn read_call(&mut self, provider: usize, wire: Wire) {
        let now = self.now;
        let kind = match wire {
            Wire::Pay => 0,
            Wire::Query | Wire::RefundQuery => 1,
            Wire::Reverse | Wire::Refund => 2,
        };
        let Some(window) = self.windows.get_mut(provider).and_then(|windows| windows.get_mut(kind)) else {
            return;
        };
        while window.at.front().is_some_and(|at| now - at >= SECOND_MS) {
            window.at.pop_front();
        }
        window.at.push_back(now);
        let (calls, limit) = (window.at.len(), window.limit);
        if calls > limit && !window.broken {
            window.broken = true;
            let what =
                format!("{calls} {} calls of provider {provider} in a second of {limit}", wire.as_str());
            self.break_rule("budget", None, what);
        }
    }

    /// The row of a payment is spoilt (DB-11).
    pub(super) fn on_damaged(&mut self, n: u32) {
        self.page(n).damaged = true;
    }

    pub(super) fn is_damaged(&self, n: u32) -> bool {
        self.pages.get(usize::try_from(n).unwrap_or(usize::MAX)).is_some_and(|page| page.damaged)
    }

    /// A till sends its order to reverse.
    pub(super) fn on_reversal_asked(&mut self, n: u32) {
        self.page(n).asked = true;
    }

    /// A request to pay `fen` is answered: another content than the number's is a conflict and nothing else, and
    /// its own content never is, unless the wallet said so (INV-16).
    pub(super) fn on_pay_told(&mut self, n: u32, told: Told, fen: u64) {
        self.look(Book::Notebook, |judge| judge.read_pay_told(n, told, fen));
    }

    fn read_pay_told(&mut self, n: u32, told: Told, fen: u64) {
        let Some(record) = self.durable(n).cloned() else { return };
        let (Some(amount), cause) = (record.amount, record.cause) else { return };
        let taken = matches!(cause, Some(Cause::Row(Row::A12 | Row::A13)));
        // What stands in for a damaged row knows no content.
        let damaged = self.page(n).damaged;
        let right = match told {
            Told::Open if damaged => true,
            Told::NumberUsed => amount.get() != fen || taken,
            Told::NotAccepted(_) | Told::Unsettled | Told::Lost => true,
            Told::Paid
            | Told::OrderPaid
            | Told::Refunded
            | Told::Open
            | Told::Failed
            | Told::Closing
            | Told::Revoked
            | Told::NotExist
            | Told::ReverseDone
            | Told::ReverseAgain
            | Told::ReverseRefused
            | Told::TooOld => amount.get() == fen,
        };
        if !right {
            let what = format!("{} to {fen} fen under a number of {} fen", told.as_str(), amount.get());
            self.break_rule("INV-16", Some(n), what);
        }
    }

    /// A till is told something, from a record of `version`; `money` is the wallet's page, if it has one. Nothing
    /// told before is contradicted, and the durable records and the ledger say the same (INV-04, 05, 06, 13, 14,
    /// 16).
    pub(super) fn on_told(
        &mut self,
        n: u32,
        told: Told,
        version: u32,
        money: impl FnOnce() -> Option<Money>,
    ) {
        self.look(Book::Notebook, |judge| judge.read_told(n, told, version, money));
    }

    fn read_told(&mut self, n: u32, told: Told, version: u32, money: impl FnOnce() -> Option<Money>) {
        self.probes.told(told.as_str());
        let page = self.page(n);
        let before = (page.paid, page.never, page.returned, page.known);
        let (paid, never, returned, known) = before;
        let asked = page.asked;
        page.paid |= told.says_paid();
        page.never |= told.says_never();
        page.returned |= told.says_returned();
        page.known |= !told.says_nothing();
        let record = page.durable.clone();
        let damaged = page.damaged;
        let contradicts = match told {
            // "Ask again", of a row that cannot be trusted.
            Told::Open if damaged => false,
            Told::Paid | Told::OrderPaid | Told::Refunded => never || returned,
            Told::Failed => paid,
            Told::Closing => paid && !asked,
            Told::Revoked | Told::ReverseDone => paid && !asked,
            // ORDERREVERSED to the payment, and the till's own reversal still going on: both true.
            Told::Open => paid || returned || (never && !asked),
            Told::NotExist => known,
            Told::ReverseAgain => returned,
            Told::NumberUsed
            | Told::NotAccepted(_)
            | Told::Unsettled
            | Told::TooOld
            | Told::ReverseRefused
            | Told::Lost => false,
        };
        if contradicts {
            let what = format!("{} after (paid, never, returned, known) = {before:?}", told.as_str());
            self.break_rule("INV-13", Some(n), what);
        }
        let Some(record) = record else {
            if version > 0 {
                self.break_rule("INV-14", Some(n), format!("{} without a durable record", told.as_str()));
            }
            return;
        };
        if version > record.version {
            let what = format!("{} from version {version}, durable is {}", told.as_str(), record.version);
            self.break_rule("INV-14", Some(n), what);
        }
        let fits = match told {
            Told::Paid | Told::OrderPaid | Told::Refunded => {
                record.state == State::Paid && record.till_reversal != TillReversal::Done
            }
            Told::Failed => matches!(record.state, State::Failed | State::Reversing | State::Reversed),
            Told::Closing => record.state != State::Accepted && record.state != State::Pending,
            Told::Revoked | Told::ReverseDone => {
                matches!(record.state, State::Failed | State::Reversed)
                    || (record.state == State::Paid && record.till_reversal == TillReversal::Done)
            }
            // "Nothing was taken and nothing was charged" is untrue of a number that is on record.
            Told::NotExist | Told::NotAccepted(_) | Told::Unsettled => false,
            Told::Open
            | Told::ReverseAgain
            | Told::NumberUsed
            | Told::TooOld
            | Told::ReverseRefused
            | Told::Lost => true,
        };
        if !fits {
            let what = format!("{} while {} is durable", told.as_str(), state_name(record.state));
            self.break_rule("INV-16", Some(n), what);
        }
        if told.says_paid() && record.till_reversal == TillReversal::None && record.refunded_fen == 0 {
            let money = money();
            let asked = record.amount.map_or(0, protocol::Fen::get);
            // What somebody returns on the wallet's platform is no fault of ours.
            let right = money
                .is_some_and(|m| m.captured_fen == asked && (m.held_fen == asked || m.refunded_elsewhere));
            if !right {
                let what = format!("{} of {asked} fen, the wallet has {money:?}", told.as_str());
                self.break_rule("INV-04", Some(n), what);
            }
        }
    }
}

/// What the wallet's book says of the money under a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Money {
    pub(super) captured_fen: u64,
    pub(super) held_fen: u64,
    pub(super) refunded_elsewhere: bool,
}

impl Money {
    pub(super) const fn of(entry: &Entry) -> Self {
        let refunded_elsewhere = matches!(entry.state, ledger::State::Refund);
        Self { captured_fen: entry.captured_fen, held_fen: entry.held_fen(), refunded_elsewhere }
    }
}

/// Whether the wallet itself contradicts what was asked of it, so that only an operator can end the order.
fn contradicts(entry: Option<&Entry>) -> bool {
    entry.is_some_and(|entry| {
        let other_amount = entry.captures > 0 && entry.captured_fen != entry.amount_fen;
        let number_taken = matches!(entry.acted / 100, 23..=25);
        other_amount || number_taken || entry.state == ledger::State::Refund
    })
}

/// Whether the payment under a number that the wallet called taken looks older than the order: the machine's clock
/// was minutes ahead, and nothing else tells the two apart (A12, A13).
fn looks_older(record: &Record, entry: Option<&Entry>) -> bool {
    let paid_at_ms = entry.and_then(|entry| entry.paid_at_ms).map(|at| at - at.rem_euclid(1_000));
    let oldest_ms = record.accepted_at.0 - state_machine::Policy::default().ours_skew_ms;
    record.held == Some(Held::NumberTaken) && paid_at_ms.is_some_and(|at| at < oldest_ms)
}
