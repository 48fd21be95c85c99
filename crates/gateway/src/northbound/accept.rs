//! Where connections come from: TCP, or TLS over it.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::guard::linger;
use super::tls::{H2, PeerCertificate, Tls};

/// What every record of a TLS handshake begins with. Source: RFC 8446, section 5.1.
const HANDSHAKE: u8 = 0x16;

/// What is told to whoever speaks HTTP where TLS is spoken.
const NOT_TLS: &str = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: \
                       72\r\nConnection: close\r\n\r\nthis port speaks TLS: use https://. Nothing was accepted, \
                       nothing sent.\n";

/// What is told to a connection that is one too many of its address.
pub(super) const TOO_MANY: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: \
                        76\r\nRetry-After: 1\r\nConnection: close\r\n\r\ntoo many connections from this address. \
                        Nothing was accepted, nothing sent.\n";

/// What is told to a connection that comes when every place is taken.
pub(super) const FULL: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: \
                               86\r\nRetry-After: 1\r\nConnection: close\r\n\r\nevery connection is taken: try again in a \
                               second. Nothing was accepted, nothing sent.\n";

/// Where connections come from.
pub trait Accept: Send + Sync + 'static {
    /// The stream of one connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// One that has come, and of which nothing has been read.
    type Arrived: Send;
    /// Finishes opening it in its own task: nothing for TCP, the handshake for TLS.
    type Opening: Future<Output = io::Result<Opened<Self::Stream>>> + Send + 'static;

    /// Waits for the next connection.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Arrived, SocketAddr)>> + Send;

    /// Takes it.
    fn open(&self, arrived: Self::Arrived) -> Self::Opening;

    /// Ends a connection that is one too many, at once and for next to nothing: with `words` of HTTP where these can be
    /// read.
    fn turn_away(arrived: Self::Arrived, words: &'static str) {
        let _ = words;
        drop(arrived);
    }
}

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 or 1.0.
    Http1,
    /// HTTP/2, as ALPN chose it.
    Http2,
}

/// A connection that is open.
#[derive(Debug)]
pub struct Opened<S> {
    /// Its bytes.
    pub stream: S,
    /// What is spoken on it.
    pub protocol: Protocol,
    /// The certificate that its peer has proven to hold, if one of ours to trust.
    pub certificate: Option<PeerCertificate>,
}

impl<S> Opened<S> {
    /// HTTP/1.1 from somebody without a certificate.
    pub const fn plain(stream: S) -> Self {
        Self { stream, protocol: Protocol::Http1, certificate: None }
    }
}

/// The next connection, whose answers leave at once.
async fn tcp(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (stream, peer) = listener.accept().await?;
    // Answers are one write each; waiting for more to send only adds delay.
    let _ = stream.set_nodelay(true);
    Ok((stream, peer))
}

impl Accept for TcpListener {
    type Stream = TcpStream;
    type Arrived = TcpStream;
    type Opening = std::future::Ready<io::Result<Opened<TcpStream>>>;

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        tcp(self).await
    }

    fn open(&self, arrived: TcpStream) -> Self::Opening {
        std::future::ready(Ok(Opened::plain(arrived)))
    }

    fn turn_away(arrived: TcpStream, words: &'static str) {
        // Words if there is room for them; nobody is waited for.
        let _ = arrived.try_write(words.as_bytes());
    }
}

/// Tills over TLS.
#[derive(Debug)]
pub struct TlsListener {
    tcp: TcpListener,
    tls: Arc<Tls>,
}

impl TlsListener {
    /// Takes connections of `tcp`, each with what `tls` holds in the moment of its handshake.
    #[must_use]
    pub const fn new(tcp: TcpListener, tls: Arc<Tls>) -> Self {
        Self { tcp, tls }
    }
}

impl Accept for TlsListener {
    type Stream = TlsStream<TcpStream>;
    type Arrived = TcpStream;
    type Opening = Pin<Box<dyn Future<Output = io::Result<Opened<Self::Stream>>> + Send>>;

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        tcp(&self.tcp).await
    }

    fn open(&self, arrived: TcpStream) -> Self::Opening {
        Box::pin(handshake(arrived, Arc::clone(&self.tls)))
    }

    fn turn_away(arrived: TcpStream, _: &'static str) {
        // Without a handshake there are no words; reset, so that nothing of it stays in the kernel either.
        let _ = arrived.set_zero_linger();
    }
}

/// Until its first byte a connection holds no memory of a handshake.
async fn handshake(mut tcp: TcpStream, tls: Arc<Tls>) -> io::Result<Opened<TlsStream<TcpStream>>> {
    let mut first = [0];
    if tcp.peek(&mut first).await? == 0 {
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    let [first] = first;
    if first != HANDSHAKE {
        if first.is_ascii_uppercase() {
            let _ = tcp.write_all(NOT_TLS.as_bytes()).await;
            linger(tcp).await;
        }
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not TLS"));
    }
    let loaded = tls.load();
    let stream = TlsAcceptor::from(loaded.server()).accept(tcp).await?;
    let (_, connection) = stream.get_ref();
    let protocol = if connection.alpn_protocol() == Some(H2) { Protocol::Http2 } else { Protocol::Http1 };
    let certificate = connection.peer_certificates().and_then(|chain| loaded.trusted(chain));
    Ok(Opened { stream, protocol, certificate })
}

#[cfg(test)]
mod tests {
    use super::{FULL, NOT_TLS, TOO_MANY};

    #[test]
    fn ready_answers_have_their_length() {
        for answer in [NOT_TLS, TOO_MANY, FULL] {
            let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
            assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{}", body.len());
        }
    }
}
