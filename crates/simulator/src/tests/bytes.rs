//! The byte level: reading, checking and signing. The messages in `tests/vectors` are synthetic and signed with
//! the public test key. Source: wechatpay-v2 §2, appendix A.

use super::{KEY, START_MS, options};
use crate::{BytesReply, SignType, Wallet, read_xml, sign, write_xml};

const MICROPAY_MIN: &[u8] = include_bytes!("../../tests/vectors/01_micropay_request_min.xml");
const MICROPAY_FULL_HMAC: &[u8] = include_bytes!("../../tests/vectors/02_micropay_request_full_hmac.xml");
const MICROPAY_EMPTY_FIELDS: &[u8] =
    include_bytes!("../../tests/vectors/03_micropay_request_empty_fields.xml");
const ORDERQUERY: &[u8] = include_bytes!("../../tests/vectors/20_orderquery_request.xml");
const REVERSE: &[u8] = include_bytes!("../../tests/vectors/40_reverse_request.xml");
const REFUND: &[u8] = include_bytes!("../../tests/vectors/50_refund_request.xml");
const REFUNDQUERY: &[u8] = include_bytes!("../../tests/vectors/60_refundquery_request.xml");

fn wallet() -> Wallet {
    Wallet::new(1, options())
}

/// What came back, with its signature checked by `sign_type` (`None`: there must be no signature).
fn answer(reply: &BytesReply, sign_type: Option<SignType>) -> Vec<(String, String)> {
    let BytesReply::Xml(xml) = reply else { panic!("no XML: {reply:?}") };
    let pairs = read_xml(xml).expect("an answer that can be read");
    let expected = sign_type.map(|sign_type| {
        sign(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())), KEY, sign_type)
    });
    assert_eq!(get(&pairs, "sign"), expected.as_deref(), "{pairs:?}");
    pairs
}

fn get<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
}

/// A signed request with `changes` on top of the smallest pay request.
fn micropay(changes: &[(&str, &str)], sign_type: SignType) -> Vec<u8> {
    let mut pairs = read_xml(MICROPAY_MIN).expect("a vector");
    pairs.retain(|(name, _)| name != "sign");
    for (name, value) in changes {
        pairs.retain(|(n, _)| n != name);
        if !value.is_empty() {
            pairs.push(((*name).to_owned(), (*value).to_owned()));
        }
    }
    let pairs = || pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    write_xml(pairs(), Some(&sign(pairs(), KEY, sign_type)))
}

#[test]
fn a_payment_and_its_calls_in_md5() {
    let mut wallet = wallet();
    let mut call = |path, body, at_s: i64| {
        let outcome = wallet.handle_bytes(path, body, true, START_MS + at_s * 1000);
        answer(&outcome.reply, Some(SignType::Md5))
    };
    let paid = call("/pay/micropay", MICROPAY_MIN, 3);
    for (name, value) in [
        ("result_code", "SUCCESS"),
        ("appid", "wxd930ea5d5a258f4f"),
        ("mch_id", "1900000109"),
        ("sub_mch_id", "1900000110"),
        ("trade_type", "MICROPAY"),
        ("total_fee", "1288"),
        ("cash_fee", "1288"),
        ("out_trade_no", "P20261123000000000001"),
        ("attach", ""),
        ("time_end", "20261123101503"),
    ] {
        assert_eq!(get(&paid, name), Some(value), "{name}");
    }
    assert_eq!(get(&paid, "openid").map(str::len), Some(28));
    assert_eq!(get(&paid, "transaction_id").map(str::len), Some(28));
    assert_eq!(get(&paid, "sub_openid"), None, "only if sub_appid was sent");
    let queried = call("/pay/orderquery", ORDERQUERY, 5);
    assert_eq!(get(&queried, "trade_state"), Some("SUCCESS"));
    assert!(get(&queried, "sub_openid").is_some_and(|sub| Some(sub) != get(&queried, "openid")));
    assert_eq!(get(&queried, "openid"), get(&paid, "openid"));
    assert_eq!(get(&queried, "transaction_id"), get(&paid, "transaction_id"));
    assert_ne!(get(&queried, "nonce_str"), get(&paid, "nonce_str"));
    assert_eq!(get(&call("/secapi/pay/refund", REFUND, 20), "refund_fee"), Some("1288"));
    assert_eq!(get(&call("/pay/refundquery", REFUNDQUERY, 40), "refund_status_0"), Some("SUCCESS"));
    assert_eq!(get(&call("/secapi/pay/reverse", REVERSE, 41), "recall"), Some("N"));
}

#[test]
fn the_answer_is_signed_as_the_request_was() {
    let outcome = wallet().handle_bytes("/pay/micropay", MICROPAY_FULL_HMAC, false, START_MS);
    let pairs = answer(&outcome.reply, Some(SignType::HmacSha256));
    assert_eq!(get(&pairs, "result_code"), Some("SUCCESS"));
    assert_eq!(get(&pairs, "attach"), Some("店员=07&班次=早"));
    assert_eq!(get(&pairs, "device_info"), Some("POS-0007"));
    let outcome = wallet().handle_bytes("/pay/micropay", MICROPAY_EMPTY_FIELDS, false, START_MS);
    assert_eq!(get(&answer(&outcome.reply, Some(SignType::Md5)), "total_fee"), Some("1"));
}

