//! One HTTP GET on a connection of its own.

use std::net::SocketAddr;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::client::conn::http1::handshake;
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// The status and the whole body of `path` at `address`.
///
/// # Errors
///
/// When no whole answer comes.
pub async fn get(address: SocketAddr, path: &str) -> anyhow::Result<(u16, Bytes)> {
    let stream = TcpStream::connect(address).await?;
    let (mut send, connection) = handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path).header(HOST, "checker").body(Empty::<Bytes>::new())?;
    let ask = async {
        let response = send.send_request(request).await?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await?.to_bytes();
        drop(send);
        Ok::<_, hyper::Error>((status, body))
    };
    let (answer, _) = tokio::join!(ask, connection);
    answer.with_context(|| format!("http://{address}{path}"))
}

/// The value of the metric `name` (with its labels, as it is written) at the switch's admin address; 0 if it has
/// not been counted yet.
///
/// # Errors
///
/// When the metrics cannot be read.
pub async fn metric(admin: SocketAddr, name: &str) -> anyhow::Result<u64> {
    let (_, body) = get(admin, "/metrics").await?;
    let text = String::from_utf8_lossy(&body);
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(value.and_then(|value| value.split('.').next()?.parse().ok()).unwrap_or(0))
}
