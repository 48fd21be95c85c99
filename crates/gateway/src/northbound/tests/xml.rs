//! The drop-in XML: what a till's client depends on, and what hostile requests come to.

use signer::{Key, Kind, Scratch};
use state_machine::record::{Cause, Held, Record, State, TillReversal};
use state_machine::shard::{NotAccepted, Said, Wait};
use state_machine::{MerchantId, ProviderId, till};
use std::sync::Arc;
use store::merchant::{SignKinds, Status};

use super::support::{
    APPID, BEARER, CODE, Call, Harness, KEY, MCH_ID, NUMBER, OTHER_KEY, SUB_MCH_ID, Script, TRANSACTION,
    Undo, about, key, merchant, micropay, paid, record, refused, short, signed, unsigned, with,
};
use crate::config::Northbound;
use crate::merchants::{Directory, Keys};

const PAY: &str = "/pay/micropay";
const QUERY: &str = "/pay/orderquery";
const REVERSE: &str = "/secapi/pay/reverse";

#[tokio::test]
async fn vectors_of_the_reference_are_paid() {
    let min = include_str!("vectors/01_micropay_request_min.xml");
    let full = include_str!("vectors/02_micropay_request_full_hmac.xml");
    let empty = include_str!("vectors/03_micropay_request_empty_fields.xml");
    for (document, kind, amount, sub_appid) in [
        (min, Kind::Md5, 1_288, ""),
        (full, Kind::HmacSha256, 1_288, "wx2421b1c4370ec43b"),
        (empty, Kind::Md5, 1, ""),
    ] {
        let harness = Harness::start().await;
        let answer = harness.post(PAY, document).await;
        assert_eq!(answer.status, 200);
        answer.assert_signed(kind, KEY);
        for (name, value) in [
            ("return_code", "SUCCESS"),
            ("return_msg", "OK"),
            ("result_code", "SUCCESS"),
            ("err_code", ""),
            ("appid", APPID),
            ("mch_id", MCH_ID),
            ("sub_mch_id", SUB_MCH_ID),
            ("sub_appid", sub_appid),
            ("out_trade_no", NUMBER),
            ("transaction_id", TRANSACTION),
            ("openid", "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"),
            ("cash_fee", "1288"),
            ("attach", "店员=07&班次=早"),
            ("sign_type", ""),
        ] {
            assert_eq!(answer.get(name), value, "{name}");
        }
        assert_eq!(answer.get("total_fee"), amount.to_string());
        let payment = harness.engine.payment();
        assert_eq!(payment.amount.get(), amount);
        assert_eq!(payment.key, key(1, NUMBER));
        assert_eq!((payment.provider, payment.wait), (ProviderId(9), Wait::FirstWord));
        assert!(payment.auth_code.expose().starts_with("1"));
        for ours in
            ["appid", "mch_id", "sub_mch_id", "sub_appid", "nonce_str", "sign", "sign_type", "auth_code"]
        {
            assert_eq!(payment.upstream.get(ours), None, "{ours}");
        }
        assert_eq!(payment.upstream.get("out_trade_no"), Some(NUMBER));
        assert_eq!(payment.upstream.get("total_fee"), Some(amount.to_string().as_str()));
        if kind == Kind::HmacSha256 {
            assert_eq!(payment.upstream.get("attach"), Some("店员=07&班次=早"));
            assert!(payment.upstream.get("detail").is_some_and(|detail| detail.contains("<A&B> 饼干")));
            assert_eq!(payment.attach, protocol::fact::attach_digest("店员=07&班次=早"));
        }
    }
}

#[tokio::test]
async fn clients_write_xml_in_many_ways() {
    let pairs = micropay();
    let plain = signed(KEY, Kind::Md5, &pairs);
    let sign = plain.split_once("<sign>").and_then(|(_, rest)| rest.split_once('<')).unwrap().0.to_owned();
    let mut reversed: Vec<_> = pairs.iter().chain([&("sign", sign.as_str())]).copied().collect();
    reversed.reverse();
    let cdata: String =
        reversed.iter().map(|(name, value)| format!("  <{name}><![CDATA[{value}]]></{name}>\r\n")).collect();
    for (what, headers, body) in [
        ("plain", "", plain.clone()),
        (
            "declared",
            "Content-Type: text/xml\r\n",
            format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{plain}"),
        ),
        ("odd type", "Content-Type: application/x-www-form-urlencoded\r\n", plain.clone()),
        ("other order, CDATA, indented", "", format!("<xml>\r\n{cdata}</xml>\r\n")),
        ("lower-case signature", "", plain.replace(&sign, &sign.to_ascii_lowercase())),
        (
            "an unknown field, signed",
            "",
            signed(KEY, Kind::Md5, &with(pairs.clone(), "our_field", Some(" x "))),
        ),
        ("sign_type said", "", signed(KEY, Kind::Md5, &with(pairs.clone(), "sign_type", Some("MD5")))),
        (
            "scanner's suffix",
            "",
            signed(KEY, Kind::Md5, &with(pairs.clone(), "auth_code", Some("134567890123456789\n"))),
        ),
    ] {
        let harness = Harness::start().await;
        let answer = harness.send("POST", PAY, headers, body.as_bytes()).await;
        assert_eq!(answer.get("result_code"), "SUCCESS", "{what}: {answer:?}");
        assert_eq!(harness.engine.payment().auth_code.expose(), CODE, "{what}");
    }
}

