//! A till's connection as the HTTP library sees it: only plain bytes, and never for longer than allowed.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, Sleep, sleep_until};

use super::framing::{Framing, Phase};
use crate::clock::{Clock, later};
use crate::metrics::{self, Refusal};

/// What the listener may know of one of its connections.
#[derive(Debug)]
pub(super) struct Link {
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
}

impl Link {
    pub(super) fn new(now_ms: u64) -> Self {
        Self {
            begun: AtomicU32::new(0),
            answered: AtomicU32::new(0),
            strikes: AtomicU32::new(0),
            active_ms: AtomicU64::new(now_ms),
            refused: OnceLock::new(),
            close: Notify::new(),
        }
    }

    /// Notes that its bytes were refused, once: here, or by the HTTP library, which meets what is handed on
    /// instead of them.
    pub(super) fn refuse(&self, peer: SocketAddr, cause: &dyn std::fmt::Display) {
        if self.refused.set(cause.to_string()).is_ok() {
            metrics::refused(Refusal::Framing);
            tracing::info!(%peer, %cause, "bytes refused");
        }
    }

    /// Why its bytes were refused, if they were.
    pub(super) fn refused(&self) -> Option<&str> {
        self.refused.get().map(String::as_str)
    }

    /// Notes that a request was answered; returns how many in a row went to somebody unknown.
    pub(super) fn answered(&self, now_ms: u64, struck: bool) -> u32 {
        self.answered.fetch_add(1, Ordering::Relaxed);
        self.active_ms.store(now_ms, Ordering::Relaxed);
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

/// A stream behind the guard.
#[derive(Debug)]
pub(super) struct Guarded<S: AsyncRead + AsyncWrite + Unpin> {
    /// `None` only while it is dropped.
    stream: Option<S>,
    /// Takes a stream that must not be closed at once.
    unread: Option<oneshot::Sender<S>>,
    link: Arc<Link>,
    peer: SocketAddr,
    deadlines: Deadlines,
    framing: Framing,
    /// After a fault: what is still to be handed on instead, and nothing more is read.
    broken: Option<&'static [u8]>,
    /// Whether that is [`REFUSED`].
    told: bool,
    /// Since when the connection is in its phase.
    phase: (Phase, Instant),
    /// Fires at or before the deadline; set again only when it fires early, so that a request on a warm
    /// connection costs no timer at all.
    reading: Option<Pin<Box<Sleep>>>,
    writing: Option<Pin<Box<Sleep>>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Drop for Guarded<S> {
    fn drop(&mut self) {
        let midway = self.broken.is_some() || self.framing.phase() != Phase::Idle;
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
        link: Arc<Link>,
        peer: SocketAddr,
        deadlines: Deadlines,
        head_bytes_max: usize,
    ) -> Self {
        Self {
            stream: Some(stream),
            unread: Some(unread),
            link,
            peer,
            deadlines,
            framing: Framing::new(head_bytes_max),
            broken: None,
            told: false,
            phase: (Phase::Idle, Instant::now()),
            reading: None,
            writing: None,
        }
    }

    /// The stream; there until this is dropped.
    fn stream(&mut self) -> io::Result<Pin<&mut S>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Looks at bytes that were just read; returns how many may be handed on.
    fn look(&mut self, bytes: &[u8]) -> Option<usize> {
        let before = self.framing.phase();
        let read = self.framing.feed(bytes);
        self.link.begun.store(self.framing.messages(), Ordering::Relaxed);
        let after = self.framing.phase();
        if after != before {
            self.phase = (after, Instant::now());
        }
        let (plain, cause) = read.err()?;
        self.link.refuse(self.peer, &cause);
        Some(plain)
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
        loop {
            let deadline = self.read_deadline();
            match &mut self.reading {
                Some(sleep) if sleep.deadline() <= deadline => {
                    if sleep.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    if Instant::now() >= deadline {
                        return Poll::Ready(());
                    }
                    sleep.as_mut().reset(deadline);
                }
                Some(sleep) => sleep.as_mut().reset(deadline),
                None => self.reading = Some(Box::pin(sleep_until(deadline))),
            }
        }
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
                if let Some(plain) = this.look(read) {
                    let faulty_head = this.framing.before_faulty_head();
                    this.told = faulty_head.is_some();
                    this.broken = Some(if this.told { REFUSED } else { POISON });
                    let plain = faulty_head.unwrap_or(plain);
                    buf.set_filled(before.saturating_add(plain));
                    // What is empty would be taken for the end of the connection.
                    if plain == 0 {
                        return Pin::new(this).poll_read(cx, buf);
                    }
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(err)) => Poll::Ready(Err(err)),
            Poll::Pending => {
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
        this.write_or_expire(result, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = this.stream()?.poll_write_vectored(cx, bufs);
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
