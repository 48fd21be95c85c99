//! The drop-in XML: what requests come to that must come to nothing.

use signer::Kind;

use super::support::{CODE, Harness, KEY, NUMBER, OTHER_KEY, about, micropay, signed, unsigned, with};

const PAY: &str = "/pay/micropay";
const QUERY: &str = "/pay/orderquery";
const REVERSE: &str = "/secapi/pay/reverse";
/// What a document is refused with, before the cause.
const NOT_XML: &str = "XML格式错误";

/// A request that must come to nothing: the answer, the cause in the log, no call, and a next one that works.
async fn refuses(what: &str, path: &str, body: &str, code: &str, text: &str, cause: &str) {
    let harness = Harness::start().await;
    let answer = harness.post(path, body).await;
    assert_eq!(answer.status, 200, "{what}: {answer:?}");
    if code.is_empty() {
        assert_eq!(answer.get("return_code"), "FAIL", "{what}: {answer:?}");
        // Where the document is at fault the cause is told too.
        let told = if text == NOT_XML { format!("{NOT_XML}：") } else { text.to_owned() };
        assert!(answer.get("return_msg").starts_with(&told), "{what}: {answer:?}");
        assert!(text != NOT_XML || answer.get("return_msg").contains(cause), "{what}: {answer:?}");
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
    let _covers = covers::covers(&["INV-25", "MI-05"]);
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
    let _covers = covers::covers(&["INV-20", "MI-08"]);
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
    let _covers = covers::covers(&["MI-01", "MI-03", "MI-12"]);
    let plain = signed(KEY, Kind::Md5, &micropay());
    let insert = |what: &str| plain.replacen("<xml>", &format!("<xml>{what}"), 1);
    let long = insert(&format!("<pad>{}</pad>", "x".repeat(60_000)));
    let many: String = (0..300).map(|at| format!("<f{at}>1</f{at}>")).collect();
    for (what, body, text, cause) in [
        ("nothing", String::new(), "post数据为空", "empty body"),
        ("no XML", "hello".to_owned(), NOT_XML, "text between elements"),
        ("JSON", "{}".to_owned(), NOT_XML, "text between elements"),
        (
            "doctype",
            format!("<!DOCTYPE xml [<!ENTITY e SYSTEM \"file:///etc/passwd\">]>{plain}"),
            NOT_XML,
            "document type",
        ),
        ("doctype inside", insert("<!DOCTYPE x>"), NOT_XML, "document type"),
        ("entity", plain.replace(NUMBER, "&e;"), NOT_XML, "unknown entity"),
        ("attribute", plain.replace("<body>", "<body a=\"1\">"), NOT_XML, "attribute"),
        ("nested", insert("<a><b>1</b></a>"), NOT_XML, "nested too deep"),
        ("twice", insert("<total_fee>1</total_fee>"), NOT_XML, "occurs twice"),
        ("twice, once empty", insert("<total_fee></total_fee>"), NOT_XML, "occurs twice"),
        ("twice, other case", insert("<Total_Fee>1</Total_Fee>"), NOT_XML, "occurs twice"),
        ("comment", plain.replace("1288", "12<!-- -->88"), NOT_XML, "comment"),
        ("instruction", plain.replace("1288", "12<?x?>88"), NOT_XML, "processing instruction"),
        ("byte order mark", format!("\u{feff}{plain}"), NOT_XML, "byte order mark"),
        ("other charset", format!("<?xml version=\"1.0\" encoding=\"GBK\"?>{plain}"), NOT_XML, "encoding"),
        ("NUL", plain.replace(NUMBER, "P2026\0x"), NOT_XML, "character"),
        ("cut", plain[..plain.len() - 30].to_owned(), NOT_XML, "ends too early"),
        ("two roots", format!("{plain}{plain}"), NOT_XML, "after the root"),
        ("other root", plain.replace("xml>", "html>"), NOT_XML, "wrong root"),
        ("too many", insert(&many), NOT_XML, "more than 256 elements"),
        ("long but taken for what it is", long, "签名错误", "wrong signature"),
    ] {
        refuses(what, PAY, &body, "", text, cause).await;
    }
    let harness = Harness::start().await;
    let latin = plain.replace("深圳店-便利店购物", "caf#").into_bytes();
    let latin: Vec<u8> = latin.into_iter().map(|byte| if byte == b'#' { 0xe9 } else { byte }).collect();
    let answer = harness.send("POST", PAY, "", &latin).await;
    assert_eq!(answer.get("return_msg"), "XML格式错误：not UTF-8");
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
    let _covers = covers::covers(&["MI-10", "MI-11", "MI-24"]);
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