#[tokio::test]
async fn each_outcome_has_its_answer() {
    for (script, code, text) in [
        (Script::Pending, "USERPAYING", till::TEXT_PASSWORD),
        (Script::Refused("NOTENOUGH", "余额不足"), "NOTENOUGH", "余额不足"),
        (Script::Refused("NOAUTH", "商户无权限"), "NOAUTH", "服务商配置错误"),
        (Script::Silent, "USERPAYING", till::TEXT_UNCLEAR),
        (Script::Gone, "USERPAYING", till::TEXT_UNCLEAR),
        (Script::NotAccepted(NotAccepted::Full), "FREQUENCY_LIMITED", "系统繁忙，未受理，未扣款，请稍后重试"),
        (Script::NotAccepted(NotAccepted::Crowded), "USERPAYING", till::TEXT_UNCLEAR),
        (
            Script::NotAccepted(NotAccepted::Stopping),
            "FREQUENCY_LIMITED",
            "系统维护中，未受理，未扣款，请稍后重试",
        ),
    ] {
        for kind in [Kind::Md5, Kind::HmacSha256] {
            let harness = Harness::start().await;
            harness.script(script);
            let pairs = with(micropay(), "sign_type", Some(kind.as_str()));
            let answer = harness.post(PAY, &signed(KEY, kind, &pairs)).await;
            answer.assert_signed(kind, KEY);
            assert_eq!(answer.get("return_code"), "SUCCESS", "{script:?}");
            assert_eq!(answer.get("result_code"), "FAIL", "{script:?}");
            assert_eq!(answer.get("err_code"), code, "{script:?}");
            assert_eq!(answer.get("err_code_des"), text, "{script:?}");
        }
    }
}

/// INV-13, INV-16: a switch that takes nothing new still knows what is paid.
#[tokio::test]
async fn a_repeat_is_never_told_that_nothing_was_charged() {
    let harness = Harness::start().await;
    let first = harness.post(PAY, &signed(KEY, Kind::Md5, &micropay())).await;
    assert_eq!(first.get("result_code"), "SUCCESS");
    for why in [NotAccepted::Full, NotAccepted::Throttled, NotAccepted::StoreBusy, NotAccepted::Stopping] {
        harness.script(Script::Shut(why));
        let again = harness.post(PAY, &signed(KEY, Kind::Md5, &micropay())).await;
        assert_eq!(again.get("err_code"), "ORDERPAID", "{why:?}: {again:?}");
        let other = signed(KEY, Kind::Md5, &with(micropay(), "total_fee", Some("1289")));
        assert_eq!(harness.post(PAY, &other).await.get("err_code"), "OUT_TRADE_NO_USED", "{why:?}");
        let new = signed(KEY, Kind::Md5, &with(micropay(), "out_trade_no", Some("NEVER-SEEN-1")));
        assert_eq!(harness.post(PAY, &new).await.get("err_code"), "FREQUENCY_LIMITED", "{why:?}");
    }
}

/// INV-13: what is not durable is not promised.
#[tokio::test]
async fn a_payment_that_the_store_has_not_taken_yet_is_unknown() {
    let harness = Harness::start().await;
    harness.script(Script::Unheard);
    let answer = harness.post(PAY, &signed(KEY, Kind::Md5, &micropay())).await;
    assert_eq!((answer.get("result_code"), answer.get("err_code")), ("FAIL".into(), "SYSTEMERROR".into()));
    assert!(!answer.get("err_code_des").contains("未扣款"), "{answer:?}");
}

