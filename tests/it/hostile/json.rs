//! The JSON API: documents that are none, keys that open nothing, numbers that are no amounts. Source: DESIGN §4.

use serde_json::{Value, json};

use super::class::{BEARER, CODE, Class, NUMBER, THEIRS, Want, request};

const PAYMENTS: &str = "/v1/payments";

fn payment() -> Value {
    json!({ "out_trade_no": NUMBER, "auth_code": CODE, "amount_fen": 1288, "body": "b" })
}

fn authorised() -> String {
    format!("Authorization: Bearer {BEARER}\r\nContent-Type: application/json\r\n")
}

pub(super) fn classes() -> Vec<Class> {
    let mut all = keys();
    all.extend(documents());
    all.extend(members());
    all.extend(routes());
    all
}

fn class(name: &str, method: &str, path: &str, headers: &str, body: impl AsRef<[u8]>, want: Want) -> Class {
    Class::new(format!("JSON: {name}"), request(method, path, headers, body), want)
}

/// Bearer keys. Source: INV-25, INV-20.
fn keys() -> Vec<Class> {
    let body = payment().to_string();
    let none = Want::Problem(401, "urn:hufu:unauthorized", "the bearer key is missing or unknown");
    let mut all = Vec::new();
    for (name, headers) in [
        ("no key", String::new()),
        ("empty key", "Authorization: Bearer \r\n".to_owned()),
        ("another scheme", format!("Authorization: Basic {BEARER}\r\n")),
        ("no scheme", format!("Authorization: {BEARER}\r\n")),
        ("a key one letter short", format!("Authorization: Bearer {}\r\n", &BEARER[..BEARER.len() - 1])),
        ("a key one letter long", format!("Authorization: Bearer {BEARER}0\r\n")),
        ("a key in capitals", format!("Authorization: Bearer {}\r\n", BEARER.to_ascii_uppercase())),
        ("two keys", format!("Authorization: Bearer {BEARER}\r\nAuthorization: Bearer hufu_sk_test1\r\n")),
        ("two keys in one", format!("Authorization: Bearer {BEARER}, Bearer hufu_sk_test1\r\n")),
        ("the signing key", "Authorization: Bearer 0123456789abcdef0123456789abcde0\r\n".to_owned()),
        ("a key in a cookie", format!("Cookie: Authorization=Bearer {BEARER}\r\n")),
        ("a key for a proxy", format!("Proxy-Authorization: Bearer {BEARER}\r\n")),
        ("a key with SQL", "Authorization: Bearer hufu_sk_' OR 1=1 --\r\n".to_owned()),
        ("a key far too long", format!("Authorization: Bearer hufu_sk_{}\r\n", "0".repeat(9_000))),
    ] {
        all.push(class(name, "POST", PAYMENTS, &headers, &body, none.clone()));
    }
    all.push(class(
        "a key in the path",
        "POST",
        &format!("{PAYMENTS}?key={BEARER}"),
        "",
        &body,
        none.clone(),
    ));
    all.push(class("no key for a question", "GET", &format!("{PAYMENTS}/{NUMBER}"), "", "", none.clone()));
    all.push(class("no key for a reversal", "POST", &format!("{PAYMENTS}/{NUMBER}/reversal"), "", "", none));
    all
}

