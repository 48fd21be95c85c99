//! Each judge by itself: what it must let pass, and what it must not.

use std::sync::Arc;

use protocol::fact::Row;
use protocol::{Fen, Fields};
use state_machine::payment::Payment;
use state_machine::planner::Quota;
use state_machine::record::{Cause, Held, State, TillReversal};
use state_machine::shard::{NotAccepted, PayRequest, Ticket, Wait};
use state_machine::{BootId, Now, Record, Tick, UnixMs};

use super::super::judge::finish::Transit;
use super::super::judge::{Judge, Money, Wire};
use super::super::tills::{key_of, n_of, provider_of};
use super::super::told::Told;
use crate::ledger::{self, Entry, Key};

const FEN: u64 = 1_288;
const QUOTA: Quota = Quota { pay: 2, query: 3, reverse: 1, calls_max: 9 };

fn accepted() -> Record {
    let key = key_of(0);
    let request = PayRequest {
        ticket: Ticket(0),
        key,
        provider: provider_of(key.merchant),
        amount: Fen::new(FEN).expect("an amount"),
        digest: [1; 16],
        attach: 0,
        wait: Wait::Nothing,
        expires_at: None,
        till: 0,
        patience_ms: 0,
    };
    let now = Now { tick: Tick::from_ms(1), wall: UnixMs(1_795_400_100_000) };
    Payment::accept(&request, now, BootId(1)).record().clone()
}

/// What follows `record` in `state`.
fn then(record: &Record, state: State) -> Record {
    let paid = (state == State::Paid).then(|| {
        Box::new(protocol::fact::Paid {
            amount: Fen::new(FEN).expect("an amount"),
            transaction_id: "4200000000000000000000000001".parse().expect("an id"),
            time_end_s: None,
            attach: 0,
            merchant_matches: true,
            fields: Fields::default(),
        })
    });
    let proof = (state == State::Reversed).then_some(Row::B8);
    let cause = (!state.is_undecided()).then_some(Cause::Deadline);
    Record { version: record.version + 1, state, paid, proof, cause, ..record.clone() }
}

fn entry(captured_fen: u64, returned_fen: u64) -> Entry {
    Entry {
        key: Key::new("m", "0", key_of(0).number.as_str()),
        transaction_id: String::new(),
        customer: 0,
        acted: 0,
        payer: 0,
        amount_fen: FEN,
        content: String::new(),
        state: ledger::State::Paid,
        pay_requests: 1,
        first_pay_at_ms: 0,
        last_pay_at_ms: 0,
        captures: u32::from(captured_fen > 0),
        captured_fen,
        returned_fen,
        paid_at_ms: None,
        customer_done_at_ms: None,
        queries: 0,
        reversals: 0,
        first_reverse_at_ms: None,
        refunds: 0,
        violations: Vec::new(),
    }
}

/// A court in which one payment is judged.
struct Court {
    judge: Judge,
    durable: Option<Record>,
}

impl Court {
    fn new() -> Self {
        Self { judge: Judge::new(1, 1, QUOTA), durable: None }
    }

    fn durable(mut self, record: Record) -> Self {
        self.judge.on_durable(0, &Arc::new(record.clone()));
        self.durable = Some(record);
        self
    }

    /// ACCEPTED, then each of `states`.
    fn states(self, states: &[State]) -> Self {
        states.iter().fold(self.durable(accepted()), |court, state| {
            let next = then(court.durable.as_ref().expect("accepted"), *state);
            court.durable(next)
        })
    }

    fn at(mut self, ms: u64) -> Self {
        self.judge.now = ms;
        self
    }

    fn wire(mut self, wire: Wire) -> Self {
        self.judge.on_wire(0, wire);
        self
    }

    fn told(mut self, told: Told) -> Self {
        let version = self.durable.as_ref().map_or(0, |record| record.version);
        let money = Money { captured_fen: FEN, held_fen: FEN, refunded_elsewhere: false };
        self.judge.on_told(0, told, version, || Some(money));
        self
    }

    fn asked(mut self) -> Self {
        self.judge.on_reversal_asked(0);
        self
    }

    /// The last look, with this page of the ledger.
    fn ends(mut self, entry: impl Into<Option<Entry>>) -> Self {
        let entry: Option<Entry> = entry.into();
        let stored: Vec<Arc<Record>> = self.durable.iter().cloned().map(Arc::new).collect();
        self.judge.finish(entry.iter(), stored.iter(), |_| Some(0), n_of, &[Transit::default()]);
        self
    }

    /// The rules that were broken.
    fn rules(&self) -> Vec<&'static str> {
        self.judge.violations.iter().map(|violation| violation.rule).collect()
    }
}

fn check(court: &Court, expected: &[&str]) {
    assert_eq!(court.rules(), expected, "{:#?}", court.judge.violations);
}

use State::{Failed, Paid, Pending, Reversed, Reversing};

#[test]
fn the_course_of_a_payment_is_let_pass() {
    let paid = Court::new().states(&[Pending, Paid]).wire(Wire::Pay).wire(Wire::Query);
    check(&paid.told(Told::Paid).told(Told::OrderPaid).ends(entry(FEN, 0)), &[]);
    let court = Court::new().durable(accepted()).wire(Wire::Pay).told(Told::Open);
    let reversing = then(court.durable.as_ref().expect("accepted"), Reversing);
    let court = court.durable(reversing.clone()).told(Told::Failed).at(15_000).wire(Wire::Reverse);
    let court = court.durable(then(&reversing, Reversed)).told(Told::Revoked).told(Told::ReverseDone);
    check(&court.ends(entry(FEN, FEN)), &[]);
}

