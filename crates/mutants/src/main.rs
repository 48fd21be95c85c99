//! Runs every planted bug through the checkers, and says which found it and how fast:
//! `cargo run --release -p mutants`. A bug that survives is a checker that is blind.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a command prints its report")]

use std::process::ExitCode;

use clap::Parser;

mod checker;
mod mutant;
mod plan;
mod report;
mod rows;

use mutant::Mutant;
use plan::By;

/// Plants one bug after the other and runs the checkers until one of them finds it. The product as it is goes
/// first, and must pass all of them. Exit code 1 if a bug survives, or if the product does not pass.
#[derive(Debug, Parser)]
struct Options {
    /// Only these bugs; all without
    bugs: Vec<String>,
    /// Seeds of the world that are tried for one bug
    #[arg(long, default_value_t = 64)]
    seeds: u64,
    /// Seeds that run at once
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// One JSON object a bug
    #[arg(long)]
    json: bool,
    /// The table in Markdown
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
    /// Only this checker, on every bug: some bugs survive most of them
    #[arg(long, value_enum)]
    by: Option<By>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let mut mutants = Vec::new();
    for name in &options.bugs {
        let Some(mutant) = Mutant::named(name) else {
            println!("no bug is called {name}; there are:");
            Mutant::all().for_each(|mutant| println!("  {:<32} {}", mutant.name(), mutant.what()));
            return ExitCode::from(2);
        };
        mutants.push(mutant);
    }
    if mutants.is_empty() {
        mutants.extend(Mutant::all());
    }
    // What a planted bug breaks may be an assertion: that is a finding, and its report stands in the table.
    std::panic::set_hook(Box::new(|_| {}));
    let run = plan::run(&mutants, options.seeds, options.jobs, options.by);
    let text = match (options.json, options.markdown) {
        (true, _) => report::json(&run),
        (false, true) => report::markdown(&run),
        (false, false) => report::table(&run),
    };
    println!("{text}");
    if run.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
