//! When payments begin: an open process that does not know the server.

use simulator::Rng;

use crate::clock::SECOND_NS;

/// How payments are spread over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// Exponential gaps, as independent customers come.
    Poisson,
    /// Equal gaps.
    Constant,
}

impl Process {
    /// Its name in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Poisson => "poisson",
            Self::Constant => "constant",
        }
    }
}

/// The moments, in nanoseconds after the start, at which payments are due; the same seed gives the same moments.
#[derive(Clone, Debug)]
pub struct Arrivals {
    process: Process,
    per_second: u32,
    end_ns: u64,
    rng: Rng,
    n: u64,
    at_ns: u64,
}

impl Arrivals {
    /// `per_second` payments a second (at least 1) until `end_ns`.
    #[must_use]
    pub fn new(process: Process, per_second: u32, end_ns: u64, seed: u64) -> Self {
        let rng = Rng::keyed(seed, "arrivals");
        Self { process, per_second: per_second.max(1), end_ns, rng, n: 0, at_ns: 0 }
    }
}

impl Iterator for Arrivals {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.at_ns = match self.process {
            // From the count, not from the moment before: rounding does not add up.
            Process::Constant => {
                let at_ns = u128::from(self.n) * u128::from(SECOND_NS) / u128::from(self.per_second);
                u64::try_from(at_ns).unwrap_or(u64::MAX)
            }
            Process::Poisson => {
                let gap_ns = exponential_ns(self.per_second, &mut self.rng);
                self.at_ns.saturating_add(gap_ns)
            }
        };
        self.n += 1;
        (self.at_ns < self.end_ns).then_some(self.at_ns)
    }
}

/// A gap of a Poisson process of `per_second` events a second.
#[expect(clippy::float_arithmetic, reason = "a moment of a load test, not money; the logarithm needs it")]
fn exponential_ns(per_second: u32, rng: &mut Rng) -> u64 {
    let drawn = u32::try_from(rng.next_u64() >> 32).unwrap_or(u32::MAX);
    // In the middle of one of 2³² parts of 0 to 1, so that its logarithm is finite.
    let uniform = (f64::from(drawn) + 0.5) / (f64::from(u32::MAX) + 1.0);
    let gap = std::time::Duration::from_secs_f64(-uniform.ln() / f64::from(per_second));
    u64::try_from(gap.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Arrivals, Process, SECOND_NS};

    #[test]
    fn equal_gaps_do_not_drift() {
        let all: Vec<u64> = Arrivals::new(Process::Constant, 3, 1_000 * SECOND_NS, 1).collect();
        assert_eq!(all.len(), 3_000);
        assert_eq!(
            (all[1], all[2], all[3], all[2_997]),
            (333_333_333, 666_666_666, SECOND_NS, 999 * SECOND_NS)
        );
    }

    #[test]
    fn a_seed_is_a_process_of_the_wanted_rate() {
        let draw = |seed| Arrivals::new(Process::Poisson, 1_000, 100 * SECOND_NS, seed).collect::<Vec<_>>();
        let all = draw(1);
        assert_eq!(all, draw(1));
        assert_ne!(all, draw(2));
        assert!(all.is_sorted());
        // 100,000 are expected, with a deviation of 316.
        assert!((98_500..101_500).contains(&all.len()), "{}", all.len());
        // Of exponential gaps, one in e is longer than their mean; of equal ones none would be.
        let long = all.windows(2).filter(|pair| pair[1] - pair[0] > 1_000_000).count();
        assert!((35_000..38_600).contains(&long), "{long}");
    }
}
