//! Cuts and flips the files of stores, tens of thousands of times, and says what the store made of it.
//!
//! `cargo run --release -p store --features power-cut --example damage -- --flips 20000 --seed 1`
#![expect(clippy::print_stdout, reason = "a command prints its report")]

use std::process::ExitCode;

use store::power_cut::damage::{Blow, Damages, Files, Sample, Target};

fn main() -> ExitCode {
    let (mut flips, mut seed) = (20_000_usize, 1_u64);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match (word.as_str(), words.next().and_then(|value| value.parse().ok())) {
            ("--flips", Some(value)) => flips = usize::try_from(value).unwrap_or(usize::MAX),
            ("--seed", Some(value)) => seed = value,
            _ => {
                println!("damage [--flips N] [--seed N]");
                return ExitCode::from(2);
            }
        }
    }
    let mut sound = true;
    let mut say = |what: &str, damages: &Damages| {
        println!("{what}: {damages}");
        sound &= damages.violations.is_empty();
    };
    for marked in [true, false] {
        let make = |commits, files| {
            let sample = Sample::new(seed, commits, files);
            if marked { sample } else { sample.without_mark() }
        };
        let with = if marked { "with mark" } else { "without mark" };
        let small = make(12, Files::Log);
        // No commit is shorter.
        let end = small.length(Target::Recent);
        let from = end.saturating_sub(500);
        let thin = (60_000 / flips.max(1)).max(1);
        let cuts = (from..end).map(|at| (Target::Recent, Blow::CutAt(at)));
        say(&format!("recent records cut in the last commit, every byte, {with}"), &small.strike(cuts, seed));
        let bits = (from * 8..end * 8).map(|bit| (Target::Recent, Blow::Flip(bit)));
        say(&format!("last commit, every bit, {with}"), &small.strike(bits, seed));
        let closed = make(12, Files::Database);
        let cuts = (usize::from(!marked)..closed.length(Target::Database))
            .step_by(thin)
            .map(|at| (Target::Database, Blow::CutAt(at)));
        say(&format!("database cut every {thin} bytes, {with}"), &closed.strike(cuts, seed));
        for files in [Files::Both, Files::Database] {
            let sample = make(90, files);
            for target in [Target::Database, Target::Log, Target::Recent] {
                let bits = sample.length(target) * 8;
                let step = (bits / (flips / 8).max(1)).max(1);
                let all = (0..bits).step_by(step).map(|bit| (target, Blow::Flip(bit)));
                say(&format!("{target:?} flips, commits in {files:?}, {with}"), &sample.strike(all, seed));
                let all = (0..bits).step_by(step * 8).map(|at| (target, Blow::Scramble(at, 64)));
                say(
                    &format!("{target:?} scrambled, commits in {files:?}, {with}"),
                    &sample.strike(all, seed),
                );
                // A page holds several commits of recent records; see below.
                let knows = marked || target != Target::Recent;
                let old = (0..bits / 32_768).filter(|_| knows).map(|page| (target, Blow::OldPage(page)));
                say(
                    &format!("{target:?} old pages, commits in {files:?}, {with}"),
                    &sample.strike(old, seed),
                );
                // Without a mark nothing knows that a whole file, or its end, is older than it was.
                let whole = [(target, Blow::OldFile), (target, Blow::Gone)];
                let whole = whole.into_iter().filter(|_| marked);
                say(
                    &format!("{target:?} old or gone, commits in {files:?}, {with}"),
                    &sample.strike(whole, seed),
                );
            }
        }
    }
    if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
