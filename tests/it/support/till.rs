//! A till as integrators write them: its own XML, its own signatures, one connection a request.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use signer::{Key, Kind, Scratch};
use tokio::net::TcpStream;

use super::road::Road;

/// An answer's fields.
pub(crate) type Answer = BTreeMap<String, String>;

/// One till of one merchant.
#[derive(Clone)]
pub(crate) struct Till {
    gateway: SocketAddr,
    mch_id: String,
    appid: String,
    key: String,
    pub(crate) kind: Kind,
    road: Road,
}

impl Till {
    pub(crate) fn new(gateway: SocketAddr, mch_id: &str, appid: &str, key: &str) -> Self {
        Self {
            gateway,
            mch_id: mch_id.to_owned(),
            appid: appid.to_owned(),
            key: key.to_owned(),
            kind: Kind::Md5,
            road: Road::Plain,
        }
    }

    /// The same till, over TLS.
    pub(crate) fn over(self, road: Road) -> Self {
        Self { road, ..self }
    }

    /// Where it sends to.
    pub(crate) const fn gateway(&self) -> SocketAddr {
        self.gateway
    }

    /// Pays `fen` under `number` with `code`.
    pub(crate) async fn pay(&self, number: &str, code: &str, fen: u64) -> Answer {
        let fen = fen.to_string();
        let fields = [
            ("body", "便利店购物"),
            ("out_trade_no", number),
            ("total_fee", &fen),
            ("spbill_create_ip", "203.0.113.10"),
            ("auth_code", code),
            ("attach", "店员=07&班次=早"),
        ];
        self.ask("/pay/micropay", &fields).await
    }

    /// Asks for `number`.
    pub(crate) async fn query(&self, number: &str) -> Answer {
        self.ask("/pay/orderquery", &[("out_trade_no", number)]).await
    }

    /// Reverses `number`.
    pub(crate) async fn reverse(&self, number: &str) -> Answer {
        self.ask("/secapi/pay/reverse", &[("out_trade_no", number)]).await
    }

    /// Sends a signed request and checks the signature of the answer.
    pub(crate) async fn ask(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let (status, body) = self.send(path, self.sign(fields)).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let answer = read(&body);
        assert_eq!(answer.get("return_code").map(String::as_str), Some("SUCCESS"), "{body}");
        let key = Key::new(&self.key).expect("a key");
        let claimed = answer.get("sign").cloned().unwrap_or_default();
        let signed = answer.iter().filter(|(name, _)| *name != "sign").map(|(n, v)| (n.as_str(), v.as_str()));
        let made = key.sign(self.kind, signed, &mut Scratch::new());
        assert_eq!(made.as_str(), claimed, "the answer is signed as the request was: {body}");
        answer
    }

    /// A signed document with `fields`.
    pub(crate) fn sign(&self, fields: &[(&str, &str)]) -> String {
        let mut all =
            vec![("appid", self.appid.as_str()), ("mch_id", &self.mch_id), ("nonce_str", "5K8264ILTKCH")];
        if matches!(self.kind, Kind::HmacSha256) {
            all.push(("sign_type", "HMAC-SHA256"));
        }
        all.extend_from_slice(fields);
        let key = Key::new(&self.key).expect("a key");
        let sign = key.sign(self.kind, all.iter().copied(), &mut Scratch::new());
        all.push(("sign", sign.as_str()));
        let inner: String =
            all.iter().map(|(name, value)| format!("<{name}><![CDATA[{value}]]></{name}>")).collect();
        format!("<xml>{inner}</xml>")
    }

    /// Sends `body` as it is.
    pub(crate) async fn send(&self, path: &str, body: String) -> (StatusCode, String) {
        if !matches!(self.road, Road::Plain) {
            return self.send_over_tls(path, &body).await;
        }
        let stream = TcpStream::connect(self.gateway).await.expect("the gateway listens");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP/1.1");
        let connection = tokio::spawn(connection);
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header("host", "gateway")
            .body(Full::new(Bytes::from(body)))
            .expect("a request");
        let response = sender.send_request(request).await.expect("an answer");
        let status = response.status();
        let body = response.into_body().collect().await.expect("a whole answer").to_bytes();
        drop(sender);
        connection.abort();
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    async fn send_over_tls(&self, path: &str, body: &str) -> (StatusCode, String) {
        let length = body.len();
        let head = "Host: gateway\r\nConnection: close\r\nContent-Length";
        let bytes = format!("POST {path} HTTP/1.1\r\n{head}: {length}\r\n\r\n{body}");
        let (_, answer) = self.road.send(self.gateway, bytes.as_bytes(), false).await.expect("an answer");
        let answer = String::from_utf8(answer).expect("text");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).expect("a status").parse().expect("a status");
        (status, body.to_owned())
    }
}

/// Reads the flat document that the gateway writes: `<name><![CDATA[value]]></name>` or plain text.
pub(crate) fn read(body: &str) -> Answer {
    let pairs = simulator::read_xml(body.as_bytes()).unwrap_or_else(|error| panic!("{error:?}: {body}"));
    pairs.into_iter().collect()
}
