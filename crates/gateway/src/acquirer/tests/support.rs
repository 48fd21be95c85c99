//! A wallet that does as it is told, connection by connection, and says what it saw.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use protocol::fact::{PayFact, QueryFact};
use protocol::wechat_v2::verdict::Verdict;
use protocol::{Fen, Fields, OutTradeNo};
use signer::{Key, KeyRing, Kind, Scratch};
use state_machine::{ProviderId, Tick};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::super::wechat_v2::{Acquirer, Deadlines, HostConfig, PayReply, ProviderAccount, SubMerchant};
use crate::clock::Clock;

pub(in crate::acquirer) const KEY: &str = "192006250b4c09247ec02edce69f6a2d";
pub(in crate::acquirer) const NUMBER: &str = "P20261123000000000001";
pub(in crate::acquirer) const CODE: &str = "134567890123456789";

/// What a stand-in does about one request.
pub(in crate::acquirer) enum Act {
    /// Answers 200 with this body and keeps the connection.
    Answer(String),
    /// Answers with this status and body and keeps the connection.
    Status(u16, String),
    /// The same, once it is told.
    AnswerWhen(oneshot::Receiver<()>, String),
    /// Writes these bytes and keeps the connection.
    Raw(Vec<u8>),
    /// Writes these bytes and closes the connection.
    RawClose(Vec<u8>),
    /// Resets the connection.
    Reset,
    /// Waits for the peer to go.
    Silence,
}

/// What a stand-in saw.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::acquirer) enum Seen {
    /// A connection; with TLS, one whose handshake succeeded.
    Connected,
    /// A TLS handshake that failed.
    HandshakeFailed,
    /// A whole request.
    Request(Request),
    /// The stand-in has closed a connection.
    Closed,
    /// The peer has closed a connection in good order.
    PeerClosed,
    /// The peer has reset a connection.
    PeerReset,
}

/// A request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::acquirer) struct Request {
    pub(in crate::acquirer) head: String,
    pub(in crate::acquirer) body: String,
    /// Whether the connection presented a client certificate.
    pub(in crate::acquirer) certified: bool,
}

impl Request {
    pub(in crate::acquirer) fn path(&self) -> &str {
        self.head.split(' ').nth(1).expect("a request line")
    }

    /// The pairs of the body, read by `protocol`'s reader, which has its own tests.
    pub(in crate::acquirer) fn pairs(&self) -> Vec<(String, String)> {
        let mut reader = protocol::xml::Reader::new();
        let message = reader.read(self.body.as_bytes()).expect("well-formed");
        message.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    pub(in crate::acquirer) fn get(&self, name: &str) -> Option<String> {
        self.pairs().into_iter().find(|(n, _)| n == name).map(|(_, value)| value)
    }
}

/// A listening wallet; it stops when dropped.
pub(in crate::acquirer) struct Standin {
    pub(in crate::acquirer) address: SocketAddr,
    scheme: &'static str,
    seen: mpsc::UnboundedReceiver<Seen>,
    _tasks: JoinSet<()>,
}

impl Standin {
    /// The n-th connection plays the n-th script; one too many is dropped at once.
    pub(in crate::acquirer) async fn http(scripts: Vec<Vec<Act>>) -> Self {
        Self::start(scripts, None).await
    }

    /// The same over TLS.
    pub(in crate::acquirer) async fn https(
        scripts: Vec<Vec<Act>>,
        config: Arc<rustls::ServerConfig>,
    ) -> Self {
        Self::start(scripts, Some(TlsAcceptor::from(config))).await
    }

    async fn start(scripts: Vec<Vec<Act>>, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let (tell, seen) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            let mut scripts = scripts.into_iter();
            while let Ok((tcp, _)) = listener.accept().await {
                let Some(script) = scripts.next() else {
                    tell.send(Seen::Connected).expect("the test listens");
                    continue;
                };
                connections.spawn(serve(tcp, tls.clone(), script, tell.clone()));
            }
        });
        Self { address, scheme, seen, _tasks: tasks }
    }

    pub(in crate::acquirer) fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// The next thing seen.
    pub(in crate::acquirer) async fn next(&mut self) -> Seen {
        within(self.seen.recv()).await.expect("the stand-in runs")
    }

    /// Waits until `what` was seen.
    pub(in crate::acquirer) async fn until(&mut self, what: &Seen) {
        while self.next().await != *what {}
    }

    /// The next request.
    pub(in crate::acquirer) async fn request(&mut self) -> Request {
        loop {
            if let Seen::Request(request) = self.next().await {
                return request;
            }
        }
    }

    /// Connections made and requests received so far, as (connections, requests). What a client that has
    /// returned did to the stand-in is in here: it was written before the answer came, or the connection
    /// was refused.
    pub(in crate::acquirer) fn counts(&mut self) -> (usize, usize) {
        let (mut connections, mut requests) = (0, 0);
        while let Ok(seen) = self.seen.try_recv() {
            match seen {
                Seen::Connected => connections += 1,
                Seen::Request(_) => requests += 1,
                Seen::HandshakeFailed | Seen::Closed | Seen::PeerClosed | Seen::PeerReset => {}
            }
        }
        (connections, requests)
    }
}