#[tokio::test]
async fn a_repeat_is_answered_from_the_state_and_other_content_is_refused() {
    let harness = Harness::start().await;
    let first = harness.post(PAY, &signed(KEY, Kind::Md5, &micropay())).await;
    assert_eq!(first.get("result_code"), "SUCCESS");
    for (name, value, code) in [
        ("nonce_str", Some("other"), "ORDERPAID"),
        ("auth_code", Some("104567890123456789"), "ORDERPAID"),
        ("spbill_create_ip", Some("203.0.113.11"), "ORDERPAID"),
        ("time_expire", Some("20261123102500"), "ORDERPAID"),
        ("device_info", Some(""), "ORDERPAID"),
        ("total_fee", Some("1289"), "OUT_TRADE_NO_USED"),
        ("body", Some("other"), "OUT_TRADE_NO_USED"),
        ("attach", Some("other"), "OUT_TRADE_NO_USED"),
        ("unknown_to_us", Some("1"), "OUT_TRADE_NO_USED"),
    ] {
        let again = harness.post(PAY, &signed(KEY, Kind::Md5, &with(micropay(), name, value))).await;
        assert_eq!(again.get("err_code"), code, "{name}");
        again.assert_signed(Kind::Md5, KEY);
    }
    let hmac = with(micropay(), "sign_type", Some("HMAC-SHA256"));
    let again = harness.post(PAY, &signed(KEY, Kind::HmacSha256, &hmac)).await;
    assert_eq!(again.get("err_code"), "ORDERPAID");
    // Another merchant's payment with the same number is another payment (INV-20).
    let other = with(with(micropay(), "sub_mch_id", None), "total_fee", Some("5"));
    let other = harness.post(PAY, &signed(OTHER_KEY, Kind::Md5, &other)).await;
    assert_eq!((other.get("result_code"), other.get("total_fee")), ("SUCCESS".to_owned(), "5".to_owned()));
    assert_eq!(other.get("sub_mch_id"), "", "what was not sent is not told");
}

#[tokio::test]
async fn a_query_tells_the_state() {
    let harness = Harness::start().await;
    let open = || record(NUMBER, State::Accepted);
    let by_till = |state| Record { cause: Some(Cause::Till), ..record(NUMBER, state) };
    for (stored, state, has_money) in [
        (open(), "USERPAYING", false),
        (Record { held: Some(Held::Differs), ..open() }, "USERPAYING", false),
        (record(NUMBER, State::Pending), "USERPAYING", false),
        (paid(open()), "SUCCESS", true),
        (Record { refunded_fen: 5, ..paid(open()) }, "REFUND", true),
        (Record { till_reversal: TillReversal::Done, ..paid(open()) }, "REVOKED", false),
        (refused(open(), "NOTENOUGH", "余额不足"), "PAYERROR", false),
        (record(NUMBER, State::Reversing), "PAYERROR", false),
        (by_till(State::Reversing), "USERPAYING", false),
        (record(NUMBER, State::Reversed), "REVOKED", false),
    ] {
        harness.engine.put(stored.clone());
        let answer = harness.post(QUERY, &signed(KEY, Kind::Md5, &about(NUMBER))).await;
        answer.assert_signed(Kind::Md5, KEY);
        assert_eq!(answer.get("result_code"), "SUCCESS");
        assert_eq!(answer.get("trade_state"), state, "{stored:?}");
        assert!(!answer.get("trade_state_desc").is_empty(), "{stored:?}");
        assert_eq!(answer.get("out_trade_no"), NUMBER);
        let transaction = if has_money { TRANSACTION } else { "" };
        assert_eq!(answer.get("transaction_id"), transaction, "{stored:?}");
        assert_eq!(answer.get("total_fee"), if has_money { "1288" } else { "" }, "{stored:?}");
    }
}

#[tokio::test]
async fn a_query_goes_by_either_number_and_the_wallets_wins() {
    let harness = Harness::start().await;
    harness.engine.put(paid(record(NUMBER, State::Accepted)));
    let by_both = with(about("another-number"), "transaction_id", Some(TRANSACTION));
    let answer = harness.post(QUERY, &signed(KEY, Kind::Md5, &by_both)).await;
    assert_eq!((answer.get("trade_state"), answer.get("out_trade_no")), ("SUCCESS".into(), NUMBER.into()));
    for (pairs, what) in [
        (about("unknown-number"), "unknown"),
        (with(about(NUMBER), "transaction_id", Some("42")), "unknown transaction"),
    ] {
        let answer = harness.post(QUERY, &signed(KEY, Kind::Md5, &pairs)).await;
        answer.assert_signed(Kind::Md5, KEY);
        assert_eq!(answer.get("err_code"), "ORDERNOTEXIST", "{what}");
    }
    // Another merchant's payment looks exactly like one that is not there (MI-21).
    let other = with(about(NUMBER), "sub_mch_id", None);
    let answer = harness.post(QUERY, &signed(OTHER_KEY, Kind::Md5, &other)).await;
    assert_eq!(answer.get("err_code"), "ORDERNOTEXIST");
    *harness.engine.store_down.lock().unwrap() = true;
    let answer = harness.post(QUERY, &signed(KEY, Kind::Md5, &about(NUMBER))).await;
    answer.assert_signed(Kind::Md5, KEY);
    assert_eq!(answer.get("err_code"), "SYSTEMERROR");
}

