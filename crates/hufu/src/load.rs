//! `hufu load`: payments at a rate that no server can change, and how long they took.

mod report;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ::load::{Account, Books, Live, LoadError, Mix, Outcome as Run, Plan, Process, Report, Target};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use signer::Kind;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, sleep};

use crate::exit::{Exit, Failure, Outcome};
use crate::output;
use crate::settings::JsonFlag;

/// How long the books may take to show what tills were told: money that goes back is on its way for a moment.
const SETTLE: Duration = Duration::from_secs(60);
/// From one look into the books to the next.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Sends payments to anything that speaks the V2 API, as many a second as said, and measures.
///
/// The schedule is fixed before the run and nothing that the server does changes it (open loop). Latency counts from
/// the moment at which a payment was due, so a server that stops for a second shows in all that were due meanwhile;
/// service time, from the moment at which it was sent, stands beside it. Requests are made and signed ahead. Tills
/// ask about payments that are not decided, on connections of their own. If the schedule could not be kept, it says
/// so and exits with 75.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct LoadArgs {
    /// The endpoint: http://host[:port][/path], or https; requests go to /pay/micropay and /pay/orderquery below it.
    #[arg(value_name = "URL")]
    url: Target,
    /// For whom payments are made, MCH_ID[/SUB_MCH_ID]:KEY:APPID; several take turns. Others on this machine can see
    /// it: use keys of a sandbox, or --merchants.
    #[arg(long, value_name = "MCH_ID:KEY:APPID", required_unless_present = "merchants")]
    merchant: Vec<Account>,
    /// The same from a file, one a line.
    #[arg(long, value_name = "FILE")]
    merchants: Option<PathBuf>,
    /// The simulated wallet's customers: BBSS, or a mix with shares, for example 00=80,02=20 (hufu simulate --help
    /// lists them).
    #[arg(long, value_name = "BBSS[=SHARE],…", default_value = "00")]
    customer: Mix,
    /// Payments a second.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// How long is measured, in seconds.
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=Plan::SECONDS_MAX))]
    duration: u64,
    /// What is sent and not measured before, in seconds.
    #[arg(long, value_name = "S", default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=Plan::SECONDS_MAX))]
    warmup: u64,
    /// Connections for pay requests, kept open.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    connections: u32,
    /// How payments are spread over time.
    #[arg(long, value_enum, default_value_t = Arrivals::Poisson)]
    arrivals: Arrivals,
    /// From an answer that is not definite to the till's next query, in milliseconds; 0 asks about nothing.
    #[arg(long, value_name = "MS", default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(0..=600_000))]
    poll_ms: u64,
    /// Connections for queries at most, opened as they are needed: the switch holds queries back for some seconds.
    #[arg(long, value_name = "N", default_value_t = 4_096, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    poll_connections: u32,
    /// How long outcomes are waited for after the last payment, in seconds; it ends sooner if there are none left.
    #[arg(long, value_name = "S", default_value_t = 90, value_parser = clap::value_parser!(u64).range(0..=Plan::SECONDS_MAX))]
    drain: u64,
    /// How long an answer is waited for, in seconds.
    #[arg(long, value_name = "S", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    timeout: u64,
    /// How requests are signed.
    #[arg(long, value_enum, default_value_t = Sign::Md5)]
    sign: Sign,
    /// What each payment asks for, in fen; the simulated wallet wants a password above 100000.
    #[arg(long, value_name = "FEN", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    amount_fen: u64,
    /// Chooses arrivals and customers.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Whom an https endpoint is verified by, PEM [default: the public authorities].
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// The simulated wallet, without TLS: its books are held against what tills were told.
    #[arg(long, value_name = "URL")]
    books: Option<Target>,
    #[command(flatten)]
    pub(crate) json: JsonFlag,
}

const HELP: &str = "\
Examples, the first two against hufu sandbox, the third against hufu simulate:
  hufu load http://127.0.0.1:8080 --rate 500 --duration 30 --books http://127.0.0.1:8081 \\
    --merchant 1900000201:SandboxSigningKeyOfMerchant00001:wx0000000000000001
  hufu load http://127.0.0.1:8080 --rate 200 --customer 00=60,0108=35,02=5 --merchants merchants.txt --json
  hufu load http://127.0.0.1:8081 --rate 5000 --connections 256 \\
    --merchant 1900000109/1900000111:192006250b4c09247ec02edce69f6a2d:wxd930ea5d5a258f4f

