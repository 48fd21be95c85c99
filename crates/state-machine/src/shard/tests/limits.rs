//! Every limit, reached: waiters, orders, budgets, breakers; and the planner under scarcity.

use super::rig::{PROVIDER, Rig, key};
use super::{Line, check};
use crate::planner::Quota;
use crate::record::State;
use crate::shard::Call;

/// As `check`, in a shard with other limits.
fn check_with(change: impl Fn(&mut crate::shard::Config), lines: &[Line]) {
    for (rows, script, words) in lines {
        let mut rig = Rig::configured(&change);
        rig.run(script);
        let expected = words.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(rig.words(), expected, "\n{rows}: {script}\n{}", rig.diary());
    }
}

#[test]
fn as_many_requests_wait_as_may() {
    let _covers = covers::covers(&["INV-24"]);
    check_with(
        |config| config.waiters_max = 2,
        &[
            (
                "one more sends the longest watch away, or is answered from what is durable",
                "pay watch pay pay reverse a:A6",
                "ACCEPTED SEND watch=processing discard pay=USERPAYING discard reverse=CallAgain \
                 REVERSING(till)/asked pay=ORDERREVERSED pay=ORDERREVERSED",
            ),
            (
                "while nothing is durable they are refused",
                "hold pay watch watch pay reverse free",
                "refused=Crowded refused=Crowded refused=Crowded ACCEPTED discard REVERSING(till)/asked \
                 REVERSED(till,A1)/done pay=ORDERREVERSED watch=reversed",
            ),
            (
                "a busy order's answers are bounded too",
                "pay hold a:A6 watch watch watch pay free",
                "ACCEPTED SEND watch=processing watch=processing watch=processing discard PAID(A6) \
                 pay=SUCCESS pay=ORDERPAID",
            ),
        ],
    );
    check_with(
        |config| config.waiters_max = 0,
        &[(
            "the request itself always waits",
            "pay a:A6 @2 reverse",
            "ACCEPTED SEND PAID(A6) pay=SUCCESS REVERSED(overtaken)/done reverse=Done",
        )],
    );
}

#[test]
fn as_many_orders_are_held_as_may() {
    let _covers = covers::covers(&["INV-24"]);
    check_with(
        |config| config.orders_max = 1,
        &[
            (
                "INV-23",
                "pay @2 pay reverse @1 pay:at-once a:A6 +60s @2 pay",
                "ACCEPTED SEND refused=Full refused=Full pay=USERPAYING discard PAID(A6) pay=SUCCESS \
                 retire ACCEPTED SEND",
            ),
            (
                "recovered orders are taken over the limit",
                "pay @2 reverse crash @3 pay @1 +5s q:paid",
                "ACCEPTED SEND refused=Full CRASH ACCEPTED refused=Full query@5000 PAID(B4)",
            ),
        ],
    );
}

#[test]
fn the_pay_quota_and_the_stop() {
    check_with(
        |config| config.quota.pay = 1,
        &[
            (
                "",
                "pay @2 pay +1049 pay +1 pay",
                "ACCEPTED SEND refused=Throttled refused=Throttled ACCEPTED SEND",
            ),
            (
                "counted when it leaves, however late",
                "hold pay +10s @2 pay free pay +1050 pay",
                "refused=Throttled ACCEPTED SEND refused=Throttled ACCEPTED SEND",
            ),
            (
                "given back if it does not leave",
                "hold pay reverse commit @2 pay free",
                "ACCEPTED discard REVERSING(till)/asked REVERSED(till,A1)/done pay=ORDERREVERSED \
                 reverse=Done ACCEPTED SEND",
            ),
        ],
    );
    check(&[(
        "PR-14",
        "pay a:A7 +20s q:payerror drain @2 pay reverse @1 pay r:done q:revoked",
        "ACCEPTED SEND PENDING query@5000 REVERSING(B7) pay=ORDERREVERSED reverse@20000 refused=Stopping \
         REVERSED(overtaken)/done reverse=Done pay=ORDERREVERSED discard query@20000 REVERSED(B7,B8)",
    )]);
}

