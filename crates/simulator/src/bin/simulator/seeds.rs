//! Many seeds at once, with a word about each that fails and a bar for who is watching.

use std::io::{IsTerminal as _, Write as _};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use simulator::world::{Report, Setup, Summary, Violation, follow, out_trade_no, run};

use super::args::switches;

/// One seed in so many is run twice: the same seed must be the same run (INV-30).
const AGAIN_EVERY: u64 = 16;
/// Violations of one seed that are shown, and lines of the payment concerned.
const SHOWN: (usize, usize) = (5, 160);

/// Runs `seeds` of `setup`, `jobs` at once.
#[expect(clippy::disallowed_methods, reason = "how fast a run is, nothing is decided by it")]
pub(crate) fn run_all(setup: &Setup, seeds: Range<u64>, jobs: usize, quiet: bool) -> Summary {
    let started = std::time::Instant::now();
    let (next, summary) = (AtomicU64::new(seeds.start), Mutex::new(Summary::default()));
    let many = seeds.end.saturating_sub(seeds.start);
    let bar = !quiet && many > 1 && std::io::stderr().is_terminal();
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let setup = Setup { seed, ..setup.clone() };
                    let report = checked(&setup);
                    let Ok(mut summary) = summary.lock() else { return };
                    if bar {
                        wipe();
                    }
                    if !quiet {
                        failure(&setup, &report);
                    }
                    summary.add(&report);
                    if bar {
                        summary.real_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
                        draw(&summary, many);
                    }
                }
            });
        }
    });
    if bar {
        wipe();
    }
    let mut summary = summary.into_inner().unwrap_or_default();
    summary.real_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    summary.failing.sort_unstable();
    summary
}

/// Runs a seed; some of them twice.
fn checked(setup: &Setup) -> Report {
    let mut report = run(setup);
    if setup.seed.is_multiple_of(AGAIN_EVERY) {
        let again = run(setup);
        report.again = true;
        if again.hash != report.hash || again.events != report.events {
            report.violations.push(Violation::of_the_world(
                "INV-30",
                format!("hash {:016x}, and {:016x} the second time", report.hash, again.hash),
            ));
        }
    }
    report
}

fn draw(summary: &Summary, many: u64) {
    const WIDTH: u64 = 30;
    let done =
        usize::try_from(summary.seeds.saturating_mul(WIDTH).checked_div(many).unwrap_or(0)).unwrap_or(0);
    let bar = format!("{}{}", "█".repeat(done), "░".repeat(usize::try_from(WIDTH).unwrap_or(0) - done));
    let (seeds, speed) = (summary.seeds, summary.events_per_s());
    eprint!("\r{bar} {seeds}/{many} seeds, {speed} events/s, {} violations", summary.violations);
    drop(std::io::stderr().flush());
}

fn wipe() {
    eprint!("\r\x1b[2K");
}

/// One line for a seed that fails, with the command that replays it, and what happened to the first payment.
fn failure(setup: &Setup, report: &Report) {
    let Some(first) = report.violations.first() else { return };
    let place = first.n.map_or_else(|| "-".to_owned(), out_trade_no);
    let trace = if first.n.is_some() { format!(" --trace {place}") } else { String::new() };
    println!(
        "seed {}: {} violations, the first is {} after {} events; replay: simulator --seed {} --orders {}{}{trace}",
        report.seed,
        report.violations.len(),
        first.rule,
        first.events,
        report.seed,
        setup.orders,
        switches(setup),
    );
    for violation in report.violations.iter().take(SHOWN.0) {
        println!("  {}", violation.line());
    }
    if let Some(n) = first.n {
        let (_, lines) = follow(setup, n);
        for line in lines.iter().take(SHOWN.1) {
            println!("    {line}");
        }
        if lines.len() > SHOWN.1 {
            println!("    … {} lines more", lines.len() - SHOWN.1);
        }
    }
}
