//! How a request reaches the switch: plain, over TLS, or as HTTP/2.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::client::conn::http2::handshake;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Longer than anything is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// What HTTP/2 has in its frames, and its requests must not name.
const FRAMED: [&str; 4] = ["host", "connection", "content-length", "transfer-encoding"];

/// What lies between a till and the switch.
#[derive(Clone)]
pub(crate) enum Road {
    /// TCP.
    Plain,
    /// TLS, and HTTP/1.1 in it.
    Tls(TlsConnector),
    /// TLS, and HTTP/2 in it.
    Http2(TlsConnector),
}

impl Road {
    /// Over TLS to whom `config` trusts; in HTTP/2 if `http2`.
    pub(crate) fn over_tls(mut config: ClientConfig, http2: bool) -> Self {
        config.alpn_protocols = vec![if http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        let connector = TlsConnector::from(Arc::new(config));
        if http2 { Self::Http2(connector) } else { Self::Tls(connector) }
    }

    /// Sends `bytes` on a connection of its own and reads to its end; returns the till's address and what came. In
    /// HTTP/2 the request that they are is asked, and what came is written as HTTP/1.1; `None` where HTTP/2 has no
    /// such request.
    pub(crate) async fn send(
        &self,
        at: SocketAddr,
        bytes: &[u8],
        cut: bool,
    ) -> Option<(SocketAddr, Vec<u8>)> {
        let stream = TcpStream::connect(at).await.expect("the gateway listens");
        let till = stream.local_addr().expect("an address");
        let answered = async {
            match self {
                Self::Plain => Some(exchange(stream, bytes, cut).await),
                Self::Tls(connector) => Some(exchange(shake(connector, stream).await, bytes, cut).await),
                Self::Http2(connector) => {
                    let request = request(bytes)?;
                    ask(shake(connector, stream).await, request).await
                }
            }
        };
        let answer = tokio::time::timeout(PATIENCE, answered)
            .await
            .expect("answered or closed, never left hanging")?;
        Some((till, answer))
    }
}

async fn shake(connector: &TlsConnector, stream: TcpStream) -> TlsStream<TcpStream> {
    let name = ServerName::try_from("localhost").expect("a name");
    connector.connect(name, stream).await.expect("a handshake")
}

async fn exchange<S: AsyncRead + AsyncWrite>(stream: S, bytes: &[u8], cut: bool) -> Vec<u8> {
    let (mut read, mut write) = tokio::io::split(stream);
    let mut answer = Vec::new();
    let sent = async {
        // Whoever refuses early need not read to the end.
        let _ = write.write_all(bytes).await;
        let _ = write.flush().await;
        if cut {
            let _ = write.shutdown().await;
        }
    };
    // A reset after the answer is as good as an end.
    let _ = tokio::join!(sent, read.read_to_end(&mut answer));
    answer
}

/// The request that `bytes` are in HTTP/1.1, if HTTP/2 can carry it.
fn request(bytes: &[u8]) -> Option<Request<Full<Bytes>>> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (method, path) = (words.next()?, words.next()?);
    let mut request = Request::builder().method(method).uri(format!("https://localhost{path}"));
    for line in lines {
        let (name, value) = line.split_once(':')?;
        if !FRAMED.contains(&name.to_ascii_lowercase().as_str()) {
            request = request.header(name, value.trim());
        }
    }
    request.body(Full::from(bytes[end + 4..].to_vec())).ok()
}

async fn ask(stream: TlsStream<TcpStream>, request: Request<Full<Bytes>>) -> Option<Vec<u8>> {
    let (mut send, connection) =
        handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2 is spoken");
    let connection = tokio::spawn(connection);
    let answer = send.send_request(request).await.expect("an answer");
    let (head, body) = answer.into_parts();
    let mut text = format!("HTTP/1.1 {} \r\n", head.status.as_u16());
    for (name, value) in &head.headers {
        text.push_str(&format!("{name}: {}\r\n", value.to_str().expect("text")));
    }
    // What closes a connection in HTTP/1.1 ends it with a goodbye here.
    text.push_str("connection: close\r\n\r\n");
    let body = body.collect().await.expect("a whole answer").to_bytes();
    connection.abort();
    Some([text.as_bytes(), &body].concat())
}
