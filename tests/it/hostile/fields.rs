//! Fields: signatures that are none, numbers that look like others, amounts that are none, somebody else's things.
//! Source: MI-05 to MI-07, MI-10, MI-11, MI-21, MI-23.

use signer::Kind;

use super::class::{
    APPID, Class, KEY, MCH_ID, PAY, QUERY, REVERSE, THEIRS, Want, about, payment, post, signed, signed_by,
    unsigned, with,
};

const OTHER_KEY: &str = "0123456789abcdef0123456789abcde1";
const OTHER_MCH_ID: &str = "1500000001";

pub(super) fn classes() -> Vec<Class> {
    let mut all = signatures();
    all.extend(identities());
    all.extend(values());
    all
}

fn refused(name: &str, body: &str, says: &str) -> Class {
    Class::new(format!("signature: {name}"), post(PAY, body), Want::Unsigned(says.to_owned()))
}

fn signatures() -> Vec<Class> {
    let wrong = "签名错误";
    let good = signed(&payment());
    let claim = |sign: &str| unsigned(&with(payment(), "sign", Some(sign)));
    let (_, rest) = good.split_once("<sign>").expect("a signature");
    let own = &rest[..32];
    let hmac = with(payment(), "sign_type", Some("HMAC-SHA256"));
    let by_hmac = signed_by(KEY, Kind::HmacSha256, &hmac);
    let plain_hmac = signed_by(KEY, Kind::HmacSha256, &payment());
    let turned = |at: usize| {
        let digit = if own.as_bytes()[at] == b'0' { "1" } else { "0" };
        claim(&format!("{}{digit}{}", &own[..at], &own[at + 1..]))
    };
    vec![
        refused("missing", &unsigned(&payment()), "缺少参数sign"),
        refused("empty", &claim(""), "缺少参数sign"),
        refused("blank", &claim(" "), wrong),
        refused("one digit", &claim(&own[..1]), wrong),
        refused("one digit short", &claim(&own[..31]), wrong),
        refused("one digit too many", &claim(&format!("{own}0")), wrong),
        refused("blank behind it", &claim(&format!("{own} ")), wrong),
        refused("twice in one", &claim(&own.repeat(2)), wrong),
        refused("far too long", &claim(&own.repeat(40)), "参数错误：sign超过64个字符"),
        refused("first digit turned", &turned(0), wrong),
        refused("last digit turned", &turned(31), wrong),
        refused("zeros", &claim(&"0".repeat(32)), wrong),
        refused("wide digits", &claim(&"０".repeat(32)), wrong),
        refused("of another merchant", &signed_by(OTHER_KEY, Kind::Md5, &payment()), wrong),
        refused("of the decoy", &signed_by(&"0".repeat(32), Kind::Md5, &payment()), wrong),
        refused("over fewer fields", &good.replace("</xml>", "<attach>x</attach></xml>"), wrong),
        refused(
            "over more fields",
            &signed(&with(payment(), "attach", Some("x"))).replace("<attach>x</attach>", ""),
            wrong,
        ),
        refused("over another amount", &good.replace("<total_fee>1288<", "<total_fee>1<"), wrong),
        refused("over a trimmed value", &good.replace("<total_fee>1288<", "<total_fee> 1288<"), wrong),
        refused(
            "over an empty field filled",
            &good.replace("</xml>", "<device_info>x</device_info></xml>"),
            wrong,
        ),
        // MI-06: the kind is part of what is signed, and each kind has its own length.
        refused(
            "MD5 said to be HMAC",
            &good.replace("</xml>", "<sign_type>HMAC-SHA256</sign_type></xml>"),
            wrong,
        ),
        refused("HMAC said to be MD5", &by_hmac.replace("HMAC-SHA256", "MD5"), wrong),
        refused("HMAC without its name", &by_hmac.replace("<sign_type>HMAC-SHA256</sign_type>", ""), wrong),
        refused("HMAC that was never named", &plain_hmac, wrong),
        refused("no such kind", &signed(&with(payment(), "sign_type", Some("NONE"))), wrong),
        refused("kind in small letters", &signed(&with(payment(), "sign_type", Some("md5"))), wrong),
        refused("kind with a blank", &signed(&with(payment(), "sign_type", Some("MD5 "))), wrong),
        refused(
            "kind far too long",
            &signed(&with(payment(), "sign_type", Some(&"M".repeat(33)))),
            "参数错误：sign_type超过32个字符",
        ),
        refused("field for it in capitals", &good.replace("sign>", "SIGN>"), "缺少参数sign"),
    ]
}