/// Bodies that are no JSON of the right shape.
fn documents() -> Vec<Class> {
    let good = payment().to_string();
    let headers = authorised();
    let malformed = |says| Want::Problem(400, "urn:hufu:malformed", says);
    let no_json = "not well-formed JSON";
    let no_object = "the body is no JSON object";
    let put = |member: &str| good.replacen('{', &format!("{{{member},"), 1);
    let fen = |amount: &str| good.replace("1288", amount);
    let wrong_type = "a value has the wrong type";
    let mut all = Vec::new();
    for (name, body, says) in [
        ("nothing", String::new(), no_json),
        ("cut", good[..good.len() - 5].to_owned(), no_json),
        ("trailing text", format!("{good}x"), no_json),
        ("two documents", format!("{good}{good}"), no_json),
        ("trailing comma", good.replace('}', ",}"), no_json),
        ("comment", put("/* */ \"till_id\":\"1\""), no_json),
        ("single quotes", good.replace('"', "'"), no_json),
        ("names without quotes", good.replace("\"body\"", "body"), no_json),
        ("byte order mark", format!("\u{feff}{good}"), no_object),
        ("list", format!("[{good}]"), no_object),
        ("list of the values", format!("[\"{NUMBER}\",\"{CODE}\",1288,\"b\",null,null,null]"), no_object),
        ("text", format!("\"{NUMBER}\""), no_object),
        ("number", "1288".to_owned(), no_object),
        ("null", "null".to_owned(), no_object),
        ("XML", format!("<xml><out_trade_no>{NUMBER}</out_trade_no></xml>"), no_object),
        ("depth bomb", "[".repeat(60_000), no_object),
        ("depth bomb in a member", put(&format!("\"till_id\":{}", "[".repeat(50_000))), wrong_type),
        ("depth bomb of objects", "{\"a\":".repeat(10_000), "unknown field `a`"),
        ("member twice", put("\"amount_fen\":1"), "duplicate field `amount_fen`"),
        ("member twice, once null", put("\"till_id\":null,\"till_id\":\"1\""), "duplicate field `till_id`"),
        ("member twice, once escaped", put("\"amount_\\u0066en\":1"), "duplicate field `amount_fen`"),
        ("member in other case", put("\"Amount_Fen\":1"), "unknown field `Amount_Fen`"),
        ("unknown member", put("\"total_fee\":1"), "unknown field `total_fee`"),
        ("prototype", put("\"__proto__\":{\"amount_fen\":1}"), "unknown field `__proto__`"),
        ("amount missing", good.replace("\"amount_fen\":1288,", ""), "missing field `amount_fen`"),
        ("amount as text", fen("\"1288\""), wrong_type),
        ("amount as a list", fen("[1288]"), wrong_type),
        ("amount as an object", fen("{\"fen\":1288}"), wrong_type),
        ("amount null", fen("null"), wrong_type),
        ("amount true", fen("true"), wrong_type),
        ("amount with a point", fen("1288.0"), wrong_type),
        ("amount with an exponent", fen("1e3"), wrong_type),
        ("amount negative", fen("-1"), wrong_type),
        ("amount minus zero", fen("-0"), wrong_type),
        ("amount over 64 bits", fen("18446744073709551617"), wrong_type),
        ("amount of 5,000 digits", fen(&"9".repeat(5_000)), no_json),
        ("amount over all floats", fen("1e999"), no_json),
        ("amount with a leading zero", fen("01288"), no_json),
        ("amount with a plus", fen("+1"), no_json),
        ("amount hexadecimal", fen("0x10"), no_json),
        ("amount not a number", fen("NaN"), no_json),
        ("amount infinite", fen("Infinity"), no_json),
        ("amount in wide digits", fen("１２"), no_json),
        ("number as a number", good.replace(&format!("\"{NUMBER}\""), "20261123000001"), wrong_type),
        ("code as a member, behind a backtick", put(&format!("\"a`{CODE}\":1")), wrong_type),
        ("code as a number", good.replace(&format!("\"{CODE}\""), CODE), wrong_type),
        ("control character", good.replace("\"b\"", "\"b\u{1}\""), no_json),
        ("line end in a text", good.replace("\"b\"", "\"b\nc\""), no_json),
        ("half a surrogate", good.replace("\"b\"", "\"\\ud800\""), no_json),
        ("surrogates the wrong way", good.replace("\"b\"", "\"\\udc00\\ud800\""), no_json),
        ("unknown escape", good.replace("\"b\"", "\"\\x41\""), no_json),
    ] {
        all.push(class(name, "POST", PAYMENTS, &headers, body, malformed(says)));
    }
    for (name, bytes) in [("not UTF-8", &b"\xff"[..]), ("overlong", b"\xc0\xaf"), ("GBK", b"\xb1\xe3")] {
        let (before, after) = good.split_once("\"b\"").expect("a place");
        let body = [before.as_bytes(), b"\"", bytes, b"\"", after.as_bytes()].concat();
        all.push(class(name, "POST", PAYMENTS, &headers, body, malformed(no_json)));
    }
    let utf_16: Vec<u8> = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
    all.push(class("UTF-16", "POST", PAYMENTS, &headers, utf_16, malformed(no_json)));
    let media = Want::Problem(415, "urn:hufu:media_type", "the body must be application/json");
    for kind in [
        "text/xml",
        "text/plain",
        "application/jsonp",
        "application/json; charset=gbk",
        "application/x-www-form-urlencoded",
    ] {
        let headers = format!("Authorization: Bearer {BEARER}\r\nContent-Type: {kind}\r\n");
        all.push(class(&format!("said to be {kind}"), "POST", PAYMENTS, &headers, &good, media.clone()));
    }
    let gzip = format!("{headers}Content-Encoding: gzip\r\n");
    all.push(class("compressed", "POST", PAYMENTS, &gzip, &good, Want::Plain(415, "the body is compressed")));
    let long = payment().to_string().replace("\"b\"", &format!("\"{}\"", "x".repeat(70_000)));
    all.push(class("too long", "POST", PAYMENTS, &headers, long, Want::Plain(413, "the body is too long")));
    all
}

