//! A till's connection as the HTTP library sees it: only plain bytes, and never for longer than allowed.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep_until};

use super::framing::{Framing, Phase};
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
            close: Notify::new(),
        }
    }

    /// Notes that a request was answered; returns how many in a row went to somebody unknown.
    pub(super) fn answered(&self, now_ms: u64, struck: bool) -> u32 {
        self.answered.fetch_add(1, Ordering::Relaxed);
        self.active_ms.store(now_ms, Ordering::Relaxed);
        if struck {
            return self.strikes.fetch_add(1, Ordering::Relaxed) + 1;
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

/// A stream behind the guard.
#[derive(Debug)]
pub(super) struct Guarded<S> {
    stream: S,
    link: Arc<Link>,
    deadlines: Deadlines,
    framing: Framing,
    /// After a fault: nothing more is read.
    broken: bool,
    /// Since when the connection is in its phase.
    phase: (Phase, Instant),
    /// Fires at or before the deadline; set again only when it fires early, so that a request on a warm
    /// connection costs no timer at all.
    reading: Option<Pin<Box<Sleep>>>,
    writing: Option<Pin<Box<Sleep>>>,
}

impl<S> Guarded<S> {
    pub(super) fn new(stream: S, link: Arc<Link>, deadlines: Deadlines, head_bytes_max: usize) -> Self {
        Self {
            stream,
            link,
            deadlines,
            framing: Framing::new(head_bytes_max),
            broken: false,
            phase: (Phase::Idle, Instant::now()),
            reading: None,
            writing: None,
        }
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
        metrics::refused(Refusal::Framing);
        tracing::debug!(%cause, "bytes refused");
        Some(plain)
    }

    /// The moment at which the present phase has lasted too long.
    fn read_deadline(&mut self) -> Option<Instant> {
        let (phase, since) = self.phase;
        match phase {
            Phase::Head => Some(since + self.deadlines.head),
            Phase::Body => Some(since + self.deadlines.body),
            // While a request is being answered the till may be silent as long as the answer takes.
            Phase::Idle if self.link.idle_since_ms().is_none() => {
                self.phase.1 = Instant::now();
                None
            }
            Phase::Idle => Some(since + self.deadlines.idle),
        }
    }

    fn poll_read_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Some(deadline) = self.read_deadline() else { return Poll::Pending };
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
        let deadline = Instant::now() + self.deadlines.write;
        let sleep = self.writing.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.as_mut().poll(cx).is_ready() {
            metrics::refused(Refusal::WriteDeadline);
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.broken {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        match Pin::new(&mut this.stream).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {
                let read = buf.filled().get(before..).unwrap_or_default();
                if let Some(plain) = this.look(read) {
                    // The library has not seen the end of the faulty head, or is between two chunks: a NUL
                    // is wrong in either place, so it answers 400 and closes, as it does for its own faults.
                    this.broken = true;
                    buf.set_filled(before + plain);
                    buf.put_slice(b"\0");
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

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.write_or_expire(result, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.write_or_expire(result, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_flush(cx);
        this.write_or_expire(result, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.write_or_expire(result, cx)
    }
}
