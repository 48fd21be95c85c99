//! One connection's requests and answers, in HTTP/1.1 or HTTP/2.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::header::CONNECTION;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until};

use super::super::body::Body;
use super::super::guard::{Guarded, Link, REFUSED_TARGET};
use super::{BUFFER_BYTES, Handler, Life, Peer, Reply, STRIKES_MAX, Server, Standing, Strike, close, plain};
use crate::clock::later;
use crate::metrics::{self, Limit, Refusal};

/// Requests of one HTTP/2 connection at once. Source: RFC 9113, section 6.5.2, recommends no fewer.
const STREAMS_MAX: u32 = 100;
/// Streams that were taken back before they were looked at; more end the connection.
const RESETS_MAX: usize = 20;
/// Streams that the library reset for faults of the peer; more end the connection.
const FAULTS_MAX: usize = 100;
/// What a peer may send before it is read: of one request, which is its longest body, and of a connection.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;
/// Answers of one stream that wait for its peer.
const STREAM_BUFFER_BYTES: usize = 64 * 1024;
/// A peer that answers no ping is gone: nothing else tells while it has nothing to say.
const PING_EVERY: Duration = Duration::from_secs(30);

/// An answer whose body is being made.
struct Streaming(Arc<Link>);

impl Drop for Streaming {
    fn drop(&mut self) {
        self.0.over();
    }
}

/// Answers of an HTTP/2 connection that are not sent yet, and until when that may last: a peer that opens no window
/// leaves nothing stuck that the connection could see.
#[derive(Default)]
struct Unsent {
    names: AtomicU64,
    until: Mutex<BTreeMap<u64, Instant>>,
}

impl Unsent {
    fn set(&self, name: u64, until: Option<Instant>) {
        let mut all = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        match until {
            Some(until) => all.insert(name, until),
            None => all.remove(&name),
        };
    }

    fn first(&self) -> Option<Instant> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner).values().min().copied()
    }

    /// Ends when an answer has waited for its peer too long; looks again at least as often as `every`.
    async fn stuck(&self, every: Duration) {
        loop {
            let now = Instant::now();
            let next = later(now, every);
            match self.first() {
                Some(until) if until <= now => return,
                until => sleep_until(until.map_or(next, |until| until.min(next))).await,
            }
        }
    }
}

/// A request of an HTTP/2 connection, from its head to the end of its answer or until it is taken back.
struct Exchange {
    link: Arc<Link>,
    unsent: Arc<Unsent>,
    name: u64,
}

impl Exchange {
    fn begin(link: &Arc<Link>, unsent: &Arc<Unsent>) -> Self {
        link.begun();
        if link.under_way() >= STREAMS_MAX {
            // Those beyond it are refused by the library, which does not say so.
            metrics::limit_reached(Limit::ConnectionRequests);
        }
        let name = unsent.names.fetch_add(1, Ordering::Relaxed);
        Self { link: Arc::clone(link), unsent: Arc::clone(unsent), name }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.unsent.set(self.name, None);
        self.link.over();
    }
}

/// A body on its way.
struct Sending {
    body: Body,
    exchange: Exchange,
    /// How long its peer may leave a piece of it unsent.
    patience: Duration,
}

impl Sending {
    fn new(body: Body, exchange: Exchange, patience: Duration) -> Self {
        exchange.unsent.set(exchange.name, Some(later(Instant::now(), patience)));
        Self { body, exchange, patience }
    }
}

impl HttpBody for Sending {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        // It is asked for only when its peer has room for it.
        let until = later(Instant::now(), this.patience);
        this.exchange.unsent.set(this.exchange.name, Some(until));
        Pin::new(&mut this.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        HttpBody::size_hint(&self.body)
    }
}

impl<H: Handler> Server<H> {
    /// Answers requests until the connection ends.
    pub(super) async fn http1<S>(self: &Arc<Self>, stream: Guarded<S>, peer: Peer, link: &Arc<Link>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(|mut request: Request<Incoming>| {
            let (server, link) = (Arc::clone(self), Arc::clone(link));
            request.extensions_mut().insert(Arc::clone(&link));
            async move {
                let cause = link.refused().filter(|_| request.uri().path() == REFUSED_TARGET);
                if let Some(cause) = cause {
                    let mut reply = plain(StatusCode::BAD_REQUEST, cause);
                    close(&mut reply);
                    link.over();
                    return Ok(reply);
                }
                let mut reply = server.answer(request, peer, &link).await;
                if reply.body().is_stream() {
                    server.bind(&mut reply, Streaming(link));
                    return Ok(reply);
                }
                let struck = reply.extensions_mut().remove::<Strike>().is_some();
                if link.strike(struck) >= STRIKES_MAX {
                    close(&mut reply);
                }
                link.over();
                Ok::<_, Infallible>(reply)
            }
        });
        let connection = http1::Builder::new()
            .header_read_timeout(None)
            .max_headers(self.limits.headers_max)
            .max_header_size(self.limits.head_bytes_max)
            .max_buf_size(BUFFER_BYTES.max(self.limits.head_bytes_max))
            .serve_connection(TokioIo::new(stream), service);
        self.drive(pin!(connection), peer, link, std::future::pending()).await;
    }

