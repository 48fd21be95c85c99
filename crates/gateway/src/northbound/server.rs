//! A listener of HTTP/1.1 and HTTP/2 connections with every limit that one needs. Both sides use it: tills and admin.
//!
//! One task a connection. Generic over the stream, so that TLS is another [`Accept`]. Source:
//! faults-and-invariants NM-04 to NM-07, MI-13 to MI-15, PR-10, PR-12, PR-14, INV-24.

mod addresses;
mod door;
mod exchange;
mod lobby;

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use hyper::http::Extensions;
use hyper::{HeaderMap, Request, Response, StatusCode};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::Instant;

use addresses::{Addresses, Counted, Known};
use door::Door;
use lobby::Lobby;

use super::accept::{Accept, FULL, Opened, Protocol, TOO_MANY};
use super::body::Body;
use super::guard::{Deadlines, Guarded, Link, Reading, has_arrived, linger};
use super::tls::PeerCertificate;
use crate::clock::Clock;
use crate::config::Northbound;
use crate::metrics::{self, Refusal};

/// An answer.
pub type Reply = Response<Body>;

/// How long to wait after a failure to accept, such as too many open files (PR-12).
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long a newcomer waits for who was told to make room, before another one is told.
const ROOM_PAUSE: Duration = Duration::from_millis(20);
/// So many answers marked with [`Strike`] in a row close a connection.
pub const STRIKES_MAX: u32 = 16;
/// Buffer of a connection.
const BUFFER_BYTES: usize = 16 * 1024;

/// Marks an answer to somebody who is not who it says (an extension of the answer): a connection that only
/// brings such requests is closed, so that signatures are not checked for nothing without end (OV-09). A limit
/// per merchant would let anybody lock a merchant out.
#[derive(Clone, Copy, Debug)]
pub struct Strike;

/// The connection of a request, where that is not known to be a till's (an extension of the request): whoever has checked
/// who asks says so, and from then on it keeps its place before others.
#[derive(Clone, Debug)]
pub struct Standing {
    link: Arc<Link>,
    known: Arc<Known>,
    address: IpAddr,
}

impl Standing {
    /// Says of the connection that `request` came by that a till is on it.
    pub fn prove(extensions: &Extensions) {
        if let Some(Self { link, known, address }) = extensions.get() {
            link.prove();
            known.note(*address, Clock::tick().as_ms());
        }
    }
}

/// Answers requests.
pub trait Handler: Send + Sync + 'static {
    /// Whether it says [`Standing::prove`] of whoever has shown to be a till: then a connection of which it has not said
    /// so yet must be content with what processor the others leave.
    const PROVES: bool = false;

    /// Answers one request; dropped if the peer hangs up. A panic in it answers 500 and ends only this request.
    fn handle(&self, request: Request<Incoming>, peer: SocketAddr) -> impl Future<Output = Reply> + Send;
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy)]
struct Peer {
    address: SocketAddr,
    certificate: Option<PeerCertificate>,
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
    address_connections_max: u32,
    newcomers_per_second: u32,
    headers_max: usize,
    head_bytes_max: usize,
    handshake_deadline: Duration,
    deadlines: Deadlines,
    drain: Duration,
}

