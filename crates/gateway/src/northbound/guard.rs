//! A till's connection as the HTTP library sees it: only plain bytes, and never for longer than allowed.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, Sleep, sleep_until};

use super::frames::Frames;
use super::framing::{Framing, Phase};
use super::receipt::Receipts;
use crate::clock::{Clock, Timer, later};
use crate::merchants::Rate;
use crate::metrics::{self, Refusal};

/// For so long a connection may show that a till is on it, and a till may be in the middle of asking. After that it may
/// lose its place.
const SLOW_MS: u64 = 1_000;
/// A till's address is noted again after so long.
const NOTE_EVERY_MS: u64 = 60_000;
/// What [`Link::reading_ms`] holds while nothing is being read.
const NOT_READING: u64 = u64::MAX;
/// What [`Link::proven_ms`] holds while nobody has shown to be a till.
const NOT_PROVEN: u64 = u64::MAX;

/// Why a connection may be closed when every place is taken, most useless first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Useless {
    /// Nobody has shown to be a till on it for too long, nor at its address lately.
    Stranger,
    /// Nobody has shown to be a till on it for too long, but tills have come from its address.
    Neighbour,
    /// A till's, which has been in the middle of asking for too long.
    Slow,
    /// A till's, and nothing is asked or answered.
    Idle,
}

/// What the listener may know of one of its connections.
#[derive(Debug)]
pub(super) struct Link {
    /// When the listener was opened: its milliseconds count from there.
    epoch: Instant,
    /// When it was opened.
    came_ms: u64,
    /// Whether tills had come from its address.
    neighbour: bool,
    /// When a request on it last passed every check of who asks, at least once in [`NOTE_EVERY_MS`]; or [`NOT_PROVEN`].
    proven_ms: AtomicU64,
    /// Since when a handshake, a head or a body is being read, in milliseconds; or [`NOT_READING`].
    reading_ms: AtomicU64,
    /// Whether it loses its place at once.
    evicted: AtomicBool,
    /// Whether it was told to go.
    leaving: AtomicBool,
    /// Requests that have begun.
    begun: AtomicU32,
    /// Requests that were answered.
    answered: AtomicU32,
    /// How many of the last answers went to somebody unknown.
    strikes: AtomicU32,
    /// When something last happened, in milliseconds since the listener was opened.
    active_ms: AtomicU64,
    /// Why its bytes were refused, if they were.
    refused: OnceLock<String>,
    /// Wakes the connection to be closed as soon as nothing is being answered.
    pub(super) close: Notify,
    /// Answers on their way.
    pub(super) receipts: Receipts,
}

impl Link {
    /// A connection whose handshake begins, of a listener that was opened at `epoch`; whether tills have come from its
    /// address.
    pub(super) fn new(epoch: Instant, neighbour: bool) -> Self {
        let now_ms = ms_since(epoch);
        Self {
            epoch,
            came_ms: now_ms,
            neighbour,
            proven_ms: AtomicU64::new(NOT_PROVEN),
            reading_ms: AtomicU64::new(now_ms),
            evicted: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            begun: AtomicU32::new(0),
            answered: AtomicU32::new(0),
            strikes: AtomicU32::new(0),
            active_ms: AtomicU64::new(now_ms),
            refused: OnceLock::new(),
            close: Notify::new(),
            receipts: Receipts::default(),
        }
    }

    /// Its handshake is done.
    pub(super) fn opened(&self) {
        self.reading_ms.store(NOT_READING, Ordering::Relaxed);
        self.active_ms.store(ms_since(self.epoch), Ordering::Relaxed);
    }

    /// A head or body is being read from now on, or none.
    fn reads(&self, reading: bool) {
        let since = if reading { ms_since(self.epoch) } else { NOT_READING };
        self.reading_ms.store(since, Ordering::Relaxed);
    }

    /// Has it closed: without a word, or when nothing is being answered.
    pub(super) fn leave(&self, why: Useless) {
        self.leaving.store(true, Ordering::Relaxed);
        self.evicted.store(why != Useless::Idle, Ordering::Relaxed);
        self.close.notify_one();
    }

    /// Whether it is worth to say [`Link::prove`] at its next request.
    pub(super) fn is_to_prove(&self) -> bool {
        let proven_ms = self.proven_ms.load(Ordering::Relaxed);
        proven_ms == NOT_PROVEN || ms_since(self.epoch).saturating_sub(proven_ms) >= NOTE_EVERY_MS
    }

