//! A till's HTTP client: signs, posts, verifies the answer, keeps connections.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use protocol::wechat_v2::field;
use protocol::xml::{Reader, Writer};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use signer::{Case, Key, Kind, Scratch};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::credentials::TestMerchant;

/// How long a till waits for an answer: longer than the switch ever holds one back.
const PATIENCE: Duration = Duration::from_secs(20);
/// A connection that has been idle for longer is not used again: the switch may be closing it in that very moment, and
/// a request on it would be lost. Less than `idle_deadline_ms`.
const IDLE_MAX: Duration = Duration::from_secs(45);

/// An answer that was read and whose signature is right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Whether `result_code` is SUCCESS.
    pub success: bool,
    /// `err_code`.
    pub err_code: String,
    /// `err_code_des`.
    pub err_code_des: String,
    /// `trade_state`.
    pub trade_state: String,
    /// `total_fee`, if there is one.
    pub total_fee: Option<u64>,
    /// `recall`.
    pub recall: String,
}

/// Why a till has nothing to go by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// No whole answer came.
    Lost,
    /// `return_code` FAIL, which has no signature.
    Unsigned(String),
    /// The answer is not XML, or its signature is wrong.
    Unverified,
}

/// A merchant's software: its identity and its key.
pub struct Merchant {
    /// How it names itself.
    pub identity: TestMerchant,
    /// What it signs with.
    pub key: Key,
}

/// Connections to the switch.
pub struct Client {
    address: SocketAddr,
    tls: Option<TlsConnector>,
    idle: Mutex<Vec<Connection>>,
}

struct Connection {
    send: SendRequest<Full<Bytes>>,
    task: JoinHandle<()>,
    /// When it was last used.
    used: Instant,
}

