//! How many payments a second can one processor generate? A trivial server answers every request with the same
//! signed bytes; the generator's own processor time for each payment is what counts, whatever else the machine does.
//!
//!     cargo run --release -p load --example capacity [-- RATE…]

#![expect(clippy::print_stdout, reason = "a program whose output is its table")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use load::{Live, Plan, Process};
use protocol::xml::Writer;
use signer::{Key, Kind, Scratch};
use tokio::net::TcpListener;

const KEY: &str = "SandboxSigningKeyOfMerchant00001";
const SECONDS: u64 = 4;

fn answer() -> Bytes {
    let pairs = [
        ("return_code", "SUCCESS"),
        ("appid", "wx0000000000000001"),
        ("mch_id", "1900000201"),
        ("nonce_str", "5K8264ILTKCH16CQ2502SI8ZNMTM67VS"),
        ("result_code", "SUCCESS"),
        ("openid", "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"),
        ("trade_type", "MICROPAY"),
        ("bank_type", "CMB_DEBIT"),
        ("total_fee", "100"),
        ("transaction_id", "4200002611202611231234567890"),
        ("time_end", "20261123120000"),
    ];
    let key = Key::new(KEY).expect("a key");
    let sign = key.sign(Kind::Md5, pairs, &mut Scratch::new());
    let mut body = Vec::new();
    let mut writer = Writer::new(&mut body);
    for (name, value) in pairs {
        writer.text(name, value);
    }
    writer.text("sign", sign.as_str());
    writer.finish();
    body.into()
}

/// Serves on a thread of its own.
fn server() -> SocketAddr {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            sender.send(listener.local_addr().expect("bound")).expect("somebody waits");
            let body = answer();
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).expect("a socket");
                let body = body.clone();
                let service = service_fn(move |request: Request<Incoming>| {
                    let body = body.clone();
                    async move {
                        let _ = request.into_body().collect().await;
                        Ok::<_, Infallible>(Response::new(Full::new(body)))
                    }
                });
                tokio::spawn(async move {
                    let _ = Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
    });
    receiver.recv().expect("it serves")
}

fn main() {
    let rates: Vec<u32> = std::env::args().skip(1).filter_map(|rate| rate.parse().ok()).collect();
    let rates = if rates.is_empty() { vec![1_000, 5_000, 10_000, 20_000, 30_000, 40_000] } else { rates };
    let address = server();
    println!(
        "   asked/s  answered/s  p50 us  p99 us  lag p99 us  cpu %  us a payment  making us  capacity/s"
    );
    for rate in rates {
        let account = format!("1900000201:{KEY}:wx0000000000000001");
        let plan = Arc::new(Plan {
            target: format!("http://{address}").parse().expect("an endpoint"),
            tls: None,
            accounts: vec![account.parse().expect("a merchant")],
            customers: "00".parse().expect("a customer"),
            arrivals: Process::Poisson,
            per_second: rate,
            warmup: Duration::from_secs(1),
            duration: Duration::from_secs(SECONDS),
            drain: Duration::from_secs(5),
            connections: 64,
            poll_connections: 1,
            poll: None,
            timeout: Duration::from_secs(5),
            sign: Kind::Md5,
            amount_fen: 100,
            seed: 1,
            run: rate,
        });
        let report = load::run(&plan, &Live::default()).expect("a run").report;
        assert_eq!(report.outcomes.paid, report.payments.answered, "every answer is read and verified");
        let (seen, paid) = (&report.generator, report.due * (SECONDS + 1) / SECONDS);
        let (sending, making) = (seen.cpu_ns_per_request, seen.maker_cpu_ms * 1_000_000 / paid.max(1));
        println!(
            "{rate:>10}  {:>10}  {:>6}  {:>6}  {:>10}  {:>5}  {:>9}.{:03}  {:>5}.{:03}  {:>10}  {}",
            report.answered_per_second,
            report.payments.latency_us.p50,
            report.payments.latency_us.p99,
            seen.lag_us.p99,
            seen.cpu_percent,
            sending / 1_000,
            sending % 1_000,
            making / 1_000,
            making % 1_000,
            1_000_000_000 / (sending + making).max(1),
            seen.reason,
        );
    }
}