#[tokio::test]
async fn a_reversal_is_done_only_when_it_is_proven() {
    for (undo, result, code, recall) in [
        (Undo::Proven, "SUCCESS", "", "N"),
        (Undo::Unproven, "FAIL", "SYSTEMERROR", "Y"),
        (Undo::Silent, "FAIL", "SYSTEMERROR", "Y"),
        (Undo::TooOld, "FAIL", "REVERSE_EXPIRE", "N"),
        (Undo::NotAccepted(NotAccepted::StoreBusy), "FAIL", "FREQUENCY_LIMITED", "Y"),
    ] {
        let harness = Harness::start().await;
        harness.undo(undo);
        let answer = harness.post(REVERSE, &signed(KEY, Kind::HmacSha256, &hmac(about(NUMBER)))).await;
        answer.assert_signed(Kind::HmacSha256, KEY);
        assert_eq!(answer.get("result_code"), result, "{undo:?}");
        assert_eq!(answer.get("err_code"), code, "{undo:?}");
        assert_eq!(answer.get("recall"), recall, "{undo:?}");
        assert!(!answer.get("err_code_des").contains("未扣款"), "{undo:?}: nobody knows that here");
        match harness.engine.calls().as_slice() {
            [Call::Reverse(asked, ProviderId(9))] => assert_eq!(*asked, key(1, NUMBER)),
            calls => panic!("{calls:?}"),
        }
    }
}

fn hmac<'a>(pairs: Vec<(&'a str, &'a str)>) -> Vec<(&'a str, &'a str)> {
    with(pairs, "sign_type", Some("HMAC-SHA256"))
}

#[tokio::test]
async fn a_reversal_by_the_wallets_number_finds_the_payment_first() {
    let harness = Harness::start().await;
    harness.engine.put(paid(record(NUMBER, State::Accepted)));
    let pairs = with(with(about(NUMBER), "out_trade_no", None), "transaction_id", Some(TRANSACTION));
    let answer = harness.post(REVERSE, &signed(KEY, Kind::Md5, &pairs)).await;
    assert_eq!(answer.get("recall"), "N");
    match harness.engine.calls().as_slice() {
        [Call::FindTransaction(MerchantId(1)), Call::Reverse(asked, _)] => {
            assert_eq!(*asked, key(1, NUMBER))
        }
        calls => panic!("{calls:?}"),
    }
    let unknown = with(pairs, "transaction_id", Some("42"));
    let answer = harness.post(REVERSE, &signed(KEY, Kind::Md5, &unknown)).await;
    answer.assert_signed(Kind::Md5, KEY);
    assert_eq!((answer.get("err_code"), answer.get("recall")), ("INVALID_TRANSACTIONID".into(), "N".into()));
    assert_eq!(harness.engine.calls().len(), 3, "nothing is reversed that is not found");
}

/// A request that must come to nothing: the answer, the cause in the log, no call, and a next one that works.
async fn refuses(what: &str, path: &str, body: &str, code: &str, text: &str, cause: &str) {
    let harness = Harness::start().await;
    let answer = harness.post(path, body).await;
    assert_eq!(answer.status, 200, "{what}: {answer:?}");
    if code.is_empty() {
        assert_eq!(answer.get("return_code"), "FAIL", "{what}: {answer:?}");
        assert_eq!(answer.get("return_msg"), text, "{what}");
        assert_eq!(answer.fields().len(), 2, "{what}: nothing else, and no signature");
    } else {
        answer.assert_signed(Kind::Md5, KEY);
        assert_eq!(answer.get("result_code"), "FAIL", "{what}");
        assert_eq!(answer.get("err_code"), code, "{what}");
        assert!(answer.get("err_code_des").contains(text), "{what}: {answer:?}");
        assert_eq!(answer.get("recall").is_empty(), path != REVERSE, "{what}");
    }
    assert!(harness.engine.calls().is_empty(), "{what}: the engine was asked");
    let log = harness.log.text();
    assert!(log.contains(cause), "{what}: {log}");
    assert!(!log.contains(CODE) && !log.contains(KEY), "{what}: {log}");
    let good = harness.post(PAY, &signed(KEY, Kind::Md5, &micropay())).await;
    assert_eq!(good.get("result_code"), "SUCCESS", "after {what}");
    assert_eq!(harness.engine.calls().len(), 1, "after {what}");
}