/// Fails a test that waits for what does not come.
pub(in crate::acquirer) async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(5), what).await.expect("it comes within 5 s")
}

async fn serve(
    tcp: TcpStream,
    tls: Option<TlsAcceptor>,
    script: Vec<Act>,
    tell: mpsc::UnboundedSender<Seen>,
) {
    let Some(tls) = tls else {
        let _ = tell.send(Seen::Connected);
        return play(tcp, false, script, &tell, |tcp| tcp.set_zero_linger()).await;
    };
    match tls.accept(tcp).await {
        Ok(stream) => {
            let _ = tell.send(Seen::Connected);
            let certified = stream.get_ref().1.peer_certificates().is_some();
            play(stream, certified, script, &tell, |stream| stream.get_ref().0.set_zero_linger()).await;
        }
        Err(_) => drop(tell.send(Seen::HandshakeFailed)),
    }
}

async fn play<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    certified: bool,
    script: Vec<Act>,
    tell: &mpsc::UnboundedSender<Seen>,
    set_reset: impl Fn(&S) -> std::io::Result<()>,
) {
    for act in script {
        match read_request(&mut stream, certified).await {
            Ok(Some(request)) => drop(tell.send(Seen::Request(request))),
            Ok(None) => return drop(tell.send(Seen::PeerClosed)),
            Err(_) => return drop(tell.send(Seen::PeerReset)),
        }
        let bytes = match act {
            Act::Answer(body) => http(200, &body),
            Act::Status(status, body) => http(status, &body),
            Act::AnswerWhen(told, body) => {
                told.await.expect("the test tells");
                http(200, &body)
            }
            Act::Raw(bytes) => bytes,
            Act::RawClose(bytes) => {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
                drop(stream);
                return drop(tell.send(Seen::Closed));
            }
            Act::Reset => {
                set_reset(&stream).expect("an open socket");
                drop(stream);
                return drop(tell.send(Seen::Closed));
            }
            Act::Silence => Vec::new(),
        };
        let _ = stream.write_all(&bytes).await;
        let _ = stream.flush().await;
    }
    // The script is over: any further request is one too many, and is told.
    loop {
        match read_request(&mut stream, certified).await {
            Ok(Some(request)) => drop(tell.send(Seen::Request(request))),
            Ok(None) => return drop(tell.send(Seen::PeerClosed)),
            Err(_) => return drop(tell.send(Seen::PeerReset)),
        }
    }
}

/// Reads one request; `None` if the peer has closed the connection between two.
async fn read_request<S: AsyncRead + Unpin>(
    stream: &mut S,
    certified: bool,
) -> std::io::Result<Option<Request>> {
    let mut bytes = Vec::new();
    let mut whole = None;
    while whole.is_none_or(|(_, end)| bytes.len() < end) {
        if stream.read_buf(&mut bytes).await? == 0 {
            return if bytes.is_empty() { Ok(None) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) };
        }
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..at]).to_ascii_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse::<usize>().expect("digits"));
            whole = Some((at + 4, at + 4 + length));
        }
    }
    let (start, end) = whole.expect("the loop ended");
    assert_eq!(bytes.len(), end, "requests do not overtake answers");
    let text = String::from_utf8(bytes).expect("UTF-8");
    Ok(Some(Request { head: text[..start].to_owned(), body: text[start..].to_owned(), certified }))
}

/// An HTTP answer as bytes.
pub(in crate::acquirer) fn http(status: u16, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} Whatever\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// A message of the documentation, signed with [`KEY`].
pub(in crate::acquirer) fn vector(name: &str) -> String {
    let text = match name {
        "paid" => include_str!("vectors/04_micropay_resp_success.xml"),
        "userpaying" => include_str!("vectors/06_micropay_resp_userpaying.xml"),
        "notenough" => include_str!("vectors/08_micropay_resp_notenough.xml"),
        "return_fail" => include_str!("vectors/15_micropay_resp_return_fail.xml"),
        "query_success" => include_str!("vectors/21_orderquery_resp_success.xml"),
        "query_userpaying" => include_str!("vectors/27_orderquery_resp_userpaying.xml"),
        "reversed" => include_str!("vectors/41_reverse_resp_done.xml"),
        "refund" => include_str!("vectors/51_refund_resp_accepted.xml"),
        "tampered" => include_str!("vectors/93_neg_tampered_amount.xml"),
        "unsigned" => include_str!("vectors/94_neg_missing_sign.xml"),
        "lowercase" => include_str!("vectors/95_neg_lowercase_sign.xml"),
        "hmac" => include_str!("vectors/98_resp_hmac.xml"),
        other => panic!("no vector {other}"),
    };
    text.to_owned()
}

