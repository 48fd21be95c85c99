//! What a till sends as JSON, turned into the very message that it would send as XML.
//!
//! So both ways have the same limits, the same checks and the same fields upstream, because there is only one
//! of each. Source: DESIGN §4.

use std::net::IpAddr;

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use jiff::Timestamp;
use protocol::wechat_v2::{RequestError, field, time};
use protocol::xml::{Writer, clean};
use protocol::{AmountError, Fen};
use serde::Deserialize;
use zeroize::{Zeroize as _, Zeroizing};

use super::problem::Problem;

/// Source: RFC 7240, section 2.
const PREFER: HeaderName = HeaderName::from_static("prefer");
/// Where a stream is taken up again. Source: the HTML standard, server-sent events.
pub(super) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The longest that a till may wait, in seconds.
const WAIT_MAX_S: u64 = 30;

/// The body of `POST /v1/payments`. No `Debug`: it holds a code.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewPayment {
    out_trade_no: String,
    auth_code: String,
    amount_fen: u64,
    body: String,
    till_id: Option<String>,
    attach: Option<String>,
    expires_at: Option<String>,
}

impl Drop for NewPayment {
    fn drop(&mut self) {
        self.auth_code.zeroize();
    }
}

impl NewPayment {
    /// Reads a body.
    pub(super) fn read(body: &[u8]) -> Result<Self, Problem> {
        // The decoder would take a list of the members' values too, which nobody documents.
        if !matches!(body.trim_ascii_start().first(), None | Some(b'{')) {
            return Err(Problem::malformed("the body is no JSON object".to_owned()));
        }
        serde_json::from_slice(body).map_err(|err| Problem::malformed(without_values(&err)))
    }

    /// The message that says the same in XML.
    pub(super) fn to_xml(&self, create_ip: IpAddr) -> Result<Zeroizing<Vec<u8>>, Problem> {
        let amount =
            Fen::new(self.amount_fen).map_err(|err| Problem::field("amount_fen", err.to_string()))?;
        let expires = match &self.expires_at {
            None => None,
            Some(text) => {
                let moment: Timestamp = text
                    .parse()
                    .map_err(|_| Problem::field("expires_at", "is no RFC 3339 moment".to_owned()))?;
                let text = time::format_compact(moment.as_second());
                Some(text.ok_or_else(|| Problem::field("expires_at", "is out of range".to_owned()))?)
            }
        };
        // Twice what fits, so that the buffer never moves and leaves a code behind.
        let fields = self.body.len().saturating_add(self.out_trade_no.len());
        let mut xml = Zeroizing::new(Vec::with_capacity(fields.saturating_mul(2).saturating_add(4_096)));
        let mut writer = Writer::new(&mut xml);
        for (name, member, value) in [
            (field::OUT_TRADE_NO, "out_trade_no", Some(self.out_trade_no.as_str())),
            (field::AUTH_CODE, "auth_code", Some(self.auth_code.as_str())),
            (field::BODY, "body", Some(self.body.as_str())),
            (field::DEVICE_INFO, "till_id", self.till_id.as_deref()),
            (field::ATTACH, "attach", self.attach.as_deref()),
        ] {
            let Some(value) = value else { continue };
            if value.len() > 1_024 {
                return Err(Problem::field(member, "is too long".to_owned()));
            }
            // What XML cannot carry unchanged is nothing that a wallet would take.
            if value.contains(['\r', '\0']) || clean(value).trim() != value.trim() {
                return Err(Problem::field(member, "holds a character that is not allowed".to_owned()));
            }
            writer.exact(name, value);
        }
        if let Some(expires) = &expires {
            writer.exact(field::TIME_EXPIRE, expires.as_str());
        }
        writer.exact(field::SPBILL_CREATE_IP, &create_ip.to_canonical().to_string());
        writer.number(field::TOTAL_FEE, amount.get());
        writer.finish();
        Ok(xml)
    }
}

/// What is wrong, in the words of the JSON API.
pub(super) fn problem(err: &RequestError) -> Problem {
    let member = |name: &'static str| match name {
        field::TOTAL_FEE => "amount_fen",
        field::DEVICE_INFO => "till_id",
        field::TIME_EXPIRE => "expires_at",
        other => other,
    };
    match err {
        RequestError::Missing(name) => Problem::field(member(name), "is missing or empty".to_owned()),
        RequestError::TooLong { field, max } => {
            Problem::field(member(field), format!("is longer than {max} characters"))
        }
        RequestError::Malformed(name) => Problem::field(member(name), "is malformed".to_owned()),
        RequestError::Id { field, cause } => Problem::field(member(field), cause.to_string()),
        RequestError::Amount(cause) => Problem::field("amount_fen", AmountError::to_string(cause)),
        RequestError::NotWeChat => {
            Problem::field("auth_code", "is no WeChat Pay code: 18 digits, the first two 10 to 15".to_owned())
        }
        RequestError::NotOffered(name) => Problem::field(member(name), "is not offered".to_owned()),
        RequestError::Resplit | RequestError::KeyField => {
            Problem::field("body", "a value holds the name of a field of the wallet after a &".to_owned())
        }
    }
}

/// The longest list of members that is repeated, in bytes; ours has some 300.
const MEMBERS_MAX: usize = 512;