/// Members with values that are none. Source: MI-07, MI-10, MI-11, MI-24.
fn members() -> Vec<Class> {
    let headers = authorised();
    let mut all = Vec::new();
    for (member, value, says) in [
        ("amount_fen", json!(0), "amount is zero"),
        ("amount_fen", json!(2_147_483_648_u64), "amount is over"),
        ("amount_fen", json!(u64::MAX), "amount is over"),
        ("out_trade_no", json!(""), "\"field\":\"out_trade_no\""),
        ("out_trade_no", json!("12345"), "\"field\":\"out_trade_no\""),
        ("out_trade_no", json!("1".repeat(33)), "\"field\":\"out_trade_no\""),
        ("out_trade_no", json!("HOSTILE 1"), "\"field\":\"out_trade_no\""),
        ("out_trade_no", json!("HОSTILE1"), "\"field\":\"out_trade_no\""),
        ("out_trade_no", json!("HOSTILE\u{0}1"), "\"field\":\"out_trade_no\""),
        ("out_trade_no", json!("../../passwd"), "\"field\":\"out_trade_no\""),
        ("out_trade_no", json!("]]></out_trade_no><a>"), "\"field\":\"out_trade_no\""),
        ("auth_code", json!(""), "\"field\":\"auth_code\""),
        ("auth_code", json!("1".repeat(19)), "is no WeChat Pay code"),
        ("auth_code", json!("280000000000000000"), "is no WeChat Pay code"),
        ("body", json!(""), "\"field\":\"body\""),
        ("body", json!("x".repeat(129)), "\"field\":\"body\""),
        ("body", json!("x\u{0}y"), "holds a character that is not allowed"),
        ("body", json!("x\ry"), "holds a character that is not allowed"),
        ("body", json!("x\u{ffff}y"), "holds a character that is not allowed"),
        ("body", json!("x\u{1b}[2Jy"), "holds a character that is not allowed"),
        ("till_id", json!("x".repeat(33)), "\"field\":\"till_id\""),
        ("attach", json!("x".repeat(2_000)), "\"field\":\"attach\""),
        ("attach", json!("a&total_fee=1"), "holds the name of a field"),
        ("attach", json!("a&key=1"), "holds the name of a field"),
        ("body", json!("a&mch_id=1500000001"), "holds the name of a field"),
        ("expires_at", json!("tomorrow"), "is no RFC 3339 moment"),
        ("expires_at", json!("2026-13-45T99:00:00Z"), "is no RFC 3339 moment"),
        ("expires_at", json!("20261123102500"), "is no RFC 3339 moment"),
    ] {
        let mut body = payment();
        body[member] = value.clone();
        let shown: String = value.to_string().chars().take(24).collect();
        let want = Want::Problem(422, "urn:hufu:invalid", says);
        all.push(class(&format!("{member}={shown}"), "POST", PAYMENTS, &headers, body.to_string(), want));
    }
    all
}

/// Routes, methods, and numbers in paths. Source: MI-18, MI-21.
fn routes() -> Vec<Class> {
    let headers = authorised();
    let none = Want::Problem(404, "urn:hufu:not_found", "no payment has this number");
    let route = Want::Problem(404, "urn:hufu:no_route", "no such route");
    let method = Want::Problem(405, "urn:hufu:method", "the route does not have this method");
    let state = Want::Problem(422, "urn:hufu:invalid", "is none of processing");
    let mut all = Vec::new();
    for (name, path, want) in [
        ("a number that nobody has", format!("{PAYMENTS}/{NUMBER}"), &none),
        ("another's payment", format!("{PAYMENTS}/{THEIRS}"), &none),
        ("a path for a number", format!("{PAYMENTS}/..%2f..%2fpasswd"), &none),
        ("a NUL in a number", format!("{PAYMENTS}/HOSTILE%00"), &none),
        ("half an escape", format!("{PAYMENTS}/HOSTILE%4"), &none),
        ("an escape of no character", format!("{PAYMENTS}/HOSTILE%ff"), &none),
        ("escaped twice", format!("{PAYMENTS}/%25%34%38OSTILE"), &none),
        ("a number too long", format!("{PAYMENTS}/{}", "1".repeat(400)), &none),
        ("SQL for a number", format!("{PAYMENTS}/'%20OR%201=1--"), &none),
        ("no number", format!("{PAYMENTS}/"), &route),
        ("dots", format!("{PAYMENTS}/../../admin"), &route),
        ("two slashes", format!("{PAYMENTS}//{NUMBER}"), &route),
        ("one part too many", format!("{PAYMENTS}/{NUMBER}/reversal/x"), &route),
        ("another part", format!("{PAYMENTS}/{NUMBER}/refund"), &route),
        ("a longer word", format!("{PAYMENTS}x"), &route),
        ("a list by a state that is none", format!("{PAYMENTS}?state=PAID'"), &state),
        ("a reversal", format!("{PAYMENTS}/{NUMBER}/reversal"), &method),
    ] {
        all.push(class(&format!("question for {name}"), "GET", &path, &headers, "", want.clone()));
    }
    for other in ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"] {
        let name = format!("{other} of a payment");
        all.push(class(&name, other, &format!("{PAYMENTS}/{NUMBER}"), &headers, "", method.clone()));
    }
    let malformed = Want::Problem(400, "urn:hufu:malformed", "a reversal has no members");
    let path = format!("{PAYMENTS}/{NUMBER}/reversal");
    for body in ["{\"amount_fen\":1}", "[]", "null", "x"] {
        all.push(class(&format!("a reversal of {body}"), "POST", &path, &headers, body, malformed.clone()));
    }
    all.push(class(
        "a reversal of no number",
        "POST",
        &format!("{PAYMENTS}/12345/reversal"),
        &headers,
        "",
        none.clone(),
    ));
    all
}