/// An answer with the provider's ids and `pairs`, signed with `key`.
pub(in crate::acquirer) fn signed(key: &str, kind: Kind, pairs: &[(&str, &str)]) -> String {
    let mut all = vec![
        ("return_code", "SUCCESS"),
        ("appid", "wxd930ea5d5a258f4f"),
        ("mch_id", "1900000109"),
        ("sub_appid", "wx2421b1c4370ec43b"),
        ("sub_mch_id", "1900000110"),
        ("nonce_str", "IITRi8Iabbblz1Jc"),
    ];
    all.extend(pairs);
    let key = Key::new(key).expect("well-formed");
    let sign = key.sign(kind, all.iter().copied(), &mut Scratch::new());
    let elements: String = all.iter().map(|(name, value)| format!("<{name}>{value}</{name}>")).collect();
    format!("<xml>{elements}<sign>{sign}</sign></xml>")
}

/// A provider with these hosts and deadlines that no test has to wait for.
pub(in crate::acquirer) fn account(urls: &[String]) -> ProviderAccount {
    ProviderAccount {
        id: ProviderId(1),
        appid: "wxd930ea5d5a258f4f".parse().expect("an appid"),
        mch_id: "1900000109".parse().expect("a number"),
        keys: KeyRing::new(Key::new(KEY).expect("well-formed"), None),
        sign_kind: Kind::Md5,
        hosts: urls.iter().map(|url| HostConfig { base_url: url.clone() }).collect(),
        certificate: None,
        extra_ca_pem: None,
        deadlines: Deadlines::default(),
        pool: super::super::PoolLimits::default(),
    }
}

/// A client of these stand-ins.
pub(in crate::acquirer) fn acquirer(urls: &[String]) -> Acquirer {
    Acquirer::new(account(urls)).expect("sound settings")
}

/// The deadlines of a client whose answer never comes.
pub(in crate::acquirer) fn impatient() -> Deadlines {
    let soon = Duration::from_millis(60);
    Deadlines {
        pay_read: soon,
        query_read: soon,
        reverse_read: soon,
        refund_read: soon,
        ..Deadlines::default()
    }
}

pub(in crate::acquirer) fn number() -> OutTradeNo {
    NUMBER.parse().expect("a number")
}

pub(in crate::acquirer) fn amount() -> Fen {
    Fen::new(1288).expect("an amount")
}

/// Pays as the sub-merchant of the vectors, before `leave_by`.
pub(in crate::acquirer) async fn pay_by(
    acquirer: &Acquirer,
    leave_by: Tick,
    on_left: impl FnOnce(Tick) + Send,
) -> PayReply {
    let pairs = Fields::new([
        ("body", "深圳店-便利店购物"),
        ("spbill_create_ip", "203.0.113.10"),
        ("auth_code", CODE),
        ("out_trade_no", "another"),
        ("total_fee", "1"),
        ("appid", "another"),
        ("sign", "another"),
    ]);
    let (sub_mch_id, sub_appid) =
        ("1900000110".parse().expect("a number"), "wx2421b1c4370ec43b".parse().expect("an appid"));
    let merchant = SubMerchant { sub_mch_id: &sub_mch_id, sub_appid: Some(&sub_appid) };
    acquirer.pay(merchant, &number(), amount(), pairs.iter(), (leave_by, Duration::ZERO), on_left).await
}

/// Pays without a hurry.
pub(in crate::acquirer) async fn pay(acquirer: &Acquirer) -> PayReply {
    pay_by(acquirer, Clock::tick().saturating_add(5000), |_| ()).await
}

/// Queries the order.
pub(in crate::acquirer) async fn query(acquirer: &Acquirer, other_host: bool) -> Verdict<QueryFact> {
    let (sub_mch_id, sub_appid) =
        ("1900000110".parse().expect("a number"), "wx2421b1c4370ec43b".parse().expect("an appid"));
    let merchant = SubMerchant { sub_mch_id: &sub_mch_id, sub_appid: Some(&sub_appid) };
    acquirer.query(merchant, &number(), Some(amount()), other_host, None).await
}

/// A port where nobody listens.
pub(in crate::acquirer) async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    format!("http://{}", listener.local_addr().expect("bound"))
}

/// Row and whether anything left, as `A2 left` or `A1 unsent`.
pub(in crate::acquirer) fn short(reply: &PayReply) -> String {
    assert_eq!(reply.left_at.is_none(), reply.verdict.fact == PayFact::Unsent, "{reply:?}");
    format!("{} {}", reply.verdict.row, if reply.left_at.is_some() { "left" } else { "unsent" })
}
