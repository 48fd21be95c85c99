//! Who goes first when room is scarce, and that nobody waits for ever.

use std::collections::{HashMap, VecDeque};

use timer_wheel::Tick;

use super::{PROVIDER, due, order};
use crate::key::{Channel, MerchantId};
use crate::planner::{Due, Lesson, Planner, Quota, Urgency, WAIT_MAX_MS, WINDOW_MS};
use crate::shard::Call;

fn planner(query: u32) -> Planner {
    Planner::new(Quota { pay: 1, query, reverse: 1, calls_max: u32::MAX }, Vec::new())
}

/// Grants all there is room for at `now`.
fn granted(planner: &mut Planner, now: u64) -> Vec<u32> {
    std::iter::from_fn(|| planner.grant(Tick::from_ms(now), |_| true).map(|(order, _)| order.slot)).collect()
}

/// A payment of `merchant` that left at `left` and was last asked about at `asked`.
fn payment(slot: u32, merchant: u32, left: u64, asked: Option<u64>) -> Due {
    let asked_at = asked.map(Tick::from_ms);
    let (merchant, left_at) = (MerchantId(merchant), Tick::from_ms(left));
    Due { merchant, left_at, asked_at, ..due(order(slot), Call::Query, Urgency::Asks) }
}

#[test]
fn one_merchants_flood_does_not_push_the_others_out() {
    for urgency in [Urgency::Asks, Urgency::Prompted] {
        let mut planner = planner(100);
        // 20,000 of one merchant first, then 200 of as many others.
        for slot in 0..20_200 {
            let merchant = if slot < 20_000 { 0 } else { slot };
            let due = Due { urgency, ..payment(slot, merchant, 5_000, None) };
            planner.ask(PROVIDER, &due, Tick::from_ms(15_000));
        }
        let windows = (0..5).map(|window| granted(&mut planner, 15_000 + window * WINDOW_MS));
        let slots: Vec<_> = windows.flatten().collect();
        assert_eq!(slots.len(), 500);
        let others = slots.iter().filter(|slot| **slot >= 20_000).count();
        assert_eq!(others, 200, "{urgency:?}: they need not wait for the flood to pass");
    }
}

/// Payments that never end are asked about for 90 s, again a second after each query; the merchant of each is given.
/// How often each merchant's were asked about in the last 60 s.
fn asked_in_a_minute(budget: u32, merchants: &[u32]) -> HashMap<u32, u32> {
    let mut planner = planner(budget);
    let mut due: VecDeque<(u64, u32, Option<u64>)> =
        (0..).zip(merchants).map(|(slot, _)| (5_000, slot, None)).collect();
    let mut counts = HashMap::new();
    for now in (5_000..95_000).step_by(25) {
        while let Some((_, slot, asked)) = due.front().copied().filter(|(at, ..)| *at <= now) {
            due.pop_front();
            planner.ask(PROVIDER, &payment(slot, merchants[slot as usize], 0, asked), Tick::from_ms(now));
        }
        for slot in granted(&mut planner, now) {
            due.push_back((now + 1_000, slot, Some(now)));
            *counts.entry(merchants[slot as usize]).or_default() += u32::from(now >= 35_000);
        }
    }
    counts
}

#[test]
fn a_flooding_merchant_gets_a_third_while_the_others_want_more() {
    // 300 of as many merchants, and 3,000 of one.
    let merchants: Vec<u32> = (0..3_300).map(|slot| if slot % 11 == 0 { slot } else { 1 }).collect();
    let counts = asked_in_a_minute(60, &merchants);
    let (flood, all) = (counts[&1], counts.values().sum::<u32>());
    assert!((all / 5..all * 9 / 20).contains(&flood), "{flood} of {all}");
    // None of the others is left out: each had its dozen turns.
    assert!(merchants.iter().step_by(11).all(|merchant| counts[merchant] >= 4));
    // And what the others do not want is its own.
    let merchants: Vec<u32> = (0..3_020).map(|slot| if slot % 151 == 0 { slot } else { 1 }).collect();
    let counts = asked_in_a_minute(60, &merchants);
    let (flood, all) = (counts[&1], counts.values().sum::<u32>());
    assert!(flood > all / 2, "{flood} of {all}: twenty payments want 20 queries a second at most");
}

