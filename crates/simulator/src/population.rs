//! Customer 99: drawn from a population, by the wallet's seed and the code's digits alone, so that a customer
//! is the same whenever the payment arrives.

use std::fmt::Write as _;

use crate::code::Code;
use crate::customer::{Behaviour, Dialog, DialogEnd, Purse, behaviour};
use crate::rng::Rng;

/// A part of the population.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    AtOnce,
    Password,
    NeverAnswers,
    Cancels,
    Refused,
    Odd,
}

/// The shares, in percent. Source: DESIGN §5.
const SHARES: [(Part, u64, &str); 6] = [
    (Part::AtOnce, 40, "pays at once (00)"),
    (
        Part::Password,
        40,
        "enters the password (01): log-normal, median 8 s, 95 % within 25 s; over 30 s too late",
    ),
    (Part::NeverAnswers, 8, "is asked and never answers (02)"),
    (Part::Cancels, 4, "cancels after 1 to 20 s (03)"),
    (Part::Refused, 3, "is refused (05, 06, 07, 21, 22)"),
    (Part::Odd, 5, "spread evenly over 08 to 39 without 30, SS 0 to 5"),
];

const REFUSED: [u8; 5] = [5, 6, 7, 21, 22];
/// 30 ends held, for the operator, and is left out.
const HELD: u8 = 30;

/// The log-normal distribution of password times, in milliseconds, at the quantiles 0/64 to 64/64 (the ends at
/// 0.2 % and 99.8 %): 8000·exp(σ·z), σ = ln(25/8) / 1.6449. A table, because `exp` may differ between machines.
const PASSWORD_MS: [i64; 65] = [
    1089, 1799, 2201, 2505, 2764, 2996, 3210, 3413, 3606, 3792, 3974, 4152, 4327, 4500, 4672, 4843, 5014,
    5185, 5356, 5529, 5702, 5877, 6054, 6234, 6415, 6600, 6788, 6979, 7174, 7373, 7577, 7786, 8000, 8220,
    8447, 8680, 8921, 9170, 9429, 9697, 9976, 10267, 10571, 10889, 11224, 11576, 11949, 12344, 12765, 13215,
    13699, 14222, 14791, 15414, 16104, 16876, 17749, 18754, 19935, 21361, 23154, 25544, 29073, 35569, 58746,
];
/// A password that takes longer than the wallet's documented dialog comes too late.
const DIALOG_MS: i64 = 30_000;

/// The customer behind a code of customer 99, in a wallet with this seed.
#[must_use]
pub fn draw(seed: u64, code: &Code) -> Behaviour {
    let mut rng = Rng::keyed(seed, code.as_str());
    let mut left = rng.below(100);
    let mut part = Part::AtOnce;
    for (candidate, share, _) in SHARES {
        part = candidate;
        if left < share {
            break;
        }
        left -= share;
    }
    match part {
        Part::AtOnce => behaviour(0, 0),
        Part::Password => password(&mut rng),
        Part::NeverAnswers => behaviour(2, 0),
        Part::Cancels => behaviour(3, digit(1 + rng.below(20))),
        Part::Refused => behaviour(pick(&REFUSED, &mut rng), 0),
        Part::Odd => {
            let odd: Vec<u8> = (8..=39).filter(|bb| *bb != HELD).collect();
            behaviour(pick(&odd, &mut rng), digit(rng.below(6)))
        }
    }
}

/// A customer who enters the password after a time of the log-normal distribution, to the millisecond.
fn password(rng: &mut Rng) -> Behaviour {
    let position = rng.below(64 * 1024);
    let index = usize::try_from(position / 1024).unwrap_or_default();
    let part = i64::try_from(position % 1024).unwrap_or_default();
    let low = PASSWORD_MS.get(index).copied().unwrap_or_default();
    let high = PASSWORD_MS.get(index + 1).copied().unwrap_or(low);
    let after_ms = low + (high - low) * part / 1024;
    let end = if after_ms > DIALOG_MS { DialogEnd::TimesOut } else { DialogEnd::Pays };
    let seconds = u8::try_from(after_ms / 1000).unwrap_or(u8::MAX).min(99);
    Behaviour { purse: Purse::Dialog(Dialog { end, after_ms }), ..behaviour(1, seconds) }
}

fn pick(from: &[u8], rng: &mut Rng) -> u8 {
    let len = u64::try_from(from.len()).unwrap_or_default();
    usize::try_from(rng.below(len)).ok().and_then(|index| from.get(index).copied()).unwrap_or_default()
}

fn digit(n: u64) -> u8 {
    u8::try_from(n).unwrap_or_default()
}

/// The shares of the population, for people: one line a part.
#[must_use]
pub fn population_table() -> String {
    let mut table = String::from("Customer 99 is drawn by the seed and the code:\n");
    for (_, share, text) in SHARES {
        let _ = writeln!(table, "  {share:>2} %  {text}");
    }
    table
}
