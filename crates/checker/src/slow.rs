//! Connections that cost their owner next to nothing and are meant to cost the switch a lot.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use rustix::thread::gettid;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};
use tokio_rustls::TlsConnector;

/// How often a slow sender sends another byte.
const DRIP: Duration = Duration::from_secs(2);
/// How long one that was closed waits before it comes again.
const AGAIN: Duration = Duration::from_millis(500);
/// Between two connections that are opened: a herd at once would be another test.
const PACE: Duration = Duration::from_micros(1_200);
/// Addresses of the herd, where it comes from others than tills.
const ADDRESSES: usize = 200;
/// The beginning of a TLS handshake whose rest never comes: a record of 512 bytes that announces a ClientHello.
const HALF_HELLO: [u8; 11] = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3];
/// Requests whose answers nobody reads.
const UNREAD: &[u8] = b"GET / HTTP/1.1\r\nHost: slow\r\n\r\n";
const UNREAD_TIMES: usize = 64;

/// In which way a connection is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slow {
    /// A head that never ends, byte by byte.
    Head,
    /// A body that never ends, byte by byte.
    Body,
    /// Many requests, and not one answer is read.
    Reader,
    /// A TLS handshake that is never finished; without TLS, a connection on which nothing is said.
    Handshake,
}

impl Slow {
    /// Every way, in turn.
    pub const ALL: [Self; 4] = [Self::Head, Self::Body, Self::Reader, Self::Handshake];
}

/// From where the herd comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// From the tills' own address, as behind one router.
    Tills,
    /// From addresses that no till comes from.
    Elsewhere,
}

impl From {
    /// Opens the connection numbered `n`.
    async fn connect(self, gateway: SocketAddr, n: usize) -> io::Result<TcpStream> {
        if self == Self::Tills || gateway.is_ipv6() {
            return TcpStream::connect(gateway).await;
        }
        let last = u8::try_from(1 + n % ADDRESSES).unwrap_or(1);
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::new(127, 0, 1, last), 0).into())?;
        socket.connect(gateway).await
    }
}

/// Slow connections, on a thread of their own that takes what processor others leave; all of them end when this is
/// dropped.
#[derive(Debug)]
pub struct Herd {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
    opened: Arc<AtomicU64>,
}

impl Herd {
    /// Opens `count` connections to `gateway` and keeps that many: who is closed comes again.
    ///
    /// # Errors
    ///
    /// When its thread cannot be started.
    pub async fn start(
        gateway: SocketAddr,
        tls: Option<Arc<ClientConfig>>,
        count: usize,
        from: From,
    ) -> anyhow::Result<Self> {
        let opened = Arc::<AtomicU64>::default();
        let counted = Arc::clone(&opened);
        let (stop, stopped) = oneshot::channel();
        let (all, come) = oneshot::channel();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let herd = async move {
            let mut tasks = JoinSet::new();
            for (n, slow) in (0..count).zip(Slow::ALL.into_iter().cycle()) {
                tasks.spawn(run((gateway, from, n), tls.clone(), slow, Arc::clone(&counted)));
                sleep(PACE).await;
            }
            // Whoever has started us may be gone, and then we go as well.
            let _ = all.send(());
            let _ = stopped.await;
            tasks.shutdown().await;
        };
        let thread = std::thread::Builder::new().name("herd".to_owned()).spawn(move || {
            // Elsewhere its work is done by other machines: here it takes what is left over, also when it has just
            // begun. Of this thread alone; where that is refused, the herd is only harder to bear.
            let thread = gettid().as_raw_nonzero().to_string();
            let _ = Command::new("chrt").args(["--idle", "--pid", "0", &thread]).status();
            runtime.block_on(herd);
        })?;
        come.await.context("the herd does not come")?;
        Ok(Self { stop, thread, opened })
    }

    /// How many connections were opened, those that came again included.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// Ends all of them.
    pub async fn stop(self) {
        drop(self.stop);
        // A thread that panicked has ended as well.
        let _ = tokio::task::spawn_blocking(|| self.thread.join()).await;
    }
}

async fn run(
    (gateway, from, n): (SocketAddr, From, usize),
    tls: Option<Arc<ClientConfig>>,
    slow: Slow,
    opened: Arc<AtomicU64>,
) {
    loop {
        if let Ok(tcp) = from.connect(gateway, n).await {
            opened.fetch_add(1, Ordering::Relaxed);
            // However it ends, it comes again.
            let _ = match (&tls, slow) {
                (Some(_), Slow::Handshake) => hold(tcp, &HALF_HELLO).await,
                (Some(tls), Slow::Head | Slow::Body | Slow::Reader) => {
                    let name = ServerName::IpAddress(gateway.ip().into());
                    match TlsConnector::from(Arc::clone(tls)).connect(name, tcp).await {
                        Ok(stream) => drag(stream, slow).await,
                        Err(err) => Err(err),
                    }
                }
                (None, _) => drag(tcp, slow).await,
            };
        }
        sleep(AGAIN).await;
    }
}

/// Sends `bytes` and waits for the end.
async fn hold<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await?;
    while stream.read(&mut [0; 256]).await? > 0 {}
    Ok(())
}

async fn drag<S: AsyncRead + AsyncWrite + Unpin>(stream: S, slow: Slow) -> std::io::Result<()> {
    match slow {
        Slow::Head => drip(stream, b"POST /pay/micropay HTTP/1.1\r\nHost: slow\r\nX: ").await,
        Slow::Body => {
            drip(stream, b"POST /pay/micropay HTTP/1.1\r\nHost: slow\r\nContent-Length: 2000\r\n\r\n<xml>")
                .await
        }
        Slow::Reader => unread(stream).await,
        Slow::Handshake => hold(stream, &[]).await,
    }
}

/// Sends `first`, then a byte now and then, until the peer has had enough.
async fn drip<S: AsyncRead + AsyncWrite + Unpin>(stream: S, first: &[u8]) -> std::io::Result<()> {
    let (mut read, mut write) = tokio::io::split(stream);
    write.write_all(first).await?;
    let mut every = interval(DRIP);
    let mut answer = [0; 256];
    loop {
        tokio::select! {
            got = read.read(&mut answer) => {
                if got? == 0 {
                    return Ok(());
                }
            }
            _ = every.tick() => {
                write.write_all(b"x").await?;
                write.flush().await?;
            }
        }
    }
}

/// Asks and reads nothing, until writing fails.
async fn unread<S: AsyncWrite + Unpin>(mut stream: S) -> std::io::Result<()> {
    stream.write_all(&UNREAD.repeat(UNREAD_TIMES)).await?;
    let mut every = interval(DRIP);
    loop {
        every.tick().await;
        stream.write_all(UNREAD).await?;
        stream.flush().await?;
    }
}
