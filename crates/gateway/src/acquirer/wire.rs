//! What lies under HTTP and TLS: a socket that knows whether anything has left it.
//!
//! "Proven unsent" (G3, A1) is a statement about bytes given to the kernel, so it is measured there and
//! nowhere higher: a TLS layer that holds a request in its buffer has sent nothing.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, Shutdown, recv, shutdown};
use state_machine::Tick;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::clock::Clock;

/// A socket and what is known about the request under way on it; shared by the layers above, which write,
/// and the caller, who judges.
///
/// One task uses a connection at a time, and handing a connection to another task synchronises them: relaxed
/// order is enough.
#[derive(Debug)]
pub(crate) struct Gate {
    tcp: TcpStream,
    writes: AtomicU64,
    last_write_ms: AtomicU64,
    leave_by_ms: AtomicU64,
    under_way: AtomicBool,
}

impl Gate {
    /// A gate that is open: handshakes are no request.
    pub(crate) fn new(tcp: TcpStream) -> Arc<Self> {
        Arc::new(Self {
            tcp,
            writes: AtomicU64::new(0),
            last_write_ms: AtomicU64::new(0),
            leave_by_ms: AtomicU64::new(Tick::MAX.as_ms()),
            under_way: AtomicBool::new(false),
        })
    }

    /// A request is about to be handed over; its first byte leaves before `leave_by` or not at all.
    pub(crate) fn arm(&self, leave_by: Tick) {
        self.writes.store(0, Ordering::Relaxed);
        self.leave_by_ms.store(leave_by.as_ms(), Ordering::Relaxed);
        self.under_way.store(true, Ordering::Relaxed);
    }

    /// The request was answered in full.
    pub(crate) fn answered(&self) {
        self.leave_by_ms.store(Tick::MAX.as_ms(), Ordering::Relaxed);
        self.under_way.store(false, Ordering::Relaxed);
    }

    /// When the latest byte of the request was given to the kernel; `None` if not one was.
    pub(crate) fn left_at(&self) -> Option<Tick> {
        (self.writes.load(Ordering::Relaxed) > 0)
            .then(|| Tick::from_ms(self.last_write_ms.load(Ordering::Relaxed)))
    }

    /// Asks the kernel, not the runtime's last word about readiness, whether the connection is open and
    /// silent, as an idle one must be. Bytes that wait here would be read as the answer to a later request.
    pub(crate) fn is_quiet(&self) -> bool {
        let mut byte = [0_u8; 1];
        matches!(
            recv(&self.tcp, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT),
            Err(rustix::io::Errno::AGAIN)
        )
    }

    /// As if the peer took nothing any more.
    #[cfg(test)]
    pub(crate) fn shut_for_writing(&self) {
        shutdown(&self.tcp, Shutdown::Write).expect("it is open");
    }

    /// Whether a byte may be written now: always once the first has left, else only in time.
    fn admits(&self) -> bool {
        let leave_by = Tick::from_ms(self.leave_by_ms.load(Ordering::Relaxed));
        self.writes.load(Ordering::Relaxed) > 0 || leave_by == Tick::MAX || Clock::tick() < leave_by
    }

    /// Writes as soon as the socket takes something, if the gate still admits it.
    fn poll_write(
        &self,
        cx: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.tcp.poll_write_ready(cx))?;
            if !self.admits() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            match write(&self.tcp) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) => return Poll::Ready(Ok(0)),
                Ok(count) => {
                    // The clock is read after the write: the true moment is not later, so that no guard
                    // counted from this one ends too early.
                    self.last_write_ms.store(Clock::tick().as_ms(), Ordering::Relaxed);
                    self.writes.fetch_add(1, Ordering::Relaxed);
                    return Poll::Ready(Ok(count));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl Drop for Gate {
    /// Closing a socket leaves to the kernel what it still holds, and the kernel goes on delivering it for
    /// minutes. A request that is given up must not arrive then: a reset withdraws it (C9 counts from the
    /// moment at which the connection of a pay request was closed).
    fn drop(&mut self) {
        if self.under_way.load(Ordering::Relaxed) {
            // If the kernel refuses, it is closed as any other.
            let _ = self.tcp.set_zero_linger();
        }
    }
}

/// The byte stream of a [`Gate`].
#[derive(Debug)]
pub(crate) struct Wire(pub(crate) Arc<Gate>);

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.tcp.poll_read_ready(cx))?;
            let room = buf.initialize_unfilled();
            let (len, mut read) = (room.len(), None);
            let tried = self.0.tcp.try_io(Interest::READABLE, || {
                let count = rustix::io::read(&self.0.tcp, room)?;
                read = Some(count);
                // What fills no buffer has emptied the socket: the kernel is not asked again before it says that there
                // is more.
                if count > 0 && count < len { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            match (read, tried) {
                (Some(count), _) => {
                    buf.advance(count);
                    return Poll::Ready(Ok(()));
                }
                (None, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                (None, tried) => return Poll::Ready(tried),
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, |tcp| tcp.try_write(buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, |tcp| tcp.try_write_vectored(bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(shutdown(&self.0.tcp, Shutdown::Write).map_err(io::Error::from))
    }
}
