//! The parts of the switch, each bare and in a process of its own: what nobody can do without, and nothing else.
//!
//! *Server*: hyper answers each request with the same bytes. *Client*: hyper sends signed requests to the wallet over
//! TLS, at the moments of a seeded schedule. *Digest*: a request and an answer are read, their signatures checked, and the
//! two documents of the other side are written and signed. *Store*: two records are made durable. The client's tasks wait
//! for their moments on tokio's timer, which the switch's do not; the same waiting without requests is measured too
//! (*pace*) and taken away.

use std::convert::Infallible;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use protocol::wechat_v2::field;
use protocol::xml::{Reader, Writer};
use rustix::time::{ClockId, clock_gettime};
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};
use signer::{Case, Key, Kind, Scratch};
use simulator::http::TestPki;
use simulator::{Code, Rng};
use till::credentials::{PROVIDER_APPID, PROVIDER_KEY, PROVIDER_MCH_ID};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsConnector;

use super::durable;

/// Connections of the client, as many as tills have.
pub(super) const CONNECTIONS: usize = 64;
/// Rounds of the digest.
const DIGESTS: u64 = 100_000;
/// A till that has been paid is told about as much.
const ANSWER: [(&str, &str); 19] = [
    ("return_code", "SUCCESS"),
    ("return_msg", "OK"),
    ("appid", "wx0000000000000001"),
    ("mch_id", "1910000001"),
    ("device_info", "till-1"),
    ("nonce_str", "IITRi8Iabbblz1JcIITRi8Iabbblz1Jc"),
    ("result_code", "SUCCESS"),
    ("openid", "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"),
    ("is_subscribe", "N"),
    ("trade_type", "MICROPAY"),
    ("bank_type", "CMB_DEBIT"),
    ("fee_type", "CNY"),
    ("total_fee", "100"),
    ("cash_fee_type", "CNY"),
    ("cash_fee", "100"),
    ("transaction_id", "4200002611202611231234567890"),
    ("out_trade_no", "L0000ABCD0000000001"),
    ("attach", ""),
    ("time_end", "20261123101503"),
];

/// `checker part`.
#[derive(Clone, Debug, Args)]
pub struct Part {
    /// Which.
    pub kind: PartKind,
    /// Where the wallet is, for the client.
    #[arg(long, default_value = "127.0.0.1:443")]
    pub wallet: SocketAddr,
    /// Where `pki` is, and stores may be made.
    #[arg(long, default_value = ".")]
    pub folder: PathBuf,
    /// Payments a second.
    #[arg(long, default_value_t = 1_000)]
    pub rate: u32,
    /// For so long.
    #[arg(long, default_value_t = 5)]
    pub seconds: u32,
    /// Keeps runs apart.
    #[arg(long, default_value_t = 1)]
    pub run: u64,
}

/// A part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PartKind {
    /// Answers requests until it is killed; its address is its first line.
    Server,
    /// Sends requests to the wallet.
    Client,
    /// Waits for the same moments and sends nothing.
    Pace,
    /// Reads, checks, writes and signs.
    Digest,
    /// Makes records durable.
    Store,
}

impl PartKind {
    /// Its word on the command line.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
            Self::Pace => "pace",
            Self::Digest => "digest",
            Self::Store => "store",
        }
    }
}

/// What a part has spent.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Spent {
    pub(super) cpu_ns: u64,
    pub(super) payments: u64,
}

/// When payments are due, from the start.
pub(super) struct Pace {
    pub(super) due: Vec<Duration>,
}

impl Pace {
    /// As independent customers come.
    fn of(part: &Part) -> Self {
        let mut rng = Rng::keyed(part.run, "pace");
        let end = u64::from(part.seconds) * 1_000_000_000;
        // In a cell of time somebody comes or not; cells are a hundredth of the mean gap, so that gaps are those of
        // independent customers without a logarithm.
        let cell = (10_000_000 / u64::from(part.rate.max(1))).max(1);
        let (mut at, mut due) = (0, Vec::new());
        while at < end {
            at += cell;
            if rng.below(100) == 0 {
                due.push(Duration::from_nanos(at));
            }
        }
        Self { due }
    }
}

/// Runs a part to its end and prints what it has spent.
///
/// # Errors
///
/// When something cannot be opened, or the wallet does not answer.
pub fn run(part: &Part) -> anyhow::Result<()> {
    let spent = match part.kind {
        PartKind::Server => return tokio::runtime::Runtime::new()?.block_on(server()),
        PartKind::Client => tokio::runtime::Runtime::new()?.block_on(client(part, true))?,
        PartKind::Pace => tokio::runtime::Runtime::new()?.block_on(client(part, false))?,
        PartKind::Digest => digest()?,
        PartKind::Store => durable::run(&part.folder, part.run, &Pace::of(part))?,
    };
    writeln!(std::io::stdout(), "{}", serde_json::to_string(&spent)?)?;
    Ok(())
}