    /// A till is on it: a request has passed every check of who asks. If it was told to go, it goes when that request is
    /// answered, not before.
    pub(super) fn prove(&self) {
        self.proven_ms.store(ms_since(self.epoch), Ordering::Relaxed);
        self.evicted.store(false, Ordering::Relaxed);
    }

    /// Whether a till has shown to be on it.
    pub(super) fn is_proven(&self) -> bool {
        self.proven_ms.load(Ordering::Relaxed) != NOT_PROVEN
    }

    pub(super) fn is_evicted(&self) -> bool {
        self.evicted.load(Ordering::Relaxed)
    }

    /// It has lost its place.
    pub(super) fn evicted(&self) {
        self.evicted.store(true, Ordering::Relaxed);
        metrics::refused(Refusal::Evicted);
    }

    /// Notes that its bytes were refused, once: here, or by the HTTP library, which meets what is handed on
    /// instead of them.
    pub(super) fn refuse(&self, peer: SocketAddr, why: Refusal, cause: &dyn std::fmt::Display) {
        if self.refused.set(cause.to_string()).is_ok() {
            metrics::refused(why);
            tracing::info!(%peer, %cause, "bytes refused");
        }
    }

    /// Why its bytes were refused, if they were.
    pub(super) fn refused(&self) -> Option<&str> {
        self.refused.get().map(String::as_str)
    }

