//! How late is the end of a payment noticed, at a given budget of queries, against fixed cadences and against who knows
//! everything?
//!
//! Virtual time and recorded seeds. Customers arrive at random (Poisson), type for as long as their population does,
//! and one in ten never ends. *Ours* is the production shard with its planner, which begins without knowing anything.
//! Fixed cadences have the same budget and go first come first served where it does not suffice; how often one that
//! does not hold itself back would break it stands beside them. *Load* is what the cadence of 5 + 10 s asks for, as a
//! part of the budget. The oracle knows the distribution; nothing that keeps to the budget is better on average.
//!
//! `cargo bench -p hufu-benches --bench planner` prints the tables and keeps them in `benches/data/planner.jsonl`;
//! it fails if a bar of the issue is missed.
#![expect(clippy::float_arithmetic, reason = "figures for people, in a bench")]

use std::fmt::Write as _;

use crate::cadence::{CADENCES, Cadence};
use crate::draw::{Population, customers};
use crate::oracle::Oracle;
use crate::outcome::{Summary, Tally, mean};

mod cadence;
mod draw;
mod oracle;
mod outcome;
mod production;

/// Payments a second.
const RATE: f64 = 40.0;
const LOADS: [u64; 4] = [10, 50, 100, 150];

/// How much to run: everything, or once to see that it runs.
struct Scale {
    seeds: &'static [u64],
    /// Seconds until measuring begins, and for which it goes on.
    warm: u64,
    measured: u64,
    /// Seconds before and after the population changes.
    before: u64,
    after: u64,
    is_full: bool,
}

const FULL: Scale =
    Scale { seeds: &[1, 2, 3], warm: 300, measured: 900, before: 900, after: 900, is_full: true };
const ONCE: Scale = Scale { seeds: &[1], warm: 30, measured: 30, before: 30, after: 30, is_full: false };

/// Lines for the file, and what missed its bar.
#[derive(Default)]
struct Book {
    lines: String,
    missed: Vec<String>,
}

impl Book {
    fn line(&mut self, of: Population, load: u64, policy: &str, summary: &Summary, unheld: u64) {
        let Summary { mean, tails: [p50, p95, p99], queries, over, most } = summary;
        let name = of.name();
        eprintln!(
            "| {name} | {load} % | {policy} | {mean:.0} | {p50:.0} | {p95:.0} | {p99:.0} | {queries:.2} | {over} | {unheld} |"
        );
        let _ = writeln!(
            self.lines,
            r#"{{"population":"{name}","load_percent":{load},"policy":"{policy}","delay_ms_mean":{mean:.1},"delay_ms_p50":{p50:.0},"delay_ms_p95":{p95:.0},"delay_ms_p99":{p99:.0},"queries_per_payment":{queries:.3},"over_budget":{over},"most_in_a_second":{most},"over_budget_if_not_held":{unheld}}}"#
        );
    }

    fn bar(&mut self, holds: bool, what: &str) {
        eprintln!("{} {what}", if holds { "holds: " } else { "MISSED:" });
        if !holds {
            self.missed.push(what.to_owned());
        }
    }
}

fn main() {
    let scale = if std::env::args().any(|arg| arg == "--bench") { FULL } else { ONCE };
    let mut book = Book::default();
    eprintln!(
        "| population | load | policy | delay ms: mean | p50 | p95 | p99 | queries a payment | over budget | if not held |"
    );
    eprintln!("|---|---|---|---:|---:|---:|---:|---:|---:|---:|");
    for population in Population::ALL {
        let oracle = Oracle::of(population);
        for load in LOADS {
            compare(&scale, population, &oracle, load, &mut book);
        }
    }
    change(&scale, &mut book);
    if scale.is_full {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/data/planner.jsonl");
        std::fs::write(file, &book.lines).expect("the folder of the data");
        assert!(book.missed.is_empty(), "missed: {:#?}", book.missed);
    }
}

/// Queries a second so that the cadence of 5 + 10 s asks for `load` percent of them.
fn budget(oracle: &Oracle, load: u64) -> (u32, f64) {
    let Cadence { first_ms, every_ms, .. } = CADENCES[0];
    let ages = (0..).map(|n| first_ms + n * every_ms).take_while(|age| *age < 45_000).chain([45_000]);
    let wanted = RATE * oracle.plan(&ages.collect::<Vec<_>>()).queries * 100.0 / load as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number")]
    let budget = (wanted * 1.05).round() as u32;
    // A budget of one second is kept in windows that are a twentieth longer.
    (budget, f64::from(budget) / 1.05 / RATE)
}

