use protocol::Fen;

use super::{AGES, Exposure, Part, Report, Stage, Sum};
use crate::key::{BootId, MerchantId, Now, OrderKey, ProviderId, UnixMs};
use crate::record::{Held, Record, State, TillReversal};
use crate::{Policy, Tick};

/// A full five seconds, so that ages are exact.
const START: i64 = 1_795_400_000_000;
const OVERDUE_MS: u64 = 60_000;

/// A payment of `fen` that was accepted `age_s` before [`START`].
fn accepted(fen: u64, age_s: i64) -> Record {
    let key = OrderKey { merchant: MerchantId(7), number: "P00001".parse().unwrap() };
    let now = Now { tick: Tick::from_ms(5_000_000), wall: UnixMs(START - age_s * 1_000) };
    Record { amount: Fen::new(fen).ok(), ..Record::begun(key, ProviderId(3), now, BootId(1)) }
}

fn report(exposure: &Exposure) -> Report {
    exposure.report(UnixMs(START), OVERDUE_MS)
}

#[test]
fn money_is_counted_while_its_outcome_is_unknown() {
    let open = accepted(1_288, 0);
    let of = |state, held, till_reversal, looks_left| {
        Stage::of(&Record { state, held, till_reversal, looks_left, ..open.clone() })
    };
    let (no, asked) = (TillReversal::None, TillReversal::Asked);
    for (expected, state, held, till_reversal, looks_left) in [
        (Some(Stage::Undecided), State::Accepted, None, no, 0),
        (Some(Stage::Undecided), State::Pending, None, no, 0),
        (Some(Stage::Held), State::Pending, Some(Held::Differs), no, 0),
        (Some(Stage::Reversing), State::Reversing, None, no, 0),
        (Some(Stage::Held), State::Reversing, Some(Held::RefundFailed), no, 0),
        (Some(Stage::Reversing), State::Paid, None, asked, 0),
        (Some(Stage::Held), State::Reversed, Some(Held::Differs), no, 1),
        (None, State::Paid, None, no, 0),
        (None, State::Failed, None, no, 0),
        (None, State::Reversed, None, no, 2),
        (None, State::Reversed, None, no, 0),
    ] {
        assert_eq!(of(state, held, till_reversal, looks_left), expected, "{state:?} {held:?}");
    }
}

#[test]
fn a_payment_moves_from_stage_to_stage_and_leaves() {
    let mut exposure = Exposure::default();
    let mut record = accepted(1_288, 30);
    exposure.see(4, &record);
    exposure.see(4, &record);
    exposure.see(9, &accepted(12, 30));
    assert_eq!((exposure.total(), exposure.pending()), (Sum { payments: 2, fen: 1_300 }, 2));
    record.state = State::Reversing;
    exposure.see(4, &record);
    assert_eq!((exposure.total(), exposure.pending()), (Sum { payments: 2, fen: 1_300 }, 1));
    let seen = report(&exposure);
    assert_eq!(seen.by_age[Stage::Undecided as usize][0], Sum { payments: 1, fen: 12 });
    assert_eq!(seen.by_age[Stage::Reversing as usize][0], Sum { payments: 1, fen: 1_288 });
    record.state = State::Reversed;
    exposure.see(4, &record);
    exposure.see(9, &Record { state: State::Paid, ..accepted(12, 30) });
    assert_eq!((exposure.total(), exposure.pending()), (Sum::default(), 0));
    assert_eq!(report(&exposure), Report::default());
    assert!(exposure.moments.is_empty(), "moments without money are forgotten");
}

#[test]
fn money_is_told_apart_by_age() {
    let mut exposure = Exposure::default();
    let ages = [0, 59, 60, 599, 600, 3_599, 3_600, 86_399, 86_400, 700_000];
    for (slot, age_s) in (0_u32..).zip(ages) {
        exposure.see(slot, &accepted(100, age_s));
    }
    let seen = report(&exposure);
    // Ages are rounded up to five seconds: what is a second under a bound counts as over it.
    let expected = [1, 2, 2, 2, 3].map(|payments| Sum { payments, fen: payments * 100 });
    assert_eq!(seen.by_age[Stage::Undecided as usize], expected);
    assert_eq!(seen.oldest_ms, [700_000_000, 0, 0]);
    assert!(AGES.map(|(_, under_ms)| under_ms).is_sorted());
    let later = exposure.report(UnixMs(START + 86_400_000), OVERDUE_MS);
    assert_eq!(later.by_age[Stage::Undecided as usize][4].payments, 10);
    let before = exposure.report(UnixMs(0), OVERDUE_MS);
    assert_eq!(before.by_age[Stage::Undecided as usize][0].payments, 10, "a clock that went back");
}

#[test]
fn who_waits_longer_than_any_may_is_overdue() {
    let policy = Policy::default();
    assert_eq!(policy.overdue_ms(), 60_000);
    let mut exposure = Exposure::default();
    for (slot, age_s) in [(0, 60), (1, 65), (2, 70), (3, 500)] {
        exposure.see(slot, &accepted(100, age_s));
    }
    let mut held = accepted(100, 500);
    held.held = Some(Held::Differs);
    exposure.see(5, &held);
    exposure.see(6, &Record { state: State::Reversing, ..accepted(100, 500) });
    assert_eq!(report(&exposure).overdue, Sum { payments: 2, fen: 200 });
    assert_eq!(policy.scaled(10).overdue_ms(), 5_000 + 4_500 + 10_000, "only what a speed divides");
}

#[test]
fn shards_add_up() {
    let mut first = Exposure::default();
    first.see(0, &accepted(100, 70));
    let mut second = Exposure::default();
    second.see(0, &accepted(50, 300));
    second.see(1, &Record { state: State::Reversing, ..accepted(7, 5) });
    let mut sum = report(&first);
    sum.add(&report(&second));
    assert_eq!(sum.by_age[Stage::Undecided as usize][1], Sum { payments: 2, fen: 150 });
    assert_eq!(sum.by_age[Stage::Reversing as usize][0], Sum { payments: 1, fen: 7 });
    assert_eq!(sum.oldest_ms, [300_000, 0, 5_000]);
    assert_eq!(sum.overdue, Sum { payments: 2, fen: 150 });
}

#[test]
fn what_waits_costs_sixteen_bytes_and_a_moment_is_shared() {
    assert_eq!(size_of::<Part>(), 16);
    let mut exposure = Exposure::default();
    for slot in 0..50_000 {
        exposure.see(slot, &accepted(100, i64::from(slot % 45)));
    }
    assert_eq!(exposure.pending(), 50_000);
    assert!(exposure.moments.len() <= 10, "{}", exposure.moments.len());
}