#[test]
fn the_breaker_of_unsigned_refusals() {
    check(&[
        (
            "A3 three in a row",
            "pay a:A3 @2 pay a:A3 @3 pay a:A3 @4 mark pay +5s",
            "refused=Suspended query@5000 query@5000 query@5000",
        ),
        (
            "A3 until a query is verified",
            "pay a:A3 @2 pay a:A3 @3 pay a:A3 @4 +5s @1 q:unclear @4 mark pay @1 +1s q:notfound @4 pay",
            "refused=Suspended query@6000 ACCEPTED SEND",
        ),
        (
            "A3 a verified answer between",
            "pay a:A3 @2 pay a:A3 @3 pay a:A7 @4 pay a:A3 @5 mark pay",
            "ACCEPTED SEND",
        ),
    ]);
}

#[test]
fn the_breaker_of_certificates_opens_even_without_reversals() {
    // Three orders, one refused certificate each; all three end by queries.
    let reversing = |order: u32| format!("@{order} pay a:A7 +20s q:payerror r:nocert +5s ");
    let mut rig = Rig::new();
    rig.run(&(1..=3).map(reversing).collect::<String>());
    rig.run("q*:revoked +1s q*: @4 mark pay +119m pay +2m pay");
    assert_eq!(rig.words(), "refused=Suspended retire retire retire refused=Suspended ACCEPTED SEND");
}

/// Asks for `orders` payments that nobody ever pays, and gives the wallet's word for everything.
fn crowd(orders: u32, quota: Quota) -> Rig {
    let mut rig = Rig::configured(|config| {
        config.orders_max = 1_000;
        config.quota = quota;
    });
    for order in 1..=orders {
        rig.run(&format!("@{order} pay a:A7"));
    }
    rig.calls.clear();
    rig
}

/// All end, and no customer pays: each order is asked about, given up, reversed, and proven so.
fn nobody_pays(rig: &mut Rig) {
    let mut open: std::collections::HashMap<_, bool> = std::collections::HashMap::new();
    rig.calm(600_000, |key, call| match call {
        Call::Query | Call::LastQuery if open.get(&key).copied().unwrap_or(true) => "userpaying",
        Call::Query | Call::LastQuery => "revoked",
        Call::Reverse => {
            open.insert(key, false);
            "done"
        }
        Call::RefundQuery | Call::Refund => panic!("nothing to refund"),
    });
}

#[test]
fn a_scarce_budget_delays_and_loses_nothing() {
    let _covers = covers::covers(&["INV-18", "OV-04"]);
    let quota = Quota { pay: 1_000, query: 5, reverse: 2, calls_max: 100 };
    let orders = 40;
    let mut rig = crowd(orders, quota);
    nobody_pays(&mut rig);
    for order in 1..=orders {
        assert_eq!(rig.durable(order).unwrap().state, State::Reversed, "{order}");
    }
    let of = |wanted: fn(&Call) -> bool| {
        let calls = rig.calls.iter().filter(move |(_, call)| wanted(call));
        calls.map(|(at, _)| *at).collect::<Vec<_>>()
    };
    let queries = of(|call| matches!(call, Call::Query | Call::LastQuery));
    let reversals = of(|call| matches!(call, Call::Reverse));
    for (calls, limit) in [(&queries, 5), (&reversals, 2)] {
        for (place, at) in calls.iter().enumerate() {
            let within = calls[place..].iter().take_while(|other| **other - at <= 1_000).count();
            assert!(within <= limit, "{within} calls in a second from {at}");
        }
    }
    assert_eq!(reversals.len(), 40, "each order is reversed once, at its last query");
    assert!(reversals.iter().all(|at| *at >= 1_045_000), "no deadline comes early");
    assert!(reversals.last().is_some_and(|at| *at < 1_080_000), "40 pairs at 2 a second: 20 s late at most");
}

#[test]
fn a_queued_query_outlives_a_record() {
    // Room comes while PENDING is not durable yet: the query is asked all the same, afterwards.
    check_with(
        |config| config.quota.query = 1,
        &[("INV-18", "pay left @2 pay left +5s hold a:A7 +1050 +1 mark commit", "PENDING query@6051")],
    );
}

#[test]
fn nothing_comes_between_a_last_query_and_its_reversal() {
    // One reversal a second: of two orders that give up together, each pair is one.
    let quota = Quota { pay: 1_000, query: 100, reverse: 1, calls_max: 100 };
    let mut rig = crowd(2, quota);
    rig.run("q*:userpaying +44999 q*: mark +1 @1 q:userpaying +1s @2 +49 +1 q:userpaying");
    assert_eq!(
        rig.words(),
        "lastquery@45000 REVERSING(deadline) pay=ORDERREVERSED reverse@45000 lastquery@46050 \
         REVERSING(deadline) pay=ORDERREVERSED"
            .to_owned()
            + " reverse@46050"
    );
}

