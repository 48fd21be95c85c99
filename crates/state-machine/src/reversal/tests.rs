//! The pace of the loop.

use protocol::fact::{QueryFact, ReverseFact};
use timer_wheel::Tick;

use super::{Context, Reversal};
use crate::policy::Policy;
use crate::shard::{Alarm, Call};

const MINUTE: u64 = 60_000;

fn context(policy: &Policy, now: Tick) -> Context<'_> {
    Context { policy, now, left_at: Tick::ZERO, closed_at: None, asked_at: now, amount_fen: 100 }
}

/// Seconds between the first `count` reversals, each answered with `fact`, each query with `unpaid`.
fn pace(fact: ReverseFact, count: usize) -> Vec<u64> {
    let policy = Policy::default();
    let mut reversal = Reversal::new(&context(&policy, Tick::from_ms(MINUTE)));
    let mut sent = Vec::new();
    while sent.len() <= count {
        let (call, at) = reversal.next();
        if call == Call::Reverse {
            sent.push(at.as_ms());
            reversal.on_reverse(fact, &context(&policy, at));
        } else {
            reversal.on_query(&QueryFact::UnknownState, &context(&policy, at));
        }
    }
    sent.windows(2).map(|pair| (pair[1] - pair[0]) / 1_000).collect()
}

#[test]
fn pauses_grow_to_an_hour() {
    let _covers = covers::covers(&["UB-15"]);
    // §4.3, §4.5 C1 to C4, C7, C8.
    let grown = [5, 10, 20, 40, 80, 160, 320, 640, 1_280, 2_560, 3_600, 3_600];
    for fact in [
        ReverseFact::Done,
        ReverseFact::CallAgain,
        ReverseFact::Unclear,
        ReverseFact::SystemError,
        ReverseFact::Refused,
        ReverseFact::NoCertificate,
        ReverseFact::Absent,
    ] {
        assert_eq!(pace(fact, grown.len()), grown, "{fact:?}");
    }
}

#[test]
fn an_open_dialog_is_tried_every_ten_seconds_for_ten_minutes() {
    let pace = pace(ReverseFact::InProgress, 70);
    assert!(pace[..59].iter().all(|pause| *pause == 10), "C5: {pace:?}");
    assert_eq!(pace[69], 3_600);
}

#[test]
fn each_alarm_is_told_once_and_on_time() {
    let policy = Policy::default();
    let mut reversal = Reversal::new(&context(&policy, Tick::ZERO));
    let at = |reversal: &mut Reversal, ms: u64| reversal.alarms(&context(&policy, Tick::from_ms(ms)));
    assert_eq!(reversal.alarm_at(&policy), Some(Tick::from_ms(10 * MINUTE)));
    assert_eq!(at(&mut reversal, 10 * MINUTE - 1), []);
    assert_eq!(at(&mut reversal, 10 * MINUTE), [Alarm::ReversalSlow]);
    assert_eq!(at(&mut reversal, 11 * MINUTE), []);
    assert_eq!(reversal.alarm_at(&policy), Some(Tick::from_ms(24 * 60 * MINUTE)));
    assert_eq!(at(&mut reversal, 24 * 60 * MINUTE), [Alarm::ReversalStuck]);
    assert_eq!(reversal.alarm_at(&policy), None);
    reversal.on_reverse(ReverseFact::Refused, &context(&policy, Tick::ZERO));
    reversal.on_reverse(ReverseFact::Refused, &context(&policy, Tick::ZERO));
    assert_eq!(at(&mut reversal, 25 * 60 * MINUTE), [Alarm::ReversalRefused]);
    assert_eq!(at(&mut reversal, 25 * 60 * MINUTE), []);
}