fn compare(scale: &Scale, population: Population, oracle: &Oracle, load: u64, book: &mut Book) {
    let (budget, queries) = budget(oracle, load);
    let measured = (scale.warm * 1_000, (scale.warm + scale.measured) * 1_000);
    let seconds = scale.warm + scale.measured + 90;
    let of_seed = |seed: &u64| customers(*seed, RATE, seconds, population, None);
    let crowds: Vec<_> = scale.seeds.iter().map(of_seed).collect();
    let ours = sum(budget, crowds.iter().map(|crowd| production::run(crowd, budget, measured, |_, _| {})));
    book.line(population, load, "ours", &ours, 0);
    let mut fixed = Vec::new();
    for cadence in CADENCES {
        let run = |is_held| {
            sum(budget, crowds.iter().map(|crowd| cadence::run(crowd, cadence, budget, is_held, measured)))
        };
        let held = run(true);
        book.line(population, load, cadence.name, &held, run(false).over);
        fixed.push(held.mean);
    }
    let best = oracle.best(queries);
    let summary = Summary { mean: best.mean, tails: best.tails, queries: best.queries, over: 0, most: 0 };
    book.line(population, load, "oracle", &summary, 0);
    let ages: Vec<_> = best.ages_ms.iter().map(|ms| *ms as f64 / 1_000.0).collect();
    eprintln!(
        "oracle asks at {ages:.1?} s; budget {budget}/s, ours asked {} in the fullest second",
        ours.most
    );
    if !scale.is_full {
        return;
    }
    let name = format!("{} at {load} %", population.name());
    book.bar(ours.over == 0, &format!("{name}: never over the budget"));
    let best_fixed = fixed.iter().copied().fold(f64::INFINITY, f64::min);
    match load {
        10 => book.bar(
            ours.mean * 4.0 <= fixed[0],
            &format!("{name}: {:.3} of fixed 5+10 s", ours.mean / fixed[0]),
        ),
        100 => {
            let ratio = ours.mean / best_fixed;
            book.bar(ratio <= 1.0, &format!("{name}: {ratio:.3} of the best fixed cadence"));
            let ratio = ours.mean / best.mean;
            book.bar(ratio <= 1.2, &format!("{name}: {ratio:.3} of the oracle"));
        }
        _ => eprintln!(
            "        {name}: {:.3} of the oracle, {:.3} of the best fixed",
            ours.mean / best.mean,
            ours.mean / best_fixed
        ),
    }
}

/// All seeds as one run.
fn sum(budget: u32, runs: impl Iterator<Item = Tally>) -> Summary {
    let mut all = Tally::new(budget);
    for run in runs {
        all.delays.extend(run.delays);
        all.resolved += run.resolved;
        all.queries += run.queries;
        all.over += run.over;
        all.most = all.most.max(run.most);
    }
    all.summary()
}

/// The population changes from one minute to the next: the estimate's distance from the truth at ages at which anybody
/// is asked about, and the delay beside the oracle's.
fn change(scale: &Scale, book: &mut Book) {
    let (first, then) = (Population::LogNormal, Population::Bimodal);
    let (knows_first, knows_then) = (Oracle::of(first), Oracle::of(then));
    let (budget, queries) = budget(&knows_then, 100);
    let seconds = scale.before + scale.after;
    let crowd = customers(7, RATE, seconds + 90, first, Some((scale.before, then)));
    let mut distances = Vec::new();
    let tally = production::run(&crowd, budget, (0, seconds * 1_000), |now, learned| {
        let truth = if now < scale.before * 1_000 { &knows_first } else { &knows_then };
        let mut learned = learned.clone();
        let mut off = |age_ms: u64| {
            let amount = protocol::Fen::new(5_900).ok();
            let ours = learned.still_typing(state_machine::Channel::WechatV2, amount, age_ms) as f64 / 1e6;
            (ours - truth.survival(age_ms)).abs()
        };
        distances.push((now, (5_000..44_000).step_by(500).map(&mut off).fold(0.0, f64::max)));
    });
    eprintln!(
        "| seconds after the change | distance of the estimate | delay ms: mean | oracle of what holds then |"
    );
    eprintln!("|---:|---:|---:|---:|");
    let mut curve = Vec::new();
    for from in (0..seconds * 1_000).step_by(60_000) {
        let to = from + 60_000;
        let within = |at: &u64| (from..to).contains(at);
        let delays: Vec<u64> =
            tally.delays.iter().filter(|(left, _)| within(left)).map(|(_, delay)| *delay).collect();
        let off: Vec<f64> = distances.iter().filter(|(now, _)| within(now)).map(|(_, off)| *off).collect();
        let off = off.last().copied().unwrap_or(0.0);
        let knows = if from < scale.before * 1_000 { &knows_first } else { &knows_then };
        let best = knows.best(queries).mean;
        let after = i64::try_from(from / 1_000).expect("hours") - i64::try_from(scale.before).expect("hours");
        let ours = mean(&delays);
        eprintln!("| {after} to {} | {off:.3} | {ours:.0} | {best:.0} |", after + 60);
        let _ = writeln!(
            book.lines,
            r#"{{"curve":"change","after_s":{after},"distance":{off:.4},"delay_ms_mean":{ours:.1},"oracle_ms_mean":{best:.1}}}"#
        );
        curve.push((after, off));
    }
    if scale.is_full {
        // Against one that has never met anything but the second population, with the same moments of arrival.
        let from = (scale.before + 300) * 1_000;
        let mut means = [0.0, 0.0];
        for seed in [7, 8, 9] {
            let changed = customers(seed, RATE, seconds + 90, first, Some((scale.before, then)));
            let settled = customers(seed, RATE, seconds + 90, then, None);
            for (sum, crowd) in means.iter_mut().zip([changed, settled]) {
                *sum += production::run(&crowd, budget, (from, seconds * 1_000), |_, _| {}).summary().mean;
            }
        }
        let ratio = means[0] / means[1];
        book.bar(
            ratio <= 1.1,
            &format!("from five minutes after a change on: {ratio:.3} of one that knew no other"),
        );
        let of = |from: i64, to: i64| {
            let within: Vec<f64> =
                curve.iter().filter(|(after, _)| (from..to).contains(after)).map(|(_, off)| *off).collect();
            within.iter().sum::<f64>() / within.len().max(1) as f64
        };
        let (then, at_last) = (of(300, 360), of(600, i64::MAX));
        let what =
            format!("five minutes after a change the estimate is off by {then:.3}, at last by {at_last:.3}");
        book.bar(then <= 1.25 * at_last + 0.01, &what);
    }
    let over = tally.over;
    if scale.is_full {
        book.bar(over == 0, "never over the budget while it changes");
    }
}
