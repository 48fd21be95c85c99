//! `hufu demo`: a wallet, the switch and a crowd in one process, and the books afterwards.

mod crowd;

mod report;

use std::io::IsTerminal as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use signer::Key;
use simulator::{Options, Stats};
use state_machine::MerchantId;
use state_machine::planner::Quota;
use store::SealKey;
use tokio::time::{Instant, interval, sleep};

use crate::exit::{Exit, Failure, Outcome};
use crate::output;
use crate::settings::JsonFlag;
use crate::stand::{Plan, Stand, WalletAt};
use crate::wallet::{WalletServer, make_pki};
use report::{Report, Reporter};
use till::books::{Ending, Page, Records, ending};
use till::client::{Client, Merchant};
use till::credentials::{PROVIDER_MCH_ID, TestMerchant, demo_merchants, provider};
use till::serve::{Shop, Till};

/// Merchants of the demonstration.
const MERCHANTS: u32 = 40;
/// How long everything may take to come to an end after the last customer has come, at speed 1.
const SETTLE_S: u64 = 450;
/// The least of it: some deadlines are not divided by the speed.
const SETTLE_LEAST_S: u64 = 40;
/// How often the store is asked whether anything is open.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// What the wallet takes to answer, before the speed.
const ANSWER_MS: (u32, u32) = (40, 120);
/// How much sooner a reversal may seem to come at the wallet than it left: requests wait for a busy processor.
pub(crate) const REVERSAL_SLACK_MS: u32 = 300;

/// Shows that the books agree: a simulated wallet, the switch, and a crowd of customers.
///
/// A crowd drawn from the wallet's population pays through the drop-in XML API over real sockets: some at once,
/// some with a password, some never; answers are lost, tills give up, reverse, and send again. Afterwards three
/// records are compared payment by payment: the wallet's ledger, what the tills were told, and the switch's store.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hufu demo
  hufu demo --customers 5000 --arrivals-per-second 300 --seed 7
  hufu demo --json | tail -1 | jq .detection_delay_ms

Exits 0 only if all three books agree and nothing is open, 1 if they do not.")]
pub(crate) struct DemoArgs {
    /// How many customers come.
    #[arg(long, default_value_t = 2_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    customers: u32,
    /// How many come in a second, on average.
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    arrivals_per_second: u32,
    /// Chooses the crowd: the same seed brings the same customers.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Divides the delays of customers, tills and wallet, and the switch's policy clocks.
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    speed: u32,
    #[command(flatten)]
    pub(crate) json: JsonFlag,
    /// Log what the switch does to standard error, for example "info" or "gateway=debug".
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
}

/// Runs the demonstration.
pub(crate) async fn run(args: &DemoArgs) -> Outcome {
    if let Some(filter) = &args.log {
        crate::log_plainly(filter)?;
    }
    let folder = tempfile::tempdir()
        .map_err(|err| Failure::unavailable(format!("no temporary folder: {err}. Nothing was started.")))?;
    let report = tokio::select! {
        report = demonstrate(args, folder.path()) => report?,
        _ = tokio::signal::ctrl_c() => {
            let text = "interrupted. No real money was involved; everything was thrown away.";
            return Err(Failure { exit: Exit::Interrupted, text: text.to_owned() });
        }
    };
    if args.json.json {
        output::json(&report)?;
    } else {
        report.print();
    }
    if report.books_agree {
        Ok(())
    } else {
        Err(Failure::failed("the books differ: the payments are listed with all three records"))
    }
}

