//! What a till sends, and how it reads what it is told.

use signer::{Case, Key, Kind, Scratch};

use super::{APPID, CODE, MCH_ID, NUMBER, SUB_MCH_ID};

/// One HTTP answer.
#[derive(Debug)]
pub(in super::super) struct Answered {
    pub(in super::super) status: u16,
    pub(in super::super) head: String,
    pub(in super::super) body: String,
}

impl Answered {
    pub(in super::super) fn read(bytes: Vec<u8>) -> Self {
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Self {
            status: status.unwrap_or_else(|| panic!("{text:?}")),
            head: head.to_ascii_lowercase(),
            body: body.to_owned(),
        }
    }

    /// The fields of an XML answer. Read by splitting, not by our reader: it writes nothing but CDATA.
    pub(in super::super) fn fields(&self) -> Vec<(String, String)> {
        let inner = self.body.strip_prefix("<xml>").and_then(|rest| rest.strip_suffix("</xml>"));
        let mut rest = inner.unwrap_or_else(|| panic!("no XML: {self:?}"));
        let mut fields = Vec::new();
        while let Some((name, after)) = rest.strip_prefix('<').and_then(|rest| rest.split_once("><![CDATA["))
        {
            let (value, after) =
                after.split_once(&format!("]]></{name}>")).unwrap_or_else(|| panic!("{self:?}"));
            fields.push((name.to_owned(), value.to_owned()));
            rest = after;
        }
        assert!(rest.is_empty(), "{rest:?} in {self:?}");
        fields
    }

    pub(in super::super) fn get(&self, name: &str) -> String {
        let fields = self.fields();
        let mut found = fields.iter().filter(|(field, _)| field == name);
        let value = found.next().map(|(_, value)| value.clone()).unwrap_or_default();
        assert!(found.next().is_none(), "{name} twice in {self:?}");
        value
    }

    /// Checks that the answer is signed with `key` as the protocol has it.
    pub(in super::super) fn assert_signed(&self, kind: Kind, key: &str) {
        let fields = self.fields();
        let pairs = fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let sign = self.get("sign");
        let mut scratch = Scratch::new();
        assert!(Key::new(key).unwrap().verify(kind, pairs, &sign, Case::Exact, &mut scratch), "{self:?}");
        assert!((16..=32).contains(&self.get("nonce_str").len()), "{self:?}");
        for (name, value) in &fields {
            assert_eq!(value.trim(), value, "{name}");
            assert!(!value.is_empty() && !value.contains('\r'), "{name}");
        }
    }
}

/// A till's XML: `pairs` and their signature.
pub(in super::super) fn signed(key: &str, kind: Kind, pairs: &[(&str, &str)]) -> String {
    let mut scratch = Scratch::new();
    let sign = Key::new(key).unwrap().sign(kind, pairs.iter().copied(), &mut scratch);
    unsigned(&[pairs, &[("sign", sign.as_str())]].concat())
}

/// A till's XML as it is.
pub(in super::super) fn unsigned(pairs: &[(&str, &str)]) -> String {
    let escaped = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let inner: String =
        pairs.iter().map(|(name, value)| format!("<{name}>{}</{name}>\n", escaped(value))).collect();
    format!("<xml>\n{inner}</xml>")
}

/// The pairs of a good payment.
pub(in super::super) fn micropay() -> Vec<(&'static str, &'static str)> {
    vec![
        ("appid", APPID),
        ("mch_id", MCH_ID),
        ("sub_mch_id", SUB_MCH_ID),
        ("nonce_str", "5K8264ILTKCH16CQ2502SI8ZNMTM67VS"),
        ("body", "深圳店-便利店购物"),
        ("out_trade_no", NUMBER),
        ("total_fee", "1288"),
        ("spbill_create_ip", "203.0.113.10"),
        ("auth_code", CODE),
    ]
}

/// The pairs of a good query or reversal.
pub(in super::super) fn about(number: &'static str) -> Vec<(&'static str, &'static str)> {
    vec![
        ("appid", APPID),
        ("mch_id", MCH_ID),
        ("sub_mch_id", SUB_MCH_ID),
        ("nonce_str", "5K8264ILTKCH16CQ2502SI8ZNMTM67VS"),
        ("out_trade_no", number),
    ]
}

/// `pairs` with one value changed, added (`Some`) or taken out (`None`).
pub(in super::super) fn with<'a>(
    mut pairs: Vec<(&'a str, &'a str)>,
    name: &'a str,
    value: Option<&'a str>,
) -> Vec<(&'a str, &'a str)> {
    let place = pairs.iter().position(|(known, _)| *known == name);
    match (place, value) {
        (Some(at), Some(value)) => pairs[at].1 = value,
        (Some(at), None) => {
            pairs.remove(at);
        }
        (None, Some(value)) => pairs.push((name, value)),
        (None, None) => {}
    }
    pairs
}
