//! Thousands of slow connections, and what other tills notice of them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Args;
use protocol::wechat_v2::field;
use rustls::ClientConfig;
use serde_json::json;
use signer::{Key, Kind};
use simulator::Code;
use simulator::http::TestPki;
use till::client::{Client, Merchant};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::{Bench, Rig, SPEED, STOP_MAX};
use crate::report::Report;
use crate::slow::{From, Herd};
use crate::web::metric;

/// How long after the herd has come, or gone, the switch is left alone.
const SETTLE: Duration = Duration::from_secs(3);
/// How long the herd may take to come, or to be gone.
const HERD_MAX: Duration = Duration::from_secs(90);
/// Places, where there are enough for all, and where the slow must make room.
const PLACES: [u64; 2] = [15_000, 4_000];
/// How often a till comes that has no connection yet.
const NEWCOMER_EVERY: Duration = Duration::from_millis(100);
/// What it waits when it is turned away, and how often it comes again.
const NEWCOMER_AGAIN: Duration = Duration::from_millis(100);
const NEWCOMER_TRIES: u32 = 100;
const CONNECTIONS: &str = "hufu_connections";
const TURNED_AWAY: &str = "hufu_refusals_total{outcome=\"no_place\"}";
const EVICTED: &str = "hufu_refusals_total{outcome=\"evicted\"}";

/// `checker slow`.
#[derive(Clone, Debug, Args)]
pub struct SlowArgs {
    /// Slow connections: a quarter each with heads and bodies that never end, answers that are not read, and TLS
    /// handshakes that are never finished.
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    pub connections: u64,
    /// Rounds without and with them, in turn.
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub rounds: u32,
    /// Seconds of each half of a round.
    #[arg(long, default_value_t = 15, value_name = "N")]
    pub seconds: u32,
    /// Payments of other tills in a second, each with a query afterwards.
    #[arg(long, default_value_t = 50, value_name = "N")]
    pub rate: u32,
    /// Tills speak plain HTTP; else HTTPS.
    #[arg(long)]
    pub plain: bool,
    /// The switch's `connections_max`; without it two runs: 15000, and 4000, where the slow must make room.
    #[arg(long, value_name = "N")]
    pub places: Option<u64>,
    /// The slow come from the tills' own address, as behind one router; else from others.
    #[arg(long)]
    pub same_address: bool,
    /// The most that the p99 of others may be with slow connections, in percent of that without; 0 only measures.
    #[arg(long, default_value_t = 120, value_name = "PERCENT")]
    pub percent_max: u64,
}

impl SlowArgs {
    /// One for each number of places.
    #[must_use]
    pub fn cases(&self) -> Vec<Self> {
        let places = self.places.map_or_else(|| PLACES.to_vec(), |places| vec![places]);
        places.into_iter().map(|places| Self { places: Some(places), ..self.clone() }).collect()
    }
}

/// What other tills saw in one half of a round: those that have connections, and newcomers.
#[derive(Clone, Copy, Debug)]
struct Half {
    p50_us: u64,
    p99_us: u64,
    lost: u64,
    newcomers_p50_us: u64,
    newcomers_p99_us: u64,
    newcomers_lost: u64,
    tries: u32,
}

