//! A TCP proxy that breaks the network on purpose, between the switch and its wallet or between tills and switch.
//!
//! Faults act on both connections that are open and new ones, and last until the next [`Proxy::set`]. Bytes that are
//! held while a network is cut are delivered when it heals, also if their sender has hung up meanwhile: that is how a
//! request arrives late.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use simulator::Rng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

/// Bytes that are read at once.
const CHUNK: usize = 16 * 1024;
/// The first pause of a lost packet until it is sent again; it doubles each time. Source: RFC 6298 §2.
const RESEND_MS: u64 = 200;
/// A packet is lost so often at most.
const RESENDS_MAX: u32 = 4;
/// The pause before an address is listened on again.
const LISTEN_PAUSE: Duration = Duration::from_millis(5);

/// What the network does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing wrong.
    None,
    /// Nobody listens: connects are refused, open connections are reset (NU-01).
    Refuse,
    /// Nothing arrives in either direction (NU-03, NU-10).
    BlackHole,
    /// Requests arrive, answers do not (NU-08, NU-09).
    AnswersLost,
    /// Each connection is reset in the middle of an answer (NU-04).
    Reset,
    /// Half of each answer arrives, then the connection ends (NU-04).
    Half,
    /// Everything is late by so many milliseconds (NU-11).
    Late(u64),
    /// Half of all packets are lost and sent again (NU-17).
    Lossy,
}

impl Fault {
    /// Every fault, at its usual strength.
    pub const ALL: [Self; 7] = [
        Self::BlackHole,
        Self::AnswersLost,
        Self::Reset,
        Self::Half,
        Self::Late(400),
        Self::Lossy,
        Self::Refuse,
    ];

    /// In words.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Refuse => "refused",
            Self::BlackHole => "cut both ways",
            Self::AnswersLost => "answers lost",
            Self::Reset => "reset in an answer",
            Self::Half => "half an answer",
            Self::Late(_) => "late",
            Self::Lossy => "half of all packets lost",
        }
    }
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Request,
    Answer,
}

/// A proxy at work until it is dropped.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    fault: watch::Sender<Fault>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Carries everything that comes to `address` on to `to`.
    ///
    /// # Errors
    ///
    /// When `address` cannot be listened on.
    pub async fn start(address: SocketAddr, to: SocketAddr, seed: u64) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).await.with_context(|| address.to_string())?;
        let address = listener.local_addr()?;
        let (fault, seen) = watch::channel(Fault::None);
        let task = tokio::spawn(serve(listener, address, to, seen, seed));
        Ok(Self { address, fault, task })
    }

    /// From now on the network does this.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    listener: TcpListener,
    address: SocketAddr,
    to: SocketAddr,
    mut fault: watch::Receiver<Fault>,
    seed: u64,
) {
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    let mut rng = Rng::keyed(seed, "proxy");
    loop {
        let refuses = *fault.borrow_and_update() == Fault::Refuse;
        if refuses {
            listener = None;
            connections.shutdown().await;
        } else if listener.is_none() {
            listener = TcpListener::bind(address).await.ok();
        }
        let accept = async {
            match &listener {
                Some(listener) => listener.accept().await.ok(),
                None if refuses => std::future::pending().await,
                None => {
                    sleep(LISTEN_PAUSE).await;
                    None
                }
            }
        };
        tokio::select! {
            accepted = accept => if let Some((client, _)) = accepted {
                connections.spawn(carry(client, to, fault.clone(), Rng::new(rng.next_u64())));
            },
            changed = fault.changed() => if changed.is_err() {
                return;
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Carries one connection; whoever is dropped in the middle is reset.
async fn carry(client: TcpStream, to: SocketAddr, fault: watch::Receiver<Fault>, mut rng: Rng) {
    let Ok(server) = TcpStream::connect(to).await else { return };
    for stream in [&client, &server] {
        let _ = stream.set_nodelay(true);
        // Dropped with bytes under way, it is reset; a pump that comes to its end says so first.
        let _ = stream.set_zero_linger();
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let requests = pump(from_client, to_server, Way::Request, fault.clone(), Rng::new(rng.next_u64()));
    let answers = pump(from_server, to_client, Way::Answer, fault, rng);
    tokio::pin!(requests, answers);
    // Whoever has said all may still listen.
    tokio::select! {
        cut = &mut requests => if !cut {
            answers.await;
        },
        cut = &mut answers => if !cut {
            requests.await;
        },
    }
}

/// Moves bytes one way until their end; `true` if the connection is to be broken off.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    way: Way,
    mut fault: watch::Receiver<Fault>,
    mut rng: Rng,
) -> bool {
    let mut buffer = vec![0; CHUNK];
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else {
            hold(&mut fault, way).await;
            let _ = to.shutdown().await;
            return false;
        };
        let bytes = buffer.get(..read).unwrap_or_default();
        hold(&mut fault, way).await;
        let now = *fault.borrow();
        let half = bytes.get(..read / 2).unwrap_or_default();
        match now {
            Fault::Late(ms) => sleep(Duration::from_millis(ms)).await,
            Fault::Lossy => {
                let mut pause_ms = RESEND_MS;
                for _ in 0..RESENDS_MAX {
                    if rng.below(2) == 0 {
                        break;
                    }
                    sleep(Duration::from_millis(pause_ms)).await;
                    pause_ms *= 2;
                }
            }
            Fault::Reset if way == Way::Answer => {
                let _ = to.write_all(half).await;
                // Dropped plainly it would say a last word.
                to.forget();
                return true;
            }
            Fault::Half if way == Way::Answer => {
                let _ = to.write_all(half).await;
                let _ = to.shutdown().await;
                return false;
            }
            Fault::Refuse => return true,
            Fault::None | Fault::BlackHole | Fault::AnswersLost | Fault::Reset | Fault::Half => {}
        }
        if to.write_all(bytes).await.is_err() {
            return true;
        }
    }
}

/// Waits while the network is cut this way.
async fn hold(fault: &mut watch::Receiver<Fault>, way: Way) {
    let cut = |fault: &Fault| match fault {
        Fault::BlackHole => true,
        Fault::AnswersLost => way == Way::Answer,
        Fault::None | Fault::Refuse | Fault::Reset | Fault::Half | Fault::Late(_) | Fault::Lossy => false,
    };
    // An error says that the proxy is gone, and this task with it.
    let _ = fault.wait_for(|fault| !cut(fault)).await;
}

#[cfg(test)]
mod tests;
