//! The wallet cannot be reached, then does not answer, then is back.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use rustix::process::Signal;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{Bench, FILL_MAX, Rig, SPEED};
use crate::load::Crowd;
use crate::proxy::Fault;
use crate::report::Report;
use crate::web;

/// How long everything may take to come to its end.
const CALM: Duration = Duration::from_secs(120);
/// How long the wallet's return is watched.
const WATCH: Duration = Duration::from_secs(4);
/// A second of the switch's budget, and what a network and a busy machine may compress it by.
const WINDOW: Duration = Duration::from_millis(1_000);

/// `checker wallet-down`.
#[derive(Clone, Debug, Args)]
pub struct WalletDown {
    /// How long it refuses connections, and then again how long it does not answer, in milliseconds.
    #[arg(long, default_value_t = 4_000, value_name = "MS")]
    pub down_ms: u64,
    /// How often.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub times: u32,
    /// Payments that begin in a second.
    #[arg(long, default_value_t = 250, value_name = "N")]
    pub rate: u32,
}

/// Queries that the wallet has counted.
pub(crate) async fn queries(plain: SocketAddr) -> anyhow::Result<u64> {
    let (_, body) = web::get(plain, "/sim/stats").await?;
    let stats: Value = serde_json::from_slice(&body)?;
    Ok(stats.get("queries").and_then(Value::as_u64).unwrap_or(0))
}

/// The most queries in a second, while `span` is watched.
pub(crate) async fn most_queries(plain: SocketAddr, span: Duration) -> anyhow::Result<u64> {
    let until = Instant::now() + span;
    let (mut before, mut at, mut most) = (queries(plain).await?, Instant::now(), 0);
    while Instant::now() < until {
        sleep(WINDOW).await;
        let (now, moment) = (queries(plain).await?, Instant::now());
        most = most.max(crate::report::per_second(now - before, moment - at));
        (before, at) = (now, moment);
    }
    Ok(most)
}

/// Runs it.
///
/// # Errors
///
/// When processes cannot be started, or nothing comes to its end.
pub async fn run(bench: &Bench, args: &WalletDown, say: &dyn Fn(String)) -> anyhow::Result<Report> {
    let mut report = Report::new("wallet down and back");
    let down = Duration::from_millis(args.down_ms);
    // A request that waits in the stopped wallet's socket arrives when it is back: later than a reversal of it may.
    let slack_ms = 2_000 + u32::try_from(args.down_ms)?;
    let rig = Rig::start(bench, "wallet-down", SPEED, slack_ms, true).await?;
    let load = rig.load(Crowd::Mixed, args.rate)?;
    let mut most = 0;
    for time in 0..args.times {
        load.filled(u64::from(args.rate), FILL_MAX).await?;
        say(format!("refused, {} of {}; {}", time + 1, args.times, load.shop.tally.line()));
        rig.network(Fault::Refuse);
        sleep(down).await;
        rig.network(Fault::None);
        sleep(Duration::from_secs(2)).await;
        say(format!("silent, {} of {}; {}", time + 1, args.times, load.shop.tally.line()));
        rig.wallet.process.signal(Signal::STOP)?;
        sleep(down).await;
        rig.wallet.process.signal(Signal::CONT)?;
        most = most.max(most_queries(rig.wallet.plain, WATCH).await?);
    }
    let quota = u64::from(rig.policy.query_per_second);
    let day = rig.close(load, CALM).await?;
    report.figure("seed", bench.seed);
    report.figure("refused, then silent, for, ms each", args.down_ms);
    report.figure("queries/s on return, most", most);
    report.figure("queries/s allowed", quota);
    report.figure("seconds", day.told.span.as_secs());
    // What was asked before the stop waits in the wallet's sockets and is counted with what is asked after it.
    report.check(most <= quota * 2, || format!("{most} queries/s on the wallet's return"));
    report.verdict = day.verdict;
    Ok(report)
}