async fn demonstrate(args: &DemoArgs, folder: &Path) -> Result<Report, Failure> {
    let began = Instant::now();
    let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let pki = make_pki(PROVIDER_MCH_ID)?;
    pki.write_to(folder).map_err(|err| crate::stand::unwritable(folder, &err))?;
    let options = Options {
        speed: args.speed,
        answer_ms: ANSWER_MS,
        reversal_slack_ms: REVERSAL_SLACK_MS,
        ..Options::new(provider())
    };
    let mut wallet = WalletServer::start(args.seed, options, anywhere, anywhere, &pki).await?;
    let merchants = demo_merchants(MERCHANTS);
    let stand = Stand::start(Plan {
        folder,
        gateway: anywhere,
        admin: anywhere,
        wallet: WalletAt { url: format!("https://{}", wallet.tls), pki: Some(folder.to_owned()) },
        speed: args.speed,
        quota: quota(args.arrivals_per_second),
        merchants: &merchants,
    })
    .await?;
    let Stand { switch, merchants: numbers, store, seal_key } = stand;
    let span = Duration::from_secs(u64::from(args.customers / args.arrivals_per_second));
    let settle = Duration::from_secs((SETTLE_S / u64::from(args.speed)).max(SETTLE_LEAST_S));
    let until = began + span + settle;
    let shop = Arc::new(Shop {
        client: Client::new(switch.gateway_addr()),
        merchants: merchants.iter().map(merchant).collect::<Result<_, _>>()?,
        speed: args.speed.into(),
        until: OnceLock::from(until),
        tally: till::tally::Tally::default(),
    });
    let progress = progress(args, &shop);
    let arrivals = crowd::arrivals(args.seed, args.customers, args.arrivals_per_second, merchants.len());
    let tills = crowd::come(&shop, arrivals).await;
    converge(&store, &seal_key, until).await?;
    let tills = crowd::close_the_day(tills).await;
    progress.abort();
    switch.stop().await;
    wallet.stop().await;
    // The file, after the switch has closed it.
    let records = records(&store, &seal_key)?;
    let reporter = compare(&wallet, shop.tally.open_max(), &merchants, &numbers, &tills, &records);
    Ok(reporter.finish(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)))
}

/// Room for the crowd: the published query quota, and more pay requests and reversals than customers come.
fn quota(arrivals_per_second: u32) -> Quota {
    let busy = arrivals_per_second.saturating_mul(3).max(200);
    Quota {
        pay: busy,
        query: 1_800.max(arrivals_per_second.saturating_mul(6)),
        reverse: busy,
        calls_max: 4_096,
    }
}

fn merchant(identity: &TestMerchant) -> Result<Merchant, Failure> {
    let key = Key::new(&identity.key).map_err(|err| Failure::internal(err.to_string()))?;
    Ok(Merchant { identity: identity.clone(), key })
}

/// Shows how it goes, on a terminal only. The task ends with the handle that is given back.
fn progress(args: &DemoArgs, shop: &Arc<Shop>) -> tokio::task::JoinHandle<()> {
    let target = if std::io::stderr().is_terminal() && args.log.is_none() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(Some(args.customers.into()), target);
    let style = ProgressStyle::with_template("{elapsed_precise} {bar:24} {pos:>5}/{len} came   {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let shop = Arc::clone(shop);
    tokio::spawn(async move {
        /// Clears the line however the task ends.
        struct Clear(ProgressBar);
        impl Drop for Clear {
            fn drop(&mut self) {
                self.0.finish_and_clear();
            }
        }
        let bar = Clear(bar);
        let mut ticks = interval(Duration::from_millis(200));
        loop {
            ticks.tick().await;
            bar.0.set_position(shop.tally.begun());
            bar.0.set_message(shop.tally.line());
        }
    })
}

/// Waits until the store has nothing open, or tills stop asking.
async fn converge(store: &Path, seal_key: &SealKey, until: Instant) -> Outcome {
    loop {
        let open = records(store, seal_key)?
            .values()
            .filter(|record| matches!(ending(record), Ending::Open | Ending::Held))
            .count();
        if open == 0 || Instant::now() >= until {
            return Ok(());
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Every record in the file.
fn records(store: &Path, seal_key: &SealKey) -> Result<Records, Failure> {
    till::books::records(store, seal_key).map_err(|err| Failure::internal(err.to_string()))
}

/// Holds the three books against each other.
fn compare(
    wallet: &WalletServer,
    peak_pending: u64,
    merchants: &[TestMerchant],
    numbers: &[MerchantId],
    tills: &[Till],
    records: &Records,
) -> Reporter {
    let mut wallet = wallet.lock();
    wallet.advance(simulator::http::unix_ms());
    let stats: Stats = wallet.stats();
    let mut reporter = Reporter::new(peak_pending, stats, wallet.totals());
    for till in tills {
        let sale = &till.sale;
        let (Some(merchant), Some(number)) = (merchants.get(sale.merchant), numbers.get(sale.merchant))
        else {
            continue;
        };
        let key = simulator::Key::new(PROVIDER_MCH_ID, &merchant.upstream, &sale.number);
        let page = Page {
            asked_fen: sale.amount_fen,
            notebook: &till.notebook,
            ledger: wallet.entry(&key),
            record: records.get(&(*number, sale.number.clone())),
        };
        reporter.add(&merchant.mch_id, &sale.number, &page);
    }
    reporter
}
