//! How fast a switch with very many open payments is ready again, and how it finishes them.

use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use simulator::http::{PlainCounts, SharedWallet, TestPki, serve_plain, serve_tls, unix_ms};
use simulator::{Call, Caller, Code, Micropay, Options, Provider, Request, SubMerchants};
use state_machine::record::{Record, State};
use state_machine::{BootId, Now, OrderKey, ProviderId, Tick, UnixMs};
use store::{SqliteStore, Store as _};
use till::books::{Ending, ending, records};
use till::credentials::{PROVIDER_APPID, PROVIDER_KEY, PROVIDER_MCH_ID};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::wallet_down::queries;
use super::{Bench, STOP_MAX};
use crate::ledger;
use crate::report::{Report, per_second};
use crate::site::{Policy, Site};

/// Records of one commit.
const COMMIT: usize = 4_096;
/// One customer in so many has not paid, and never will.
const UNPAID_ONE_IN: u64 = 10;
/// What each payment is about, in fen.
const FEN: u64 = 1_288;
/// How long all of them may take to come to their end.
const CALM: Duration = Duration::from_secs(240);
/// How often the wallet's queries are counted: over some seconds, since a busy machine answers in bursts.
const WINDOW: Duration = Duration::from_secs(3);

/// `checker recover`.
#[derive(Clone, Debug, Args)]
pub struct Recover {
    /// Payments that are open when the switch is started.
    #[arg(long, default_value_t = 100_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub open: u64,
    /// The longest it may take until the switch is ready, in milliseconds.
    #[arg(long, default_value_t = 2_000, value_name = "MS")]
    pub ready_max_ms: u64,
    /// What the wallet allows in a second.
    #[arg(long, default_value_t = 4_000, value_name = "N")]
    pub queries_per_second: u32,
    /// How often the start is measured, by killing it and starting again.
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub starts: u32,
}

/// Payments that a process left behind: known to the wallet, open in the store.
struct Left {
    wallet: SharedWallet,
    site: Site,
    plain: std::net::SocketAddr,
    servers: JoinSet<()>,
}

/// Runs it.
///
/// # Errors
///
/// When the store cannot be filled, or the switch cannot be started.
pub async fn run(bench: &Bench, args: &Recover, say: &dyn Fn(String)) -> anyhow::Result<Report> {
    let mut report = Report::new("recovery");
    let folder = bench.folder("recover")?;
    say(format!("filling a store with {} open payments", args.open));
    let mut left = leave(bench, folder.path(), args).await?;
    let mut ready = Vec::new();
    let mut switch = None;
    for start in 0..args.starts {
        if let Some(process) = switch.take() {
            crate::process::Process::kill(process)?;
        }
        let (process, started) = left.site.serve().await?;
        say(format!("start {} of {}: ready in {} ms", start + 1, args.starts, started.ready.as_millis()));
        if start == 0 && started.open != args.open {
            bail!("{} payments were taken up, not {}", started.open, args.open);
        }
        ready.push((started.ready, started.open));
        switch = Some(process);
    }
    let mut switch = switch.context("a start")?;
    let began = Instant::now();
    let (mut before, mut at, mut most) = (queries(left.plain).await?, Instant::now(), 0);
    let mut open = args.open;
    while open > 0 && began.elapsed() < CALM {
        sleep(WINDOW).await;
        let (now, moment) = (queries(left.plain).await?, Instant::now());
        most = most.max(per_second(now - before, moment - at));
        (before, at) = (now, moment);
        open = crate::web::metric(left.site.admin, "hufu_pending_payments").await?;
        say(format!("{open} pending, {now} queries"));
    }
    // Decided; reversals are still being proven.
    while super::open(&left.site)? > 0 && began.elapsed() < CALM {
        sleep(WINDOW).await;
    }
    let converged = began.elapsed();
    switch.stop(STOP_MAX).await?;
    compare(&left, &mut report).await?;
    left.servers.shutdown().await;
    let times: Vec<Duration> = ready.iter().map(|(ready, _)| *ready).collect();
    let slowest = ready.iter().map(|(ready, open)| per_second(*open, *ready)).min();
    report.figure("seed", bench.seed);
    report.figure("open payments", args.open);
    report.spread("ready after exec, ms", &times);
    report.figure("open payments recovered/s, slowest start", slowest);
    report.figure("all at their end after, s", converged.as_secs());
    report.figure("queries/s, most", most);
    report.figure("queries/s allowed", args.queries_per_second);
    report.check(times.iter().all(|one| one.as_millis() <= u128::from(args.ready_max_ms)), || {
        format!("a start took longer than {} ms", args.ready_max_ms)
    });
    // The budget holds in any second by the switch's clock; a busy machine counts some of the next with it.
    let allowed = u64::from(args.queries_per_second);
    report.check(most <= allowed + allowed / 5, || format!("{most} queries in a second"));
    Ok(report)
}

