//! What does it cost to choose the next query, as more payments wait for their turn?
//!
//! The production planner with 10,000, 100,000 and 1,000,000 payments that wait, of 10,000 merchants, in all ages; the
//! budget is never enough. A round is what a query costs its planner: it is granted, answered, and its payment waits
//! again. Virtual time goes on as the budget has it; the figures are of the machine.
//!
//! `cargo bench -p hufu-benches --bench planner_cost`

use std::time::Instant;

use protocol::Fen;
use state_machine::planner::{Due, Lesson, Planner, Quota, Urgency, Waiting};
use state_machine::shard::{Call, OrderRef};
use state_machine::{Channel, MerchantId, ProviderId, Tick};

const PROVIDER: ProviderId = ProviderId(1);
/// Queries a second.
const BUDGET: u32 = 2_000;

fn main() {
    let is_full = std::env::args().any(|arg| arg == "--bench");
    let (counts, rounds): (&[u64], u64) =
        if is_full { (&[10_000, 100_000, 1_000_000], 400_000) } else { (&[1_000], 1_000) };
    eprintln!("| waiting | ns a query, chosen and queued again: median of 20 | most | bytes each |");
    eprintln!("|---:|---:|---:|---:|");
    for count in counts {
        let (median, most) = cost(*count, rounds);
        eprintln!("| {count} | {median} | {most} | {} |", size_of::<Waiting>());
    }
}

fn due(place: u64, left_ms: u64, asked_ms: Option<u64>) -> Due {
    Due {
        order: OrderRef { slot: u32::try_from(place).expect("small"), generation: 1 },
        call: Call::Query,
        urgency: Urgency::Asks,
        merchant: MerchantId(u32::try_from(place % 10_000).expect("small")),
        channel: Channel::WechatV2,
        amount: Fen::new([800, 20_000, 70_000, 300_000][usize::try_from(place % 4).expect("small")]).ok(),
        left_at: Tick::from_ms(left_ms),
        asked_at: asked_ms.map(Tick::from_ms),
    }
}

/// The median and the most of twenty parts, in nanoseconds a round.
#[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
fn cost(count: u64, rounds: u64) -> (u128, u128) {
    let quota = Quota { pay: 1, query: BUDGET, reverse: 1, calls_max: u32::MAX };
    let mut planner = Planner::new(quota, Vec::new());
    let start = 1_000_000;
    for number in 0..2_000 {
        let by_ms = 4_000 + number % 20 * 1_000;
        let lesson = Lesson::Ended { after_ms: by_ms - 1_000, by_ms };
        planner.learn(Channel::WechatV2, None, lesson, Tick::from_ms(number * 50));
    }
    let mut left: Vec<u64> = (0..count).map(|place| start - 5_000 - place * 7_919 % 40_000).collect();
    for (place, left_ms) in (0..).zip(&left) {
        planner.ask(PROVIDER, &due(place, *left_ms, None), Tick::from_ms(start));
    }
    let mut now = start;
    let mut parts = Vec::new();
    for _ in 0..20 {
        let begun = Instant::now();
        let mut done = 0;
        while done < rounds / 20 {
            let Some((order, _)) = planner.grant(Tick::from_ms(now), |_| true) else {
                now = planner.next_room().expect("many wait").as_ms();
                continue;
            };
            planner.answered(PROVIDER);
            let place = u64::from(order.slot);
            // One in three ends and makes room for a new payment.
            let asked_ms = (place.wrapping_mul(now) % 3 > 0).then_some(now);
            let left_ms = &mut left[order.slot as usize];
            if asked_ms.is_none() {
                *left_ms = now - 5_000;
            }
            planner.ask(PROVIDER, &due(place, *left_ms, asked_ms), Tick::from_ms(now));
            done += 1;
        }
        parts.push(begun.elapsed().as_nanos() / u128::from(done.max(1)));
    }
    parts.sort_unstable();
    (parts[parts.len() / 2], parts[parts.len() - 1])
}
