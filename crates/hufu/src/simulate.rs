//! `hufu simulate`: the simulated wallet alone.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use simulator::http::TestPki;
use simulator::{Options, Provider, SubMerchants, customers_table, population_table};

use crate::demo::REVERSAL_SLACK_MS;
use crate::exit::{Failure, Outcome};
use crate::output;
use crate::settings::JsonFlag;
use crate::wallet::{WalletServer, make_pki};
use till::credentials::{PROVIDER_APPID, PROVIDER_KEY, PROVIDER_MCH_ID};

/// Runs a simulated WeChat Pay V2 API: customers, their money, and a ledger that judges whoever calls it.
///
/// It serves /pay/micropay, /pay/orderquery, /secapi/pay/reverse, /secapi/pay/refund and /pay/refundquery, checks
/// every signature, and shows its books under /sim/ledger (one JSON object a line) and /sim/stats.
#[derive(Debug, Args)]
#[command(after_help = help())]
pub(crate) struct SimulateArgs {
    /// Where it listens without TLS; reversals need no client certificate there.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
    listen: SocketAddr,
    /// Where it listens with TLS [default: port 8443 beside --listen, or a free one if that has port 0].
    #[arg(long, value_name = "ADDRESS")]
    tls_listen: Option<SocketAddr>,
    /// Where certificates are read from, or written to if there are none [default: a new temporary folder].
    #[arg(long, value_name = "FOLDER")]
    pki_dir: Option<PathBuf>,
    /// Divides every delay of customers and wallet.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=3_600))]
    speed: u32,
    /// Chooses the customers behind codes of customer 99.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// How much sooner than the wallet allows a reversal may seem to come, in milliseconds, since a pay request may
    /// have been slower on its way than the reversal was.
    #[arg(long, default_value_t = REVERSAL_SLACK_MS, value_name = "MS")]
    reversal_slack_ms: u32,
    /// The service provider that it knows.
    #[arg(long, default_value = PROVIDER_MCH_ID, value_name = "MCH_ID")]
    mch_id: String,
    /// The sub-merchants that are bound to the provider [default: any].
    #[arg(long, value_name = "SUB_MCH_ID,…", value_delimiter = ',')]
    sub_merchants: Option<Vec<String>>,
    /// The provider's appid.
    #[arg(long, default_value = PROVIDER_APPID, value_name = "APPID")]
    appid: String,
    /// The provider's API key; never use a real one.
    #[arg(long, default_value = PROVIDER_KEY, value_name = "KEY")]
    key: String,
    #[command(flatten)]
    pub(crate) json: JsonFlag,
}

/// The tables of customers and population.
fn help() -> String {
    format!(
        "Examples:\n  hufu simulate\n  hufu simulate --listen 127.0.0.1:0 --speed 10 --json\n\nCustomers:\n{}\n\
         Population:\n{}",
        customers_table(),
        population_table()
    )
}

/// Serves the wallet until the process is asked to stop.
pub(crate) async fn run(args: &SimulateArgs) -> Outcome {
    signer::Key::new(&args.key).map_err(|err| Failure::usage(format!("--key: {err}")))?;
    let provider = Provider {
        appid: args.appid.clone(),
        mch_id: args.mch_id.clone(),
        key: args.key.clone(),
        sub_merchants: args.sub_merchants.clone().map_or(SubMerchants::Any, SubMerchants::Listed),
    };
    let options =
        Options { speed: args.speed, reversal_slack_ms: args.reversal_slack_ms, ..Options::new(provider) };
    let temporary =
        tempfile::tempdir().map_err(|err| Failure::unavailable(format!("no temporary folder: {err}")))?;
    let folder = args.pki_dir.clone().unwrap_or_else(|| temporary.path().to_owned());
    let pki = certificates(&folder, &args.mch_id)?;
    let tls_port = if args.listen.port() == 0 { 0 } else { 8443 };
    let tls = args.tls_listen.unwrap_or_else(|| SocketAddr::new(args.listen.ip(), tls_port));
    let mut wallet = WalletServer::start(args.seed, options, args.listen, tls, &pki).await?;
    let (url, tls_url) = (format!("http://{}", wallet.plain), format!("https://{}", wallet.tls));
    let path = |name: &str| folder.join(name);
    if args.json.json {
        output::json(&json!({
            "wallet": url,
            "wallet_tls": tls_url,
            "mch_id": args.mch_id,
            "appid": args.appid,
            "key": args.key,
            "ca_file": path("ca.pem"),
            "client_cert_file": path("apiclient_cert.pem"),
            "client_key_file": path("apiclient_key.pem"),
        }))?;
    } else {
        let mut table = output::table(&["Simulated wallet", ""], &[]);
        for (name, value) in [
            ("URL without TLS", url.clone()),
            ("URL with TLS", tls_url),
            ("certificates", folder.display().to_string()),
            ("", "ca.pem, apiclient_cert.pem, apiclient_key.pem".to_owned()),
            ("provider mch_id", args.mch_id.clone()),
            ("provider appid", args.appid.clone()),
            ("provider key", args.key.clone()),
            ("books", format!("{url}/sim/ledger  {url}/sim/stats")),
        ] {
            table.add_row([name.to_owned(), value]);
        }
        output::line(format!("{table}\n\nReady. Ctrl-C ends it."));
    }
    crate::stop_asked().await;
    wallet.stop().await;
    Ok(())
}

/// The certificates in `folder`, or new ones.
fn certificates(folder: &std::path::Path, mch_id: &str) -> Result<TestPki, Failure> {
    if folder.join("ca.pem").exists() {
        return TestPki::read_from(folder).map_err(|err| {
            Failure::usage(format!(
                "{}: its certificates cannot be read: {err}. Nothing was started. Name an empty folder.",
                folder.display()
            ))
        });
    }
    let pki = make_pki(mch_id)?;
    let unwritable = |err| crate::stand::unwritable(folder, &err);
    std::fs::create_dir_all(folder).map_err(unwritable)?;
    pki.write_to(folder).map_err(unwritable)?;
    Ok(pki)
}