/// Runs it.
///
/// # Errors
///
/// When processes cannot be started, or the herd does not come together.
pub async fn run(bench: &Bench, args: &SlowArgs, say: &dyn Fn(String)) -> anyhow::Result<Report> {
    let places = args.places.unwrap_or(PLACES[0]);
    let from = if args.same_address { From::Tills } else { From::Elsewhere };
    let mut report = Report::new("slow connections");
    let mut rig = Rig::start_with(bench, "slow", SPEED, 1_000, |policy| {
        policy.tls = !args.plain;
        policy.connections_max = places;
    })
    .await?;
    let speaks = || if args.plain { Ok(None) } else { trusting(&rig).map(|tls| Some(Arc::new(tls))) };
    // Each its own: what sessions are kept in has a lock, and the herd's thread, which weighs less, would hold it.
    let (tls, herd_tls) = (speaks()?, speaks()?);
    let identity = rig.site.merchants.first().context("a merchant")?.clone();
    let merchant = Arc::new(Merchant { key: Key::new(&identity.key)?, identity });
    let client = Arc::new(Client::over(rig.site.gateway, tls));
    let (mut quiet, mut besieged) = (Vec::new(), Vec::new());
    let (mut least, mut came, mut pressure) = (u64::MAX, 0, 0);
    let mut number = 0_u64;
    // Connections, caches and the store's files are warm before anything counts.
    measure(&client, &merchant, args, &mut number).await?;
    for round in 0..args.rounds {
        quiet.push(measure(&client, &merchant, args, &mut number).await?);
        say(format!("round {} of {}: {} connections come", round + 1, args.rounds, args.connections));
        let herd =
            Herd::start(rig.site.gateway, herd_tls.clone(), usize::try_from(args.connections)?, from).await?;
        // As many as there are places for, but for those between two lives.
        let enough = args.connections.min(places) * 8 / 10;
        until(|held| held >= enough, &rig).await.context("the slow connections do not come together")?;
        sleep(SETTLE).await;
        let before = herd.opened();
        let began = Instant::now();
        besieged.push(measure(&client, &merchant, args, &mut number).await?);
        let ms = u64::try_from(began.elapsed().as_millis())?.max(1);
        pressure = pressure.max((herd.opened() - before) * 1_000 / ms);
        least = least.min(metric(rig.site.admin, CONNECTIONS).await?);
        came += herd.opened();
        herd.stop().await;
        until(|held| held < 500, &rig).await.context("connections stay")?;
        sleep(SETTLE).await;
    }
    let (without, with) = (median(&quiet, |half| half.p99_us), median(&besieged, |half| half.p99_us));
    let percent = with * 100 / without.max(1);
    let lost: u64 = quiet.iter().chain(&besieged).map(|half| half.lost).sum();
    report.figure("tills speak", if args.plain { "HTTP" } else { "HTTPS" });
    report.figure("slow connections, places", json!([args.connections, places]));
    report.figure("connections open while besieged, at least", least);
    report.figure("the slow come from", if args.same_address { "the tills' address" } else { "elsewhere" });
    report.figure("slow connections opened in all", came);
    report.figure("slow connections opened per second while measured, at most", pressure);
    report.figure("turned away", metric(rig.site.admin, TURNED_AWAY).await?);
    report.figure("lost their place", metric(rig.site.admin, EVICTED).await?);
    report.figure("rounds, seconds of each half", json!([args.rounds, args.seconds]));
    report.figure("payments and queries of others in each half", args.rate * args.seconds * 2);
    report.figure("p50 without, us", median(&quiet, |half| half.p50_us));
    report.figure("p50 with, us", median(&besieged, |half| half.p50_us));
    report.figure("p99 without, us", json!(quiet.iter().map(|half| half.p99_us).collect::<Vec<_>>()));
    report.figure("p99 with, us", json!(besieged.iter().map(|half| half.p99_us).collect::<Vec<_>>()));
    report.figure("p99 without, with (medians), us", json!([without, with]));
    report.figure("p99 with, percent of that without", percent);
    report.figure("requests of others lost", lost);
    for (words, of) in [
        ("newcomers, p50 without, with, us", (|half| half.newcomers_p50_us) as fn(&Half) -> u64),
        ("newcomers, p99 without, with, us", |half| half.newcomers_p99_us),
        ("newcomers, tries without, with", |half| half.tries.into()),
        ("newcomers that never got in without, with", |half| half.newcomers_lost),
    ] {
        report.figure(words, json!([median(&quiet, of), median(&besieged, of)]));
    }
    report.check(lost == 0, || format!("{lost} requests of other tills were lost"));
    report.check(args.percent_max == 0 || percent <= args.percent_max, || {
        format!("the p99 of other tills is {percent} % of that without slow connections")
    });
    rig.switch.stop(STOP_MAX).await?;
    Ok(report)
}

/// Trusts whoever the switch shows itself as.
fn trusting(rig: &Rig) -> anyhow::Result<ClientConfig> {
    let pki = TestPki::read_from(&rig.site.folder.join("pki"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(pki.roots()?)
        .with_no_client_auth())
}

/// Waits until the switch has as many connections as `right` says.
async fn until(right: impl Fn(u64) -> bool, rig: &Rig) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let held = metric(rig.site.admin, CONNECTIONS).await?;
        if right(held) {
            return Ok(());
        }
        ensure!(began.elapsed() < HERD_MAX, "{held} connections after {HERD_MAX:?}");
        sleep(Duration::from_millis(250)).await;
    }
}