#[tokio::test]
async fn whoever_is_not_who_it_says_learns_nothing() {
    let good = micropay();
    let sign = |pairs: &[(&str, &str)]| signed(KEY, Kind::Md5, pairs);
    let mut flipped = sign(&good);
    flipped = flipped.replace("<total_fee>1288<", "<total_fee>1<");
    for (what, body, cause) in [
        ("changed after signing", flipped, "wrong signature"),
        ("signed with another merchant's key", signed(OTHER_KEY, Kind::Md5, &good), "wrong signature"),
        ("unknown mch_id", sign(&with(good.clone(), "mch_id", Some("1900000999"))), "unknown merchant"),
        ("unknown appid", sign(&with(good.clone(), "appid", Some("wx0000"))), "unknown merchant"),
        ("empty key", unsigned(&with(good.clone(), "sign", Some(&"0".repeat(32)))), "wrong signature"),
        ("short signature", unsigned(&with(good.clone(), "sign", Some("AB"))), "wrong signature"),
        ("long signature", unsigned(&with(good.clone(), "sign", Some(&"A".repeat(64)))), "wrong signature"),
        (
            "MD5 said to be HMAC",
            sign(&good).replace("</xml>", "<sign_type>HMAC-SHA256</sign_type></xml>"),
            "wrong signature",
        ),
        ("no such method", sign(&with(good.clone(), "sign_type", Some("NONE"))), "sign_type is neither"),
        (
            "the decoy's key",
            signed(&"0".repeat(32), Kind::Md5, &with(good.clone(), "mch_id", Some("1900000999"))),
            "unknown merchant",
        ),
        (
            "a field taken out",
            sign(&with(good.clone(), "attach", Some("x"))).replace("<attach>x</attach>", ""),
            "wrong signature",
        ),
        ("a field put in", sign(&good).replace("</xml>", "<attach>x</attach></xml>"), "wrong signature"),
    ] {
        refuses(what, PAY, &body, "", "签名错误", cause).await;
    }
}

#[tokio::test]
async fn an_unknown_merchant_and_a_wrong_signature_are_told_the_same_bytes() {
    let harness = Harness::start().await;
    let unknown = signed(KEY, Kind::Md5, &with(micropay(), "mch_id", Some("1900000999")));
    let wrong = signed(OTHER_KEY, Kind::Md5, &micropay());
    let strip =
        |head: &str| head.lines().filter(|line| !line.starts_with("date:")).collect::<Vec<_>>().join("\n");
    for path in [PAY, QUERY, REVERSE] {
        let (one, other) = (harness.post(path, &unknown).await, harness.post(path, &wrong).await);
        assert_eq!(one.body, other.body);
        assert_eq!(strip(&one.head), strip(&other.head));
    }
}