/// The wallet's and the switch's records of the same payments must say the same, and nothing may be open.
async fn compare(left: &Left, report: &mut Report) -> anyhow::Result<()> {
    let ledger = ledger::fetch(left.plain).await?;
    let records = records(&left.site.store, &left.site.seal_key)?;
    let verdict = &mut report.verdict;
    for ((merchant, number), record) in &records {
        verdict.payments += 1;
        let at = left.site.numbers.iter().position(|one| one == merchant);
        let upstream = at.and_then(|at| left.site.merchants.get(at)).context("a merchant")?.upstream.clone();
        let held = ledger.get(&(upstream, number.clone())).map_or(0, simulator::Entry::held_fen);
        verdict.held_fen += held;
        match ending(record) {
            Ending::Paid => {
                verdict.paid += 1;
                verdict.told_fen += FEN;
                verdict.contradicted += u64::from(held != FEN);
            }
            end @ (Ending::Failed | Ending::Reversed) => {
                let counter = if end == Ending::Failed { &mut verdict.failed } else { &mut verdict.reversed };
                *counter += 1;
                verdict.charged_twice += u64::from(held != 0);
            }
            Ending::Open | Ending::Held | Ending::NotTaken => verdict.lost += 1,
        }
    }
    for entry in ledger.values() {
        verdict.charged_twice += u64::from(entry.captures > 1);
        for broken in &entry.violations {
            *verdict.rules_broken.entry(broken.as_str().to_owned()).or_default() += 1;
        }
    }
    Ok(())
}

/// Makes a wallet that knows the payments, and a store that holds them.
async fn leave(bench: &Bench, folder: &std::path::Path, args: &Recover) -> anyhow::Result<Left> {
    let pki = TestPki::generate(&["127.0.0.1"], PROVIDER_MCH_ID)?;
    std::fs::create_dir_all(folder.join("pki"))?;
    pki.write_to(&folder.join("pki"))?;
    let provider = Provider {
        appid: PROVIDER_APPID.to_owned(),
        mch_id: PROVIDER_MCH_ID.to_owned(),
        key: PROVIDER_KEY.to_owned(),
        sub_merchants: SubMerchants::Any,
    };
    let options = Options { speed: super::SPEED, reversal_slack_ms: 1_000, ..Options::new(provider) };
    let wallet: SharedWallet = Arc::new(Mutex::new(simulator::Wallet::new(bench.seed, options)));
    let (tls, plain) = (TcpListener::bind("127.0.0.1:0").await?, TcpListener::bind("127.0.0.1:0").await?);
    let (tls_at, plain_at) = (tls.local_addr()?, plain.local_addr()?);
    let mut servers = JoinSet::new();
    servers.spawn(serve_tls(Arc::clone(&wallet), tls, pki.server_config()?));
    servers.spawn(serve_plain(Arc::clone(&wallet), plain, PlainCounts::AsCertified));
    let policy = Policy { query_per_second: args.queries_per_second, ..Policy::scaled(super::SPEED) };
    let site = Site::make(&bench.hufu, folder, folder, tls_at, &policy, bench.seed)?;
    let left = Left { wallet, site, plain: plain_at, servers };
    let count = args.open;
    let (filled, left) = tokio::task::spawn_blocking(move || (fill(&left, count), left)).await?;
    filled?;
    // What the operating system has not written yet would be written while the start is measured.
    let _ = Command::new("sync").status();
    Ok(left)
}

/// Makes the payments as a process would have left them: recorded, sent, the customer's dialog open.
fn fill(left: &Left, count: u64) -> anyhow::Result<()> {
    let site = &left.site;
    let mut store = SqliteStore::open(&site.store, &site.seal_key, store::Options::default())?;
    let merchants = u64::try_from(site.merchants.len())?;
    let mut batch = Vec::with_capacity(COMMIT);
    for n in 0..count {
        let at = usize::try_from(n % merchants)?;
        let (merchant, id) =
            (site.merchants.get(at).context("a merchant")?, site.numbers.get(at).context("a number")?);
        let number = format!("R{n:010}");
        let customer = if n % UNPAID_ONE_IN == 0 { 200 } else { 0 };
        let caller = Caller {
            appid: PROVIDER_APPID.into(),
            mch_id: PROVIDER_MCH_ID.into(),
            sub_appid: "".into(),
            sub_mch_id: merchant.upstream.as_str().into(),
        };
        let code = Code::for_customer(customer, n + 1);
        let call = Call::Micropay(Micropay::new(&number, code.as_str(), FEN));
        let now = unix_ms();
        left.wallet.lock().unwrap_or_else(PoisonError::into_inner).handle(&Request { caller, call }, now);
        batch.push(record(OrderKey { merchant: *id, number: number.parse()? }, now)?);
        if batch.len() == COMMIT || n + 1 == count {
            let accepted: Vec<Arc<Record>> = batch.drain(..).map(Arc::new).collect();
            let asked = accepted.iter().map(|record| {
                Arc::new(Record {
                    version: 2,
                    state: State::Pending,
                    left_tick: Some(Tick::from_ms(1)),
                    ..(**record).clone()
                })
            });
            let asked: Vec<_> = asked.collect();
            store.commit(&accepted)?;
            store.commit(&asked)?;
        }
    }
    Ok(())
}

/// An accepted payment of another boot: as after a machine has come up again.
fn record(key: OrderKey, now_ms: i64) -> anyhow::Result<Record> {
    Ok(Record {
        amount: Some(protocol::Fen::new(FEN)?),
        digest: [7; 16],
        ..Record::begun(key, ProviderId(1), Now { tick: Tick::from_ms(1), wall: UnixMs(now_ms) }, BootId(1))
    })
}
