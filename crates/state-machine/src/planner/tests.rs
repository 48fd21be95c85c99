//! The budgets, at their edges.

use timer_wheel::Tick;

use super::{BACKLOG_SECONDS_MAX, Due, Planner, Quota, Urgency, WINDOW_MS, Waiting};
use crate::key::{Channel, MerchantId, ProviderId};
use crate::shard::{Call, OrderRef};

mod budgets;
mod fairness;

const PROVIDER: ProviderId = ProviderId(1);

fn order(slot: u32) -> OrderRef {
    OrderRef { slot, generation: 1 }
}

/// A call of a payment that left at 0 and was never asked about, due at 0.
fn due(order: OrderRef, call: Call, urgency: Urgency) -> Due {
    let (merchant, channel) = (MerchantId(1), Channel::WechatV2);
    Due { order, call, urgency, merchant, channel, amount: None, left_at: Tick::ZERO, asked_at: None }
}

fn ask(planner: &mut Planner, slot: u32, call: Call, urgency: Urgency) {
    planner.ask(PROVIDER, &due(order(slot), call, urgency), Tick::ZERO);
}

fn planner(query: u32, reverse: u32) -> Planner {
    Planner::new(Quota { pay: 2, query, reverse, calls_max: 100 }, Vec::new())
}

fn grants(planner: &mut Planner, now: u64) -> Vec<(u32, Call)> {
    std::iter::from_fn(|| planner.grant(Tick::from_ms(now), |_| true).map(|(o, c)| (o.slot, c))).collect()
}

#[test]
fn no_sliding_window_holds_more_than_the_quota() {
    let _covers = covers::covers(&["INV-24"]);
    let mut planner = planner(7, 1);
    for slot in 0..100 {
        ask(&mut planner, slot, Call::Query, Urgency::Asks);
    }
    let mut sent = Vec::new();
    for now in (0..20_000).step_by(37) {
        sent.extend(grants(&mut planner, now).iter().map(|_| now));
    }
    assert_eq!(sent.len(), 100);
    for (place, at) in sent.iter().enumerate() {
        assert!(sent[place..].iter().filter(|other| *other - at < WINDOW_MS).count() <= 7);
    }
}

#[test]
fn a_pair_takes_room_for_both_and_gives_it_back() {
    let mut planner = planner(10, 1);
    ask(&mut planner, 1, Call::LastQuery, Urgency::Decides);
    ask(&mut planner, 2, Call::LastQuery, Urgency::Decides);
    ask(&mut planner, 3, Call::Query, Urgency::Asks);
    ask(&mut planner, 4, Call::Reverse, Urgency::Decides);
    assert_eq!(grants(&mut planner, 0), [(4, Call::Reverse), (3, Call::Query)]);
    assert_eq!(grants(&mut planner, WINDOW_MS - 1), []);
    assert_eq!(grants(&mut planner, WINDOW_MS), [(1, Call::LastQuery)]);
    assert_eq!(grants(&mut planner, 5 * WINDOW_MS), [], "the reversal of 1 is still certain to come");
    planner.release(PROVIDER);
    assert_eq!(grants(&mut planner, 5 * WINDOW_MS), [(2, Call::LastQuery)]);
    planner.use_reserved(PROVIDER, Tick::from_ms(5 * WINDOW_MS));
    ask(&mut planner, 5, Call::Reverse, Urgency::Decides);
    assert_eq!(grants(&mut planner, 6 * WINDOW_MS - 1), []);
    assert_eq!(planner.next_room(), Some(Tick::from_ms(6 * WINDOW_MS)));
    assert_eq!(grants(&mut planner, 6 * WINDOW_MS), [(5, Call::Reverse)]);
}

#[test]
fn what_tills_wait_for_goes_first_and_the_others_still_come() {
    let mut planner = planner(8, 1);
    for slot in 0..20 {
        ask(&mut planner, slot, Call::Query, Urgency::Asks);
        ask(&mut planner, 100 + slot, Call::Query, Urgency::Prompted);
    }
    ask(&mut planner, 200, Call::Query, Urgency::Decides);
    let slots = |planner: &mut Planner, now| {
        grants(planner, now).into_iter().map(|(slot, _)| slot).collect::<Vec<_>>()
    };
    // One in four is for a payment that nobody waits for; what decides is not counted.
    assert_eq!(slots(&mut planner, 0), [200, 100, 101, 102, 0, 103, 104, 105]);
    assert_eq!(slots(&mut planner, WINDOW_MS), [1, 106, 107, 108, 2, 109, 110, 111]);
    let mut rest = Vec::new();
    for window in 2..10 {
        rest.extend(slots(&mut planner, window * WINDOW_MS));
    }
    assert_eq!((rest.len(), planner.waiting()), (25, 0), "room is left unused by neither");
}