#[tokio::test]
async fn documents_that_are_not_plain_are_refused_before_anything_else() {
    let plain = signed(KEY, Kind::Md5, &micropay());
    let insert = |what: &str| plain.replacen("<xml>", &format!("<xml>{what}"), 1);
    let long = insert(&format!("<pad>{}</pad>", "x".repeat(60_000)));
    let many: String = (0..300).map(|at| format!("<f{at}>1</f{at}>")).collect();
    for (what, body, text, cause) in [
        ("nothing", String::new(), "post数据为空", "empty body"),
        ("no XML", "hello".to_owned(), "XML格式错误", "text between elements"),
        ("JSON", "{}".to_owned(), "XML格式错误", "text between elements"),
        (
            "doctype",
            format!("<!DOCTYPE xml [<!ENTITY e SYSTEM \"file:///etc/passwd\">]>{plain}"),
            "XML格式错误",
            "document type",
        ),
        ("doctype inside", insert("<!DOCTYPE x>"), "XML格式错误", "document type"),
        ("entity", plain.replace(NUMBER, "&e;"), "XML格式错误", "unknown entity"),
        ("attribute", plain.replace("<body>", "<body a=\"1\">"), "XML格式错误", "attribute"),
        ("nested", insert("<a><b>1</b></a>"), "XML格式错误", "nested too deep"),
        ("twice", insert("<total_fee>1</total_fee>"), "XML格式错误", "occurs twice"),
        ("twice, once empty", insert("<total_fee></total_fee>"), "XML格式错误", "occurs twice"),
        ("twice, other case", insert("<Total_Fee>1</Total_Fee>"), "XML格式错误", "occurs twice"),
        ("comment", plain.replace("1288", "12<!-- -->88"), "XML格式错误", "comment"),
        ("instruction", plain.replace("1288", "12<?x?>88"), "XML格式错误", "processing instruction"),
        ("byte order mark", format!("\u{feff}{plain}"), "XML格式错误", "byte order mark"),
        (
            "other charset",
            format!("<?xml version=\"1.0\" encoding=\"GBK\"?>{plain}"),
            "XML格式错误",
            "encoding",
        ),
        ("NUL", plain.replace(NUMBER, "P2026\0x"), "XML格式错误", "character"),
        ("cut", plain[..plain.len() - 30].to_owned(), "XML格式错误", "ends too early"),
        ("two roots", format!("{plain}{plain}"), "XML格式错误", "after the root"),
        ("other root", plain.replace("xml>", "html>"), "XML格式错误", "wrong root"),
        ("too many", insert(&many), "XML格式错误", "more than 256 elements"),
        ("long but taken for what it is", long, "签名错误", "wrong signature"),
    ] {
        refuses(what, PAY, &body, "", text, cause).await;
    }
    let harness = Harness::start().await;
    let latin = plain.replace("深圳店-便利店购物", "caf#").into_bytes();
    let latin: Vec<u8> = latin.into_iter().map(|byte| if byte == b'#' { 0xe9 } else { byte }).collect();
    let answer = harness.send("POST", PAY, "", &latin).await;
    assert_eq!(answer.get("return_msg"), "XML格式错误");
    assert!(harness.log.text().contains("not UTF-8") && harness.engine.calls().is_empty());
}

#[tokio::test]
async fn what_identifies_the_caller_must_be_there() {
    for (name, value, text) in [
        ("appid", None, "缺少参数appid"),
        ("mch_id", Some(""), "缺少参数mch_id"),
        ("nonce_str", None, "缺少参数nonce_str"),
        ("mch_id", Some("19 00"), "参数错误：mch_id格式错误"),
        ("sub_mch_id", Some("1900000110 "), "参数错误：sub_mch_id格式错误"),
        ("nonce_str", Some("123456789012345678901234567890123"), "参数错误：nonce_str超过32个字符"),
    ] {
        let body = signed(KEY, Kind::Md5, &with(micropay(), name, value));
        refuses(name, PAY, &body, "", text, name).await;
    }
    refuses("no sign", PAY, &unsigned(&micropay()), "", "缺少参数sign", "sign").await;
    refuses("empty sign", PAY, &unsigned(&with(micropay(), "sign", Some(""))), "", "缺少参数sign", "sign")
        .await;
}

