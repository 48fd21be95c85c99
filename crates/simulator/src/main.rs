//! Runs the seeded world: `cargo run --release -p simulator -- --seeds 0..100 --orders 5000`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool reports on its streams")]

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use simulator::world::{Broken, Customers, Kind, Report, Setup, Summary, Tills, follow, place_of, run};

const USAGE: &str = "\
usage: simulator [--seeds A..B | --seed S] [--orders N] [options]

  --seeds A..B       runs the seeds A to B-1 (default 0..10)
  --seed S           runs one seed
  --orders N         payments in a run (default 2000)
  --rate N           payments that begin in a second (default: drawn from the seed)
  --bytes            real XML and signatures, both ways
  --no-faults        nothing breaks
  --only FAULT       only this kind of fault
  --customer BBSS    only this customer
  --patient          only tills that ask until they hear an outcome
  --broken KIND      a world broken on purpose, which the judges must catch
  --trace M:NUMBER   writes down everything that happens to one payment
  --jobs N           seeds run at once (default 1)
  --json             one JSON object
exit code: 0 every rule held, 1 a violation, 2 a wrong argument";

#[derive(Debug)]
struct Args {
    seeds: std::ops::Range<u64>,
    setup: Setup,
    trace: Option<u32>,
    jobs: usize,
    json: bool,
}

fn main() -> ExitCode {
    let args = match parse(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(why) => {
            eprintln!("{why}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    if let Some(n) = args.trace {
        let (report, lines) = follow(&Setup { seed: args.seeds.start, ..args.setup }, n);
        lines.iter().for_each(|line| println!("{line}"));
        return verdict(report.violations.is_empty());
    }
    let summary = run_all(&args);
    if args.json {
        println!("{}", summary.to_json());
    } else {
        print!("{}", summary.table());
    }
    verdict(summary.violations == 0)
}

fn verdict(green: bool) -> ExitCode {
    if green { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

#[expect(clippy::disallowed_methods, reason = "how fast a run is, nothing is decided by it")]
fn run_all(args: &Args) -> Summary {
    let started = std::time::Instant::now();
    let (next, summary) = (AtomicU64::new(args.seeds.start), Mutex::new(Summary::default()));
    std::thread::scope(|scope| {
        for _ in 0..args.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= args.seeds.end {
                        return;
                    }
                    let setup = Setup { seed, ..args.setup.clone() };
                    let report = run(&setup);
                    if !args.json {
                        failure(&setup, &report);
                    }
                    if let Ok(mut summary) = summary.lock() {
                        summary.add(&report);
                    }
                }
            });
        }
    });
    let mut summary = summary.into_inner().unwrap_or_default();
    summary.real_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    summary.failing.sort_unstable();
    summary
}

/// One line for a seed that fails, with the command that replays it, and what happened to the first payment.
fn failure(setup: &Setup, report: &Report) {
    let Some(first) = report.violations.first() else { return };
    let orders = setup.orders;
    let place = first.n.map_or_else(|| "-".to_owned(), simulator::world::out_trade_no);
    println!(
        "seed {}: {} violations; replay: simulator --seed {} --orders {orders}{} --trace {place}",
        report.seed,
        report.violations.len(),
        report.seed,
        switches(setup),
    );
    for violation in report.violations.iter().take(5) {
        println!("  {}", violation.line());
    }
    if let Some(n) = first.n {
        let (_, lines) = follow(setup, n);
        for line in lines.iter().take(120) {
            println!("    {line}");
        }
    }
}

/// The switches that a replay needs besides seed and orders.
fn switches(setup: &Setup) -> String {
    let mut text = String::new();
    if setup.bytes {
        text.push_str(" --bytes");
    }
    if !setup.faults {
        text.push_str(" --no-faults");
    }
    if setup.rate > 0 {
        text.push_str(&format!(" --rate {}", setup.rate));
    }
    if let Some(kind) = setup.only {
        text.push_str(&format!(" --only {}", kind.as_str()));
    }
    if let Customers::Only(bbss) = setup.customers {
        text.push_str(&format!(" --customer {bbss:04}"));
    }
    if setup.tills == Tills::Patient {
        text.push_str(" --patient");
    }
    if let Some(broken) = setup.broken {
        text.push_str(&format!(" --broken {broken:?}"));
    }
    text
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Args, String> {
    let mut args = Args { seeds: 0..10, setup: Setup::new(0, 2_000), trace: None, jobs: 1, json: false };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "--seeds" => {
                let text = value()?;
                let (from, to) = text.split_once("..").ok_or_else(|| format!("not a range: {text}"))?;
                args.seeds = number(from)?..number(to)?;
            }
            "--seed" => {
                let seed = number(&value()?)?;
                args.seeds = seed..seed.saturating_add(1);
            }
            "--orders" => args.setup.orders = number(&value()?)?,
            "--rate" => args.setup.rate = number(&value()?)?,
            "--bytes" => args.setup.bytes = true,
            "--no-faults" => args.setup.faults = false,
            "--only" => {
                let name = value()?;
                args.setup.only = Some(Kind::parse(&name).ok_or_else(|| format!("unknown fault {name}"))?);
            }
            "--customer" => args.setup.customers = Customers::Only(number(&value()?)?),
            "--patient" => args.setup.tills = Tills::Patient,
            "--broken" => {
                let name = value()?;
                let kind = Broken::ALL.into_iter().find(|kind| format!("{kind:?}") == name);
                args.setup.broken = Some(kind.ok_or_else(|| format!("unknown kind {name}"))?);
            }
            "--trace" => {
                let text = value()?;
                args.trace = Some(place_of(&text).ok_or_else(|| format!("not a payment: {text}"))?);
            }
            "--jobs" => args.jobs = number(&value()?)?,
            "--json" => args.json = true,
            "--help" | "-h" => return Err("the seeded world of Hufu".to_owned()),
            _ => return Err(format!("unknown argument {word}")),
        }
    }
    Ok(args)
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("not a number: {text}"))
}
