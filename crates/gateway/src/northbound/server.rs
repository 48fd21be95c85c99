//! A listener of HTTP/1.1 connections with every limit that one needs. Both sides use it: tills and admin.
//!
//! One task a connection. Generic over the stream, so that TLS is another [`Accept`]. Source:
//! faults-and-invariants NM-04 to NM-07, MI-13 to MI-15, PR-10, PR-12, PR-14, INV-24.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::Instant;

use super::body::Body;
use super::guard::{Deadlines, Guarded, Link, REFUSED_TARGET, linger};
use crate::config::Northbound;
use crate::metrics::{self, Refusal};

/// An answer.
pub type Reply = Response<Body>;

/// How long to wait after a failure to accept, such as too many open files (PR-12).
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// When every place is taken, this share of the connections that have been idle longest is closed.
const EVICT_SHARE: usize = 16;
/// So many answers marked with [`Strike`] in a row close a connection.
pub const STRIKES_MAX: u32 = 16;
/// Buffer of a connection.
const BUFFER_BYTES: usize = 16 * 1024;

/// Where connections come from.
pub trait Accept: Send + 'static {
    /// The stream of one connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// Finishes opening it in its own task: nothing for TCP, the handshake for TLS.
    type Opening: Future<Output = io::Result<Self::Stream>> + Send + 'static;

    /// Waits for the next connection.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Opening, SocketAddr)>> + Send;
}

impl Accept for TcpListener {
    type Stream = TcpStream;
    type Opening = std::future::Ready<io::Result<TcpStream>>;

    async fn accept(&self) -> io::Result<(Self::Opening, SocketAddr)> {
        let (stream, peer) = Self::accept(self).await?;
        // Answers are one write each; waiting for more to send only adds delay.
        let _ = stream.set_nodelay(true);
        Ok((std::future::ready(Ok(stream)), peer))
    }
}

/// Marks an answer to somebody who is not who it says (an extension of the answer): a connection that only
/// brings such requests is closed, so that signatures are not checked for nothing without end (OV-09). A limit
/// per merchant would let anybody lock a merchant out.
#[derive(Clone, Copy, Debug)]
pub struct Strike;

/// Answers requests.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request; dropped if the peer hangs up. A panic in it answers 500 and ends only this request.
    fn handle(&self, request: Request<Incoming>, peer: SocketAddr) -> impl Future<Output = Reply> + Send;
}

/// Where a listener is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Life {
    /// It works.
    Running,
    /// Every answer asks the peer to go elsewhere (`Connection: close`).
    Draining,
    /// No new connections; those open end with the answer that is under way.
    Stopping,
}

/// Limits of a listener.
#[derive(Clone, Debug)]
pub struct Limits {
    connections_max: u32,
    headers_max: usize,
    head_bytes_max: usize,
    deadlines: Deadlines,
    drain: Duration,
}

impl From<&Northbound> for Limits {
    fn from(config: &Northbound) -> Self {
        Self {
            connections_max: config.connections_max,
            headers_max: config.headers_max,
            head_bytes_max: config.head_bytes_max,
            deadlines: Deadlines {
                head: config.head_deadline,
                body: config.body_deadline,
                idle: config.idle_deadline,
                write: config.write_deadline,
            },
            drain: config.drain,
        }
    }
}