#[tokio::test]
async fn every_field_has_its_limits_and_is_named() {
    let long = |count: usize| "长".repeat(count);
    let (body, attach, detail) = (long(129), long(128), "x".repeat(6_001));
    for (name, value, code, text) in [
        ("out_trade_no", None, "LACK_PARAMS", "out_trade_no"),
        ("out_trade_no", Some("12345"), "PARAM_ERROR", "out_trade_no"),
        ("out_trade_no", Some("123456789012345678901234567890123"), "PARAM_ERROR", "out_trade_no"),
        ("out_trade_no", Some("P2026 1123"), "PARAM_ERROR", "out_trade_no"),
        ("out_trade_no", Some(" P20261123"), "PARAM_ERROR", "out_trade_no"),
        ("out_trade_no", Some("Р20261123"), "PARAM_ERROR", "out_trade_no"),
        ("out_trade_no", Some("P2026１１23"), "PARAM_ERROR", "out_trade_no"),
        ("total_fee", None, "LACK_PARAMS", "total_fee"),
        ("total_fee", Some("0"), "PARAM_ERROR", "total_fee"),
        ("total_fee", Some("-1"), "PARAM_ERROR", "total_fee"),
        ("total_fee", Some("+1"), "PARAM_ERROR", "total_fee"),
        ("total_fee", Some("01"), "PARAM_ERROR", "total_fee"),
        ("total_fee", Some("1.0"), "PARAM_ERROR", "total_fee"),
        ("total_fee", Some("1e2"), "PARAM_ERROR", "total_fee"),
        ("total_fee", Some("１"), "PARAM_ERROR", "total_fee"),
        ("total_fee", Some(" 1"), "PARAM_ERROR", "total_fee"),
        ("total_fee", Some("2147483648"), "PARAM_ERROR", "total_fee"),
        ("total_fee", Some("9223372036854775808"), "PARAM_ERROR", "total_fee"),
        ("total_fee", Some("18446744073709551617"), "PARAM_ERROR", "total_fee"),
        ("auth_code", None, "LACK_PARAMS", "auth_code"),
        ("auth_code", Some("13456789012345678"), "AUTH_CODE_INVALID", "18位数字"),
        ("auth_code", Some("1345678901234567890"), "AUTH_CODE_INVALID", "18位数字"),
        ("auth_code", Some("134567890123456789134567890123456789"), "AUTH_CODE_INVALID", "18位数字"),
        ("auth_code", Some("164567890123456789"), "AUTH_CODE_INVALID", "18位数字"),
        ("auth_code", Some("284567890123456789"), "AUTH_CODE_INVALID", "18位数字"),
        ("auth_code", Some("13456789012345678９"), "AUTH_CODE_INVALID", "18位数字"),
        ("auth_code", Some("wxp://f2f0abc"), "AUTH_CODE_INVALID", "18位数字"),
        ("body", None, "LACK_PARAMS", "body"),
        ("body", Some(&body), "PARAM_ERROR", "body"),
        ("attach", Some(&attach), "PARAM_ERROR", "attach"),
        ("detail", Some(&detail), "PARAM_ERROR", "detail"),
        ("spbill_create_ip", None, "LACK_PARAMS", "spbill_create_ip"),
        ("spbill_create_ip", Some("999.1.1.1"), "PARAM_ERROR", "spbill_create_ip"),
        ("time_expire", Some("20261323101503"), "PARAM_ERROR", "time_expire"),
        ("fee_type", Some("USD"), "PARAM_ERROR", "fee_type"),
        ("deposit", Some("Y"), "PARAM_ERROR", "deposit"),
        ("profit_sharing", Some("y"), "PARAM_ERROR", "profit_sharing"),
        ("attach", Some("a&total_fee=1"), "PARAM_ERROR", "保留字段"),
        ("attach", Some("a&key=1"), "PARAM_ERROR", "保留字段"),
        ("key", Some("1"), "PARAM_ERROR", "保留字段"),
        ("sub_appid", Some("wx_of_somebody_else"), "PARAM_ERROR", "sub_appid"),
        ("sub_mch_id", Some("1900000777"), "PARAM_ERROR", "sub_mch_id"),
    ] {
        let body = signed(KEY, Kind::Md5, &with(micropay(), name, value));
        let cause = if text == "保留字段" {
            "a "
        } else if text == "18位数字" {
            "not a WeChat Pay code"
        } else {
            name
        };
        let cause = if value == Some("1900000777") { "sub-merchant not bound" } else { cause };
        refuses(&format!("{name}={value:?}"), PAY, &body, code, text, cause).await;
    }
    for path in [QUERY, REVERSE] {
        for (name, value, code) in [
            ("out_trade_no", None, "LACK_PARAMS"),
            ("out_trade_no", Some("12345"), "PARAM_ERROR"),
            ("transaction_id", Some("4200 '; --"), "PARAM_ERROR"),
            ("version", Some("1&out_trade_no=2"), "PARAM_ERROR"),
        ] {
            let text = if name == "version" { "保留字段" } else { name };
            let body = signed(KEY, Kind::Md5, &with(about(NUMBER), name, value));
            let cause = if name == "version" { "a value holds" } else { name };
            refuses(&format!("{path} {name}={value:?}"), path, &body, code, text, cause).await;
        }
    }
}

#[tokio::test]
async fn only_what_the_merchant_allows_signs() {
    let harness = Harness::start().await;
    let mut one = merchant(1, Some(SUB_MCH_ID), KEY, BEARER);
    one.kinds = SignKinds::HmacSha256;
    harness.merchants.replace(Directory::new(vec![one]).unwrap());
    let answer = harness.post(PAY, &signed(KEY, Kind::Md5, &micropay())).await;
    assert_eq!(answer.get("return_msg"), "签名错误");
    assert!(harness.log.text().contains("may not sign with MD5"));
    assert!(harness.engine.calls().is_empty());
    let answer = harness.post(PAY, &signed(KEY, Kind::HmacSha256, &hmac(micropay()))).await;
    assert_eq!(answer.get("result_code"), "SUCCESS");
}

#[tokio::test]
async fn a_till_that_has_not_changed_its_key_over_is_answered_with_the_one_it_knows() {
    let harness = Harness::start().await;
    let mut one = merchant(1, Some(SUB_MCH_ID), KEY, BEARER);
    one.keys = Keys::new(Key::new(OTHER_KEY).unwrap(), Some(Key::new(KEY).unwrap()));
    harness.merchants.replace(Directory::new(vec![one]).unwrap());
    for signing in [KEY, OTHER_KEY] {
        let answer = harness.post(QUERY, &signed(signing, Kind::Md5, &about(NUMBER))).await;
        answer.assert_signed(Kind::Md5, signing);
    }
}