impl Drop for Connection {
    /// A till that gives up closes its connection.
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Client {
    /// Tills that connect to `address`.
    #[must_use]
    pub const fn new(address: SocketAddr) -> Self {
        Self { address, tls: None, idle: Mutex::new(Vec::new()) }
    }

    /// Tills that connect to `address`, over TLS if `tls` is given: it says whom they trust.
    #[must_use]
    pub fn over(address: SocketAddr, tls: Option<Arc<ClientConfig>>) -> Self {
        Self { tls: tls.map(TlsConnector::from), ..Self::new(address) }
    }

    /// Tills that connect likewise, and have no connection yet.
    #[must_use]
    pub fn another(&self) -> Self {
        Self { tls: self.tls.clone(), ..Self::new(self.address) }
    }

    /// Signs `fields`, posts them, and reads the answer.
    ///
    /// # Errors
    ///
    /// [`NoAnswer`]: then nothing is known but that something was asked.
    pub async fn ask(
        &self,
        merchant: &Merchant,
        path: &'static str,
        kind: Kind,
        fields: &[(&str, &str)],
    ) -> Result<Answer, NoAnswer> {
        let body = request(merchant, kind, fields);
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut connection = match idle.filter(Connection::is_usable) {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let answer = tokio::time::timeout(PATIENCE, connection.post(path, body)).await;
        let answer = answer.map_err(|_| NoAnswer::Lost)??;
        if connection.send.ready().await.is_ok() {
            connection.used = Instant::now();
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
        Answer::read(&merchant.key, kind, &answer, &mut Reader::new(), &mut Scratch::new())
    }

    /// Posts `fields` on a connection of its own and hangs up after `patience`: whatever the answer is, it is lost.
    pub async fn ask_and_hang_up(
        &self,
        merchant: &Merchant,
        path: &'static str,
        fields: &[(&str, &str)],
        patience: Duration,
    ) {
        let body = request(merchant, Kind::Md5, fields);
        if let Ok(mut connection) = self.connect().await {
            drop(tokio::time::timeout(patience, connection.post(path, body)).await);
        }
    }

    async fn connect(&self) -> Result<Connection, NoAnswer> {
        let stream = TcpStream::connect(self.address).await.map_err(|_| NoAnswer::Lost)?;
        // Small requests would wait for the peer's acknowledgement.
        stream.set_nodelay(true).map_err(|_| NoAnswer::Lost)?;
        let Some(tls) = &self.tls else { return Connection::begin(stream).await };
        let name = ServerName::IpAddress(self.address.ip().into());
        let stream = tls.connect(name, stream).await.map_err(|_| NoAnswer::Lost)?;
        Connection::begin(stream).await
    }
}

impl Connection {
    async fn begin<S>(stream: S) -> Result<Self, NoAnswer>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (send, connection) = handshake(TokioIo::new(stream)).await.map_err(|_| NoAnswer::Lost)?;
        let task = tokio::spawn(async move {
            // How it ends is seen by whoever waits for an answer.
            let _ = connection.await;
        });
        Ok(Self { send, task, used: Instant::now() })
    }

    fn is_usable(&self) -> bool {
        self.send.is_ready() && self.used.elapsed() < IDLE_MAX
    }

    async fn post(&mut self, path: &'static str, body: Vec<u8>) -> Result<Bytes, NoAnswer> {
        let request = Request::post(path)
            .header(HOST, "hufu")
            .header(CONTENT_TYPE, "text/xml")
            .body(Full::from(body))
            .map_err(|_| NoAnswer::Lost)?;
        let response = self.send.send_request(request).await.map_err(|_| NoAnswer::Lost)?;
        let body = response.into_body().collect().await.map_err(|_| NoAnswer::Lost)?;
        Ok(body.to_bytes())
    }
}

/// A signed request. Its `nonce_str` need not be secret, and the switch does not look at it.
fn request(merchant: &Merchant, kind: Kind, fields: &[(&str, &str)]) -> Vec<u8> {
    let identity = &merchant.identity;
    let mut pairs = vec![
        (field::APPID, identity.appid.as_str()),
        (field::MCH_ID, identity.mch_id.as_str()),
        (field::NONCE_STR, "5K8264ILTKCH16CQ2502SI8ZNMTM67VS"),
    ];
    pairs.extend(identity.sub_mch_id.as_deref().map(|id| (field::SUB_MCH_ID, id)));
    if kind != Kind::Md5 {
        pairs.push((field::SIGN_TYPE, kind.as_str()));
    }
    pairs.extend_from_slice(fields);
    let sign = merchant.key.sign(kind, pairs.iter().copied(), &mut Scratch::new());
    let mut body = Vec::with_capacity(1_024);
    let mut writer = Writer::new(&mut body);
    for (name, value) in pairs {
        writer.text(name, value);
    }
    writer.text(field::SIGN, sign.as_str());
    writer.finish();
    body
}

impl Answer {
    /// Reads an answer as a careful till does: what is not signed with `key` by the method `kind` is not believed.
    ///
    /// # Errors
    ///
    /// [`NoAnswer::Unsigned`] or [`NoAnswer::Unverified`].
    pub fn read(
        key: &Key,
        kind: Kind,
        body: &[u8],
        reader: &mut Reader,
        scratch: &mut Scratch,
    ) -> Result<Self, NoAnswer> {
        let message = reader.read(body).map_err(|_| NoAnswer::Unverified)?;
        let text = |name| message.get(name).unwrap_or_default();
        if text(field::RETURN_CODE) != "SUCCESS" {
            return Err(NoAnswer::Unsigned(text(field::RETURN_MSG).to_owned()));
        }
        if !key.verify(kind, message.iter(), text(field::SIGN), Case::Exact, scratch) {
            return Err(NoAnswer::Unverified);
        }
        Ok(Self {
            success: text(field::RESULT_CODE) == "SUCCESS",
            err_code: text(field::ERR_CODE).to_owned(),
            err_code_des: text(field::ERR_CODE_DES).to_owned(),
            trade_state: text(field::TRADE_STATE).to_owned(),
            total_fee: message.get(field::TOTAL_FEE).and_then(|fee| fee.parse().ok()),
            recall: text(field::RECALL).to_owned(),
        })
    }
}