#[test]
fn what_decides_goes_before_what_asks_and_nothing_unwanted_costs_room() {
    let mut planner = planner(2, 1);
    ask(&mut planner, 1, Call::Query, Urgency::Asks);
    ask(&mut planner, 2, Call::Query, Urgency::Decides);
    ask(&mut planner, 3, Call::Query, Urgency::Decides);
    let wanted = |waiting: &Waiting| waiting.order.slot != 2;
    assert_eq!(planner.grant(Tick::ZERO, wanted).map(|(o, _)| o.slot), Some(3));
    assert_eq!(planner.grant(Tick::ZERO, wanted).map(|(o, _)| o.slot), Some(1));
    assert_eq!(planner.waiting(), 0);
}

#[test]
fn calls_under_way_are_bounded() {
    let _covers = covers::covers(&["INV-24"]);
    let quota = Quota { calls_max: 2, ..Quota::default() };
    let mut planner = Planner::new(Quota::default(), vec![(PROVIDER, quota)]);
    for slot in 0..3 {
        ask(&mut planner, slot, Call::Query, Urgency::Asks);
    }
    assert_eq!(grants(&mut planner, 0).len(), 2);
    assert_eq!(planner.next_room(), None, "only an answer makes room");
    planner.answered(PROVIDER);
    assert_eq!(grants(&mut planner, 0).len(), 1);
}

#[test]
fn the_pay_quota_refuses() {
    let mut planner = planner(1, 1);
    let reserved = |planner: &mut Planner, now| planner.reserve_pay(PROVIDER, Tick::from_ms(now));
    assert!(reserved(&mut planner, 0) && reserved(&mut planner, 500));
    assert!(!reserved(&mut planner, 60_000), "neither has left yet, however long their records take");
    planner.use_pay(PROVIDER, Tick::from_ms(60_000));
    planner.release_pay(PROVIDER);
    assert!(reserved(&mut planner, 60_000), "one was discarded");
    planner.use_pay(PROVIDER, Tick::from_ms(60_500));
    assert!(!reserved(&mut planner, 60_000 + WINDOW_MS - 1));
    assert!(reserved(&mut planner, 60_000 + WINDOW_MS));
}

#[test]
fn new_payments_wait_for_what_accepted_ones_must_still_do() {
    let _covers = covers::covers(&["INV-23"]);
    let mut planner = planner(10, 1);
    for slot in 0..BACKLOG_SECONDS_MAX {
        ask(&mut planner, slot, Call::Reverse, Urgency::Decides);
    }
    assert!(planner.reserve_pay(PROVIDER, Tick::ZERO));
    ask(&mut planner, 100, Call::LastQuery, Urgency::Decides);
    assert!(!planner.reserve_pay(PROVIDER, Tick::ZERO), "one more than ten seconds hold");
}

#[test]
fn a_throttled_budget_halves_and_grows_back() {
    let _covers = covers::covers(&["UB-19"]);
    let mut planner = planner(40, 1);
    for slot in 0..400 {
        ask(&mut planner, slot, Call::Query, Urgency::Asks);
    }
    let mut sent = Vec::new();
    for window in 0..6 {
        let now = window * WINDOW_MS;
        sent.push(grants(&mut planner, now).len());
        while planner.accounts[0].under_way > 0 {
            planner.answered(PROVIDER);
        }
        if window == 0 {
            planner.throttled(PROVIDER, Call::Query, Tick::from_ms(now));
            planner.throttled(PROVIDER, Call::Query, Tick::from_ms(now + 1));
        }
        if window < 5 {
            assert!(planner.next_room().unwrap() > Tick::from_ms(now), "never in the past");
        }
    }
    assert_eq!(sent, [40, 22, 24, 26, 28, 30]);
}

#[test]
fn nothing_is_granted_in_the_first_second_after_another_process() {
    let mut planner = planner(7, 1);
    planner.close_for_a_window(Tick::from_ms(10_000));
    assert_eq!(planner.next_room(), None, "nobody waits");
    ask(&mut planner, 1, Call::Query, Urgency::Asks);
    assert_eq!(planner.next_room(), Some(Tick::from_ms(11_050)));
    assert!(!planner.reserve_pay(PROVIDER, Tick::from_ms(11_049)));
    assert_eq!(grants(&mut planner, 11_049), []);
    assert_eq!(grants(&mut planner, 11_050), [(1, Call::Query)]);
    assert!(planner.reserve_pay(PROVIDER, Tick::from_ms(11_050)));
}

#[test]
fn the_budget_says_how_much_of_it_is_used() {
    let mut planner = planner(4, 1);
    for slot in 0..3 {
        ask(&mut planner, slot, Call::Query, Urgency::Asks);
    }
    assert_eq!(planner.queries_used(Tick::ZERO), (0, 4));
    assert_eq!(grants(&mut planner, 0).len(), 3);
    assert_eq!(planner.queries_used(Tick::from_ms(WINDOW_MS - 1)), (3, 4));
    assert_eq!(planner.queries_used(Tick::from_ms(WINDOW_MS)), (0, 4));
}

/// Numbers that only look drawn, the same in every run.
pub(super) struct Draw(u64);

impl Draw {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Less than `end`.
    pub(super) const fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % end
    }
}
