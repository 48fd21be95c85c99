//! Closed tables: legal moves, what recovery resumes, T0.

use protocol::Fen;
use protocol::fact::{PayFact, QueryFact, Row};
use timer_wheel::Tick;

use super::{Effects, Next, Payment};
use crate::key::{BootId, MerchantId, Now, OrderKey, ProviderId, UnixMs};
use crate::policy::Policy;
use crate::record::{Cause, Claim, Held, Record, State, TillReversal};
use crate::shard::{Call, PayRequest, Ticket, Wait};

const BOOT: BootId = BootId(1);

fn at(ms: u64) -> Now {
    Now { tick: Tick::from_ms(ms), wall: UnixMs(1_795_400_000_000 + i64::try_from(ms).unwrap()) }
}

fn accepted() -> Payment {
    let request = PayRequest {
        ticket: Ticket(1),
        key: OrderKey { merchant: MerchantId(1), number: "P0000001".parse().unwrap() },
        provider: ProviderId(1),
        amount: Fen::new(1_288).unwrap(),
        digest: [1; 16],
        attach: 0,
        wait: Wait::Definite,
        expires_at: None,
        till: 0,
        patience_ms: 0,
    };
    Payment::accept(&request, at(0), BOOT)
}

#[test]
fn legal_moves_are_a_closed_table() {
    let _covers = covers::covers(&["INV-15"]);
    // INV-15, row by row: from, and to which of ALL.
    let table = [
        (State::Accepted, [true, true, true, true, true, true]),
        (State::Pending, [false, true, true, true, true, true]),
        (State::Paid, [false, false, true, false, false, false]),
        (State::Failed, [false, false, false, true, false, false]),
        (State::Reversing, [false, false, false, false, true, true]),
        (State::Reversed, [false, false, false, false, false, true]),
    ];
    for (from, row) in table {
        for (to, legal) in State::ALL.into_iter().zip(row) {
            assert_eq!(from.may_become(to), legal, "{from:?} to {to:?}");
        }
    }
}

/// Every combination of what recovery looks at.
fn records() -> impl Iterator<Item = Record> {
    let template = accepted().record().clone();
    let helds = [
        None,
        Some(Held::Differs),
        Some(Held::NumberTaken),
        Some(Held::PartlyReturned),
        Some(Held::RefundFailed),
    ];
    let reversals = [TillReversal::None, TillReversal::Asked, TillReversal::Done];
    State::ALL.into_iter().flat_map(move |state| {
        let template = template.clone();
        helds.into_iter().flat_map(move |held| {
            let template = template.clone();
            [Claim::Ours, Claim::Contested, Claim::Foreign].into_iter().flat_map(move |claim| {
                let template = template.clone();
                (0..reversals.len() * 2 * 3).map(move |rest| Record {
                    state,
                    held,
                    claim,
                    cause: Some(Cause::Deadline),
                    till_reversal: reversals[rest % 3],
                    repair: rest / 3 % 2 == 1,
                    looks_left: u8::try_from(rest / 6).unwrap(),
                    left_tick: Some(Tick::from_ms(7)),
                    ..template.clone()
                })
            })
        })
    })
}

#[test]
fn recovery_resumes_exactly_what_is_open() {
    let _covers = covers::covers(&["INV-18"]);
    let policy = Policy::default();
    let mut seen = 0;
    for record in records() {
        for boot in [BOOT, BootId(2)] {
            let payment = Payment::recover(record.clone(), at(60_000), boot, &policy);
            assert_eq!(payment.is_settled(), !record.is_open(), "{record:?}");
            let next = payment.next(Tick::from_ms(60_000), &policy);
            assert_eq!(next == Next::Nothing, !record.is_open(), "{record:?}");
            if record.claim != Claim::Ours && record.state.is_undecided() || record.held.is_some() {
                let reverses = matches!(next, Next::Call { call: Call::Reverse | Call::Refund, .. });
                assert!(!reverses, "held or contested: {record:?}");
            }
            assert_eq!(payment.record(), &record, "recovery changes nothing");
            seen += 1;
        }
    }
    assert_eq!(seen, 6 * 5 * 3 * 18 * 2);
}

/// When the first reversal may go out.
fn reversal_at(payment: &Payment, policy: &Policy) -> u64 {
    match payment.next(Tick::ZERO, policy) {
        Next::Call { call: Call::Reverse, at, .. } => at.as_ms(),
        other @ (Next::Call { .. } | Next::Nothing) => panic!("{other:?}"),
    }
}

#[test]
fn the_guard_counts_from_the_latest_word_about_t0() {
    let _covers = covers::covers(&["INV-08"]);
    let policy = Policy::default();
    let mut effects = Effects::default();
    let mut payment = accepted();
    payment.released(Tick::from_ms(100), &policy);
    payment.on_reversal_asked(at(200), &policy, &mut effects);
    assert_eq!(reversal_at(&payment, &policy), 20_100, "at the latest it leaves at 5,100");
    payment.left(Tick::from_ms(300), &policy);
    payment.on_query(false, Row::B4, QueryFact::Unpaid, at(400), &policy, &mut effects);
    assert_eq!(reversal_at(&payment, &policy), 20_100, "the loop keeps the later of both");
    // A driver that was late after all, and says so with the answer.
    payment.on_pay(Some(Tick::from_ms(9_000)), Row::A2, PayFact::Unclear, at(9_500), &policy, &mut effects);
    assert_eq!(reversal_at(&payment, &policy), 24_000);
    assert_eq!(payment.record().left_tick, Some(Tick::from_ms(9_000)));
}

#[test]
fn what_may_have_left_is_not_unsent() {
    let _covers = covers::covers(&["INV-02", "NU-03"]);
    let policy = Policy::default();
    let mut effects = Effects::default();
    let mut payment = accepted();
    payment.released(Tick::ZERO, &policy);
    payment.on_pay(Some(Tick::from_ms(1)), Row::A1, PayFact::Unsent, at(2), &policy, &mut effects);
    assert_eq!(payment.record().state, State::Accepted, "G3");
    assert!(!effects.changed);
}

#[test]
fn nothing_is_asked_before_the_pay_request_is_released() {
    let policy = Policy::default();
    assert_eq!(accepted().next(Tick::MAX, &policy), Next::Nothing);
}