/// Serves connections until `life` says [`Life::Stopping`] and the last one has ended, or has had the time
/// that a stop waits. A dropped sender counts as stopping.
pub async fn serve<A: Accept, H: Handler>(
    listener: A,
    handler: Arc<H>,
    limits: Limits,
    mut life: watch::Receiver<Life>,
) {
    let permits = usize::try_from(limits.connections_max).unwrap_or(Semaphore::MAX_PERMITS);
    let server = Arc::new(Server {
        handler,
        limits,
        life: life.clone(),
        links: Mutex::new(BTreeMap::new()),
        opened: Instant::now(),
        names: AtomicU64::new(0),
        places: Arc::new(Semaphore::new(permits)),
    });
    loop {
        let stopping = async {
            // Closed without a word means that nobody is left to stop us.
            let _ = life.wait_for(|life| *life == Life::Stopping).await;
        };
        tokio::select! {
            biased;
            () = stopping => break,
            accepted = server.next(&listener) => match accepted {
                Ok((opening, peer, place)) => {
                    tokio::spawn(Arc::clone(&server).connection(opening, peer, place));
                }
                Err(err) => {
                    tracing::warn!(%err, "cannot accept connections");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    let all = server.limits.connections_max;
    if tokio::time::timeout(server.limits.drain, server.places.acquire_many(all)).await.is_err() {
        tracing::warn!("connections were cut off by the stop");
        server.places.close();
    }
}

struct Server<H> {
    handler: Arc<H>,
    limits: Limits,
    life: watch::Receiver<Life>,
    links: Mutex<BTreeMap<u64, Arc<Link>>>,
    opened: Instant,
    names: AtomicU64,
    places: Arc<Semaphore>,
}

/// A connection's entry in the list, until it ends.
struct Listed<'s, H> {
    server: &'s Server<H>,
    name: u64,
    _place: OwnedSemaphorePermit,
}

impl<H> Drop for Listed<'_, H> {
    fn drop(&mut self) {
        self.server.links.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
        metrics::connection(false);
    }
}

/// An answer whose body is being made.
struct Streaming<H> {
    server: Arc<Server<H>>,
    link: Arc<Link>,
}

impl<H> Drop for Streaming<H> {
    fn drop(&mut self) {
        let _ = self.link.answered(self.server.now_ms(), false);
    }
}

impl<H> Server<H> {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl<H: Handler> Server<H> {
    /// Waits for a place, then for a connection: whoever finds no place waits in the kernel's queue.
    async fn next<A: Accept>(
        &self,
        listener: &A,
    ) -> io::Result<(A::Opening, SocketAddr, OwnedSemaphorePermit)> {
        let place = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => place,
            Err(_) => {
                self.evict();
                Arc::clone(&self.places).acquire_owned().await.map_err(|_| io::ErrorKind::Interrupted)?
            }
        };
        let (opening, peer) = listener.accept().await?;
        Ok((opening, peer, place))
    }

    /// Closes some of the connections that have been idle longest, so that new tills get in (NM-07).
    fn evict(&self) {
        let links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let mut idle: Vec<_> =
            links.values().filter_map(|link| link.idle_since_ms().map(|since| (since, link))).collect();
        idle.sort_unstable_by_key(|(since, _)| *since);
        let count = (idle.len() / EVICT_SHARE).max(1);
        for (_, link) in idle.into_iter().take(count) {
            link.close.notify_one();
        }
    }

    async fn connection<O, S>(self: Arc<Self>, opening: O, peer: SocketAddr, place: OwnedSemaphorePermit)
    where
        O: Future<Output = io::Result<S>> + Send,
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let link = Arc::new(Link::new(self.now_ms()));
        let name = self.names.fetch_add(1, Ordering::Relaxed);
        self.links.lock().unwrap_or_else(PoisonError::into_inner).insert(name, Arc::clone(&link));
        metrics::connection(true);
        let _listed = Listed { server: &*self, name, _place: place };

        let stream = match tokio::time::timeout(self.limits.deadlines.head, opening).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(err)) => return tracing::debug!(%peer, %err, "connection not opened"),
            Err(_) => return metrics::refused(Refusal::ReadDeadline),
        };
        let (give_back, unread) = oneshot::channel();
        let stream = Guarded::new(
            stream,
            give_back,
            Arc::clone(&link),
            peer,
            self.limits.deadlines,
            self.limits.head_bytes_max,
        );
        self.exchange(stream, peer, link).await;
        if let Ok(stream) = unread.await {
            linger(stream).await;
        }
    }

    /// Answers requests until the connection ends.
    async fn exchange<S>(self: &Arc<Self>, stream: Guarded<S>, peer: SocketAddr, link: Arc<Link>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(|request| {
            let (server, link) = (Arc::clone(self), Arc::clone(&link));
            async move {
                let cause = link.refused().filter(|_| request.uri().path() == REFUSED_TARGET);
                if let Some(cause) = cause {
                    let mut reply = plain(StatusCode::BAD_REQUEST, cause);
                    close(&mut reply);
                    link.answered(server.now_ms(), false);
                    return Ok(reply);
                }
                let mut reply = server.answer(request, peer).await;
                if reply.body().is_stream() {
                    server.bind(&mut reply, link);
                    return Ok(reply);
                }
                let struck = reply.extensions_mut().remove::<Strike>().is_some();
                if link.answered(server.now_ms(), struck) >= STRIKES_MAX {
                    close(&mut reply);
                }
                Ok::<_, Infallible>(reply)
            }
        });
        let mut connection = pin!(
            http1::Builder::new()
                .header_read_timeout(None)
                .max_headers(self.limits.headers_max)
                .max_header_size(self.limits.head_bytes_max)
                .max_buf_size(BUFFER_BYTES.max(self.limits.head_bytes_max))
                .serve_connection(TokioIo::new(stream), service)
        );
        let mut life = self.life.clone();
        loop {
            let stopping = async {
                let _ = life.wait_for(|life| *life == Life::Stopping).await;
            };
            tokio::select! {
                ended = connection.as_mut() => {
                    match ended {
                        Err(err) if err.is_parse() => link.refuse(peer, &err),
                        Err(err) => tracing::debug!(%peer, %err, "connection ended"),
                        Ok(()) => {}
                    }
                    return;
                }
                () = link.close.notified() => connection.as_mut().graceful_shutdown(),
                () = stopping => break,
            }
        }
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            _ = connection => {}
            // A place of this connection is taken, so this ends only when the listener gives up.
            _ = self.places.acquire_many(self.limits.connections_max) => {}
        }
    }

    /// An answer that goes on is answered when its body ends, which it does when the listener's life goes on: at
    /// the latest when it stops. What is opened while it drains goes on until then.
    fn bind(self: &Arc<Self>, reply: &mut Reply, link: Arc<Link>) {
        let mut life = self.life.clone();
        let opened = *life.borrow();
        let over = async move {
            let _ = life.wait_for(|life| *life > opened || *life == Life::Stopping).await;
        };
        reply.body_mut().bind(over, Streaming { server: Arc::clone(self), link });
    }

    /// Has the request answered; a panic becomes a 500.
    async fn answer(&self, request: Request<Incoming>, peer: SocketAddr) -> Reply {
        let mut handling = pin!(self.handler.handle(request, peer));
        let answered =
            std::future::poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| handling.as_mut().poll(cx))) {
                Ok(Poll::Pending) => Poll::Pending,
                Ok(Poll::Ready(reply)) => Poll::Ready(Some(reply)),
                Err(_) => Poll::Ready(None),
            });
        let mut reply = answered.await.unwrap_or_else(|| {
            tracing::error!(%peer, "a request panicked");
            let mut reply = plain(StatusCode::INTERNAL_SERVER_ERROR, "internal error");
            close(&mut reply);
            reply
        });
        if *self.life.borrow() > Life::Running {
            close(&mut reply);
        }
        reply
    }
}

