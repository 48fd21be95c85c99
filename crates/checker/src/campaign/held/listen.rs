//! Tills that listen: server-sent events of one payment, or of all of a merchant.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::handshake;
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use simulator::http::unix_ms;
use till::client::Merchant;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long a stream may say nothing: heartbeats come far more often.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// An open stream.
pub(super) struct Stream {
    response: Response<Incoming>,
    /// Read and not yet a whole event.
    rest: String,
    /// Drives the connection; ends with the stream.
    _connection: JoinSet<()>,
}

/// What an event says of a payment.
pub(super) struct Heard {
    pub(super) number: String,
    pub(super) state: String,
    /// When it was read: UTC, milliseconds.
    pub(super) at_ms: i64,
}

impl Stream {
    /// Opens `path` on a connection of its own.
    pub(super) async fn open(gateway: SocketAddr, merchant: &Merchant, path: &str) -> anyhow::Result<Self> {
        let tcp = TcpStream::connect(gateway).await?;
        tcp.set_nodelay(true)?;
        let (mut send, connection) = handshake(TokioIo::new(tcp)).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            // How it ends is seen by who reads.
            let _ = connection.await;
        });
        let request = Request::get(path)
            .header(HOST, "checker")
            .header(AUTHORIZATION, format!("Bearer {}", merchant.identity.api_key))
            .body(Empty::<Bytes>::new())?;
        let response = send.send_request(request).await?;
        ensure!(response.status() == StatusCode::OK, "{path} is answered {}", response.status());
        Ok(Self { response, rest: String::new(), _connection: tasks })
    }

    /// The next event about a payment.
    pub(super) async fn next(&mut self) -> anyhow::Result<Heard> {
        loop {
            if let Some(data) = take(&mut self.rest) {
                return heard(&data);
            }
            let frame = timeout(SILENCE_MAX, self.response.body_mut().frame()).await;
            let Some(frame) = frame.context("a stream is silent")? else { bail!("a stream has ended") };
            if let Some(bytes) = frame?.data_ref() {
                self.rest.push_str(std::str::from_utf8(bytes).context("half a character")?);
            }
        }
    }

    /// When each of `count` payments was heard to be paid.
    pub(super) async fn paid(mut self, count: u64) -> anyhow::Result<HashMap<String, i64>> {
        let mut paid = HashMap::new();
        while u64::try_from(paid.len())? < count {
            let heard = self.next().await?;
            if heard.state == "paid" {
                paid.insert(heard.number, heard.at_ms);
            }
        }
        Ok(paid)
    }
}

/// The data of the first whole event that has any; what comes after it stays in `text`.
fn take(text: &mut String) -> Option<String> {
    while let Some((event, rest)) = text.split_once("\n\n") {
        let data = event.lines().find_map(|line| line.strip_prefix("data: ")).map(str::to_owned);
        *text = rest.to_owned();
        if data.is_some() {
            return data;
        }
    }
    None
}

fn heard(data: &str) -> anyhow::Result<Heard> {
    let at_ms = unix_ms();
    let payment: Value = serde_json::from_str(data)?;
    let text = |name: &str| payment.get(name).and_then(Value::as_str).map(str::to_owned);
    Ok(Heard {
        number: text("out_trade_no").context("a number")?,
        state: text("state").context("a state")?,
        at_ms,
    })
}

#[cfg(test)]
mod tests {
    use super::take;

    #[test]
    fn events_are_taken_whole_and_in_turn() {
        let mut text =
            String::from("retry: 1000\n\n:\n\nid: 1\nevent: payment\ndata: {\"a\":1}\n\nid: 2\nda");
        assert_eq!(take(&mut text).as_deref(), Some("{\"a\":1}"));
        assert_eq!(take(&mut text), None);
        text.push_str("ta: 2\n\ndata: 3\n\n");
        assert_eq!(take(&mut text).as_deref(), Some("2"));
        assert_eq!(take(&mut text).as_deref(), Some("3"));
        assert_eq!((take(&mut text), text.as_str()), (None, ""));
    }
}
