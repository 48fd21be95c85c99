//! What tills send, through the whole of the gateway's reading: HTTP, XML or JSON, signature, fields.
//!
//! Whatever reaches the engine must say exactly what a plain second reading of the same bytes says (INV-03), and
//! must have been signed (INV-25).

use gateway::engine::NewPayment;
use serde_json::Value;

use crate::KEY;
use crate::oracle::{self, Pairs, field};
use crate::rig::{APPID, Asked, BEARER, MCH_ID, SUB_MCH_ID, exchange, post};

/// A code that must not be told to anybody.
const CODE: &str = "134567890123456789";

/// Sends `data` as the body of a JSON payment.
///
/// # Panics
///
/// When a payment is taken that the document does not ask for in exactly this way, or a refusal is no problem document.
pub fn json(data: &[u8]) {
    let headers = format!("Authorization: Bearer {BEARER}\r\nContent-Type: application/json\r\n");
    let (status, answer, asked) = post("/v1/payments", &headers, data);
    let shown = String::from_utf8_lossy(data);
    keeps(&shown, &format!("\"auth_code\":\"{CODE}\""), &answer);
    match asked.as_slice() {
        [] => {
            assert!(matches!(status, 400 | 413 | 422), "{status} for {shown}");
            if status != 413 {
                let problem: Value = serde_json::from_str(&answer).expect("a problem document");
                assert_eq!(problem["status"], Value::from(status), "{answer}");
                assert_eq!(problem["money_may_have_moved"], Value::Bool(false), "{answer}");
                assert!(problem["type"].is_string() && problem["title"].is_string(), "{answer}");
            }
        }
        [Asked::Pay(payment)] => {
            assert_eq!(status, 202, "{answer}");
            let document: Value = serde_json::from_slice(data).expect("what is taken is JSON");
            let members = document.as_object().expect("what is taken is an object");
            const KNOWN: [&str; 7] =
                ["out_trade_no", "auth_code", "amount_fen", "body", "till_id", "attach", "expires_at"];
            assert!(members.keys().all(|name| KNOWN.contains(&name.as_str())), "{shown}");
            let text = |name: &str| members.get(name).and_then(Value::as_str);
            assert_eq!(text("out_trade_no"), Some(payment.key.number.as_str()), "{shown}");
            assert_eq!(members["amount_fen"].as_u64(), Some(payment.amount.get()), "{shown}");
            assert!(
                text("auth_code").is_some_and(|code| code.contains(payment.auth_code.expose())),
                "{shown}"
            );
            for (member, name) in [("body", "body"), ("till_id", "device_info"), ("attach", "attach")] {
                let sent = text(member).filter(|text| !text.is_empty());
                assert_eq!(payment.upstream.get(name), sent, "{member} of {shown}");
            }
            amounts(payment, payment.amount.get());
        }
        other => panic!("one request asked {other:?}: {shown}"),
    }
}