Exits 0 if the figures are those of the server; 75 if the generator was the limit (--json: generator.limit is
\"generator\" or \"connections\"); 1 if the books disagree or no payment was taken; 69 if the server cannot be reached.
Ctrl-C ends the run early and reports what was measured.";

/// [`Process`] as an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Arrivals {
    /// As independent customers come.
    Poisson,
    /// At equal gaps.
    Constant,
}

/// [`Kind`] as an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Sign {
    /// MD5, as tills do that send no sign_type.
    Md5,
    /// HMAC-SHA256.
    HmacSha256,
}

/// Runs the load to its end and reports.
pub(crate) async fn run(args: &LoadArgs) -> Outcome {
    let report = match measure(args).await {
        Ok(report) => report,
        Err(failure) => {
            if args.json.json {
                output::json(&serde_json::json!({ "error": failure.text, "exit": failure.exit.code() }))?;
            }
            return Err(failure);
        }
    };
    if args.json.json {
        output::json(&report)?;
    } else {
        report::print(&report);
    }
    judge(&report)
}

/// How the verb ends.
fn judge(report: &Report) -> Outcome {
    if report.books.as_ref().is_some_and(|books| !books.agree) || report.outcomes.wrong_amount > 0 {
        return Err(Failure::failed("the wallet's books and what tills were told differ"));
    }
    if report.interrupted {
        let text = "interrupted: only a part was measured".to_owned();
        return Err(Failure { exit: Exit::Interrupted, text });
    }
    let outcomes = &report.outcomes;
    if [outcomes.paid, outcomes.not_paid, outcomes.reversed, outcomes.open] == [0; 4] {
        let told: Vec<&str> = report.payments.results.keys().map(String::as_str).collect();
        let told = if told.is_empty() { "nothing".to_owned() } else { told.join(", ") };
        return Err(Failure::failed(format!(
            "no payment was taken. What was answered: {told}. Check --merchant: its key, its appid, and whether the \
             endpoint wants a sub_mch_id (MCH_ID/SUB_MCH_ID:KEY:APPID)."
        )));
    }
    if report.generator.was_the_limit {
        return Err(Failure { exit: Exit::Unmeasured, text: report.generator.reason.clone() });
    }
    Ok(())
}

async fn measure(args: &LoadArgs) -> Result<Report, Failure> {
    let plan = Arc::new(plan(args)?);
    let live = Arc::new(Live::default());
    let progress = progress(args, &live);
    let run = {
        let (plan, live) = (Arc::clone(&plan), Arc::clone(&live));
        tokio::task::spawn_blocking(move || ::load::run(&plan, &live))
    };
    tokio::pin!(run);
    let done = loop {
        tokio::select! {
            done = &mut run => break done,
            () = crate::stop_asked() => {
                if live.stop.swap(true, Ordering::Relaxed) {
                    let text = "interrupted twice: nothing was reported".to_owned();
                    return Err(Failure { exit: Exit::Interrupted, text });
                }
            }
        }
    };
    progress.abort();
    let done = done.map_err(|err| Failure::internal(err.to_string()))?.map_err(|err| failure(&err))?;
    let mut report = done.report.clone();
    if let Some(wallet) = &args.books {
        report.books = Some(books(done, wallet.clone()).await?);
    }
    Ok(report)
}

/// Reads the books until they agree with what was told, or for as long as money may be on its way.
async fn books(done: Run, wallet: Target) -> Result<Books, Failure> {
    let (done, began) = (Arc::new(done), Instant::now());
    loop {
        let look = {
            let (done, wallet) = (Arc::clone(&done), wallet.clone());
            tokio::task::spawn_blocking(move || done.compare(&wallet))
        };
        let books = look.await.map_err(|err| Failure::internal(err.to_string()))?;
        let books = books
            .map_err(|err| Failure::unavailable(format!("--books {wallet}: {err}. Nothing was compared.")))?;
        // What is charged twice stays so; a reversal that was told may still be on its way.
        if books.held_not_told == 0 || began.elapsed() >= SETTLE {
            return Ok(books);
        }
        sleep(LOOK_AGAIN).await;
    }
}

