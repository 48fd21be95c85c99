//! The signed text: as a plain second implementation has it, and of an accepted request it reads in one way only.

use protocol::wechat_v2::{Envelope, MicropayRequest, OrderQueryRequest};
use protocol::xml::Reader;
use signer::{Case, Key, Kind, Scratch};

use crate::KEY;
use crate::oracle::{self, Pairs};

/// Every field that some endpoint of ours knows; `sign` besides. Source: wechatpay-v2 §3.1 to §3.3.
const MICROPAY: &[&str] = &[
    "appid",
    "mch_id",
    "sub_appid",
    "sub_mch_id",
    "nonce_str",
    "sign",
    "sign_type",
    "device_info",
    "version",
    "body",
    "detail",
    "attach",
    "out_trade_no",
    "total_fee",
    "fee_type",
    "spbill_create_ip",
    "goods_tag",
    "limit_pay",
    "time_start",
    "time_expire",
    "receipt",
    "auth_code",
    "scene_info",
    "profit_sharing",
    "deposit",
    "key",
];
const QUERY: &[&str] = &[
    "appid",
    "mch_id",
    "sub_appid",
    "sub_mch_id",
    "nonce_str",
    "sign",
    "sign_type",
    "transaction_id",
    "out_trade_no",
    "version",
    "key",
];

/// Takes `data` as lines `name=value` (or, if it begins with `<`, as a document) and signs them.
///
/// # Panics
///
/// When our text or signature differs from the plain one's, or when the text of a request that is taken could be
/// cut into other fields than it was made of.
pub fn sign(data: &[u8]) {
    let pairs = if data.starts_with(b"<") {
        oracle::ours(data).unwrap_or_default()
    } else {
        crate::lines(&String::from_utf8_lossy(data))
    };
    let mut scratch = Scratch::new();
    let refs = || pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let text = scratch.canonical(refs()).to_vec();
    assert_eq!(String::from_utf8_lossy(&text), oracle::canonical(&pairs));
    // Buffers that are warm, and another order, change nothing.
    assert_eq!(scratch.canonical(refs().rev()), text);

    let key = Key::new(KEY).expect("well-formed");
    for (kind, plain) in
        [(Kind::Md5, oracle::md5_sign(&pairs, KEY)), (Kind::HmacSha256, oracle::hmac_sign(&pairs, KEY))]
    {
        assert_eq!(key.sign(kind, refs(), &mut scratch).as_str(), plain);
        assert!(key.verify(kind, refs(), &plain, Case::Exact, &mut scratch));
        let lower = plain.to_ascii_lowercase();
        assert_eq!(key.verify(kind, refs(), &lower, Case::Exact, &mut scratch), lower == plain);
        assert!(!key.verify(kind, refs(), &plain[1..], Case::Any, &mut scratch), "a part is not enough");
        assert!(!key.verify(kind, refs(), "", Case::Any, &mut scratch), "nothing is not enough");
    }
    cut(&pairs, &String::from_utf8_lossy(&text));
}

/// Cuts the text at every `&` that a known name follows: of an accepted request these are the fields it has.
fn cut(pairs: &Pairs, text: &str) {
    let mut document = oracle::write(pairs);
    if !pairs.iter().any(|(name, _)| name == "sign") {
        document = document.replace("</xml>", "<sign>A</sign></xml>");
    }
    let mut reader = Reader::new();
    let Ok(message) = reader.read(document.as_bytes()) else { return };
    if Envelope::read(&message).is_err() {
        return;
    }
    let taken = [
        (MicropayRequest::read(&message).is_ok(), MICROPAY),
        (OrderQueryRequest::read(&message).is_ok(), QUERY),
    ];
    for (_, known) in taken.into_iter().filter(|(taken, _)| *taken) {
        let found: Vec<&str> = text
            .split('&')
            .filter_map(|part| part.split_once('=').map(|(name, _)| name))
            .filter(|name| known.contains(name))
            .collect();
        let mut own: Vec<&str> = message
            .iter()
            .filter(|(name, value)| *name != "sign" && !value.is_empty() && known.contains(name))
            .map(|(name, _)| name)
            .collect();
        own.sort_unstable();
        assert_eq!(found, own, "{text:?} can be cut into other fields");
    }
}