    /// As [`Server::http1`], in HTTP/2: many requests at once.
    pub(super) async fn http2<S>(self: &Arc<Self>, stream: Guarded<S>, peer: Peer, link: &Arc<Link>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let unsent = Arc::new(Unsent::default());
        let service = service_fn(|mut request: Request<Incoming>| {
            let (server, exchange) = (Arc::clone(self), Exchange::begin(link, &unsent));
            request.extensions_mut().insert(Arc::clone(link));
            async move {
                let mut reply = if request.headers().len() > server.limits.headers_max {
                    metrics::refused(Refusal::Framing);
                    plain(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "too many header lines")
                } else {
                    server.answer(request, peer, &exchange.link).await
                };
                let struck = reply.extensions_mut().remove::<Strike>().is_some();
                let strikes = exchange.link.strike(struck);
                // In HTTP/2 it is no answer that closes the connection.
                if reply.headers_mut().remove(CONNECTION).is_some() || strikes >= STRIKES_MAX {
                    exchange.link.close.notify_one();
                }
                let deadlines = &server.limits.deadlines;
                let stream = reply.body().is_stream();
                let patience = if stream { deadlines.idle } else { deadlines.write };
                server.bind(&mut reply, ());
                Ok::<_, Infallible>(reply.map(|body| Sending::new(body, exchange, patience)))
            }
        });
        let headers = u32::try_from(self.limits.head_bytes_max).unwrap_or(u32::MAX);
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .max_pending_accept_reset_streams(RESETS_MAX)
            .max_local_error_reset_streams(FAULTS_MAX)
            .max_header_list_size(headers)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_send_buf_size(STREAM_BUFFER_BYTES)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(self.limits.deadlines.write)
            .serve_connection(TokioIo::new(stream), service);
        self.drive(pin!(connection), peer, link, unsent.stuck(self.limits.deadlines.write)).await;
    }

    /// Runs a connection to its end, which the listener's life, its own uselessness or `stuck` may bring.
    async fn drive<C>(
        &self,
        mut connection: Pin<&mut C>,
        peer: Peer,
        link: &Link,
        stuck: impl Future<Output = ()>,
    ) where
        C: GracefulConnection<Error = hyper::Error>,
    {
        let peer = peer.address;
        let mut life = self.life.clone();
        let mut stuck = pin!(stuck);
        loop {
            let stopping = async {
                let _ = life.wait_for(|life| *life == Life::Stopping).await;
            };
            tokio::select! {
                ended = connection.as_mut() => {
                    match ended {
                        Err(err) if err.is_parse() => link.refuse(peer, Refusal::Framing, &err),
                        Err(err) => tracing::debug!(%peer, %err, "connection ended"),
                        Ok(()) => {}
                    }
                    return;
                }
                () = link.close.notified() => {
                    if link.is_evicted() {
                        return link.evicted();
                    }
                    connection.as_mut().graceful_shutdown();
                }
                // The connection is looked at again, and with it what its peer has acknowledged.
                () = link.receipts.look() => {}
                () = stuck.as_mut() => {
                    metrics::refused(Refusal::WriteDeadline);
                    return tracing::info!(%peer, "an answer was not read");
                }
                () = stopping => break,
            }
        }
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            _ = connection => {}
            () = stuck => {}
            // A place of this connection is taken, so this ends only when the listener gives up.
            _ = self.places.acquire_many(self.limits.connections_max) => {}
        }
    }

    /// An answer that goes on is answered when its body ends, which it does when the listener's life goes on: at
    /// the latest when it stops. What is opened while it drains goes on until then.
    fn bind(&self, reply: &mut Reply, held: impl Send + 'static) {
        if !reply.body().is_stream() {
            return;
        }
        let mut life = self.life.clone();
        let opened = *life.borrow();
        let over = async move {
            let _ = life.wait_for(|life| *life > opened || *life == Life::Stopping).await;
        };
        reply.body_mut().bind(over, held);
    }

    /// Has the request answered; a panic becomes a 500.
    async fn answer(&self, mut request: Request<Incoming>, peer: Peer, link: &Arc<Link>) -> Reply {
        if let Some(certificate) = peer.certificate {
            request.extensions_mut().insert(certificate);
        }
        if link.is_to_prove() {
            let (link, known) = (Arc::clone(link), Arc::clone(&self.known));
            request.extensions_mut().insert(Standing { link, known, address: peer.address.ip() });
        }
        let peer = peer.address;
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