fn plan(args: &LoadArgs) -> Result<Plan, Failure> {
    let mut accounts = args.merchant.clone();
    if let Some(file) = &args.merchants {
        let text = String::from_utf8(read(file)?);
        let text = text.map_err(|_| Failure::usage(format!("{}: not UTF-8", file.display())))?;
        accounts.extend(Account::list(&text).map_err(|(line, err)| {
            Failure::usage(format!("{}, line {line}: {err}. Nothing was sent.", file.display()))
        })?);
    }
    if accounts.is_empty() {
        return Err(Failure::usage("--merchants names no merchant. Nothing was sent."));
    }
    let tls = match (args.url.tls, &args.ca_file) {
        (false, None) => None,
        (false, Some(_)) => {
            return Err(Failure::usage("--ca-file is for an https endpoint. Nothing was sent."));
        }
        (true, file) => {
            let pem = file.as_deref().map(read).transpose()?;
            let trust = ::load::trust(pem.as_deref());
            Some(trust.map_err(|err| Failure::usage(format!("--ca-file: {err}. Nothing was sent.")))?)
        }
    };
    if args.books.as_ref().is_some_and(|books| books.tls) {
        return Err(Failure::usage("--books is read without TLS: http://… Nothing was sent."));
    }
    let mut run = [0; 4];
    getrandom::fill(&mut run).map_err(|err| Failure::internal(err.to_string()))?;
    let size = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
    Ok(Plan {
        target: args.url.clone(),
        tls,
        accounts,
        customers: args.customer.clone(),
        arrivals: match args.arrivals {
            Arrivals::Poisson => Process::Poisson,
            Arrivals::Constant => Process::Constant,
        },
        per_second: args.rate,
        warmup: Duration::from_secs(args.warmup),
        duration: Duration::from_secs(args.duration),
        drain: Duration::from_secs(args.drain),
        connections: size(args.connections),
        poll_connections: size(args.poll_connections),
        poll: (args.poll_ms > 0).then(|| Duration::from_millis(args.poll_ms)),
        timeout: Duration::from_secs(args.timeout),
        sign: match args.sign {
            Sign::Md5 => Kind::Md5,
            Sign::HmacSha256 => Kind::HmacSha256,
        },
        amount_fen: args.amount_fen,
        seed: args.seed,
        run: u32::from_ne_bytes(run),
    })
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(file).map_err(|err| Failure::usage(format!("{}: {err}. Nothing was sent.", file.display())))
}

fn failure(err: &LoadError) -> Failure {
    let next = match err {
        LoadError::Resolve(..) | LoadError::Name(_) => "Check the URL.",
        LoadError::Connect { .. } => "Check that it listens there, and how many connections it takes.",
        LoadError::Descriptors { .. } => "Raise the limit, or use fewer --connections.",
        LoadError::System(_) => "",
    };
    Failure::unavailable(format!("{err}. Nothing was sent. {next}").trim_end())
}

/// Shows how it goes, on a terminal only. The task ends with the handle that is given back.
fn progress(args: &LoadArgs, live: &Arc<Live>) -> JoinHandle<()> {
    /// Clears the line however the task ends.
    struct Clear(ProgressBar);
    impl Drop for Clear {
        fn drop(&mut self) {
            self.0.finish_and_clear();
        }
    }
    let terminal = std::io::stderr().is_terminal();
    let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let whole = args.warmup.saturating_add(args.duration);
    let bar = ProgressBar::with_draw_target(Some(whole), target);
    let style = ProgressStyle::with_template("{pos:>4}/{len} s {bar:16} {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let (live, bar) = (Arc::clone(live), Clear(bar));
    tokio::spawn(async move {
        let mut ticks = interval(Duration::from_millis(250));
        loop {
            ticks.tick().await;
            bar.0.set_position(live.seconds().min(whole));
            bar.0.set_message(live.line());
        }
    })
}
