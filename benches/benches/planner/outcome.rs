//! What came of a run.

use std::collections::VecDeque;

/// A query takes so long to the wallet and back; the wallet looks half-way.
pub(crate) const LATENCY_MS: u64 = 80;

/// When a payment is given up.
pub(crate) const GIVE_UP_MS: u64 = 45_000;

/// Counts what a policy did.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Detection delays in ms of payments that ended before they were given up, by when they left.
    pub(crate) delays: Vec<(u64, u64)>,
    pub(crate) resolved: u64,
    pub(crate) queries: u64,
    /// Queries that were one too many within a second, and the most that were within one.
    pub(crate) over: u64,
    pub(crate) most: usize,
    second: VecDeque<u64>,
    budget: usize,
}

impl Tally {
    pub(crate) fn new(budget: u32) -> Self {
        Self { budget: usize::try_from(budget).expect("small"), ..Self::default() }
    }

    /// A query leaves.
    pub(crate) fn query(&mut self, now: u64, measured: bool) {
        self.queries += u64::from(measured);
        while self.second.front().is_some_and(|at| now - at >= 1_000) {
            self.second.pop_front();
        }
        self.second.push_back(now);
        self.most = self.most.max(self.second.len());
        self.over += u64::from(self.second.len() > self.budget);
    }

    pub(crate) fn summary(&self) -> Summary {
        let mut delays: Vec<u64> = self.delays.iter().map(|(_, delay)| *delay).collect();
        delays.sort_unstable();
        Summary {
            mean: mean(&delays),
            tails: [50, 95, 99]
                .map(|percent| delays.get(delays.len() * percent / 100).copied().unwrap_or(0) as f64),
            queries: self.queries as f64 / (self.resolved.max(1)) as f64,
            over: self.over,
            most: self.most,
        }
    }
}

pub(crate) fn mean(of: &[u64]) -> f64 {
    of.iter().sum::<u64>() as f64 / of.len().max(1) as f64
}

/// Figures of a run: delays in ms, queries for each payment that was resolved.
#[derive(Clone, Debug)]
pub(crate) struct Summary {
    pub(crate) mean: f64,
    pub(crate) tails: [f64; 3],
    pub(crate) queries: f64,
    pub(crate) over: u64,
    pub(crate) most: usize,
}