impl From<&Northbound> for Limits {
    fn from(config: &Northbound) -> Self {
        Self {
            connections_max: config.connections_max,
            address_connections_max: config.address_connections_max,
            newcomers_per_second: config.newcomers_per_second,
            headers_max: config.headers_max,
            head_bytes_max: config.head_bytes_max,
            handshake_deadline: config.handshake_deadline,
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
        addresses: Arc::default(),
        known: Arc::default(),
    });
    let lobby = H::PROVES.then(Lobby::open).transpose();
    let lobby = lobby.unwrap_or_else(|err| {
        tracing::warn!(%err, "newcomers have no threads of their own: they share those of the tills");
        None
    });
    let mut door = Door::new(server.limits.connections_max, server.limits.newcomers_per_second);
    loop {
        let stopping = async {
            // Closed without a word means that nobody is left to stop us.
            let _ = life.wait_for(|life| *life == Life::Stopping).await;
        };
        tokio::select! {
            biased;
            () = stopping => break,
            accepted = server.next(&listener, &mut door) => match accepted {
                Ok((arrived, came, held)) => {
                    let link = Arc::new(Link::new(server.opened, came.neighbour));
                    let connection = Arc::clone(&server).connection(
                        listener.open(arrived),
                        A::unacknowledged,
                        came.peer,
                        Arc::clone(&link),
                        held,
                    );
                    match &lobby {
                        Some(lobby) => lobby.enter(link, connection),
                        None => drop(tokio::spawn(connection)),
                    }
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
    addresses: Arc<Addresses>,
    known: Arc<Known>,
}

/// From where a connection came, and whether tills have.
#[derive(Clone, Copy)]
struct Came {
    peer: SocketAddr,
    neighbour: bool,
}

/// What a connection holds for as long as it is open.
type Held = (OwnedSemaphorePermit, Option<Counted>);

/// A connection's entry in the list, until it ends.
struct Listed<'s, H> {
    server: &'s Server<H>,
    name: u64,
    _held: Held,
}

impl<H> Drop for Listed<'_, H> {
    fn drop(&mut self) {
        self.server.links.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
        metrics::connection(false);
    }
}

impl<H> Server<H> {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl<H: Handler> Server<H> {
    /// Waits for a connection that finds a place. When every place is taken, somebody else's becomes its place; but only
    /// so often a second, and whoever comes too many is turned away at once. As long as that happens, places that fall
    /// free are given out no faster.
    async fn next<A: Accept>(&self, listener: &A, door: &mut Door) -> io::Result<(A::Arrived, Came, Held)> {
        loop {
            let (arrived, peer) = listener.accept().await?;
            let Some(counted) = self.addresses.enter(peer, self.limits.address_connections_max) else {
                metrics::refused(Refusal::AddressConnections);
                tracing::info!(%peer, "connection refused: its address has as many as one may have");
                A::turn_away(arrived, TOO_MANY);
                continue;
            };
            let came = Came { peer, neighbour: self.known.has(peer.ip()) };
            let free = Arc::clone(&self.places).try_acquire_owned().ok();
            let now_us = Clock::tick().as_ms().saturating_mul(1_000);
            let is_quiet = free.is_some() && !door.is_besieged(self.now_ms());
            if is_quiet || door.admits(came.neighbour, now_us) {
                let place = match free {
                    Some(place) => place,
                    None => self.make_room(door).await?,
                };
                return Ok((arrived, came, (place, counted)));
            }
            metrics::refused(Refusal::NoPlace);
            A::turn_away(arrived, FULL);
            if let Some(count) = door.turned_away(self.now_ms()) {
                let places = self.limits.connections_max;
                tracing::warn!(%peer, places, count, "every connection is taken: newcomers are turned away");
            }
        }
    }

    /// Closes the connection that is of least use, and waits for its place: first of those on which nobody has shown to
    /// be a till for longer than a till takes, strangers before neighbours of tills and the oldest before the others;
    /// then of tills that have been in the middle of asking as long, or idle longest (NM-07).
    async fn make_room(&self, door: &mut Door) -> io::Result<OwnedSemaphorePermit> {
        loop {
            let chosen = door.choose(self.now_ms(), || {
                let links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
                links.values().cloned().collect::<Vec<_>>().into_iter()
            });
            if let Some((why, link)) = chosen {
                link.leave(why);
            }
            // Where nobody may go, or who was told to is still being answered, we look again.
            let place = Arc::clone(&self.places).acquire_owned();
            if let Ok(place) = tokio::time::timeout(ROOM_PAUSE, place).await {
                return place.map_err(|_| io::ErrorKind::Interrupted.into());
            }
        }
    }

    async fn connection<O, S>(
        self: Arc<Self>,
        opening: O,
        unacked: fn(&S) -> Option<u32>,
        peer: SocketAddr,
        link: Arc<Link>,
        held: Held,
    ) where
        O: Future<Output = io::Result<Opened<S>>> + Send,
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let name = self.names.fetch_add(1, Ordering::Relaxed);
        self.links.lock().unwrap_or_else(PoisonError::into_inner).insert(name, Arc::clone(&link));
        metrics::connection(true);
        let _listed = Listed { server: &*self, name, _held: held };

        let opening = tokio::time::timeout(self.limits.handshake_deadline, opening);
        let opened = tokio::select! {
            opened = opening => opened,
            () = link.close.notified() => return link.evicted(),
        };
        let opened = match opened {
            Ok(Ok(opened)) => opened,
            // It went away before it said anything, as those do who only look whether somebody listens.
            Ok(Err(err)) if err.kind() == io::ErrorKind::ConnectionAborted => return,
            Ok(Err(err)) => return not_opened(peer, &err),
            Err(_) => return not_opened(peer, &"too slow"),
        };
        let Opened { stream, protocol, certificate } = opened;
        link.opened();
        let (give_back, unread) = oneshot::channel();
        let reading = match protocol {
            Protocol::Http1 => Reading::http1(self.limits.head_bytes_max),
            Protocol::Http2 => Reading::http2(self.limits.head_bytes_max),
        };
        let stream =
            Guarded::new(stream, give_back, unacked, Arc::clone(&link), peer, self.limits.deadlines, reading);
        let with = Peer { address: peer, certificate };
        match protocol {
            Protocol::Http1 => self.http1(stream, with, &link).await,
            // Boxed: of the two it is the larger by far, and most connections would hold its room for nothing.
            Protocol::Http2 => Box::pin(self.http2(stream, with, &link)).await,
        }
        // A place that somebody waits for is not kept for a peer that was refused.
        if let (Ok(stream), false) = (unread.await, link.is_evicted()) {
            let until = Clock::after(self.limits.deadlines.write);
            while link.receipts.any() && Instant::now() < until {
                link.receipts.look().await;
                if has_arrived(&stream, unacked) {
                    link.receipts.acknowledged();
                    break;
                }
            }
            linger(stream).await;
        }
    }
}

/// A handshake failed: nothing was asked.
fn not_opened(peer: SocketAddr, cause: &dyn std::fmt::Display) {
    metrics::refused(Refusal::Handshake);
    tracing::info!(%peer, %cause, "handshake refused");
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
    /// The connection ended, or sent malformed chunks.
    #[error("the body was cut")]
    Cut,
    /// It did not come in time.
    #[error("the body came too slowly")]
    Slow,
}

impl BodyError {
    /// The answer, after which the connection is closed.
    #[must_use]
    pub fn reply(self) -> Reply {
        let (why, status) = match self {
            Self::TooLong => (Refusal::BodyTooLong, StatusCode::PAYLOAD_TOO_LARGE),
            Self::Compressed => (Refusal::BodyType, StatusCode::UNSUPPORTED_MEDIA_TYPE),
            Self::Cut => (Refusal::BodyCut, StatusCode::BAD_REQUEST),
            Self::Slow => (Refusal::ReadDeadline, StatusCode::REQUEST_TIMEOUT),
        };
        metrics::refused(why);
        let mut reply = plain(status, &self.to_string());
        close(&mut reply);
        reply
    }
}

/// Reads a body within the limits of `config`.
///
/// # Errors
///
/// [`BodyError`]; nothing must be done for such a request (NM-04).
pub async fn read_body(headers: &HeaderMap, body: Incoming, config: &Northbound) -> Result<Bytes, BodyError> {
    // In HTTP/1.1 the connection's own deadline ends it as soon; here it is one of many requests.
    let read =
        tokio::time::timeout(config.body_deadline, read_at_leisure(headers, body, config.body_bytes_max));
    read.await.unwrap_or(Err(BodyError::Slow))
}

async fn read_at_leisure(headers: &HeaderMap, mut body: Incoming, max: usize) -> Result<Bytes, BodyError> {
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
