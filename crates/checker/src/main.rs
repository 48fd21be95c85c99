//! The command line of the process checker: one campaign a verb.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use checker::campaign::{Bench, kill};
use checker::report::{self, Report};
use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

/// Kills, freezes, starves and cuts real processes under load, and holds the books against each other afterwards.
#[derive(Debug, Parser)]
#[command(
    name = "checker",
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  cargo build --release -p hufu -p checker
  target/release/checker kill
  target/release/checker kill --kills 200 --seed 7 --record tests/data/checker.jsonl

Exit codes:
  0  every promise was kept
  1  a payment was lost, charged twice or contradicted, or a limit was missed: its whole history is shown
  2  wrong usage
  3  the campaign could not be carried out"
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
    /// The binary under test [default: hufu beside this program].
    #[arg(long, global = true, value_name = "FILE")]
    hufu: Option<PathBuf>,
    /// Chooses customers and moments.
    #[arg(long, global = true, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Keep stores and logs in this folder.
    #[arg(long, global = true, value_name = "FOLDER")]
    keep: Option<PathBuf>,
    /// Print each report as one line of JSON.
    #[arg(long, global = true)]
    json: bool,
    /// Append each report, with date and commit, to this file.
    #[arg(long, global = true, value_name = "FILE")]
    record: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Kills the switch at random moments under load (PR-01 to PR-07, PR-15).
    Kill(kill::Kill),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(err) => {
            eprintln!("checker: {err:#}");
            ExitCode::from(3)
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<bool> {
    let hufu = match &cli.hufu {
        Some(hufu) => hufu.clone(),
        None => std::env::current_exe()?.with_file_name("hufu"),
    };
    if !hufu.exists() {
        bail!("{}: build it with `cargo build --release -p hufu`, or name it with --hufu", hufu.display());
    }
    let hufu = hufu.canonicalize().with_context(|| hufu.display().to_string())?;
    let bench = Bench { hufu, seed: cli.seed, keep: cli.keep.clone() };
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(campaigns(cli, &bench))
}

async fn campaigns(cli: &Cli, bench: &Bench) -> anyhow::Result<bool> {
    let progress = progress();
    let say = |words: String| {
        if progress.is_hidden() {
            let _ = writeln!(std::io::stderr(), "{words}");
        } else {
            progress.set_message(words);
        }
    };
    let reports: Vec<Report> = match &cli.verb {
        Verb::Kill(args) => vec![kill::run(bench, args, &say).await?],
    };
    progress.finish_and_clear();
    for one in &reports {
        let text = if cli.json { one.to_json().to_string() } else { one.table() };
        let _ = writeln!(std::io::stdout(), "{text}");
        if let Some(file) = &cli.record {
            report::record(file, one)?;
        }
    }
    Ok(reports.iter().all(Report::passed))
}

/// A line that says how it goes, on a terminal only.
fn progress() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{elapsed_precise} {spinner} {wide_msg}");
    let bar =
        ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}