/// Why a body cannot be had.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BodyError {
    /// Over the limit.
    #[error("the body is too long")]
    TooLong,
    /// Compressed: what expands has no limit before it is expanded (MI-15).
    #[error("the body is compressed")]
    Compressed,
    /// The connection ended, was too slow, or sent malformed chunks.
    #[error("the body was cut")]
    Cut,
}

impl BodyError {
    /// The answer, after which the connection is closed.
    #[must_use]
    pub fn reply(self) -> Reply {
        let (why, status) = match self {
            Self::TooLong => (Refusal::BodyTooLong, StatusCode::PAYLOAD_TOO_LARGE),
            Self::Compressed => (Refusal::BodyType, StatusCode::UNSUPPORTED_MEDIA_TYPE),
            Self::Cut => (Refusal::BodyCut, StatusCode::BAD_REQUEST),
        };
        metrics::refused(why);
        let mut reply = plain(status, &self.to_string());
        close(&mut reply);
        reply
    }
}

/// Reads a body of at most `max` bytes.
///
/// # Errors
///
/// [`BodyError`]; nothing must be done for such a request (NM-04).
pub async fn read_body(headers: &HeaderMap, mut body: Incoming, max: usize) -> Result<Bytes, BodyError> {
    let coded = |value: &HeaderValue| !value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity");
    if headers.get_all(CONTENT_ENCODING).iter().any(coded) {
        return Err(BodyError::Compressed);
    }
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > max) {
        return Err(BodyError::TooLong);
    }
    let mut first = Bytes::new();
    let mut rest: Option<BytesMut> = None;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| BodyError::Cut)?.into_data() else { continue };
        let so_far = rest.as_ref().map_or(first.len(), BytesMut::len);
        let len = so_far.saturating_add(data.len());
        if len > max {
            return Err(BodyError::TooLong);
        }
        // Nearly every body is one frame, and then it is not copied.
        match &mut rest {
            Some(rest) => rest.extend_from_slice(&data),
            None if first.is_empty() => first = data,
            None => {
                let mut joined = BytesMut::with_capacity(announced.unwrap_or(len));
                joined.extend_from_slice(&first);
                joined.extend_from_slice(&data);
                rest = Some(joined);
            }
        }
    }
    let body = rest.map_or(first, BytesMut::freeze);
    if announced.is_some_and(|length| length != body.len()) { Err(BodyError::Cut) } else { Ok(body) }
}

/// Asks the peer to close after this answer.
pub fn close(reply: &mut Reply) {
    reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
}

/// A short answer for people.
#[must_use]
pub fn plain(status: StatusCode, text: &str) -> Reply {
    typed(status, "text/plain; charset=utf-8", format!("{text}\n").into())
}

/// An answer of a media type.
#[must_use]
pub fn typed(status: StatusCode, media_type: &'static str, body: Bytes) -> Reply {
    let mut reply = Response::new(Body::from(body));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    reply
}