#[tokio::test]
async fn a_disabled_merchant_takes_nothing_new_and_finishes_what_is_open() {
    let harness = Harness::start().await;
    harness.engine.put(record(NUMBER, State::Pending));
    let mut one = merchant(1, Some(SUB_MCH_ID), KEY, BEARER);
    one.status = Status::Disabled;
    harness.merchants.replace(Directory::new(vec![one]).unwrap());
    let answer = harness.post(PAY, &signed(KEY, Kind::Md5, &micropay())).await;
    answer.assert_signed(Kind::Md5, KEY);
    assert_eq!(answer.get("err_code"), "NOAUTH");
    assert!(harness.engine.calls().is_empty());
    let answer = harness.post(QUERY, &signed(KEY, Kind::Md5, &about(NUMBER))).await;
    assert_eq!(answer.get("trade_state"), "USERPAYING");
    let answer = harness.post(REVERSE, &signed(KEY, Kind::Md5, &about(NUMBER))).await;
    assert_eq!(answer.get("recall"), "N");
}

#[tokio::test]
async fn a_merchant_that_asks_too_often_harms_only_itself() {
    let harness = Harness::with(Northbound { merchant_per_second: 1, merchant_burst: 2, ..short() }).await;
    let mine = signed(KEY, Kind::Md5, &about(NUMBER));
    for expected in ["ORDERNOTEXIST", "ORDERNOTEXIST", "FREQUENCY_LIMITED", "FREQUENCY_LIMITED"] {
        let answer = harness.post(QUERY, &mine).await;
        answer.assert_signed(Kind::Md5, KEY);
        assert_eq!(answer.get("err_code"), expected);
    }
    assert_eq!(harness.engine.calls().len(), 2);
    let other = signed(OTHER_KEY, Kind::Md5, &with(about(NUMBER), "sub_mch_id", None));
    assert_eq!(harness.post(QUERY, &other).await.get("err_code"), "ORDERNOTEXIST");
    let answer = harness.post(REVERSE, &mine).await;
    assert_eq!((answer.get("err_code"), answer.get("recall")), ("FREQUENCY_LIMITED".into(), "Y".into()));
}

#[tokio::test]
async fn a_till_that_waits_is_told_as_soon_as_there_is_something_to_tell() {
    let harness = Harness::with(Northbound { hold: std::time::Duration::from_secs(20), ..short() }).await;
    harness.script(Script::Silent);
    let body = signed(KEY, Kind::Md5, &micropay());
    let told = async {
        harness.engine.asked(1).await;
        let open = harness.engine.records.lock().unwrap().values().next().cloned().unwrap();
        harness.engine.tell(&Arc::new(paid(Record::clone(&open))), Said::Fresh);
    };
    let (answer, ()) = tokio::join!(harness.post(PAY, &body), told);
    assert_eq!(answer.get("result_code"), "SUCCESS");
}

#[tokio::test]
async fn other_methods_and_paths_are_told_so() {
    let harness = Harness::start().await;
    let answer = harness.send("GET", PAY, "", b"").await;
    assert_eq!(answer.get("return_msg"), "请使用post方法");
    for path in ["/pay/micropay/", "/pay/unifiedorder", "//pay/micropay", "/pay/MICROPAY", "/"] {
        let answer = harness.post(path, &signed(KEY, Kind::Md5, &micropay())).await;
        assert_eq!(answer.status, 404, "{path}");
    }
    assert!(harness.engine.calls().is_empty());
    // What stands in the query string is not looked at.
    let answer = harness.post("/pay/micropay?total_fee=1", &signed(KEY, Kind::Md5, &micropay())).await;
    assert_eq!(answer.get("total_fee"), "1288");
}

#[test]
fn a_refusal_costs_the_same_whoever_is_refused() {
    // Work, not time: the same number of signatures over the same text.
    let mut scratch = Scratch::new();
    let keys = Keys::new(Key::new(KEY).unwrap(), None);
    let both = Keys::new(Key::new(KEY).unwrap(), Some(Key::new(OTHER_KEY).unwrap()));
    for ring in [&keys, &both] {
        let counted = std::cell::Cell::new(0);
        let pairs = [("a", "1")].into_iter().inspect(|_| counted.set(counted.get() + 1));
        assert!(ring.verify(Kind::Md5, pairs, "no", &mut scratch).is_none());
        assert_eq!(counted.get(), 2);
    }
}
