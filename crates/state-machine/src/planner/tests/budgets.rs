//! Budgets and memory, whatever comes.

use std::collections::HashMap;

use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, any, prop_assert, proptest};
use timer_wheel::Tick;

use super::{Draw, PROVIDER, due, order};
use crate::key::MerchantId;
use crate::planner::{Due, Planner, Quota, Urgency, WINDOW_MS, Waiting};
use crate::shard::Call;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_sliding_second_holds_more_than_the_budget(
        steps in vec((0..400_u64, 0..60_u32, any::<u8>()), 1..120),
        limit in 1..40_u32,
    ) {
        let _covers = covers::covers(&["INV-24"]);
        let quota = Quota { pay: 1, query: limit, reverse: 3, calls_max: u32::MAX };
        let mut planner = Planner::new(quota, Vec::new());
        let (mut now, mut slot) = (0, 0);
        let (mut queries, mut reversals) = (Vec::new(), Vec::new());
        for (pause, count, kind) in steps {
            now += pause;
            for _ in 0..count {
                slot += 1;
                let (call, urgency) = match (u32::from(kind) + slot) % 7 {
                    0 => (Call::Reverse, Urgency::Decides),
                    1 => (Call::LastQuery, Urgency::Decides),
                    2 => (Call::RefundQuery, Urgency::Decides),
                    3 | 4 => (Call::Query, Urgency::Prompted),
                    _ => (Call::Query, Urgency::Asks),
                };
                let merchant = MerchantId(slot % (u32::from(kind) + 1));
                let left_at = Tick::from_ms(now.saturating_sub(u64::from(slot % 50) * 900));
                let due = Due { merchant, left_at, ..due(order(slot), call, urgency) };
                planner.ask(PROVIDER, &due, Tick::from_ms(now));
            }
            while let Some((order, call)) = planner.grant(Tick::from_ms(now), |waiting| waiting.order.slot % 5 != 0) {
                prop_assert!(order.slot % 5 != 0);
                match call {
                    Call::Reverse | Call::Refund => reversals.push(now),
                    Call::LastQuery => {
                        queries.push(now);
                        if order.slot % 2 == 0 {
                            planner.use_reserved(PROVIDER, Tick::from_ms(now));
                            reversals.push(now);
                        } else {
                            planner.release(PROVIDER);
                        }
                    }
                    Call::Query | Call::RefundQuery => queries.push(now),
                }
            }
            prop_assert!(planner.next_room().is_none_or(|at| at > Tick::from_ms(now)));
            if kind % 16 == 0 {
                planner.throttled(PROVIDER, Call::Query, Tick::from_ms(now));
            }
        }
        for (sent, limit) in [(queries, limit), (reversals, 3)] {
            for (place, at) in sent.iter().enumerate() {
                let within = sent[place..].iter().take_while(|other| *other - at < WINDOW_MS).count();
                prop_assert!(within <= limit as usize, "{within} from {at} on, {limit} allowed");
            }
        }
    }
}

#[test]
fn memory_follows_what_really_waits() {
    let quota = Quota { pay: 1, query: 10, reverse: 1, calls_max: u32::MAX };
    let mut planner = Planner::new(quota, Vec::new());
    let mut draw = Draw::new(3);
    // 3,000 payments whose turn comes and goes without being granted, again and again.
    let mut since: HashMap<u32, u64> = HashMap::new();
    for round in 0..200_u64 {
        let now = 10_000 + round * 1_000;
        for slot in 0..3_000_u32 {
            let merchant = MerchantId(slot % 100);
            let left_at = Tick::from_ms(now - draw.below(10_000));
            let due = Due { merchant, left_at, ..due(order(slot), Call::Query, Urgency::Asks) };
            planner.ask(PROVIDER, &due, Tick::from_ms(now));
            since.insert(slot, now);
        }
        let wanted = |waiting: &Waiting| since.get(&waiting.order.slot) == Some(&waiting.since.as_ms());
        while planner.grant(Tick::from_ms(now), wanted).is_some() {}
        // What the sweep left, once more, and what came since there was room last: in two rounds.
        assert!(
            planner.waiting() <= 2 * 3_000 + 1_024 + 2 * 3_000,
            "{} after {round} rounds",
            planner.waiting()
        );
    }
    assert!(size_of::<Waiting>() <= 32, "{} bytes for each that waits", size_of::<Waiting>());
}
