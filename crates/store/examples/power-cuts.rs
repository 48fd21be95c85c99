//! Cuts the power of a store, thousands of times, and says whether anything acknowledged was lost.
//!
//! `cargo run --release -p store --features power-cut --example power-cuts -- --cuts 10000 --seed 1 --jobs 2`
//!
//! A violation names its seed; `--cuts 20 --seed SEED` replays that life alone.
#![expect(clippy::print_stdout, reason = "a command prints its report")]

use std::process::ExitCode;

use store::power_cut::{Setup, Spoiled, run};

fn main() -> ExitCode {
    let mut setup = Setup { cuts: 10_000, jobs: 2, ..Setup::default() };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().unwrap_or_default();
        let number: Option<u64> = value.parse().ok();
        match (word.as_str(), number) {
            ("--cuts", Some(cuts)) => setup.cuts = cuts,
            ("--seed", Some(seed)) => setup.seed = seed,
            ("--jobs", Some(jobs)) => setup.jobs = usize::try_from(jobs).unwrap_or(1),
            ("--spoiled", None) => match value.as_str() {
                "synchronous-off" => setup.spoiled = Spoiled::SynchronousOff,
                "synchronous-normal" => setup.spoiled = Spoiled::SynchronousNormal,
                "lying-disk" => setup.spoiled = Spoiled::LyingDisk,
                _ => return usage(),
            },
            _ => return usage(),
        }
    }
    let report = run(&setup);
    println!("{report}");
    if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn usage() -> ExitCode {
    println!(
        "power-cuts [--cuts N] [--seed N] [--jobs N] [--spoiled synchronous-off|synchronous-normal|lying-disk]"
    );
    ExitCode::from(2)
}
