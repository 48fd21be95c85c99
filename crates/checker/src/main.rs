//! The command line of the process checker: one campaign a verb.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use checker::campaign::cost::{self, part};
use checker::campaign::{
    Bench, cut, disk_full, freeze, held, kill, overload, pending, recover, slow, stop, wallet_down,
};
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

/// What every change must pass, in a few minutes on two cores.
const CI: [&str; 10] = [
    "kill --kills 5",
    "freeze",
    "disk-full",
    "wallet-down",
    "cut --fault-ms 800",
    "stop --times 1",
    "recover --starts 2",
    "overload --capacity 100 --overload-s 8 --seconds 4 --rounds 1 --untimed",
    "cost --tiny",
    "pending --count 1500 --rate 500 --quiet-s 3 --ending-s 6",
];
/// The long run.
const LONG: [&str; 10] = [
    "kill --kills 200",
    "freeze --times 5 --stop-ms 40000",
    "disk-full --times 10",
    "wallet-down --times 5",
    "cut --times 5 --fault-ms 4000",
    "stop --times 20",
    "recover --starts 10",
    "held",
    "overload",
    "pending",
];

#[derive(Clone, Debug, Subcommand)]
enum Verb {
    /// Kills the switch at random moments under load (PR-01 to PR-07, PR-15).
    Kill(kill::Kill),
    /// Freezes the switch past every deadline; a second one tries to take its place (PR-09, PR-16).
    Freeze(freeze::Freeze),
    /// Fills the disks of the store and of the log, and frees them (DB-07, DB-08).
    DiskFull(disk_full::DiskFull),
    /// Takes the wallet away, silences it, and brings it back (NU-01).
    WalletDown(wallet_down::WalletDown),
    /// Cuts the network on both sides in every way (NU-03, NU-04, NU-08, NU-09, NU-17, NM-01).
    Cut(cut::Cut),
    /// Asks the switch to stop under load (PR-14).
    Stop(stop::Stop),
    /// Measures the start with very many open payments (PR-15).
    Recover(recover::Recover),
    /// Opens thousands of slow connections and measures what other tills notice (NM-05, NM-06, NM-07). By hand: what it
    /// measures depends on what else the machine does.
    Slow(slow::SlowArgs),
    /// Holds very many tills at once: what each costs, and how soon each kind of till hears (NM-01).
    Held(held::Held),
    /// Asks for three times what may be sent to the wallet: what is taken, what is refused and how, and what others notice of
    /// one merchant that asks too much (INV-24).
    Overload(overload::Overload),
    /// Measures what a payment costs the switch, beside nginx and beside its own parts measured bare.
    Cost(cost::Cost),
    /// One of these parts, in a process of its own.
    #[command(hide = true)]
    Part(part::Part),
    /// Has very many payments wait for a password at once: what each costs, and how each ends (INV-18).
    Pending(pending::Pending),
    /// All of them, short: what every change must pass.
    Ci,
    /// All of them, long: by hand, with --record.
    Long,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Verb::Part(part) = &cli.verb {
        return match part::run(part) {
            Ok(()) => ExitCode::SUCCESS,
            Err(err) => {
                eprintln!("checker part: {err:#}");
                ExitCode::from(3)
            }
        };
    }
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
    let mut reports = Vec::new();
    for verb in plan(&cli.verb) {
        let one = campaign(&verb, bench, &say).await.with_context(|| format!("{verb:?}"))?;
        let text = if cli.json { one.to_json().to_string() } else { one.table() };
        progress.suspend(|| {
            let _ = writeln!(std::io::stdout(), "{text}");
        });
        if let Some(file) = &cli.record {
            report::record(file, &one)?;
        }
        if one.passed() {
            covers::passed(&format!("checker {}", one.campaign), covered(&verb));
        }
        reports.push(one);
    }
    progress.finish_and_clear();
    Ok(reports.iter().all(Report::passed))
}

/// The campaigns that a verb stands for.
fn plan(verb: &Verb) -> Vec<Verb> {
    let of = |line: &str| {
        let words = std::iter::once("checker").chain(line.split_whitespace());
        Cli::try_parse_from(words).expect("a campaign of the plan").verb
    };
    match verb {
        Verb::Ci => CI.iter().map(|line| of(line)).collect(),
        Verb::Long => LONG.iter().map(|line| of(line)).collect(),
        one @ (Verb::Kill(_)
        | Verb::Freeze(_)
        | Verb::DiskFull(_)
        | Verb::WalletDown(_)
        | Verb::Cut(_)
        | Verb::Stop(_)
        | Verb::Recover(_)
        | Verb::Held(_)
        | Verb::Overload(_)
        | Verb::Cost(_)
        | Verb::Pending(_)
        | Verb::Part(_)) => vec![one.clone()],
        Verb::Slow(args) => args.cases().into_iter().map(Verb::Slow).collect(),
    }
}

async fn campaign(verb: &Verb, bench: &Bench, say: &dyn Fn(String)) -> anyhow::Result<Report> {
    match verb {
        Verb::Kill(args) => kill::run(bench, args, say).await,
        Verb::Freeze(args) => freeze::run(bench, args, say).await,
        Verb::DiskFull(args) => disk_full::run(bench, args, say).await,
        Verb::WalletDown(args) => wallet_down::run(bench, args, say).await,
        Verb::Cut(args) => cut::run(bench, args, say).await,
        Verb::Stop(args) => stop::run(bench, args, say).await,
        Verb::Recover(args) => recover::run(bench, args, say).await,
        Verb::Slow(args) => slow::run(bench, args, say).await,
        Verb::Held(args) => held::run(bench, args, say).await,
        Verb::Pending(args) => pending::run(bench, args, say).await,
        Verb::Overload(args) => overload::run(bench, args, say).await,
        Verb::Cost(args) => cost::run(bench, args, say).await,
        Verb::Ci | Verb::Long | Verb::Part(_) => bail!("no campaign"),
    }
}

/// The ids that a campaign covers when it passes.
const fn covered(verb: &Verb) -> &'static [&'static str] {
    match verb {
        Verb::Kill(_) => &[
            "INV-01", "INV-02", "INV-04", "INV-05", "INV-06", "INV-09", "INV-12", "INV-13", "INV-14",
            "INV-16", "PR-01", "PR-02", "PR-03", "PR-04", "PR-05", "PR-06", "PR-07", "DB-03", "NM-02",
        ],
        Verb::Freeze(_) => &["INV-17", "PR-09", "PR-16"],
        Verb::DiskFull(_) => &["DB-07", "DB-08"],
        Verb::WalletDown(_) => &["NU-01"],
        Verb::Cut(_) => &["NM-01", "NU-03", "NU-04", "NU-08", "NU-09", "NU-17", "INV-10"],
        Verb::Stop(_) => &["PR-14"],
        Verb::Recover(_) => &["PR-15", "INV-12", "INV-18"],
        Verb::Slow(_) => &["NM-05", "NM-06", "NM-07"],
        Verb::Held(_) => &["NM-01"],
        Verb::Pending(_) => &["INV-18"],
        Verb::Overload(_) => &["INV-24"],
        Verb::Ci | Verb::Long | Verb::Cost(_) | Verb::Part(_) => &[],
    }
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