/// Processor time of this process.
pub(super) fn cpu_ns() -> u64 {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

async fn server() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    let answer = Bytes::from(document(&ANSWER, &Key::new(PROVIDER_KEY)?, &mut Scratch::new()));
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let answer = answer.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = answer.clone();
                async move {
                    let _ = request.into_body().collect().await;
                    let response = Response::builder().header(CONTENT_TYPE, "text/xml; charset=utf-8");
                    Ok::<_, Infallible>(response.body(Full::new(answer)).unwrap_or_default())
                }
            });
            let http = hyper::server::conn::http1::Builder::new();
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// The `n`-th request to the wallet.
fn request(part: &Part, n: u64, key: &Key, scratch: &mut Scratch) -> Vec<u8> {
    let code = Code::for_customer(0, Rng::keyed(part.run, "codes").below(Code::SERIALS).wrapping_add(n));
    let sub = format!("1920{:06}", n % 40 + 1);
    let number = format!("P{:08X}{n:010}", part.run);
    let fields = [
        (field::APPID, PROVIDER_APPID),
        (field::MCH_ID, PROVIDER_MCH_ID),
        (field::NONCE_STR, "5K8264ILTKCH16CQ2502SI8ZNMTM67VS"),
        (field::SUB_MCH_ID, sub.as_str()),
        (field::BODY, "虎符负载测试"),
        (field::DEVICE_INFO, "till-1"),
        (field::OUT_TRADE_NO, number.as_str()),
        (field::TOTAL_FEE, "100"),
        (field::SPBILL_CREATE_IP, "203.0.113.10"),
        (field::AUTH_CODE, code.as_str()),
    ];
    document(&fields, key, scratch)
}

/// A signed document.
fn document(pairs: &[(&str, &str)], key: &Key, scratch: &mut Scratch) -> Vec<u8> {
    let pairs = || pairs.iter().copied().filter(|(_, value)| !value.is_empty());
    let sign = key.sign(Kind::Md5, pairs(), scratch);
    let mut out = Vec::with_capacity(1_024);
    let mut writer = Writer::new(&mut out);
    for (name, value) in pairs() {
        writer.text(name, value);
    }
    writer.text(field::SIGN, sign.as_str());
    writer.finish();
    out
}

async fn client(part: &Part, sends: bool) -> anyhow::Result<Spent> {
    let due = Arc::new(Pace::of(part).due);
    let (key, mut scratch) = (Key::new(PROVIDER_KEY)?, Scratch::new());
    let requests: Vec<Bytes> =
        (0..u64::try_from(due.len())?).map(|n| request(part, n, &key, &mut scratch).into()).collect();
    let requests = Arc::new(requests);
    let mut connections = Vec::new();
    let connector = TlsConnector::from(Arc::new(trusting(&part.folder)?));
    for _ in 0..CONNECTIONS {
        let tcp = TcpStream::connect(part.wallet).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from(part.wallet.ip().to_string())?;
        let tls = connector.connect(name, tcp).await.context("the wallet's certificate")?;
        connections.push(hyper::client::conn::http1::handshake(TokioIo::new(tls)).await?);
    }
    let (began, before) = (Instant::now() + Duration::from_millis(50), cpu_ns());
    let answered = Arc::new(AtomicU64::new(0));
    let tasks = connections.into_iter().enumerate().map(|(at, (mut sender, connection))| {
        let (due, requests, answered) = (Arc::clone(&due), Arc::clone(&requests), Arc::clone(&answered));
        let (host, wallet) = (part.wallet.to_string(), part.wallet);
        tokio::spawn(async move {
            let ask = async {
                for n in (at..due.len()).step_by(CONNECTIONS) {
                    let (Some(after), Some(body)) = (due.get(n), requests.get(n)) else { break };
                    sleep_until(began + *after).await;
                    if !sends {
                        answered.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    let request = Request::post("/pay/micropay")
                        .header(HOST, &host)
                        .header(CONTENT_TYPE, "text/xml; charset=utf-8")
                        .body(Full::new(body.clone()))?;
                    sender.ready().await?;
                    let response = sender.send_request(request).await?;
                    ensure!(response.status().is_success(), "{wallet} answers {}", response.status());
                    response.into_body().collect().await?;
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                anyhow::Ok(())
            };
            // Driven by the task that asks: no other is woken.
            tokio::select! {
                biased;
                done = ask => done,
                ended = connection => ended.context("the wallet has closed a connection"),
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await??;
    }
    Ok(Spent { cpu_ns: cpu_ns() - before, payments: answered.load(Ordering::Relaxed) })
}

fn trusting(folder: &Path) -> anyhow::Result<rustls::ClientConfig> {
    let pki = TestPki::read_from(&folder.join("pki"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(pki.roots()?)
        .with_no_client_auth())
}

/// Two documents are read and their signatures checked; two are written and signed.
fn digest() -> anyhow::Result<Spent> {
    let (key, mut scratch, mut reader) = (Key::new(PROVIDER_KEY)?, Scratch::new(), Reader::new());
    let part = Part {
        kind: PartKind::Digest,
        wallet: SocketAddr::from(([127, 0, 0, 1], 443)),
        folder: PathBuf::new(),
        rate: 1,
        seconds: 1,
        run: 1,
    };
    let asked = request(&part, 1, &key, &mut scratch);
    let told = document(&ANSWER, &key, &mut scratch);
    let before = cpu_ns();
    let mut bytes = 0;
    for _ in 0..DIGESTS {
        for read in [&asked, &told] {
            let message = reader.read(std::hint::black_box(read))?;
            let sign = message.get(field::SIGN).unwrap_or_default();
            ensure!(
                key.verify(Kind::Md5, message.iter(), sign, Case::Any, &mut scratch),
                "a signature of our own"
            );
            let pairs: Vec<_> = message.iter().filter(|(name, _)| *name != field::SIGN).collect();
            bytes += document(&pairs, &key, &mut scratch).len();
        }
    }
    std::hint::black_box(bytes);
    Ok(Spent { cpu_ns: cpu_ns() - before, payments: DIGESTS })
}
