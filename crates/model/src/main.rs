//! Explores every interleaving within named bounds: `cargo run --release -p model`.
#![expect(clippy::print_stdout, reason = "a command line tool reports on its streams")]

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Parser, ValueEnum};
use model::check::{Outcome, Walk, explore_with};
use model::profile::{self, Configuration};
use model::{Bounds, COVERED, Spoil, bounds};

mod report;

/// Explores every interleaving of one and two payments within named bounds, to completion, and prints what bounds
/// it and how many states there are. Exit code: 0 every rule held, 1 one did not or something was never reached, 2 a wrong argument.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Which bounds.
    #[arg(value_enum, default_value_t = Profile::Ci)]
    profile: Profile,
    /// These bounds instead, others 0: `orders=2,crashes=1`.
    #[arg(long, value_name = "NAME=N,…")]
    bounds: Option<String>,
    /// An automaton spoiled on purpose, which must be found.
    #[arg(long, value_name = "NAME")]
    spoil: Option<String>,
    /// Shortest counterexample first; takes more memory.
    #[arg(long)]
    breadth: bool,
    /// Threads that explore.
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    threads: u8,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Profile {
    /// Seconds.
    Quick,
    /// Under a minute, at least 2,000,000 states.
    Ci,
    /// Minutes, at least 20,000,000 states.
    Long,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let spoil = spoiled(args.spoil.as_deref())?;
    let own = args.bounds.as_deref().map(read_bounds).transpose()?;
    let own = own.map(|bounds| [Configuration { name: "as given", bounds }]);
    let (configurations, walk) = match (&own, args.profile) {
        (Some(own), _) => (own.as_slice(), Walk::Depth),
        (None, Profile::Quick) => (profile::QUICK, Walk::Breadth),
        (None, Profile::Ci) => (profile::CI, Walk::Depth),
        (None, Profile::Long) => (profile::LONG, Walk::Depth),
    };
    let walk = if args.breadth { Walk::Breadth } else { walk };
    let mut runs: Vec<(&str, Outcome)> = Vec::new();
    for Configuration { name, bounds } in configurations {
        let outcome = explore_with(bounds, bounds::policy(), spoil, walk, usize::from(args.threads));
        let found = outcome.counterexample.is_some();
        runs.push((name, outcome));
        if found {
            break;
        }
    }
    let narrow = own.is_none() && !report::unreached_of(&runs).is_empty();
    let held = runs.iter().all(|(_, outcome)| outcome.complete) && !narrow;
    println!("{}", if args.json { report::json(&runs) } else { report::text(&runs) });
    if held && own.is_none() && spoil == Spoil::Nothing {
        covers::passed("model", COVERED);
    }
    Ok(if held { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn spoiled(name: Option<&str>) -> anyhow::Result<Spoil> {
    let Some(name) = name else { return Ok(Spoil::Nothing) };
    let known = || Spoil::ALL.map(|spoil| format!("{spoil:?}")).join(", ");
    Spoil::ALL
        .into_iter()
        .find(|spoil| format!("{spoil:?}") == name)
        .with_context(|| format!("--spoil {name}: known are {}", known()))
}

fn read_bounds(text: &str) -> anyhow::Result<Bounds> {
    let mut bounds = Bounds::CALM;
    for part in text.split(',') {
        let (name, count) = part.split_once('=').with_context(|| format!("{part}: NAME=N is expected"))?;
        let count = count.parse().with_context(|| format!("{part}: a number up to 255 is expected"))?;
        *bounds.named_mut(name).with_context(|| format!("{name} is no bound"))? = count;
    }
    if !(1..=2).contains(&bounds.orders) {
        bail!("orders: 1 or 2");
    }
    Ok(bounds)
}