fn identities() -> Vec<Class> {
    let long = "n".repeat(33);
    let unknown = "签名错误";
    let mut all = Vec::new();
    for (name, field, value, says) in [
        ("no appid", "appid", None, "缺少参数appid"),
        ("no mch_id", "mch_id", None, "缺少参数mch_id"),
        ("no nonce_str", "nonce_str", None, "缺少参数nonce_str"),
        ("empty nonce_str", "nonce_str", Some(""), "缺少参数nonce_str"),
        ("nonce_str too long", "nonce_str", Some(long.as_str()), "参数错误：nonce_str超过32个字符"),
        ("mch_id with a path", "mch_id", Some("../1500000001"), "参数错误：mch_id格式错误"),
        ("mch_id with SQL", "mch_id", Some("1' OR '1'='1"), "参数错误：mch_id格式错误"),
        ("mch_id too long", "mch_id", Some(long.as_str()), "参数错误：mch_id格式错误"),
        ("sub_mch_id with a blank", "sub_mch_id", Some("1900000110 "), "参数错误：sub_mch_id格式错误"),
        ("appid in other script", "appid", Some("wх0000000000000000"), "参数错误：appid格式错误"),
        ("unknown mch_id", "mch_id", Some("1599999999"), unknown),
        ("mch_id of another", "mch_id", Some(OTHER_MCH_ID), unknown),
        ("appid of another", "appid", Some("wx0000000000000001"), unknown),
        ("mch_id of the provider", "mch_id", Some("1900000109"), unknown),
        ("appid in capitals", "appid", Some("WX0000000000000000"), unknown),
    ] {
        let body = signed(&with(payment(), field, value));
        all.push(Class::new(format!("identity: {name}"), post(PAY, body), Want::Unsigned(says.into())));
    }
    for path in [PAY, QUERY, REVERSE] {
        let pairs = if path == PAY { payment() } else { about() };
        let body = signed(&with(pairs, "sub_mch_id", Some("1900000111")));
        let want = Want::Signed("PARAM_ERROR", "sub_mch_id与mch_id不匹配");
        all.push(Class::new(format!("sub-merchant of another for {path}"), post(path, body), want));
    }
    assert!(payment().contains(&("appid", APPID)) && payment().contains(&("mch_id", MCH_ID)));
    all
}

