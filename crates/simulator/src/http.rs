//! The wallet on real sockets: HTTP/1.1, and two-way TLS, in real time. Feature `http`.
//!
//! Besides the API of [`Wallet::handle_bytes`] it serves `GET /livez`, `GET /sim/stats` (JSON) and
//! `GET /sim/ledger` (one line of JSON for each number, in the order of their first pay requests; a number that
//! comes while the lines are sent may be missing).

mod pki;

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::face::{BytesReply, Face, UnopenedCause, unsigned};
use crate::wallet::Wallet;

pub use pki::{PkiError, TestPki};

/// A wallet that connections share.
pub type SharedWallet = Arc<Mutex<Wallet>>;

/// Connections at once; more are closed unanswered.
const CONNECTIONS_MAX: usize = 50_000;
/// The longest request body read, in bytes: one more than the reader takes, so that it can refuse.
const BODY_BYTES_MAX: usize = 64 * 1024 + 1;
/// How long an answer that never comes is waited for before the connection is closed, before
/// [`crate::Options::speed`].
const HANG_MS: i64 = 60_000;
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The pause after an accept that failed, for example for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Pages of the books written under one lock.
const LEDGER_PART: usize = 256;

/// What a plain connection counts as, since it can show no client certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlainCounts {
    /// As if the certificate had been shown: reversals and refunds work.
    AsCertified,
    /// As without certificate: reversals and refunds get HTTP 400.
    AsAnonymous,
}

/// Unix milliseconds of this machine's clock, the time in which a served wallet lives.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place where the wallet's sockets meet real time")]
pub fn unix_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Serves `wallet` on `listener` without TLS, until the future is dropped; its connections end with it.
pub async fn serve_plain(wallet: SharedWallet, listener: TcpListener, counts: PlainCounts) {
    serve(Server::new(wallet), listener, move |server, stream| {
        connection(server, stream, counts == PlainCounts::AsCertified)
    })
    .await;
}

/// Serves `wallet` on `listener` by TLS, until the future is dropped; its connections end with it. `config` is
/// that of [`TestPki::server_config`]: client certificates are optional in the handshake and demanded on
/// `/secapi/*` (HTTP 400 without). Source: wechatpay-v2 §1.3.
pub async fn serve_tls(wallet: SharedWallet, listener: TcpListener, config: ServerConfig) {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    serve(Server::new(wallet), listener, move |server, stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                let certified = stream.get_ref().1.peer_certificates().is_some();
                connection(server, stream, certified).await;
            }
        }
    })
    .await;
}

/// What every connection needs.
#[derive(Clone)]
struct Server {
    wallet: SharedWallet,
    face: Face,
    hang_ms: i64,
}

impl Server {
    fn new(wallet: SharedWallet) -> Self {
        let (face, hang_ms) = {
            let wallet = lock(&wallet);
            (wallet.face(), wallet.options().scaled_ms(HANG_MS))
        };
        Self { wallet, face, hang_ms }
    }
}

async fn serve<C>(server: Server, listener: TcpListener, connect: impl Fn(Server, TcpStream) -> C)
where
    C: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if connections.len() < CONNECTIONS_MAX => {
                    // Without it small answers wait for the peer's acknowledgement.
                    let _ = stream.set_nodelay(true);
                    connections.spawn(connect(server.clone(), stream));
                }
                Ok(_) => {}
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection<S>(server: Server, stream: S, certified: bool)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| respond(server.clone(), request, certified));
    // An error is a connection that one side broke off; the wallet does so on purpose.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// Answers one request. An error closes the connection without an answer.
async fn respond(
    server: Server,
    request: Request<Incoming>,
    certified: bool,
) -> Result<Response<Payload>, io::Error> {
    let path = request.uri().path().to_owned();
    if request.method() == Method::GET {
        return Ok(page(&server, &path));
    }
    if request.method() != Method::POST {
        return finish(unsigned(UnopenedCause::Malformed, "请使用post方法").reply);
    }
    let Ok(body) = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await else {
        return finish(BytesReply::Http { status: 413, html: "<html><h1>413 Payload Too Large</h1></html>" });
    };
    let outcome = match server.face.open(&path, &body.to_bytes(), certified) {
        Ok((request, envelope)) => {
            let outcome = lock(&server.wallet).handle(&request, unix_ms());
            server.face.seal(&envelope, outcome)
        }
        Err(unopened) => {
            lock(&server.wallet).count(unopened.cause);
            return finish(unopened.reply);
        }
    };
    let hang_ms = if outcome.reply == BytesReply::Hang { server.hang_ms } else { 0 };
    let wait_ms = outcome.at_ms.saturating_add(hang_ms).saturating_sub(unix_ms());
    if let Ok(wait_ms @ 1..) = u64::try_from(wait_ms) {
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
    }
    finish(outcome.reply)
}

fn finish(reply: BytesReply) -> Result<Response<Payload>, io::Error> {
    match reply {
        BytesReply::Xml(xml) => Ok(response(StatusCode::OK, "text/xml; charset=utf-8", xml.into())),
        BytesReply::Http { status, html } => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
            Ok(response(status, "text/html", Bytes::from_static(html.as_bytes())))
        }
        BytesReply::Drop | BytesReply::Hang => Err(io::ErrorKind::ConnectionAborted.into()),
    }
}

/// The pages for people and checkers.
fn page(server: &Server, path: &str) -> Response<Payload> {
    match path {
        "/livez" => response(StatusCode::OK, "text/plain", Bytes::from_static(b"ok\n")),
        "/sim/stats" => {
            let mut wallet = lock(&server.wallet);
            wallet.advance(unix_ms());
            response(StatusCode::OK, "application/json", wallet.stats().to_json().into())
        }
        "/sim/ledger" => {
            lock(&server.wallet).advance(unix_ms());
            let body = Payload::Ledger { wallet: Arc::clone(&server.wallet), next: 0 };
            typed(StatusCode::OK, "application/x-ndjson", body)
        }
        _ => response(StatusCode::NOT_FOUND, "text/plain", Bytes::from_static(b"not found\n")),
    }
}

fn response(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Payload> {
    typed(status, content_type, Payload::Whole(Some(body)))
}

fn typed(status: StatusCode, content_type: &'static str, body: Payload) -> Response<Payload> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn lock(wallet: &SharedWallet) -> MutexGuard<'_, Wallet> {
    // A panic elsewhere ends that request only; the books are consistent after every call or stay readable.
    wallet.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A response's body: bytes, or the books a part at a time, so that no lock is held for long.
enum Payload {
    Whole(Option<Bytes>),
    Ledger { wallet: SharedWallet, next: usize },
}

impl Body for Payload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = match self.get_mut() {
            Self::Whole(bytes) => bytes.take(),
            Self::Ledger { wallet, next } => {
                let mut lines = String::new();
                for entry in lock(wallet).ledger_part(*next, LEDGER_PART) {
                    lines.push_str(&entry.to_json());
                    lines.push('\n');
                    *next += 1;
                }
                (!lines.is_empty()).then(|| lines.into())
            }
        };
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match self {
            Self::Whole(bytes) => {
                let len = bytes.as_ref().map_or(0, Bytes::len);
                u64::try_from(len).map(hyper::body::SizeHint::with_exact).unwrap_or_default()
            }
            Self::Ledger { .. } => hyper::body::SizeHint::default(),
        }
    }
}