/// Tills that pay and ask, begun at fixed moments whatever became of those before: latencies count from those moments.
async fn measure(
    client: &Arc<Client>,
    merchant: &Arc<Merchant>,
    args: &SlowArgs,
    number: &mut u64,
) -> anyhow::Result<Half> {
    let count = args.rate * args.seconds;
    let began = Instant::now();
    let mut tills = JoinSet::new();
    let newcomers = tokio::spawn(newcomers(
        Arc::clone(client),
        Arc::clone(merchant),
        began + Duration::from_secs(args.seconds.into()),
    ));
    for n in 0..count {
        let due = began + Duration::from_secs(1) * n / args.rate.max(1);
        sleep_until(due).await;
        *number += 1;
        tills.spawn(till(Arc::clone(client), Arc::clone(merchant), *number, due));
    }
    let (mut latencies, mut lost) = (Vec::new(), 0);
    while let Some(told) = tills.join_next().await {
        match told? {
            Some(both) => latencies.extend(both),
            None => lost += 1,
        }
    }
    let (mut waited, newcomers_lost, tries) = newcomers.await?;
    Ok(Half {
        p50_us: quantile(&mut latencies, 50)?,
        p99_us: quantile(&mut latencies, 99)?,
        lost,
        newcomers_p50_us: quantile(&mut waited, 50)?,
        newcomers_p99_us: quantile(&mut waited, 99)?,
        newcomers_lost,
        tries,
    })
}

fn quantile(latencies: &mut [u64], percent: usize) -> anyhow::Result<u64> {
    latencies.sort_unstable();
    let place = (latencies.len() * percent / 100).min(latencies.len().saturating_sub(1));
    latencies.get(place).copied().context("no till was answered")
}

/// Tills that come one after another until `until`, each on a connection of its own: what each had to wait, further
/// tries included, how many were never answered, and all tries.
async fn newcomers(client: Arc<Client>, merchant: Arc<Merchant>, until: Instant) -> (Vec<u64>, u64, u32) {
    let mut tills = JoinSet::new();
    let mut due = Instant::now();
    while due < until {
        sleep_until(due).await;
        let (client, merchant) = (client.another(), Arc::clone(&merchant));
        tills.spawn(async move {
            let query = [(field::OUT_TRADE_NO, "NEWCOMER")];
            for tries in 1..=NEWCOMER_TRIES {
                if client.ask(&merchant, "/pay/orderquery", Kind::Md5, &query).await.is_ok() {
                    return (Some(us(due)), tries);
                }
                sleep(NEWCOMER_AGAIN).await;
            }
            (None, NEWCOMER_TRIES)
        });
        due += NEWCOMER_EVERY;
    }
    let ended = tills.join_all().await;
    let waited: Vec<u64> = ended.iter().filter_map(|(waited, _)| *waited).collect();
    let lost = u64::try_from(ended.len() - waited.len()).unwrap_or(u64::MAX);
    (waited, lost, ended.iter().map(|(_, tries)| tries).sum())
}

fn us(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// A customer who pays at once, and a query a little later: microseconds of each; `None` if one was not answered.
async fn till(client: Arc<Client>, merchant: Arc<Merchant>, number: u64, due: Instant) -> Option<[u64; 2]> {
    let out_trade_no = format!("S{number:010}");
    let code = Code::for_customer(0, number);
    let pay = [
        (field::BODY, "tea"),
        (field::OUT_TRADE_NO, out_trade_no.as_str()),
        (field::TOTAL_FEE, "1"),
        (field::SPBILL_CREATE_IP, "203.0.113.10"),
        (field::AUTH_CODE, code.as_str()),
    ];
    client.ask(&merchant, "/pay/micropay", Kind::Md5, &pay).await.ok()?;
    let paid = us(due);
    sleep(Duration::from_millis(100)).await;
    let asked = Instant::now();
    let query = [(field::OUT_TRADE_NO, out_trade_no.as_str())];
    client.ask(&merchant, "/pay/orderquery", Kind::Md5, &query).await.ok()?;
    Some([paid, us(asked)])
}

fn median(halves: &[Half], of: impl Fn(&Half) -> u64) -> u64 {
    let mut all: Vec<u64> = halves.iter().map(of).collect();
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or(0)
}