#[test]
fn a_last_query_that_shows_the_money_gives_the_reversal_s_room_back() {
    let quota = Quota { pay: 1_000, query: 100, reverse: 1, calls_max: 100 };
    let mut rig = crowd(2, quota);
    rig.run("q*:userpaying +44999 q*: mark +1 @1 q:paid @2 q:userpaying");
    assert_eq!(
        rig.words(),
        "lastquery@45000 PAID(B4) pay=SUCCESS lastquery@45000 REVERSING(deadline) pay=ORDERREVERSED \
         reverse@45000"
    );
}

#[test]
fn what_is_throttled_is_asked_less_often() {
    let _covers = covers::covers(&["UB-19"]);
    let quota = Quota { pay: 1_000, query: 8, reverse: 8, calls_max: 100 };
    let mut rig = crowd(40, quota);
    rig.run("q*:userpaying +20s");
    let before = rig.calls.iter().filter(|(at, _)| *at >= 1_010_000).count();
    rig.calls.clear();
    rig.run("q*:unclear~ +20s");
    let after = rig.calls.iter().filter(|(at, _)| *at >= 1_030_000).count();
    assert!(before >= 70 && (8..=20).contains(&after), "{before} in 10 s before, {after} while throttled");
}

#[test]
fn as_many_calls_are_under_way_as_may() {
    let _covers = covers::covers(&["INV-24", "NU-11"]);
    let quota = Quota { calls_max: 3, ..Quota::default() };
    let mut rig = crowd(3, quota);
    rig.run("@4 pay a:A7 +10s");
    assert_eq!(rig.calls.len(), 3, "NU-11: slow answers mean fewer calls");
    rig.run("@5 mark pay @1 q:unpaid @5 pay");
    assert_eq!(rig.words(), "refused=Throttled query@10000 refused=Throttled", "the room went to order 4");
    assert_eq!(rig.shard.record(&key(4)).unwrap().provider, PROVIDER);
}

#[test]
fn no_more_are_accepted_than_could_be_given_up_in_time() {
    let _covers = covers::covers(&["INV-23"]);
    // A pay quota that never refuses: two reversals in 1,050 ms, 45 s until a payment is given up, and 10 s of backlog.
    let quota = Quota { pay: 1_000, query: 100, reverse: 2, calls_max: 1_000 };
    let most = 2 * 55_000 / 1_050;
    let mut rig = crowd(most, quota);
    rig.run("@900 mark pay");
    assert_eq!(rig.words(), "refused=Throttled", "{most} could each need a reversal");
    // Who is decided needs none: there is room for one more, and for no second.
    rig.run("+5s @1 q:paid @900 mark pay @901 pay");
    assert_eq!(rig.words(), "ACCEPTED SEND refused=Throttled");
    // What was accepted ends in time, though all of it is given up.
    let begun = rig.tick;
    nobody_pays(&mut rig);
    let reversals = rig.calls.iter().filter(|(_, call)| *call == Call::Reverse);
    let last = reversals.map(|(at, _)| *at).max().unwrap();
    assert!(last > begun + 80_000, "two a second, from the first deadline on");
    assert!(last < begun + 45_000 + 55_000, "the deadlines slip, and no further than that");
    rig.run("@902 mark pay");
    assert_eq!(rig.words(), "ACCEPTED SEND", "decided payments hold no room");
}

#[test]
fn the_pay_quota_alone_keeps_payments_below_what_can_be_reversed() {
    let _covers = covers::covers(&["INV-23"]);
    // As deployed: as many reversals as pay requests. Whatever comes, the pay quota is what refuses.
    let quota = Quota { pay: 2, query: 100, reverse: 2, calls_max: 1_000 };
    let mut rig = crowd(0, quota);
    let mut taken = 0;
    rig.run("q*:userpaying");
    for second in 0..45 {
        for place in 0..3 {
            rig.run(&format!("@{} mark pay", 1 + second * 3 + place));
            taken += u32::from(rig.words().starts_with("ACCEPTED"));
            assert_eq!(rig.words().starts_with("ACCEPTED"), place < 2, "{}", rig.words());
        }
        rig.run("+1050");
    }
    assert_eq!(taken, 90, "not one of them was refused for want of reversals");
}