/// Sends a request in XML. If `data` begins with `<` it is the document of a payment; else its first byte says which
/// endpoint (`0` pay, `1` query, `2` reverse) and kind (`+3` for HMAC-SHA256), and lines `name=value` are signed.
///
/// # Panics
///
/// When the engine is asked for anything that a plain reading of the document does not ask for, or without a
/// signature over all of it.
pub fn xml(data: &[u8]) {
    let (path, document) = if data.starts_with(b"<") {
        ("/pay/micropay", data.to_vec())
    } else {
        let Some((first, rest)) = data.split_first() else { return };
        let mut pairs = crate::lines(&String::from_utf8_lossy(rest));
        pairs.retain(|(name, _)| !name.eq_ignore_ascii_case("sign"));
        let sign =
            if first / 3 % 2 == 0 { oracle::md5_sign(&pairs, KEY) } else { oracle::hmac_sign(&pairs, KEY) };
        pairs.push(("sign".to_owned(), sign));
        let path = ["/pay/micropay", "/pay/orderquery", "/secapi/pay/reverse"][usize::from(first % 3)];
        (path, oracle::write(&pairs).into_bytes())
    };
    let (status, answer, asked) = post(path, "", &document);
    let shown = String::from_utf8_lossy(&document);
    keeps(&shown, &format!("<auth_code>{CODE}</auth_code>"), &answer);
    if status != 200 {
        assert!(status == 413 && asked.is_empty(), "{status} for {shown}");
        return;
    }
    let told = oracle::quick_xml(answer.as_bytes()).expect("an answer is XML");
    if field(&told, "return_code") == "SUCCESS" {
        let sign = field(&told, "sign");
        assert!(sign == oracle::md5_sign(&told, KEY) || sign == oracle::hmac_sign(&told, KEY), "{answer}");
    }
    if asked.is_empty() {
        assert!(field(&told, "return_code") == "FAIL" || field(&told, "result_code") == "FAIL", "{answer}");
        return;
    }
    let pairs = oracle::roxmltree(&document).expect("what is taken is XML");
    authentic(&pairs);
    match asked.as_slice() {
        [Asked::Pay(payment)] => {
            assert_eq!(path, "/pay/micropay");
            let fen = oracle::amount(field(&pairs, "total_fee"));
            assert_eq!(fen, Some(payment.amount.get()), "{shown}");
            assert_eq!(field(&pairs, "out_trade_no"), payment.key.number.as_str(), "{shown}");
            assert!(field(&pairs, "auth_code").contains(payment.auth_code.expose()), "{shown}");
            for (name, value) in payment.upstream.iter() {
                assert_eq!(field(&pairs, name), value, "{name} of {shown}");
            }
            amounts(payment, payment.amount.get());
        }
        [Asked::Reverse(key) | Asked::Find(key)] => {
            assert_ne!(path, "/pay/micropay");
            assert_eq!(field(&pairs, "out_trade_no"), key.number.as_str(), "{shown}");
            assert_eq!(field(&pairs, "transaction_id"), "", "{shown}");
        }
        [Asked::FindTransaction(id)] => {
            assert_ne!(path, "/pay/micropay");
            assert_eq!(field(&pairs, "transaction_id"), id.as_str(), "{shown}");
        }
        other => panic!("one request asked {other:?}: {shown}"),
    }
}

/// A code that stands in its place and nowhere else is not told.
fn keeps(sent: &str, place: &str, answer: &str) {
    let elsewhere = sent.replace(place, "").contains(CODE);
    assert!(elsewhere || !answer.contains(CODE), "the code is told: {answer}");
}

/// Whether the merchant itself signed all of it.
fn authentic(pairs: &Pairs) {
    assert_eq!(field(pairs, "mch_id"), MCH_ID, "{pairs:?}");
    assert_eq!(field(pairs, "sub_mch_id"), SUB_MCH_ID, "{pairs:?}");
    assert_eq!(field(pairs, "appid"), APPID, "{pairs:?}");
    let right = match field(pairs, "sign_type") {
        "" | "MD5" => oracle::md5_sign(pairs, KEY),
        "HMAC-SHA256" => oracle::hmac_sign(pairs, KEY),
        other => panic!("no such kind: {other}"),
    };
    assert!(field(pairs, "sign").eq_ignore_ascii_case(&right), "not signed: {pairs:?}");
}

/// The amount that goes upstream is the one that was taken (INV-03), and neither code nor envelope goes with it.
fn amounts(payment: &NewPayment, fen: u64) {
    assert_eq!(payment.upstream.get("total_fee"), Some(fen.to_string().as_str()));
    assert_eq!(payment.upstream.get("out_trade_no"), Some(payment.key.number.as_str()));
    for ours in
        ["appid", "mch_id", "sub_mch_id", "sub_appid", "nonce_str", "sign", "sign_type", "auth_code", "key"]
    {
        assert_eq!(payment.upstream.get(ours), None, "{ours}");
    }
}

/// Sends `data` as all the bytes of a connection.
///
/// # Panics
///
/// When the gateway fails, neither answers nor closes, or asks the engine more often than the bytes hold signed
/// requests.
pub fn http(data: &[u8]) {
    let (answer, asked) = exchange(data, true);
    let text = String::from_utf8_lossy(&answer);
    for status in ["HTTP/1.1 5", "HTTP/1.0 5"] {
        assert!(!text.contains(status), "{text}");
    }
    let count = |what: &[u8]| data.windows(what.len()).filter(|window| *window == what).count();
    // Nobody can sign but the seeds: each request that is taken holds a signature, or the bearer key.
    let signs =
        count(b"<sign>") + count(b"<sign ") + count(b"<sign\n") + count(b"<sign\r") + count(b"<sign\t");
    let keys = count(BEARER.as_bytes());
    assert!(asked.len() <= signs + keys, "{} of {} and {}: {asked:?}", asked.len(), signs, keys);
}