#[test]
fn what_is_not_signed_well_is_refused_without_signature() {
    let text = String::from_utf8(MICROPAY_MIN.to_vec()).expect("UTF-8");
    let mut wallet = wallet();
    for bad in [
        text.replace("<total_fee>1288", "<total_fee>1"),
        text.replace("B773DF097DDCDCF4A37F4CFA26D82C84", "b773df097ddcdcf4a37f4cfa26d82c84"),
        text.replace("<sign>B773DF097DDCDCF4A37F4CFA26D82C84</sign>", ""),
        text.replace("<mch_id>1900000109", "<mch_id>1900000999"),
        String::from_utf8(micropay(&[("sign_type", "SHA1")], SignType::Md5)).expect("UTF-8"),
    ] {
        let outcome = wallet.handle_bytes("/pay/micropay", bad.as_bytes(), true, START_MS);
        let pairs = answer(&outcome.reply, None);
        assert_eq!(
            (get(&pairs, "return_code"), get(&pairs, "return_msg")),
            (Some("FAIL"), Some("签名错误")),
            "{bad}"
        );
        assert_eq!(pairs.len(), 2);
    }
    assert_eq!(wallet.stats().bad_signatures, 5);
    assert_eq!(wallet.ledger().len(), 0);
}

#[test]
fn secapi_demands_the_client_certificate() {
    let mut wallet = wallet();
    for (path, body) in [("/secapi/pay/reverse", REVERSE), ("/secapi/pay/refund", REFUND)] {
        let outcome = wallet.handle_bytes(path, body, false, START_MS);
        let BytesReply::Http { status: 400, html } = outcome.reply else { panic!("{outcome:?}") };
        assert!(html.contains("No required SSL certificate was sent"));
    }
    assert_eq!((wallet.stats().no_certificate, wallet.stats().reversals), (2, 0));
}

#[test]
fn what_cannot_be_read_is_refused() {
    let mut wallet = wallet();
    let mut message = |path, body: &[u8]| {
        let outcome = wallet.handle_bytes(path, body, true, START_MS);
        get(&answer(&outcome.reply, None), "return_msg").map(str::to_owned)
    };
    assert_eq!(message("/pay/micropay", b"").as_deref(), Some("post数据为空"));
    assert_eq!(message("/pay/micropay", b"<xml><a>").as_deref(), Some("XML格式错误"));
    let missing = micropay(&[("auth_code", "")], SignType::Md5);
    assert_eq!(message("/pay/micropay", &missing).as_deref(), Some("缺少参数:auth_code"));
    for (name, value) in
        [("total_fee", "01"), ("total_fee", "+1"), ("total_fee", "1.0"), ("out_trade_no", "a b")]
    {
        let outcome =
            wallet.handle_bytes("/pay/micropay", &micropay(&[(name, value)], SignType::Md5), true, START_MS);
        let pairs = answer(&outcome.reply, Some(SignType::Md5));
        assert_eq!(get(&pairs, "err_code"), Some("PARAM_ERROR"), "{name}={value}");
    }
    let outcome = wallet.handle_bytes("/pay/nothing", MICROPAY_MIN, true, START_MS);
    assert!(matches!(outcome.reply, BytesReply::Http { status: 404, .. }), "{outcome:?}");
    assert_eq!(wallet.stats().malformed, 8);
}

#[test]
fn faults_of_the_customer_reach_the_bytes() {
    let reply = |bbss: &str| {
        let code = format!("13456789012345{bbss}");
        let body = micropay(&[("auth_code", &code), ("sign_type", "HMAC-SHA256")], SignType::HmacSha256);
        let outcome = wallet().handle_bytes("/pay/micropay", &body, false, START_MS);
        (outcome.at_ms - START_MS, outcome.reply)
    };
    assert_eq!(reply("1100"), (0, BytesReply::Drop));
    assert_eq!(reply("2005"), (0, BytesReply::Hang));
    assert!(matches!(reply("3900"), (0, BytesReply::Http { status: 502, .. })));
    assert_eq!(reply("1304").0, 4000);
    assert_eq!(get(&answer(&reply("1800").1, None), "return_msg"), Some("系统繁忙"));
    let other = answer(&reply("2900").1, Some(SignType::HmacSha256));
    assert!(get(&other, "out_trade_no").is_some_and(|no| no.starts_with('X')));
    let (_, BytesReply::Xml(forged)) = reply("1900") else { panic!("no XML") };
    let pairs = read_xml(&forged).expect("readable");
    let right =
        sign(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())), KEY, SignType::HmacSha256);
    assert_eq!(get(&pairs, "sign").map(str::len), Some(64));
    assert_ne!(get(&pairs, "sign"), Some(right.as_str()));
}

#[test]
fn secrets_do_not_show_in_debug() {
    let options = options();
    assert!(!format!("{options:?}").contains(KEY));
    let wallet = wallet();
    let (request, envelope) = wallet.face().open("/pay/micropay", MICROPAY_MIN, false).expect("valid");
    assert!(!format!("{envelope:?}").contains(KEY));
    assert_eq!(request.caller.sub_mch_id, "1900000110");
}