    /// Notes that a request has begun, where it is not the bytes that tell.
    pub(super) fn begun(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that a request is over.
    pub(super) fn over(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        self.active_ms.store(ms_since(self.epoch), Ordering::Relaxed);
    }

    /// Requests that have begun and are not over.
    pub(super) fn under_way(&self) -> u32 {
        self.begun.load(Ordering::Relaxed).wrapping_sub(self.answered.load(Ordering::Relaxed))
    }

    /// Notes to whom an answer goes; returns how many in a row went to somebody unknown.
    pub(super) fn strike(&self, struck: bool) -> u32 {
        if struck {
            return self.strikes.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        }
        self.strikes.store(0, Ordering::Relaxed);
        0
    }

    /// Since when nothing is being asked or answered, if so.
    pub(super) fn idle_since_ms(&self) -> Option<u64> {
        let idle = self.begun.load(Ordering::Relaxed) == self.answered.load(Ordering::Relaxed);
        idle.then(|| self.active_ms.load(Ordering::Relaxed))
    }

    /// Why and since when it may lose its place, if it may.
    pub(super) fn useless_since_ms(&self, now_ms: u64) -> Option<(Useless, u64)> {
        if self.leaving.load(Ordering::Relaxed) {
            return None;
        }
        let too_long = |since: u64| now_ms.saturating_sub(since) >= SLOW_MS;
        if self.proven_ms.load(Ordering::Relaxed) == NOT_PROVEN {
            let why = if self.neighbour { Useless::Neighbour } else { Useless::Stranger };
            return too_long(self.came_ms).then_some((why, self.came_ms));
        }
        let reading = self.reading_ms.load(Ordering::Relaxed);
        if reading != NOT_READING {
            return too_long(reading).then_some((Useless::Slow, reading));
        }
        self.idle_since_ms().map(|since| (Useless::Idle, since))
    }
}

/// Whole milliseconds since `epoch`.
pub(super) fn ms_since(epoch: Instant) -> u64 {
    u64::try_from(epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// How a connection's bytes are looked at.
#[derive(Debug)]
pub(super) enum Reading {
    /// As HTTP/1.1.
    Http1(Framing),
    /// As HTTP/2, and how many frames for nothing it may still send.
    Http2(Frames, Rate),
}

/// Frames of HTTP/2 that ask for nothing, over those that requests bring with them: in a second, and at once. A
/// client that is alive sends a few in a minute.
const EXCESS_PER_SECOND: u32 = 100;
const EXCESS_BURST: u32 = 1_000;

/// What was found in bytes that were just read.
enum Looked {
    Plain,
    /// HTTP/1.1 with a fault; so many bytes are plain.
    Faulty(usize),
    /// Not to be handed on at all.
    Broken,
}

impl Reading {
    pub(super) const fn http1(head_bytes_max: usize) -> Self {
        Self::Http1(Framing::new(head_bytes_max))
    }

    pub(super) fn http2(head_bytes_max: usize) -> Self {
        Self::Http2(Frames::new(head_bytes_max), Rate::default())
    }

    const fn phase(&self) -> Phase {
        match self {
            Self::Http1(framing) => framing.phase(),
            Self::Http2(frames, _) => frames.phase(),
        }
    }

    /// After a fault of HTTP/1.1: see [`Framing::before_faulty_head`].
    const fn before_faulty_head(&self) -> Option<usize> {
        match self {
            Self::Http1(framing) => framing.before_faulty_head(),
            Self::Http2(..) => None,
        }
    }

    fn look(&mut self, bytes: &[u8], link: &Link, peer: SocketAddr) -> Looked {
        match self {
            Self::Http1(framing) => {
                let read = framing.feed(bytes);
                link.begun.store(framing.messages(), Ordering::Relaxed);
                let Err((plain, cause)) = read else { return Looked::Plain };
                link.refuse(peer, Refusal::Framing, &cause);
                Looked::Faulty(plain)
            }
            Self::Http2(frames, rate) => {
                if let Err(cause) = frames.feed(bytes) {
                    link.refuse(peer, Refusal::Framing, &cause);
                    return Looked::Broken;
                }
                let excess = frames.take_excess();
                let now_us = || Clock::tick().as_ms().saturating_mul(1_000);
                if (0..excess).all(|_| rate.take(now_us(), EXCESS_PER_SECOND, EXCESS_BURST)) {
                    return Looked::Plain;
                }
                link.refuse(peer, Refusal::Flood, &"frames that ask for nothing, without end");
                Looked::Broken
            }
        }
    }
}

/// How long a connection may take. Source: faults-and-invariants NM-05 to NM-07.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadlines {
    pub(super) head: Duration,
    pub(super) body: Duration,
    pub(super) idle: Duration,
    pub(super) write: Duration,
}

/// The target of [`REFUSED`]. Whoever asks for it by itself finds no such route.
pub(super) const REFUSED_TARGET: &str = "/.refused";

/// What is handed on in the place of a request with a fault in its head, if the library has seen nothing of it: the
/// answer to this one tells the cause.
const REFUSED: &[u8] = b"GET /.refused HTTP/1.1\r\nConnection: close\r\n\r\n";

/// What is handed on in the place of any other fault. The library has not seen the end of the faulty head, or is
/// between two chunks: a NUL is wrong in either place, so it answers 400 and closes, as it does for faults that
/// it finds itself. The empty line is there because it does not look at a head before its end.
const POISON: &[u8] = b"\0\r\n\r\n";

/// How long, and for how many bytes, a peer that was refused in the middle of a request is listened to.
const LINGER: Duration = Duration::from_millis(500);
const LINGER_BYTES: u64 = 256 * 1024;

/// Ends a connection whose last request was not read to its end. To close at once would make the kernel
/// throw away the refusal together with what was not read.
pub(super) async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let _ = tokio::time::timeout(LINGER, async {
        let _ = stream.shutdown().await;
        let _ = tokio::io::copy(&mut stream.take(LINGER_BYTES), &mut tokio::io::sink()).await;
    })
    .await;
}

/// Whether the peer has acknowledged everything; where nobody can tell, what was written counts.
pub(super) fn has_arrived<S>(stream: &S, unacked: fn(&S) -> Option<u32>) -> bool {
    unacked(stream).is_none_or(|bytes| bytes == 0)
}

/// A stream behind the guard.
#[derive(Debug)]
pub(super) struct Guarded<S: AsyncRead + AsyncWrite + Unpin> {
    /// `None` only while it is dropped.
    stream: Option<S>,
    /// Takes a stream that must not be closed at once.
    unread: Option<oneshot::Sender<S>>,
    link: Arc<Link>,
    /// Says how many bytes the peer has not acknowledged.
    unacked: fn(&S) -> Option<u32>,
    peer: SocketAddr,
    deadlines: Deadlines,
    bytes: Reading,
    /// After a fault: what is still to be handed on instead, and nothing more is read.
    broken: Option<&'static [u8]>,
    /// Whether that is [`REFUSED`].
    told: bool,
    /// Since when the connection is in its phase.
    phase: (Phase, Instant),
    reading: Timer,
    writing: Option<Pin<Box<Sleep>>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Drop for Guarded<S> {
    fn drop(&mut self) {
        let midway = self.broken.is_some() || self.bytes.phase() != Phase::Idle || self.link.receipts.any();
        if let (true, Some(stream), Some(unread)) = (midway, self.stream.take(), self.unread.take()) {
            // Nobody waits for it where the listener has given up.
            let _ = unread.send(stream);
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Guarded<S> {
    /// Guards `stream`; `unread` is given it back if it ends in the middle of a request ([`linger`]).
    pub(super) fn new(
        stream: S,
        unread: oneshot::Sender<S>,
        unacked: fn(&S) -> Option<u32>,
        link: Arc<Link>,
        peer: SocketAddr,
        deadlines: Deadlines,
        bytes: Reading,
    ) -> Self {
        Self {
            stream: Some(stream),
            unread: Some(unread),
            link,
            unacked,
            peer,
            deadlines,
            phase: (bytes.phase(), Instant::now()),
            bytes,
            broken: None,
            told: false,
            reading: Timer::default(),
            writing: None,
        }
    }

    /// The stream; there until this is dropped.
    fn stream(&mut self) -> io::Result<Pin<&mut S>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Everything that was written has left this process: answers that are on their way may have arrived.
    fn settle_receipts(&self) {
        if self.link.receipts.any() && self.stream.as_ref().is_some_and(|one| has_arrived(one, self.unacked))
        {
            self.link.receipts.acknowledged();
        }
    }

    /// Looks at bytes that were just read.
    fn look(&mut self, bytes: &[u8]) -> Looked {
        let before = self.bytes.phase();
        let looked = self.bytes.look(bytes, &self.link, self.peer);
        let after = self.bytes.phase();
        if after != before {
            self.phase = (after, Instant::now());
            self.link.reads(after != Phase::Idle);
        }
        looked
    }

    /// The moment at which the present phase has lasted too long, as far as is known now.
    fn read_deadline(&mut self) -> Instant {
        // While a request is being answered the till may be silent as long as the answer takes. The timer runs
        // all the same: the library need not read again before something wakes it.
        if self.phase.0 == Phase::Idle && self.link.idle_since_ms().is_none() {
            self.phase.1 = Instant::now();
        }
        let (phase, since) = self.phase;
        let may_last = match phase {
            Phase::Head => self.deadlines.head,
            Phase::Body => self.deadlines.body,
            Phase::Idle => self.deadlines.idle,
        };
        later(since, may_last)
    }

    fn poll_read_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = self.read_deadline();
        self.reading.poll_at(deadline, cx)
    }

    /// Bounds how long a write may be stuck.
    fn write_or_expire<T>(
        &mut self,
        result: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.writing = None;
            return result;
        }
        let deadline = Clock::after(self.deadlines.write);
        let sleep = self.writing.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.as_mut().poll(cx).is_ready() {
            metrics::refused(Refusal::WriteDeadline);
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.told && this.broken.is_some_and(<[u8]>::is_empty) {
            // The end of the connection would be taken for a peer that does not wait for its answer.
            return Poll::Pending;
        }
        if let Some(rest) = &mut this.broken {
            let (now, later) = rest.split_at(rest.len().min(buf.remaining()));
            buf.put_slice(now);
            *rest = later;
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        match this.stream()?.poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {
                let read = buf.filled().get(before..).unwrap_or_default();
                match this.look(read) {
                    Looked::Plain => {}
                    Looked::Faulty(plain) => {
                        let faulty_head = this.bytes.before_faulty_head();
                        this.told = faulty_head.is_some();
                        this.broken = Some(if this.told { REFUSED } else { POISON });
                        let plain = faulty_head.unwrap_or(plain);
                        buf.set_filled(before.saturating_add(plain));
                        // What is empty would be taken for the end of the connection.
                        if plain == 0 {
                            return Pin::new(this).poll_read(cx, buf);
                        }
                    }
                    Looked::Broken => {
                        this.broken = Some(&[]);
                        buf.set_filled(before);
                        return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                    }
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(err)) => Poll::Ready(Err(err)),
            Poll::Pending => {
                this.settle_receipts();
                if this.poll_read_deadline(cx).is_pending() {
                    return Poll::Pending;
                }
                if this.phase.0 != Phase::Idle {
                    metrics::refused(Refusal::ReadDeadline);
                }
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = this.stream()?.poll_write(cx, buf);
        if let Poll::Ready(Ok(bytes)) = result {
            this.link.receipts.wrote(bytes);
        }
        this.write_or_expire(result, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = this.stream()?.poll_write_vectored(cx, bufs);
        if let Poll::Ready(Ok(bytes)) = result {
            this.link.receipts.wrote(bytes);
        }
        this.write_or_expire(result, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = this.stream()?.poll_flush(cx);
        this.write_or_expire(result, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = this.stream()?.poll_shutdown(cx);
        this.write_or_expire(result, cx)
    }
}
