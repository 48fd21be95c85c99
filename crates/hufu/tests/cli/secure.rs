//! Tills that speak TLS: whom they trust, what they show, and connections that stay.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use hyper::http::request::Builder;
use hyper::{Method, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use simulator::http::TestPki;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// HTTP/1.1 or HTTP/2, as ALPN names them.
pub(crate) const PROTOCOLS: [&str; 2] = ["http/1.1", "h2"];

/// An authority, a certificate for this machine's address, and one for a till.
pub(crate) fn pki() -> TestPki {
    TestPki::generate(&["127.0.0.1"], "a till").expect("certificates")
}

/// Puts the certificate that tills are shown, and its key, where `listen.tls` names them.
pub(crate) fn put(folder: &Path, pki: &TestPki) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(folder.join("cert.pem"), &pki.server_cert_pem).expect("written");
    // Nobody may read the key, not even for the moment before its rights are set.
    let new = folder.join("key.pem.new");
    std::fs::write(&new, "").expect("written");
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).expect("its own");
    std::fs::write(&new, &pki.server_key_pem).expect("written");
    std::fs::rename(new, folder.join("key.pem")).expect("in its place");
}

/// SHA-256 of a certificate, as `openssl x509 -fingerprint -sha256` writes it after the equals sign.
pub(crate) fn fingerprint(pem: &str) -> String {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
    let digits: Vec<String> = Sha256::digest(&der).iter().map(|byte| format!("{byte:02X}")).collect();
    digits.join(":")
}

/// Whom a till trusts and what it shows.
#[derive(Clone)]
pub(crate) struct Card {
    roots: Arc<RootCertStore>,
    shows: Option<(CertificateDer<'static>, Arc<PrivateKeyDer<'static>>)>,
}

impl Card {
    /// A till that trusts the authorities of `trusted` and shows the client certificate of `shows`.
    pub(crate) fn new(trusted: &[&TestPki], shows: Option<&TestPki>) -> Self {
        let mut roots = RootCertStore::empty();
        for pki in trusted {
            let root = CertificateDer::from_pem_slice(pki.ca_pem.as_bytes()).expect("an authority");
            roots.add(root).expect("an authority");
        }
        let shows = shows.map(|pki| {
            let certificate = CertificateDer::from_pem_slice(pki.client_cert_pem.as_bytes());
            let key = PrivateKeyDer::from_pem_slice(pki.client_key_pem.as_bytes());
            (certificate.expect("a certificate"), Arc::new(key.expect("a key")))
        });
        Self { roots: Arc::new(roots), shows }
    }
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Sender {
    /// A request as this protocol names its target.
    fn request(&self, method: Method, path: &str) -> Builder {
        let request = Request::builder().method(method);
        match self {
            Self::Http1(_) => request.uri(path).header("host", "hufu"),
            Self::Http2(_) => request.uri(format!("https://hufu{path}")),
        }
    }
}

/// A connection that stays open between requests.
pub(crate) struct Connection {
    sender: Sender,
    /// SHA-256 of the certificate that the switch showed.
    pub(crate) shown: String,
}

impl Connection {
    /// Connects to `at` (`address:port`) and speaks `protocol`, nothing else.
    pub(crate) async fn open(at: &str, protocol: &str, card: &Card) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(Arc::clone(&card.roots));
        let mut config = match &card.shows {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => builder
                .with_client_auth_cert(vec![certificate.clone()], key.clone_key())
                .expect("a certificate and its key"),
        };
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let tcp = TcpStream::connect(at).await.expect("it listens");
        let address = tcp.peer_addr().expect("connected").ip();
        let connector = TlsConnector::from(Arc::new(config));
        let stream =
            connector.connect(ServerName::IpAddress(address.into()), tcp).await.expect("a handshake");
        let (_, tls) = stream.get_ref();
        assert_eq!(tls.alpn_protocol(), Some(protocol.as_bytes()));
        let leaf = tls.peer_certificates().and_then(<[_]>::first).expect("it shows itself");
        let shown = Sha256::digest(leaf).iter().map(|byte| format!("{byte:02x}")).collect();
        let io = TokioIo::new(stream);
        let sender = if protocol == "h2" {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.expect("HTTP/2");
            tokio::spawn(connection);
            Sender::Http2(sender)
        } else {
            let (sender, connection) = http1::handshake(io).await.expect("HTTP/1.1");
            tokio::spawn(connection);
            Sender::Http1(sender)
        };
        Self { sender, shown }
    }

    /// One request on this connection; the status and the answer's body.
    async fn ask(&mut self, request: Request<Full<Bytes>>) -> (u16, String) {
        let answer = match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await.expect("it stays open");
                sender.send_request(request).await
            }
            Sender::Http2(sender) => {
                sender.ready().await.expect("it stays open");
                sender.send_request(request).await
            }
        };
        let answer = answer.expect("an answer");
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.expect("a whole answer").to_bytes();
        (status, String::from_utf8(body.into()).expect("UTF-8"))
    }

    /// Pays `number` with `code` and waits for the outcome.
    pub(crate) async fn pay(&mut self, bearer: &str, number: &str, code: &str) -> (u16, Value) {
        let body = json!({"out_trade_no": number, "auth_code": code, "amount_fen": 1288, "body": "Tea"});
        let request = self.sender.request(Method::POST, "/v1/payments");
        let request = request
            .header("authorization", format!("Bearer {bearer}"))
            .header("content-type", "application/json")
            .header("prefer", "wait=30")
            .body(Full::from(body.to_string()));
        let (status, body) = self.ask(request.expect("a request")).await;
        (status, serde_json::from_str(&body).unwrap_or_else(|_| panic!("{body}")))
    }

    /// Asks for `number`.
    pub(crate) async fn query(&mut self, bearer: &str, number: &str) -> (u16, Value) {
        let request = self.sender.request(Method::GET, &format!("/v1/payments/{number}"));
        let request = request.header("authorization", format!("Bearer {bearer}")).body(Full::default());
        let (status, body) = self.ask(request.expect("a request")).await;
        (status, serde_json::from_str(&body).unwrap_or_else(|_| panic!("{body}")))
    }

    /// Asks for `number` as tills do that speak the wallet's own API; `err_code`, or `trade_state` if there is none.
    pub(crate) async fn query_xml(&mut self, who: [&str; 2], key: &str, number: &str) -> String {
        let [mch_id, appid] = who;
        let pairs = [("appid", appid), ("mch_id", mch_id), ("nonce_str", "n"), ("out_trade_no", number)];
        let key = signer::Key::new(key).expect("a key");
        let sign = key.sign(signer::Kind::Md5, pairs, &mut signer::Scratch::new());
        let body: String = pairs
            .into_iter()
            .chain([("sign", sign.as_str())])
            .map(|(name, value)| format!("<{name}>{value}</{name}>"))
            .collect();
        let request = self.sender.request(Method::POST, "/pay/orderquery");
        let request = request.body(Full::from(format!("<xml>{body}</xml>")));
        let (status, body) = self.ask(request.expect("a request")).await;
        assert_eq!(status, 200, "{body}");
        let mut reader = protocol::xml::Reader::new();
        let message = reader.read(body.as_bytes()).expect("XML");
        message.get("err_code").or_else(|| message.get("trade_state")).unwrap_or_default().to_owned()
    }
}