#[test]
fn merchants_of_one_size_are_equal_however_few_they_are() {
    let merchants: Vec<u32> = (0..900).map(|slot| slot % 3).collect();
    let counts = asked_in_a_minute(60, &merchants);
    let all = counts.values().sum::<u32>();
    assert!(counts.values().all(|count| (all / 4..all * 5 / 12).contains(count)), "{counts:?}");
}

#[test]
fn a_large_chain_that_is_no_flood_is_treated_as_anybody() {
    // Three in ten are of one chain.
    let merchants: Vec<u32> = (0..600).map(|slot| if slot % 10 < 3 { 1 } else { 1_000 + slot }).collect();
    let counts = asked_in_a_minute(60, &merchants);
    let (chain, all) = (counts[&1], counts.values().sum::<u32>());
    assert!((all / 5..all * 2 / 5).contains(&chain), "{chain} of {all}");
}

/// Customers are done between 6 and 8 s, or never.
fn knowing(planner: &mut Planner) {
    for number in 0..4_000_u64 {
        let now = Tick::from_ms(number * 10);
        planner.learn(
            Channel::WechatV2,
            None,
            if number % 4 == 0 {
                Lesson::Open { until_ms: 90_000 }
            } else {
                Lesson::Ended { after_ms: 6_000, by_ms: 8_000 }
            },
            now,
        );
    }
}

#[test]
fn room_goes_where_an_end_is_likeliest() {
    let mut planner = planner(50);
    knowing(&mut planner);
    let now = 100_000;
    for slot in 0..50 {
        // Waited for a second each: at 7 s of age, and at 25 s.
        planner.ask(
            PROVIDER,
            &payment(100 + slot, slot, now - 25_000, Some(now - 1_000)),
            Tick::from_ms(now),
        );
        planner.ask(PROVIDER, &payment(slot, 100 + slot, now - 7_500, Some(now - 1_000)), Tick::from_ms(now));
    }
    let mut slots = granted(&mut planner, now);
    slots.sort_unstable();
    assert_eq!(slots, (0..50).collect::<Vec<_>>());
}

#[test]
fn nobody_waits_for_longer_than_may_be() {
    let mut planner = planner(20);
    knowing(&mut planner);
    // 40 payments that are not likely to end; and a hundred, then 40 a second, that are. Those take all of the budget
    // and are given up after 5 s.
    let start = 100_000;
    let mut waits: HashMap<u32, u64> = (0..40).map(|slot| (slot, start)).collect();
    for slot in 0..40 {
        planner.ask(
            PROVIDER,
            &payment(slot, slot, start - 40_000, Some(start - 1_000)),
            Tick::from_ms(start),
        );
    }
    for slot in 500..600 {
        planner.ask(PROVIDER, &payment(slot, slot, start - 8_000, None), Tick::from_ms(start));
        waits.insert(slot, start);
    }
    let all_done = start + WAIT_MAX_MS + 40 * WINDOW_MS / 20 + 100;
    for (round, now) in (start..all_done).step_by(50).enumerate() {
        for slot in [1_000, 1_001].map(|first| first + 2 * u32::try_from(round).unwrap()) {
            planner.ask(PROVIDER, &payment(slot, slot, now - 8_000, None), Tick::from_ms(now));
            waits.insert(slot, now);
        }
        waits.retain(|slot, since| *slot < 40 || now - *since < 5_000);
        while let Some((order, _)) =
            planner.grant(Tick::from_ms(now), |waiting| waits.contains_key(&waiting.order.slot))
        {
            waits.remove(&order.slot);
        }
        if now < start + WAIT_MAX_MS {
            assert_eq!(
                (0..40).filter(|slot| waits.contains_key(slot)).count(),
                40,
                "room went where it was worth more"
            );
        }
    }
    assert_eq!((0..40).filter(|slot| waits.contains_key(slot)).count(), 0);
}
