//! The command line of Hufu: one file a verb.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::get_unwrap,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice
    )
)]

mod check_config;
#[expect(
    clippy::arithmetic_side_effects,
    reason = "a crowd of customers and its tally stand outside the switch; overflow panics"
)]
mod demo;
mod exit;
mod link;
mod load;
mod merchant;
mod output;
mod payment;
mod reload;
mod sandbox;
mod serve;
mod settings;
mod simulate;
mod stand;
mod wallet;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use gateway::config::{Log, LogFormat};
use tokio::runtime::Runtime;

use crate::exit::{EXIT_CODES, Failure, Outcome};

// Built along with the runner of the planted bugs, the product would carry them, though nothing could plant one.
const _: () = assert!(
    cfg!(debug_assertions) || !planted::COMPILED_IN,
    "a release of hufu is built by itself: cargo build --release -p hufu"
);

/// Acquirer switch for payment-code payments: every payment ends paid, or not paid and no money kept.
#[derive(Debug, Parser)]
#[command(name = "hufu", version, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Demo(demo::DemoArgs),
    Sandbox(sandbox::SandboxArgs),
    Simulate(simulate::SimulateArgs),
    Load(load::LoadArgs),
    Serve(serve::ServeArgs),
    Reload(reload::ReloadArgs),
    Payment(payment::PaymentArgs),
    Merchant(merchant::MerchantArgs),
    CheckConfig(check_config::CheckConfigArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = cli.verb.json();
    match run(&cli.verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.text.is_empty() {
                eprintln!("hufu: {failure}");
            }
            if json && !cli.verb.reports_itself() {
                let _ =
                    output::json(&serde_json::json!({ "error": failure.text, "exit": failure.exit.code() }));
            }
            failure.exit.into()
        }
    }
}

impl Verb {
    /// Whether results go out as JSON.
    const fn json(&self) -> bool {
        match self {
            Self::Demo(args) => args.json.json,
            Self::Sandbox(args) => args.json.json,
            Self::Simulate(args) => args.json.json,
            Self::Load(args) => args.json.json,
            Self::Serve(_) => false,
            Self::Reload(args) => args.json.json,
            Self::Payment(args) => args.json(),
            Self::Merchant(args) => args.json(),
            Self::CheckConfig(args) => args.json.json,
        }
    }

    /// Whether the verb has printed its JSON even when it fails.
    const fn reports_itself(&self) -> bool {
        matches!(self, Self::Demo(_) | Self::Load(_) | Self::CheckConfig(_))
    }
}

fn run(verb: &Verb) -> Outcome {
    match verb {
        Verb::Demo(args) => runtime()?.block_on(demo::run(args)),
        Verb::Sandbox(args) => runtime()?.block_on(sandbox::run(args)),
        Verb::Simulate(args) => runtime()?.block_on(simulate::run(args)),
        Verb::Load(args) => runtime()?.block_on(load::run(args)),
        Verb::Serve(args) => serve::run(args),
        Verb::Reload(args) => reload::run(args),
        Verb::Payment(args) => payment::run(args),
        Verb::Merchant(args) => merchant::run(args),
        Verb::CheckConfig(args) => check_config::run(args),
    }
}

/// The runtime for everything that has sockets.
fn runtime() -> Result<Runtime, Failure> {
    Runtime::new().map_err(|err| Failure::internal(format!("no runtime: {err}. Nothing was started.")))
}

/// Sends logs as text to standard error.
fn log_plainly(filter: &str) -> Outcome {
    let log = Log { format: LogFormat::Plain, filter: filter.to_owned() };
    gateway::logging::install(&log).map_err(|err| Failure::usage(err.to_string()))
}

/// Waits until the process is asked to stop.
async fn stop_asked() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        let _ = tokio::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
