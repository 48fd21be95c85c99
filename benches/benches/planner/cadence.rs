//! What others do: ask at a fixed cadence, first come first served where a budget holds them back.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use state_machine::planner::WINDOW_MS;

use crate::draw::Customer;
use crate::outcome::{GIVE_UP_MS, LATENCY_MS, Tally};

/// A cadence: the first query after so long, then one after every answer or pause.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cadence {
    pub(crate) name: &'static str,
    pub(crate) first_ms: u64,
    pub(crate) every_ms: u64,
}

/// The three of the issue. The one of 2 s begins after 2 s, which the others may not: the contract says 5.
pub(crate) const CADENCES: [Cadence; 3] = [
    Cadence { name: "fixed 5+10 s", first_ms: 5_000, every_ms: 10_000 },
    Cadence { name: "fixed 5 s", first_ms: 5_000, every_ms: 5_000 },
    Cadence { name: "fixed 2 s", first_ms: 2_000, every_ms: 2_000 },
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Due(usize),
    /// The last query, or the one that proves the reversal.
    Last(usize),
    Proof(usize),
    Room,
}

/// Runs all customers at a cadence, within a budget in any second or, without one, as it comes.
pub(crate) fn run(
    customers: &[Customer],
    cadence: Cadence,
    budget: u32,
    is_held: bool,
    measured: (u64, u64),
) -> Tally {
    let mut tally = Tally::new(budget);
    let mut events: BinaryHeap<Reverse<(u64, Event)>> = BinaryHeap::new();
    for (place, customer) in customers.iter().enumerate() {
        events.push(Reverse((customer.left_ms + cadence.first_ms, Event::Due(place))));
        events.push(Reverse((customer.left_ms + GIVE_UP_MS, Event::Last(place))));
    }
    let mut is_over = vec![false; customers.len()];
    // What decides goes first, as with us.
    let (mut deciding, mut asking) = (VecDeque::new(), VecDeque::new());
    let mut granted: VecDeque<u64> = VecDeque::new();
    while let Some(Reverse((now, event))) = events.pop() {
        match event {
            Event::Due(place) if !is_over[place] && now < customers[place].left_ms + GIVE_UP_MS => {
                asking.push_back(place);
            }
            Event::Last(place) if !is_over[place] => deciding.push_back(event),
            Event::Proof(_) => deciding.push_back(event),
            Event::Due(_) | Event::Last(_) | Event::Room => {}
        }
        loop {
            while granted.front().is_some_and(|at| now - at >= WINDOW_MS) {
                granted.pop_front();
            }
            if is_held && granted.len() >= budget as usize {
                if let Some(oldest) = granted.front().filter(|_| !deciding.is_empty() || !asking.is_empty()) {
                    // One wake-up for all that wait.
                    let room = (oldest + WINDOW_MS, Event::Room);
                    if events.peek().is_none_or(|Reverse(next)| *next > room) {
                        events.push(Reverse(room));
                    }
                }
                break;
            }
            let next = deciding.pop_front().or_else(|| asking.pop_front().map(Event::Due));
            let Some(next) = next else { break };
            let (Event::Due(place) | Event::Last(place) | Event::Proof(place)) = next else { continue };
            let customer = customers[place];
            let is_measured = (measured.0..measured.1).contains(&customer.left_ms);
            if is_over[place] && !matches!(next, Event::Proof(_)) {
                continue;
            }
            if matches!(next, Event::Due(_)) && now >= customer.left_ms + GIVE_UP_MS {
                continue; // Its last query is queued.
            }
            granted.push_back(now);
            tally.query(now, is_measured);
            if matches!(next, Event::Proof(_)) {
                tally.resolved += u64::from(is_measured);
            } else if customer.ends_ms <= now + LATENCY_MS / 2 {
                is_over[place] = true;
                if is_measured {
                    tally.delays.push((customer.left_ms, now + LATENCY_MS - customer.ends_ms));
                    tally.resolved += 1;
                }
            } else if matches!(next, Event::Last(_)) {
                is_over[place] = true;
                events.push(Reverse((now + 2 * LATENCY_MS, Event::Proof(place))));
            } else {
                events.push(Reverse((now + cadence.every_ms, Event::Due(place))));
            }
        }
    }
    tally
}