fn values() -> Vec<Class> {
    let text = |count: usize| "长".repeat(count);
    let (body, attach, detail, device) = (text(129), text(128), "x".repeat(6_001), "x".repeat(33));
    let scene = "x".repeat(257);
    let number = "参数错误：out_trade_no格式错误";
    let fee = "参数错误：total_fee格式错误";
    let range = "参数错误：total_fee超出范围";
    let code = "18位数字";
    let reserved = "参数值含有保留字段名";
    let mut all = Vec::new();
    for (field, value, err_code, says) in [
        ("out_trade_no", None, "LACK_PARAMS", "缺少参数out_trade_no"),
        ("out_trade_no", Some(""), "LACK_PARAMS", "缺少参数out_trade_no"),
        ("out_trade_no", Some("12345"), "PARAM_ERROR", number),
        ("out_trade_no", Some("123456789012345678901234567890123"), "PARAM_ERROR", number),
        ("out_trade_no", Some("HOSTILE 000001"), "PARAM_ERROR", number),
        ("out_trade_no", Some(" HOSTILE000001"), "PARAM_ERROR", number),
        ("out_trade_no", Some("HOSTILE000001\n"), "PARAM_ERROR", number),
        ("out_trade_no", Some("НOSTILE000001"), "PARAM_ERROR", number),
        ("out_trade_no", Some("HOSTILE００１"), "PARAM_ERROR", number),
        ("out_trade_no", Some("HOSTILE0\u{301}1"), "PARAM_ERROR", number),
        ("out_trade_no", Some("HOSTILE0\u{200d}1"), "PARAM_ERROR", number),
        ("out_trade_no", Some("HOSTILE';--"), "PARAM_ERROR", number),
        ("out_trade_no", Some("../../../etc/passwd"), "PARAM_ERROR", number),
        ("total_fee", None, "LACK_PARAMS", "缺少参数total_fee"),
        ("total_fee", Some("0"), "PARAM_ERROR", fee),
        ("total_fee", Some("00"), "PARAM_ERROR", fee),
        ("total_fee", Some("-1"), "PARAM_ERROR", fee),
        ("total_fee", Some("+1"), "PARAM_ERROR", fee),
        ("total_fee", Some("01"), "PARAM_ERROR", fee),
        ("total_fee", Some("1.0"), "PARAM_ERROR", fee),
        ("total_fee", Some("1,000"), "PARAM_ERROR", fee),
        ("total_fee", Some("1e2"), "PARAM_ERROR", fee),
        ("total_fee", Some("0x10"), "PARAM_ERROR", fee),
        ("total_fee", Some("１"), "PARAM_ERROR", fee),
        ("total_fee", Some("١"), "PARAM_ERROR", fee),
        ("total_fee", Some(" 1"), "PARAM_ERROR", fee),
        ("total_fee", Some("1 "), "PARAM_ERROR", fee),
        ("total_fee", Some("NaN"), "PARAM_ERROR", fee),
        ("total_fee", Some("2147483648"), "PARAM_ERROR", range),
        ("total_fee", Some("9223372036854775808"), "PARAM_ERROR", range),
        ("total_fee", Some("18446744073709551617"), "PARAM_ERROR", range),
        ("auth_code", None, "LACK_PARAMS", "缺少参数auth_code"),
        ("auth_code", Some("10000000000000000"), "AUTH_CODE_INVALID", code),
        ("auth_code", Some("1000000000000000000"), "AUTH_CODE_INVALID", code),
        ("auth_code", Some("160000000000000000"), "AUTH_CODE_INVALID", code),
        ("auth_code", Some("280000000000000000"), "AUTH_CODE_INVALID", code),
        ("auth_code", Some("10000000000000000１"), "AUTH_CODE_INVALID", code),
        ("auth_code", Some("100000 00000000001"), "AUTH_CODE_INVALID", code),
        ("auth_code", Some("wxp://f2f0abcdefgh"), "AUTH_CODE_INVALID", code),
        ("body", None, "LACK_PARAMS", "缺少参数body"),
        ("body", Some(body.as_str()), "PARAM_ERROR", "参数错误：body超过128个字符"),
        ("attach", Some(attach.as_str()), "PARAM_ERROR", "参数错误：attach超过127个字符"),
        ("detail", Some(detail.as_str()), "PARAM_ERROR", "参数错误：detail超过6000个字符"),
        ("device_info", Some(device.as_str()), "PARAM_ERROR", "参数错误：device_info超过32个字符"),
        ("scene_info", Some(scene.as_str()), "PARAM_ERROR", "参数错误：scene_info超过256个字符"),
        ("spbill_create_ip", None, "LACK_PARAMS", "缺少参数spbill_create_ip"),
        ("spbill_create_ip", Some("999.1.1.1"), "PARAM_ERROR", "参数错误：spbill_create_ip格式错误"),
        ("spbill_create_ip", Some("0177.0.0.1"), "PARAM_ERROR", "参数错误：spbill_create_ip格式错误"),
        ("spbill_create_ip", Some("localhost"), "PARAM_ERROR", "参数错误：spbill_create_ip格式错误"),
        ("time_start", Some("2026-11-23"), "PARAM_ERROR", "参数错误：time_start格式错误"),
        ("time_expire", Some("20261323101503"), "PARAM_ERROR", "参数错误：time_expire格式错误"),
        ("fee_type", Some("USD"), "PARAM_ERROR", "参数错误：不支持该fee_type"),
        ("fee_type", Some("cny"), "PARAM_ERROR", "参数错误：不支持该fee_type"),
        ("deposit", Some("Y"), "PARAM_ERROR", "参数错误：不支持该deposit"),
        ("profit_sharing", Some("yes"), "PARAM_ERROR", "参数错误：profit_sharing格式错误"),
        // MI-07: what is signed can be cut into other fields.
        ("attach", Some("a&total_fee=1"), "PARAM_ERROR", reserved),
        ("attach", Some("a&out_trade_no=HOSTILE-2"), "PARAM_ERROR", reserved),
        ("attach", Some("a&sign_type=MD5"), "PARAM_ERROR", reserved),
        ("attach", Some("a&sign=0"), "PARAM_ERROR", reserved),
        ("attach", Some("a&key=b"), "PARAM_ERROR", reserved),
        ("body", Some("a&mch_id=1500000001&b=c"), "PARAM_ERROR", reserved),
        ("unknown_field", Some("a&total_fee=1"), "PARAM_ERROR", reserved),
        ("key", Some("1"), "PARAM_ERROR", reserved),
    ] {
        let body = signed(&with(payment(), field, value));
        let shown: String = value.unwrap_or("none").chars().take(24).collect();
        all.push(Class::new(format!("{field}={shown:?}"), post(PAY, body), Want::Signed(err_code, says)));
    }
    for (field, value, err_code, says) in [
        ("out_trade_no", None, "LACK_PARAMS", "缺少参数out_trade_no"),
        ("out_trade_no", Some("12345"), "PARAM_ERROR", number),
        ("transaction_id", Some("4200 '; DROP TABLE"), "PARAM_ERROR", "参数错误：transaction_id格式错误"),
        ("version", Some("1&out_trade_no=2"), "PARAM_ERROR", reserved),
    ] {
        for path in [QUERY, REVERSE] {
            let body = signed(&with(about(), field, value));
            let name = format!("{field}={value:?} for {path}");
            all.push(Class::new(name, post(path, body), Want::Signed(err_code, says)));
        }
    }
    // MI-21: another's payment looks like none.
    let theirs = signed(&with(about(), "out_trade_no", Some(THEIRS)));
    all.push(Class::new("another's payment", post(QUERY, theirs), Want::Ignored));
    all
}
