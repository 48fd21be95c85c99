//! `hufu sandbox`: a wallet, the switch and ready merchants, to try things out.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use simulator::{Code, Options};
use state_machine::planner::Quota;

use crate::demo::REVERSAL_SLACK_MS;
use crate::exit::{Failure, Outcome};
use crate::output;
use crate::settings::JsonFlag;
use crate::stand::{CONFIG, Plan, Stand, WalletAt};
use crate::wallet::{WalletServer, make_pki};
use till::credentials::{PROVIDER_MCH_ID, TestMerchant, provider, sandbox_merchants};

/// Runs the switch against a simulated wallet, with merchants that can take payments at once.
///
/// The last four digits of a payment code choose the customer (hufu simulate --help has the table). Everything is
/// kept in a temporary folder unless --data names one.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hufu sandbox
  hufu sandbox --speed 10 --data ./sandbox
  hufu sandbox --listen 127.0.0.1:0 --json
  hufu payment list --config ./sandbox/hufu.toml

When it is ready, --json prints one line:
  {\"gateway\":URL,\"wallet\":URL,\"admin\":URL,\"config\":FILE,
   \"merchants\":[{\"appid\",\"mch_id\",\"sub_mch_id\"?,\"key\",\"api_key\"}…]}")]
pub(crate) struct SandboxArgs {
    /// Where tills connect; port 0 takes free ports for gateway, wallet and admin.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Where the wallet listens without TLS [default: port 8081 beside --listen].
    #[arg(long, value_name = "ADDRESS")]
    wallet_listen: Option<SocketAddr>,
    /// Where /metrics, /livez and /readyz are [default: 127.0.0.1:9464].
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<SocketAddr>,
    /// Divides the delays of customers and wallet, and the switch's policy clocks.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    speed: u32,
    /// Chooses the customers behind codes of customer 99.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Use a simulator that already runs (hufu simulate, with the same --speed) instead of an own wallet.
    #[arg(long, value_name = "URL")]
    wallet: Option<String>,
    /// Where the certificates of an https --wallet are: its --pki-dir.
    #[arg(long, value_name = "FOLDER", requires = "wallet")]
    pki_dir: Option<PathBuf>,
    /// Keep the store here; payments of an earlier sandbox in it go on.
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// What of the switch is logged to standard error, for example "info".
    #[arg(long, default_value = "error", value_name = "FILTER")]
    log: String,
    #[command(flatten)]
    pub(crate) json: JsonFlag,
}

/// What is printed when the sandbox is ready.
#[derive(Debug, Serialize)]
struct Ready<'a> {
    gateway: String,
    wallet: String,
    admin: String,
    config: PathBuf,
    merchants: &'a [TestMerchant],
}

/// Serves until the process is asked to stop.
pub(crate) async fn run(args: &SandboxArgs) -> Outcome {
    crate::log_plainly(&args.log)?;
    let temporary =
        tempfile::tempdir().map_err(|err| Failure::unavailable(format!("no temporary folder: {err}")))?;
    let folder = args.data.clone().unwrap_or_else(|| temporary.path().to_owned());
    std::fs::create_dir_all(&folder).map_err(|err| crate::stand::unwritable(&folder, &err))?;
    let folder = folder.canonicalize().map_err(|err| crate::stand::unwritable(&folder, &err))?;
    let port = |port: u16| if args.listen.port() == 0 { 0 } else { port };
    let beside = |wanted| SocketAddr::new(args.listen.ip(), port(wanted));
    let (mut own, wallet, wallet_url) = match &args.wallet {
        Some(url) => {
            let at = WalletAt { url: url.clone(), pki: args.pki_dir.clone() };
            (None, at, url.clone())
        }
        None => {
            let pki = make_pki(PROVIDER_MCH_ID)?;
            pki.write_to(&folder).map_err(|err| crate::stand::unwritable(&folder, &err))?;
            let options = Options {
                speed: args.speed,
                reversal_slack_ms: REVERSAL_SLACK_MS,
                ..Options::new(provider())
            };
            let plain = args.wallet_listen.unwrap_or_else(|| beside(8081));
            let tls = SocketAddr::from(([127, 0, 0, 1], 0));
            let server = WalletServer::start(args.seed, options, plain, tls, &pki).await?;
            let at = WalletAt { url: format!("https://{}", server.tls), pki: Some(folder.clone()) };
            let url = format!("http://{}", server.plain);
            (Some(server), at, url)
        }
    };
    let merchants = sandbox_merchants();
    let admin = args.admin_listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], port(9464))));
    let stand = Stand::start(Plan {
        folder: &folder,
        gateway: args.listen,
        admin,
        wallet,
        speed: args.speed,
        quota: Quota { pay: 1_000, query: 1_800, reverse: 1_000, calls_max: 4_096 },
        merchants: &merchants,
    })
    .await?;
    let switch = stand.switch;
    let ready = Ready {
        gateway: format!("http://{}", switch.gateway_addr()),
        wallet: wallet_url,
        admin: format!("http://{}", switch.admin_addr()),
        config: folder.join(CONFIG),
        merchants: &merchants,
    };
    if args.json.json {
        output::json(&ready)?;
    } else {
        print(&ready, switch.recovery().open);
    }
    crate::stop_asked().await;
    switch.stop().await;
    if let Some(wallet) = &mut own {
        wallet.stop().await;
    }
    Ok(())
}

fn print(ready: &Ready<'_>, taken_up: u64) {
    let mut urls = output::table(&["Hufu sandbox", ""], &[]);
    for (name, value) in [
        ("tills connect to", ready.gateway.clone()),
        ("simulated wallet", format!("{0}  books: {0}/sim/ledger", ready.wallet)),
        ("metrics, probes", format!("{0}/metrics  {0}/readyz", ready.admin)),
        ("settings", ready.config.display().to_string()),
        ("open payments taken up", taken_up.to_string()),
    ] {
        urls.add_row([name.to_owned(), value]);
    }
    let mut merchants = output::table(&["mch_id", "sub_mch_id", "appid", "signing key and API key"], &[]);
    for one in ready.merchants {
        let sub = one.sub_mch_id.clone().unwrap_or_default();
        merchants.add_row([
            one.mch_id.clone(),
            sub,
            one.appid.clone(),
            format!("{}\n{}", one.key, one.api_key),
        ]);
    }
    output::line(format!("{urls}\n\n{merchants}\n"));
    if let Some(merchant) = ready.merchants.first() {
        output::line(format!(
            "A payment of customer 01, who enters the password after 8 s:\n\n{}\n\nReady. Ctrl-C ends it.",
            curl(&ready.gateway, merchant)
        ));
    }
}

/// A payment to paste into a shell: a new code and number each time.
fn curl(gateway: &str, merchant: &TestMerchant) -> String {
    let code = Code::for_customer(108, 1);
    let (head, tail) = code.as_str().split_at(8);
    let customer = tail.get(6..).unwrap_or_default();
    format!(
        "  N=$(date +%H%M%S)\n  curl -sS {gateway}/v1/payments \\\n    -H 'Authorization: Bearer {}' \\\n    \
         -H 'Content-Type: application/json' -H 'Prefer: wait=30' \\\n    -d '{{\"out_trade_no\":\"HELLO'$N'\",\
         \"auth_code\":\"{head}'$N'{customer}\",\"amount_fen\":1288,\"body\":\"Tea\"}}'",
        merchant.api_key,
    )
}
