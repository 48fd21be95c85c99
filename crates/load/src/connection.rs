//! One connection: what it is in the middle of.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use mio::event::Event;
use mio::{Interest, Registry, Token};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::response::{Answered, Incoming};
use crate::stream::Stream;

/// Where connections lead.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

/// A connection, and the request that is under way on it.
#[derive(Debug)]
pub(crate) struct Connection<F> {
    phase: Phase<F>,
    outgoing: Vec<u8>,
    incoming: Incoming,
}

#[derive(Debug)]
enum Phase<F> {
    /// Not connected; when to try again.
    Down {
        retry_at: u64,
    },
    Connecting {
        stream: Stream,
        give_up_at: u64,
    },
    Idle(Stream),
    Busy {
        stream: Stream,
        flight: F,
        give_up_at: u64,
    },
}

/// What an event or the clock has brought.
#[derive(Debug)]
pub(crate) enum News<F> {
    /// Nothing to act on.
    None,
    /// It can take requests.
    Ready,
    /// It could not connect.
    ConnectFailed(io::Error),
    /// It broke while it was idle.
    Broke,
    /// A request is answered; the body is in [`Connection::body`]. The flag says whether it is free again.
    Answered(F, Answered, bool),
    /// No whole answer will come. The second says whether that is since the time is over.
    Lost(F, bool),
}

impl<F> Connection<F> {
    pub(crate) fn new() -> Self {
        Self { phase: Phase::Down { retry_at: 0 }, outgoing: Vec::new(), incoming: Incoming::default() }
    }

    /// Begins to connect, if it is time to. What fails at once is tried again at `retry_at`.
    pub(crate) fn connect(
        &mut self,
        peer: &Peer,
        registry: &Registry,
        token: Token,
        now: u64,
        give_up_at: u64,
        again_at: u64,
    ) -> Result<(), io::Error> {
        if !matches!(self.phase, Phase::Down { retry_at } if retry_at <= now) {
            return Ok(());
        }
        self.phase = Phase::Down { retry_at: again_at };
        let mut stream = Stream::connect(peer.address, peer.tls.clone())?;
        registry.register(stream.socket(), token, Interest::READABLE | Interest::WRITABLE)?;
        self.incoming.clear();
        self.outgoing.clear();
        self.phase = Phase::Connecting { stream, give_up_at };
        Ok(())
    }

    /// Writes a request; the connection must be idle. An error means that it broke: `flight` comes back.
    pub(crate) fn send(&mut self, bytes: &[u8], flight: F, give_up_at: u64, now: u64) -> Result<(), F> {
        let before = std::mem::replace(&mut self.phase, Phase::Down { retry_at: now });
        let Phase::Idle(mut stream) = before else {
            self.phase = before;
            return Err(flight);
        };
        self.incoming.clear();
        self.outgoing.clear();
        match stream.write(bytes) {
            Ok(written) => self.outgoing.extend_from_slice(bytes.get(written..).unwrap_or_default()),
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => self.outgoing.extend_from_slice(bytes),
            Err(_) => return Err(flight),
        }
        self.phase = Phase::Busy { stream, flight, give_up_at };
        Ok(())
    }

    /// Takes an event of its socket. `again_at` is when a connection that failed may be tried again.
    pub(crate) fn event(&mut self, event: &Event, now: u64, again_at: u64) -> News<F> {
        match std::mem::replace(&mut self.phase, Phase::Down { retry_at: now }) {
            Phase::Down { retry_at } => {
                self.phase = Phase::Down { retry_at };
                News::None
            }
            Phase::Connecting { mut stream, give_up_at } => match stream.ready() {
                Ok(true) => {
                    self.phase = Phase::Idle(stream);
                    News::Ready
                }
                Ok(false) => {
                    self.phase = Phase::Connecting { stream, give_up_at };
                    News::None
                }
                Err(err) => {
                    self.phase = Phase::Down { retry_at: again_at };
                    News::ConnectFailed(err)
                }
            },
            // Nobody asked for anything: what comes is the end, or the handshake's tickets.
            Phase::Idle(mut stream) => match self.fill(&mut stream, true) {
                Ok(false) if !self.incoming.begun() && stream.flush().is_ok() => {
                    self.phase = Phase::Idle(stream);
                    News::None
                }
                Ok(_) | Err(_) => News::Broke,
            },
            Phase::Busy { mut stream, flight, give_up_at } => {
                let closed = event.is_read_closed() || event.is_error();
                let written = self.write_on(&mut stream);
                let ended = written.and_then(|()| self.fill(&mut stream, closed));
                match self.incoming.look(!matches!(ended, Ok(false))) {
                    Ok(Some(answered)) => {
                        let free = answered.keep && self.outgoing.is_empty();
                        if free {
                            self.phase = Phase::Idle(stream);
                        }
                        News::Answered(flight, answered, free)
                    }
                    Ok(None) => {
                        self.phase = Phase::Busy { stream, flight, give_up_at };
                        News::None
                    }
                    Err(_) => News::Lost(flight, false),
                }
            }
        }
    }

    /// Looks whether its time is over.
    pub(crate) fn tick(&mut self, now: u64, again_at: u64) -> News<F> {
        match std::mem::replace(&mut self.phase, Phase::Down { retry_at: now }) {
            Phase::Connecting { give_up_at, .. } if give_up_at <= now => {
                self.phase = Phase::Down { retry_at: again_at };
                News::ConnectFailed(io::ErrorKind::TimedOut.into())
            }
            Phase::Busy { flight, give_up_at, .. } if give_up_at <= now => News::Lost(flight, true),
            phase @ (Phase::Down { .. } | Phase::Connecting { .. } | Phase::Idle(_) | Phase::Busy { .. }) => {
                self.phase = phase;
                News::None
            }
        }
    }

    /// The body of the answer that has just come.
    pub(crate) fn body(&self, answered: &Answered) -> &[u8] {
        self.incoming.body(answered)
    }

    /// Gives up the request that is under way, if one is.
    pub(crate) fn abandon(&mut self) -> Option<F> {
        match std::mem::replace(&mut self.phase, Phase::Down { retry_at: u64::MAX }) {
            Phase::Busy { flight, .. } => Some(flight),
            Phase::Down { .. } | Phase::Connecting { .. } | Phase::Idle(_) => None,
        }
    }

    fn write_on(&mut self, stream: &mut Stream) -> io::Result<()> {
        while !self.outgoing.is_empty() {
            match stream.write(&self.outgoing) {
                Ok(written) => drop(self.outgoing.drain(..written)),
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(err) => return Err(err),
            }
        }
        stream.flush()
    }

    /// Reads what has come; whether that was the end.
    fn fill(&mut self, stream: &mut Stream, closed: bool) -> io::Result<bool> {
        loop {
            match stream.read(self.incoming.room()) {
                Ok((0, _)) => return Ok(true),
                Ok((count, all)) => {
                    self.incoming.came(count);
                    if all && !closed {
                        return Ok(false);
                    }
                }
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Err(err),
            }
        }
    }
}
