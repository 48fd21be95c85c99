//! One class of hostile requests: its bytes, and the cause that it must be refused for.

use signer::{Key, Kind, Scratch};

pub(super) const MCH_ID: &str = "1500000000";
pub(super) const APPID: &str = "wx0000000000000000";
pub(super) const KEY: &str = "0123456789abcdef0123456789abcde0";
pub(super) const BEARER: &str = "hufu_sk_test0";
/// The number that every hostile payment asks for; there must never be a record of it.
pub(super) const NUMBER: &str = "HOSTILE-000000000001";
/// The number of a payment that another merchant has made.
pub(super) const THEIRS: &str = "THEIRS-000000000001";
/// A code of a customer who pays at once, so that whatever got through would move money.
pub(super) const CODE: &str = "100000000000000001";
pub(super) const PAY: &str = "/pay/micropay";
pub(super) const QUERY: &str = "/pay/orderquery";
pub(super) const REVERSE: &str = "/secapi/pay/reverse";

/// What a class must come to.
#[derive(Clone, Debug)]
pub(super) enum Want {
    /// The head is none: 400, closed, and this cause in the answer and in the log.
    Head(&'static str),
    /// The bytes behind it are none, or too many: 400 or 431, closed, and this cause in the log.
    Bytes(&'static str),
    /// An HTTP status and a line for people that says the cause.
    Plain(u16, &'static str),
    /// `return_code` FAIL without signature; `return_msg` begins so.
    Unsigned(String),
    /// A signed `result_code` FAIL: `err_code`, and what `err_code_des` says.
    Signed(&'static str, &'static str),
    /// A problem document: status, type and a text that it holds.
    Problem(u16, &'static str, &'static str),
    /// Closed without an answer.
    Silence,
    /// What is hostile in it is not looked at: exactly one answer, as to a plain query.
    Ignored,
}

impl Want {
    /// Whether the switch logs that it refused: all but what it closes in silence or takes for a plain query.
    pub(super) fn is_logged(&self) -> bool {
        !matches!(self, Self::Silence | Self::Ignored)
    }
}

/// One class.
#[derive(Clone, Debug)]
pub(super) struct Class {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
    pub(super) want: Want,
    /// Whether the till ends its side after the last byte.
    pub(super) cut: bool,
}

impl Class {
    pub(super) fn new(name: impl Into<String>, bytes: impl Into<Vec<u8>>, want: Want) -> Self {
        Self { name: name.into(), bytes: bytes.into(), want, cut: false }
    }
}

pub(super) type Pairs<'a> = Vec<(&'a str, &'a str)>;

/// The pairs of a payment that would be taken.
pub(super) fn payment<'a>() -> Pairs<'a> {
    vec![
        ("appid", APPID),
        ("mch_id", MCH_ID),
        ("nonce_str", "5K8264ILTKCH16CQ2502SI8ZNMTM67VS"),
        ("body", "便利店购物"),
        ("out_trade_no", NUMBER),
        ("total_fee", "1288"),
        ("spbill_create_ip", "203.0.113.10"),
        ("auth_code", CODE),
    ]
}

/// The pairs of a query or a reversal that would be answered.
pub(super) fn about<'a>() -> Pairs<'a> {
    vec![
        ("appid", APPID),
        ("mch_id", MCH_ID),
        ("nonce_str", "5K8264ILTKCH16CQ2502SI8ZNMTM67VS"),
        ("out_trade_no", NUMBER),
    ]
}

/// `pairs` with one value changed, added, or (`None`) taken out.
pub(super) fn with<'a>(mut pairs: Pairs<'a>, name: &'a str, value: Option<&'a str>) -> Pairs<'a> {
    pairs.retain(|(known, _)| *known != name);
    pairs.extend(value.map(|value| (name, value)));
    pairs
}

/// XML of `pairs`, unsigned.
pub(super) fn unsigned(pairs: &[(&str, &str)]) -> String {
    let escaped = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let inner: String =
        pairs.iter().map(|(name, value)| format!("<{name}>{}</{name}>", escaped(value))).collect();
    format!("<xml>{inner}</xml>")
}

/// XML of `pairs`, signed by `key`.
pub(super) fn signed_by(key: &str, kind: Kind, pairs: &[(&str, &str)]) -> String {
    let sign = Key::new(key).expect("a key").sign(kind, pairs.iter().copied(), &mut Scratch::new());
    unsigned(&[pairs, &[("sign", sign.as_str())]].concat())
}

/// XML of `pairs`, signed as the merchant signs.
pub(super) fn signed(pairs: &[(&str, &str)]) -> String {
    signed_by(KEY, Kind::Md5, pairs)
}

/// A whole request that closes after its answer.
pub(super) fn post(path: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    request("POST", path, "", body)
}

/// As [`post`], with another method and more header lines, each with its end.
pub(super) fn request(method: &str, path: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: till\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    [head.as_bytes(), body].concat()
}
