//! The best plan that there is for who knows the distribution.
//!
//! Worked out backwards over the age of a payment (dynamic programming), with a price for each query such that the
//! budget is used up on average. Payments are bound together by nothing but the budget, so no policy that keeps to it
//! does better on average, whatever it knows: this is a lower bound, and it does not even queue.

use crate::draw::{Draw, Population};
use crate::outcome::{GIVE_UP_MS, LATENCY_MS};

const GRID_MS: u64 = 50;
const FIRST_MS: u64 = 5_000;
const GAP_MS: u64 = 1_000;
const SAMPLES: usize = 400_000;

/// A population, as the oracle knows it.
pub(crate) struct Oracle {
    /// Times until the end, sorted; who never ends is last.
    times: Vec<u64>,
    survival: Vec<f64>,
    /// Its integral, in grid steps.
    area: Vec<f64>,
}

/// What a plan costs and gives.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Queries for a payment, the one that proves a reversal included.
    pub(crate) queries: f64,
    /// Delay over payments that end before they are given up.
    pub(crate) mean: f64,
    pub(crate) tails: [f64; 3],
    pub(crate) ages_ms: Vec<u64>,
}

impl Oracle {
    pub(crate) fn of(population: Population) -> Self {
        let mut draw = Draw::new(99);
        let mut times: Vec<u64> =
            (0..SAMPLES).map(|_| population.draw(&mut draw).unwrap_or(u64::MAX)).collect();
        times.sort_unstable();
        let steps = GIVE_UP_MS / GRID_MS;
        let survival: Vec<f64> = (0..=steps)
            .map(|step| {
                let over = times.partition_point(|time| *time <= step * GRID_MS);
                (SAMPLES - over) as f64 / SAMPLES as f64
            })
            .collect();
        let mut area = vec![0.0];
        for pair in survival.windows(2) {
            area.push(area.last().copied().unwrap_or(0.0) + (pair[0] + pair[1]) / 2.0);
        }
        Self { times, survival, area }
    }

    /// The share of customers who are still typing.
    pub(crate) fn survival(&self, age_ms: u64) -> f64 {
        self.survival[usize::try_from(age_ms / GRID_MS).expect("an age").min(self.survival.len() - 1)]
    }

    /// The best ages to ask at, if a query costs as much as `price` steps of delay.
    fn ages(&self, price: f64) -> Vec<u64> {
        let (s, g) = (&self.survival, &self.area);
        let end = s.len() - 1;
        let (mut cost, mut next) = (vec![0.0; s.len()], vec![end; s.len()]);
        let steps = |ms: u64| usize::try_from(ms / GRID_MS).expect("small");
        for from in (0..end).rev() {
            let first = if from == 0 { steps(FIRST_MS) } else { (from + steps(GAP_MS)).max(steps(FIRST_MS)) };
            let mut best = f64::INFINITY;
            for to in first.min(end)..=end {
                let unseen = (to - from) as f64 * s[from] - (g[to] - g[from]);
                let all = price * s[from] + unseen + cost[to];
                if all < best {
                    (best, next[from]) = (all, to);
                }
            }
            cost[from] = best;
        }
        let (mut ages, mut at) = (Vec::new(), 0);
        while at < end {
            at = next[at];
            ages.push(at as u64 * GRID_MS);
        }
        ages
    }

    /// What asking at these ages costs and gives.
    pub(crate) fn plan(&self, ages_ms: &[u64]) -> Plan {
        self.mixed(ages_ms.to_vec(), ages_ms, 1.0)
    }

    /// A part of all payments is asked about at the first ages, the others at the second.
    fn mixed(&self, ages_ms: Vec<u64>, others_ms: &[u64], part: f64) -> Plan {
        let queries = part * self.queries(&ages_ms) + (1.0 - part) * self.queries(others_ms);
        let (mut delays, mut due): (Vec<u64>, f64) = (Vec::new(), 0.0);
        for time in self.times.iter().take_while(|time| **time <= GIVE_UP_MS) {
            due += part;
            let ages = if due >= 1.0 { &ages_ms[..] } else { others_ms };
            due -= due.floor();
            let seen = ages.iter().find(|age| **age + LATENCY_MS / 2 >= *time);
            delays.extend(seen.map(|age| age + LATENCY_MS - time));
        }
        delays.sort_unstable();
        let tails = [50, 95, 99].map(|percent| delays[delays.len() * percent / 100] as f64);
        Plan { queries, mean: crate::outcome::mean(&delays), tails, ages_ms }
    }

    /// The best plan with so many queries for a payment: a mixture of the two that are best at the prices around it.
    pub(crate) fn best(&self, queries: f64) -> Plan {
        let (mut low, mut high) = (1e-4, 1e4);
        for _ in 0..30 {
            let price = f64::sqrt(low * high);
            if self.queries(&self.ages(price)) > queries { low = price } else { high = price }
        }
        let (more, fewer) = (self.ages(low), self.ages(high));
        let (most, least) = (self.queries(&more), self.queries(&fewer));
        let part = if most > least { ((queries - least) / (most - least)).clamp(0.0, 1.0) } else { 1.0 };
        self.mixed(more, &fewer, part)
    }

    /// Queries for a payment.
    fn queries(&self, ages_ms: &[u64]) -> f64 {
        let before = std::iter::once(0).chain(ages_ms.iter().copied());
        let asked: f64 = ages_ms.iter().zip(before).map(|(_, before)| self.survival(before)).sum();
        asked + self.survival(GIVE_UP_MS)
    }
}
