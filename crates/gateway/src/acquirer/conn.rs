//! One connection to a host: a request is written, its answer read, and the connection is kept or closed.
//!
//! A connection has no task of its own: whoever waits for an answer drives it. Its buffer and its timer last as long as
//! it does, so that a request on a warm connection allocates little and sets no timer.

use std::io::{self, IoSlice, Write as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::answer::{Answer, HEAD_BYTES_MAX, Unusable};
use super::connect::{Connector, Stream, certificate_refused};
use super::pool::Cause;
use super::wire::Gate;
use crate::clock::Timer;

/// What a connection reads into at first: a head and most bodies fit.
const BUFFER_BYTES: usize = 4 * 1024;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// The socket or TLS failed.
    Io { error: io::Error, at_head: bool },
    /// The connection ended in the middle of the answer, or before it.
    Ended { at_head: bool },
    /// The bytes are none.
    Unusable(Unusable),
}

impl Failure {
    /// What it was, on a connection that was open; whether it had answered before, and whether it shows a certificate.
    pub(super) fn cause(&self, reused: bool, certified: bool) -> Cause {
        let at_head = match self {
            Self::Unusable(Unusable::NotHttp) => return Cause::NotHttp,
            Self::Unusable(Unusable::TooLarge) => return Cause::TooLarge,
            // TLS 1.3 lets us finish before the peer has looked at our certificate: its alert is the first thing read.
            Self::Io { error, .. } if certified && certificate_refused(error) => {
                return Cause::CertificateRefused;
            }
            Self::Io { error, at_head } if error.kind() == io::ErrorKind::UnexpectedEof => *at_head,
            Self::Io { .. } => return Cause::Broken,
            Self::Ended { at_head } => *at_head,
        };
        let without_a_word = certified && at_head && !reused;
        if without_a_word { Cause::CertificateRefused } else { Cause::Eof { reused } }
    }
}

/// A connection between two requests or under one.
pub(super) struct Conn {
    stream: Stream,
    pub(super) gate: Arc<Gate>,
    pub(super) timer: Timer,
    /// Whether it has answered before.
    pub(super) reused: bool,
    /// The head of the request under way.
    head: Vec<u8>,
    /// Bytes of the request that were written.
    written: usize,
    /// Whether all of it has left TLS.
    flushed: bool,
    /// What is read into, and how much of it is filled and not taken.
    buffer: Vec<u8>,
    filled: usize,
}

impl Conn {
    /// Opens one, or says why there is none before `until`.
    pub(super) async fn open(connector: &Connector, until: Instant) -> Result<Box<Self>, Cause> {
        let (stream, gate) = connector.connect(until).await?;
        Ok(Box::new(Self {
            stream,
            gate,
            timer: Timer::default(),
            reused: false,
            head: Vec::new(),
            written: 0,
            flushed: false,
            buffer: vec![0; BUFFER_BYTES],
            filled: 0,
        }))
    }

    /// A request is to be written: a POST of XML, `body_len` bytes long. `false` if it cannot be written down.
    pub(super) fn begin(&mut self, authority: &str, prefix: &str, path: &str, body_len: usize) -> bool {
        (self.written, self.flushed) = (0, false);
        self.head.clear();
        // Writing to a vector cannot fail.
        let _ = write!(
            self.head,
            "POST {prefix}{path} HTTP/1.1\r\nhost: {authority}\r\ncontent-type: text/xml; charset=utf-8\r\n\
             content-length: {body_len}\r\n\r\n"
        );
        // One blank line, at the end: nothing that was configured has ended the head.
        memchr::memmem::find(&self.head, b"\r\n\r\n")
            .is_some_and(|at| at.saturating_add(4) == self.head.len())
    }

    /// Writes what is left of the request, and reads what there is of its answer.
    pub(super) fn poll_exchange(
        &mut self,
        cx: &mut Context<'_>,
        body: &[u8],
        answer: &mut Answer,
    ) -> Poll<Result<(), Failure>> {
        let at_head = answer.is_at_head();
        let written = self.poll_write(cx, body);
        // A peer that has seen enough may answer before it has read everything, and say why it takes no more.
        match (self.poll_answer(cx, answer), written) {
            (Poll::Pending, Poll::Ready(Err(error))) => Poll::Ready(Err(Failure::Io { error, at_head })),
            (answered, _) => answered,
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, body: &[u8]) -> Poll<io::Result<()>> {
        let whole = self.head.len().saturating_add(body.len());
        while self.written < whole {
            let head = self.head.get(self.written..).unwrap_or_default();
            let rest = body.get(self.written.saturating_sub(self.head.len())..).unwrap_or_default();
            let slices = [IoSlice::new(head), IoSlice::new(rest)];
            let slices = if head.is_empty() { slices.get(1..).unwrap_or_default() } else { &slices };
            match ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.written = self.written.saturating_add(count),
            }
        }
        if !self.flushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.flushed = true;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>, answer: &mut Answer) -> Poll<Result<(), Failure>> {
        loop {
            let at_head = answer.is_at_head();
            let read = match self.poll_read(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(read) => read.map_err(|error| Failure::Io { error, at_head })?,
            };
            if read == 0 {
                return Poll::Ready(if answer.end() { Ok(()) } else { Err(Failure::Ended { at_head }) });
            }
            let filled = self.buffer.get(..self.filled).unwrap_or_default();
            let taken = answer.take(filled).map_err(Failure::Unusable)?;
            self.buffer.copy_within(taken.min(self.filled)..self.filled, 0);
            self.filled = self.filled.saturating_sub(taken);
            if answer.is_whole() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Reads once into the buffer, which grows as far as a head may.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.filled == self.buffer.len() {
            // An answer takes all of its body at once and a head of this length never.
            let longer = self.buffer.len().saturating_mul(2).min(HEAD_BYTES_MAX.saturating_add(1));
            self.buffer.resize(longer, 0);
        }
        let mut room = ReadBuf::new(self.buffer.get_mut(self.filled..).unwrap_or_default());
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut room))?;
        let read = room.filled().len();
        self.filled = self.filled.saturating_add(read);
        Poll::Ready(Ok(read))
    }

    /// After a whole answer: whether another request may follow. Not if the peer has ended the connection, or if there is
    /// more to read than the answer.
    pub(super) fn is_ready(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let idle = self.flushed && self.filled == 0;
        idle && self.poll_read(&mut cx).is_pending()
    }
}

#[cfg(test)]
impl Conn {
    /// As if the peer had ended it after the last look.
    pub(super) fn break_off(&mut self) {
        self.reused = true;
        self.gate.shut_for_writing();
    }
}
