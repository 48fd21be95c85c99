//! `kill -9` at random moments under load.

use std::time::Duration;

use clap::Args;
use simulator::Rng;
use tokio::time::{Instant, sleep};

use super::{Bench, close};
use crate::judge::Verdict;
use crate::load::{Crowd, Load};
use crate::process::{Started, exec};
use crate::report::{Report, per_second};
use crate::site::{Policy, Site, Wallet};

/// Customers of the crowd who never answer are given up after this.
const GIVE_UP_MS: u64 = 33_000;
/// How long the load may take to fill up with open payments.
const FILL_MAX: Duration = Duration::from_secs(120);
/// How long everything may take to come to its end.
const CALM: Duration = Duration::from_secs(180);
/// How long the first answer after a start may take.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// Kills on one store and one ledger; then the books are compared and new ones begun.
const KILLS_PER_SHIFT: u32 = 50;
/// The longest pause between a start and the kill that follows it.
const PAUSE_MAX_MS: u64 = 5_000;
/// One kill in so many comes while the switch is starting.
const EARLY_ONE_IN: u64 = 5;
/// Within which an early kill comes: before and after the switch is ready.
const EARLY_MAX_MS: u64 = 1_500;

/// `checker kill`.
#[derive(Clone, Debug, Args)]
pub struct Kill {
    /// How often the switch is killed.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub kills: u32,
    /// Payments that begin in a second.
    #[arg(long, default_value_t = 550, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub rate: u32,
    /// Payments that are open when the switch is killed, at least.
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    pub pending: u64,
    /// The longest a restart may take until the switch is ready, in milliseconds.
    #[arg(long, default_value_t = 2_000, value_name = "MS")]
    pub ready_max_ms: u64,
}

/// What the kills of a shift showed.
#[derive(Debug, Default)]
struct Seen {
    kills: u32,
    early: u32,
    starts: Vec<Started>,
    /// From exec to the first answer to a till.
    answered: Vec<Duration>,
    peak: u64,
    /// The fewest open payments that a kill met, by the tills and by what the next start took up.
    least_told: Option<u64>,
    span: Duration,
    begun: u64,
    asked_wallet: u64,
}

/// Runs it.
///
/// # Errors
///
/// When processes cannot be started, or nothing comes to its end.
pub async fn run(bench: &Bench, args: &Kill, say: &dyn Fn(String)) -> anyhow::Result<Report> {
    let began = Instant::now();
    let (mut seen, mut verdict) = (Seen::default(), Verdict::default());
    let mut shift = 0;
    while seen.kills < args.kills {
        let kills = (args.kills - seen.kills).min(KILLS_PER_SHIFT);
        verdict.merge(one_shift(bench, args, kills, shift, &mut seen, say).await?);
        shift += 1;
        if !verdict.is_clean() {
            break;
        }
    }
    Ok(report(args, bench.seed, &seen, verdict, began.elapsed()))
}

fn report(args: &Kill, seed: u64, seen: &Seen, verdict: Verdict, took: Duration) -> Report {
    let mut report = Report::new("kill -9 under load");
    let ready: Vec<Duration> = seen.starts.iter().map(|start| start.ready).collect();
    let taken_up: Vec<u64> = seen.starts.iter().map(|start| start.open).collect();
    let (least, most) = (taken_up.iter().min(), taken_up.iter().max());
    let slowest = seen.starts.iter().map(|start| per_second(start.open, start.ready)).min();
    report.figure("seed", seed);
    report.figure("kills", seen.kills);
    report.figure("more while it started", seen.early);
    report.figure("payments/s begun", per_second(seen.begun, seen.span));
    report.figure("payments/s at the wallet", per_second(seen.asked_wallet, seen.span));
    report.figure("peak pending", seen.peak);
    report.figure("pending at a kill, least", seen.least_told);
    report.figure("open payments taken up, least", least);
    report.figure("open payments taken up, most", most);
    report.spread("ready after exec, ms", &ready);
    report.spread("first till answered after exec, ms", &seen.answered);
    report.figure("open payments recovered/s, slowest start", slowest);
    report.figure("seconds", took.as_secs());
    let slow = ready.iter().filter(|ready| ready.as_millis() > u128::from(args.ready_max_ms)).count();
    report.check(slow == 0, || format!("{slow} starts took longer than {} ms", args.ready_max_ms));
    report.check(least.is_some_and(|open| *open >= args.pending), || {
        format!("a start took up {least:?} open payments, fewer than {}", args.pending)
    });
    report.verdict = verdict;
    report
}

/// Kills on one store and one ledger, until the books are compared.
async fn one_shift(
    bench: &Bench,
    args: &Kill,
    kills: u32,
    shift: u64,
    seen: &mut Seen,
    say: &dyn Fn(String),
) -> anyhow::Result<Verdict> {
    let seed = bench.seed.wrapping_add(shift << 32);
    let mut rng = Rng::keyed(seed, "kills");
    let folder = bench.folder(&format!("kill-{shift}"))?;
    let wallet = Wallet::start(&bench.hufu, folder.path(), seed, 1, 1_000)?;
    let policy = Policy::patient(GIVE_UP_MS);
    let site = Site::make(&bench.hufu, folder.path(), folder.path(), wallet.tls, &policy, seed)?;
    let (mut switch, _) = site.serve().await?;
    let load = Load::start(&site, site.gateway, Crowd::Slow, args.rate, 1, seed)?;
    say(format!("shift {shift}: filling up to {} open payments", args.pending));
    // What the store holds lags behind what the tills wait for: a little more.
    let wanted = args.pending + args.pending / 20;
    load.filled(wanted, FILL_MAX).await?;
    for kill in 0..kills {
        sleep(Duration::from_millis(rng.below(PAUSE_MAX_MS))).await;
        load.filled(wanted, FILL_MAX).await?;
        let pending = load.pending();
        switch.kill()?;
        seen.kills += 1;
        if rng.below(EARLY_ONE_IN) == 0 {
            // Again, before or just after it is ready.
            let (starting, _) = exec(&site.hufu, &site.config, &site.log)?;
            sleep(Duration::from_millis(rng.below(EARLY_MAX_MS))).await;
            starting.kill()?;
            seen.early += 1;
        }
        let started;
        (switch, started) = site.serve().await?;
        load.answered(ANSWER_MAX).await?;
        seen.answered.push(started.exec.elapsed());
        seen.starts.push(started);
        seen.least_told = Some(seen.least_told.map_or(pending, |least| least.min(pending)));
        say(format!(
            "shift {shift}, kill {} of {kills}: {pending} pending, {} taken up in {} ms; {}",
            kill + 1,
            started.open,
            started.ready.as_millis(),
            load.shop.tally.line()
        ));
    }
    sleep(Duration::from_millis(rng.below(PAUSE_MAX_MS))).await;
    seen.peak = seen.peak.max(load.shop.tally.open_max());
    say(format!("shift {shift}: calm; {}", load.shop.tally.line()));
    let begun = load.shop.tally.begun();
    let day = close(&site, &wallet, &mut switch, load, CALM).await?;
    seen.span += day.told.span;
    seen.begun += begun;
    seen.asked_wallet += day.verdict.payments - day.verdict.not_taken;
    Ok(day.verdict)
}
