//! Runs the seeded world: `cargo run --release -p simulator -- --seeds 0..100 --orders 5000`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool reports on its streams")]

use std::process::ExitCode;

use simulator::world::{Setup, Summary, follow};

use args::{Args, USAGE};

mod args;
mod campaign;
mod ci;
mod seeds;

/// The world is bound by small allocations.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = match args::parse(std::env::args().skip(1)) {
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
    if args.ci {
        return verdict(ci::run(args.jobs, &args.folder));
    }
    match campaign::run(&args) {
        Ok(summary) => {
            print(&args, &summary);
            verdict(summary.violations == 0)
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(2)
        }
    }
}

fn print(args: &Args, summary: &Summary) {
    if args.json {
        println!("{}", summary.to_json());
    } else {
        print!("{}", summary.table());
    }
}

fn verdict(green: bool) -> ExitCode {
    if green { ExitCode::SUCCESS } else { ExitCode::from(1) }
}
