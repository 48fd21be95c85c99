//! A crowd: who comes when, to which till, with which code. The same seed gives the same crowd.

use std::sync::Arc;
use std::time::Duration;

use signer::Kind;
use simulator::{Code, Rng};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use till::serve::{Habit, Sale, Shop, Till};

/// Customer 99 is drawn from the wallet's population.
const POPULATION: u16 = 9900;
/// One payment in so many is over 1,000 CNY, and asks for the password whatever the customer's kind.
const LARGE_ONE_IN: u64 = 100;

/// One customer who comes.
pub(super) struct Arrival {
    /// After the start.
    pub(super) after: Duration,
    pub(super) sale: Sale,
}

/// Draws `customers` who come at `per_second` on average. Moments drawn evenly over the whole time are what a
/// Poisson process looks like once its number is known.
pub(super) fn arrivals(seed: u64, customers: u32, per_second: u32, merchants: usize) -> Vec<Arrival> {
    let mut rng = Rng::keyed(seed, "crowd");
    let span_us = u64::from(customers) * 1_000_000 / u64::from(per_second.max(1));
    let mut moments: Vec<u64> = (0..customers).map(|_| rng.below(span_us.max(1))).collect();
    moments.sort_unstable();
    let tills = u64::try_from(merchants).unwrap_or(1).max(1);
    let arrival = |(after_us, n): (u64, u64)| Arrival {
        after: Duration::from_micros(after_us),
        sale: Sale {
            merchant: usize::try_from(n % tills).unwrap_or_default(),
            // Merchants use each other's numbers, as they may.
            number: format!("D{:010}", n / tills + 1),
            amount_fen: match rng.below(LARGE_ONE_IN) {
                0 => 100_001 + rng.below(400_000),
                _ => 1 + rng.below(30_000),
            },
            code: Code::for_customer(POPULATION, n + 1),
            habit: habit(&mut rng),
            kind: if rng.below(4) == 0 { Kind::HmacSha256 } else { Kind::Md5 },
        },
    };
    moments.into_iter().zip(0..).map(arrival).collect()
}

/// 86 % patient, 5 % give up, 5 % lose the first answer, 2 % reverse first, 2 % change their mind.
fn habit(rng: &mut Rng) -> Habit {
    match rng.below(100) {
        0..86 => Habit::Patient,
        86..91 => Habit::GivesUp,
        91..96 => Habit::LosesAnswer(rng.below(40)),
        96..98 => Habit::ReversesFirst,
        _ => Habit::ChangesMind,
    }
}

/// Lets the crowd come; every till ends with a definite outcome, or when tills stop asking.
pub(super) async fn come(shop: &Arc<Shop>, arrivals: Vec<Arrival>) -> Vec<Till> {
    let start = Instant::now();
    let mut tills = JoinSet::new();
    for Arrival { after, sale } in arrivals {
        sleep_until(start + after).await;
        let mut till = Till::new(Arc::clone(shop), sale);
        tills.spawn(async move {
            till.serve().await;
            till
        });
    }
    tills.join_all().await
}

/// Every till asks once more, some at a time.
pub(super) async fn close_the_day(tills: Vec<Till>) -> Vec<Till> {
    const AT_ONCE: usize = 32;
    let mut closed = Vec::with_capacity(tills.len());
    let mut asking = JoinSet::new();
    for mut till in tills {
        if asking.len() >= AT_ONCE
            && let Some(Ok(till)) = asking.join_next().await
        {
            closed.push(till);
        }
        asking.spawn(async move {
            till.close_the_day().await;
            till
        });
    }
    closed.extend(asking.join_all().await);
    closed.sort_by(|a, b| (&a.sale.number, a.sale.merchant).cmp(&(&b.sale.number, b.sale.merchant)));
    closed
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::{Habit, arrivals};

    #[test]
    fn a_seed_is_a_crowd() {
        let crowd = |seed| {
            let drawn = arrivals(seed, 2_000, 200, 40);
            drawn.iter().map(|one| (one.after, one.sale.amount_fen, one.sale.habit)).collect::<Vec<_>>()
        };
        assert_eq!(crowd(1), crowd(1));
        assert_ne!(crowd(1), crowd(2));
    }

    #[test]
    fn everybody_comes_in_time_with_a_number_and_a_code_of_their_own() {
        let drawn = arrivals(7, 2_000, 200, 40);
        assert!(drawn.is_sorted_by_key(|one| one.after));
        assert!(drawn.last().is_some_and(|last| last.after < Duration::from_secs(10)));
        let numbers: BTreeSet<_> =
            drawn.iter().map(|one| (one.sale.merchant, one.sale.number.clone())).collect();
        let codes: BTreeSet<_> = drawn.iter().map(|one| one.sale.code.as_str().to_owned()).collect();
        assert_eq!((numbers.len(), codes.len()), (2_000, 2_000));
        for wanted in [Habit::Patient, Habit::GivesUp, Habit::ReversesFirst, Habit::ChangesMind] {
            assert!(drawn.iter().any(|one| one.sale.habit == wanted), "{wanted:?}");
        }
    }
}