#[test]
fn moves_and_books() {
    check(&Court::new().durable(Record { version: 2, ..accepted() }), &["INV-15"]);
    check(&Court::new().states(&[Paid, Reversing]), &["INV-07"]);
    check(&Court::new().states(&[Reversing, Paid]), &["INV-07"]);
    let other = Record { amount: Fen::new(FEN + 1).ok(), version: 2, ..accepted() };
    check(&Court::new().durable(accepted()).durable(other), &["INV-03"]);
    let unexplained = Record { cause: None, ..then(&accepted(), Failed) };
    check(&Court::new().durable(accepted()).durable(unexplained), &["INV-28"]);
    let unproven = Record { proof: None, ..then(&accepted(), Reversed) };
    check(&Court::new().durable(accepted()).durable(unproven), &["INV-09"]);
    let by_its_own_word = Record { proof: Some(Row::C2), ..then(&accepted(), Reversed) };
    check(&Court::new().durable(accepted()).durable(by_its_own_word), &["INV-09"]);
}

#[test]
fn the_wire() {
    check(&Court::new().wire(Wire::Pay), &["INV-14"]);
    check(&Court::new().durable(accepted()).wire(Wire::Pay).wire(Wire::Pay), &["INV-02"]);
    let paid = || Court::new().durable(accepted()).wire(Wire::Pay).at(14_999);
    check(&paid().wire(Wire::Reverse), &["INV-07", "INV-08"]);
    check(&paid().durable(then(&accepted(), Reversing)).wire(Wire::Reverse), &["INV-08"]);
    check(
        &paid().durable(then(&accepted(), Reversing)).at(15_000).wire(Wire::Reverse).wire(Wire::Pay),
        &["INV-02", "INV-02"],
    );
    check(&Court::new().states(&[Paid]).wire(Wire::Refund), &["INV-14"]);
    let ordered = Record { till_reversal: TillReversal::Asked, ..then(&accepted(), Paid) };
    let told = || Court::new().durable(accepted()).durable(then(&accepted(), Paid)).told(Told::Paid);
    let next = Record { version: 3, ..ordered };
    check(&told().durable(next.clone()).wire(Wire::Reverse), &["INV-05"]);
    check(&told().asked().durable(next).wire(Wire::Reverse), &[]);
}

#[test]
fn the_notebook() {
    let told = |states: &[State], words: &[Told]| {
        words.iter().fold(Court::new().states(states), |court, word| court.told(*word))
    };
    check(&told(&[Paid], &[Told::Paid, Told::Failed]), &["INV-13", "INV-16"]);
    check(&told(&[Reversing], &[Told::Failed, Told::Paid]), &["INV-13", "INV-16"]);
    check(&told(&[Reversing], &[Told::Failed, Told::Open]), &["INV-13"]);
    check(&told(&[Reversed], &[Told::Revoked, Told::ReverseAgain]), &["INV-13"]);
    check(&told(&[Pending], &[Told::Open, Told::NotExist]), &["INV-13", "INV-16"]);
    check(&told(&[Pending], &[Told::NotAccepted(NotAccepted::Full)]), &["INV-16"]);
    check(&told(&[Pending], &[Told::Revoked]), &["INV-16"]);
    check(&told(&[Paid], &[Told::Paid, Told::Revoked]), &["INV-13", "INV-16"]);
    let mut early = Court::new();
    early.judge.on_told(0, Told::Open, 1, || None);
    check(&early, &["INV-14"]);
    let mut court = Court::new().states(&[Paid]);
    court.judge.on_told(0, Told::Paid, 2, || {
        Some(Money { captured_fen: FEN + 1, held_fen: FEN + 1, refunded_elsewhere: true })
    });
    check(&court, &["INV-04"]);
    let mut court = Court::new().states(&[Paid]);
    court.judge.on_told(0, Told::Paid, 2, || None);
    check(&court, &["INV-04"]);
}

#[test]
fn the_end() {
    check(&Court::new().states(&[Pending]).ends(entry(0, 0)), &["INV-12"]);
    check(&Court::new().states(&[Failed]).ends(entry(FEN, 0)), &["INV-06"]);
    check(&Court::new().states(&[Reversed]).ends(entry(FEN, FEN - 1)), &["INV-06"]);
    check(&Court::new().states(&[Paid]).ends(None), &["INV-12"]);
    check(&Court::new().states(&[Paid]).ends(entry(FEN, FEN)), &["INV-12"]);
    check(&Court::new().ends(entry(FEN, 0)), &["INV-14"]);
    let held = Record { held: Some(Held::Differs), ..then(&accepted(), Pending) };
    let court = || Court::new().durable(accepted()).durable(held.clone());
    check(&court().ends(entry(FEN, 0)), &["INV-12"]);
    check(&court().ends(entry(FEN + 1, 0)), &[]);
    let twice = Entry { captures: 2, pay_requests: 2, ..entry(FEN, 0) };
    check(&Court::new().states(&[Paid]).ends(twice), &["INV-01", "INV-02"]);
    let early =
        Entry { violations: vec![ledger::Violation::EarlyReversal { after_ms: 14_000 }], ..entry(FEN, FEN) };
    check(&Court::new().states(&[Reversed]).ends(early), &["INV-08"]);
    let mut lost = Court::new().states(&[Failed]);
    lost.durable = None;
    check(&lost.ends(None), &["INV-13"]);
}

#[test]
fn budgets() {
    let mut judge = Judge::new(1, 1, QUOTA);
    for now in [0, 400, 999] {
        judge.now = now;
        judge.on_call(0, Wire::Query);
    }
    judge.now = 1_000;
    judge.on_call(0, Wire::RefundQuery);
    assert_eq!(judge.violations, []);
    judge.now = 1_399;
    judge.on_call(0, Wire::Query);
    assert_eq!(judge.violations.len(), 1);
}