/// What is wrong with a document, without repeating any value of it: it may be the code.
fn without_values(err: &serde_json::Error) -> String {
    let text = err.to_string();
    let names_a_member =
        ["missing field", "unknown field", "duplicate field"].iter().any(|kind| text.starts_with(kind));
    let said = text.rsplit_once(" at line ").map_or(text.as_str(), |(said, _)| said);
    // A member that is called something else than a word may be the code itself, in the wrong place.
    let is_of_words = said.len() <= MEMBERS_MAX
        && said.bytes().all(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'`' | b',' | b' '));
    if names_a_member && is_of_words {
        return text;
    }
    let what = if err.is_data() { "a value has the wrong type" } else { "not well-formed JSON" };
    format!("{what} at line {} column {}", err.line(), err.column())
}

/// The bearer key of a request.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
    let key = key.trim();
    (scheme.eq_ignore_ascii_case("bearer") && key.starts_with("hufu_sk_")).then_some(key)
}

/// What is looked at while a request is answered, apart from the buffer that it came in.
pub(super) fn kept(headers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for name in [PREFER, LAST_EVENT_ID, CONTENT_TYPE] {
        for value in headers.get_all(&name) {
            // What was read as a value is one.
            let value = HeaderValue::from_bytes(value.as_bytes());
            kept.extend(value.ok().map(|value| (name.clone(), value)));
        }
    }
    kept
}

/// Whether a body is said to be JSON in UTF-8; silence is taken for yes (MI-12).
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_none_or(|value| {
        let mut parts = value.as_bytes().split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let is_utf_8 = |part: &[u8]| {
            let Some((name, charset)) = part.split_at_checked(b"charset=".len()) else { return true };
            let charset =
                charset.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(charset);
            !name.eq_ignore_ascii_case(b"charset=") || charset.eq_ignore_ascii_case(b"utf-8")
        };
        parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case(b"application/json")) && parts.all(is_utf_8)
    })
}

/// `Prefer: wait=N`, in seconds, at most 30; what is malformed counts as not said. Source: RFC 7240.
pub(super) fn wait_s(headers: &HeaderMap) -> Option<u64> {
    headers
        .get_all(PREFER)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split([',', ';']))
        .filter_map(|one| one.trim().split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("wait"))
        .and_then(|(_, seconds)| seconds.trim().trim_matches('"').parse::<u64>().ok())
        .map(|seconds| seconds.min(WAIT_MAX_S))
}

/// Decodes `%41` in a part of a path; `None` if it is malformed or not UTF-8.
pub(super) fn decoded(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let (digits, after) = rest.split_first_chunk::<2>()?;
        let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
        bytes.push(value(digits[0])? << 4 | value(digits[1])?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use hyper::HeaderMap;
    use hyper::header::HeaderValue;

    use super::{NewPayment, bearer, decoded, is_json, wait_s};

    fn headers(name: &'static str, values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn prefer_is_read_as_rfc_7240_has_it() {
        for (values, expected) in [
            (&["wait=30"][..], Some(30)),
            (&["respond-async, wait=5"], Some(5)),
            (&["respond-async", "WAIT = 5"], Some(5)),
            (&["wait=\"7\""], Some(7)),
            (&["wait=0"], Some(0)),
            (&["wait=99999"], Some(30)),
            (&["wait=-1"], None),
            (&["wait"], None),
            (&[], None),
        ] {
            assert_eq!(wait_s(&headers("prefer", values)), expected, "{values:?}");
        }
    }

    #[test]
    fn bearer_keys_and_types() {
        for (values, expected) in [
            (&["Bearer hufu_sk_1"][..], Some("hufu_sk_1")),
            (&["bearer hufu_sk_1"], Some("hufu_sk_1")),
            (&["Basic hufu_sk_1"], None),
            (&["Bearer other"], None),
            (&["Bearer hufu_sk_1", "Bearer hufu_sk_2"], None),
            (&[], None),
        ] {
            assert_eq!(bearer(&headers("authorization", values)), expected, "{values:?}");
        }
        for (values, expected) in [
            (&["application/json"][..], true),
            (&["Application/JSON; charset=utf-8"], true),
            (&[], true),
            (&["text/xml"], false),
            (&["application/jsonp"], false),
            (&["application/json;charset=\"UTF-8\"; x=y"], true),
            (&["application/json; charset=gbk"], false),
            (&["application/json; x=y; Charset=utf-16"], false),
        ] {
            assert_eq!(is_json(&headers("content-type", values)), expected, "{values:?}");
        }
    }

    #[test]
    fn paths_are_decoded_once() {
        for (part, expected) in [
            ("P2026-1_%7C%2a", Some("P2026-1_|*")),
            ("%2541", Some("%41")),
            ("%4", None),
            ("%zz", None),
            ("%ff", None),
        ] {
            assert_eq!(decoded(part).as_deref(), expected, "{part}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_without_values() {
        for (body, says) in [
            (r#"{"out_trade_no":"P1","auth_code":134567890123456789}"#, "a value has the wrong type"),
            (r#"{"auth_code":"134567890123456789""#, "not well-formed JSON"),
            (r#"{"auth_code":"134567890123456789","auth_code":"1"}"#, "duplicate field `auth_code`"),
            (r#"{"auth_code":"134567890123456789","x":"1"}"#, "unknown field `x`"),
            (r#"{"134567890123456789":"1"}"#, "a value has the wrong type"),
            (r#"{"auth_code":"134567890123456789"}"#, "missing field `out_trade_no`"),
        ] {
            let problem = format!("{:?}", NewPayment::read(body.as_bytes()).err().expect("refused"));
            assert!(problem.contains(says) && !problem.contains("1345678"), "{problem}");
        }
    }
}
