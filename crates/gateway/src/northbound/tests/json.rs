//! The JSON API: routes, members, waiting, and what each refusal says of money.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use signer::Kind;
use state_machine::UnixMs;
use state_machine::record::{Record, State};
use state_machine::shard::{NotAccepted, Said, Wait};
use store::merchant::Status;

use super::support::{
    Answered, BEARER, CODE, Call, Harness, KEY, NUMBER, SUB_MCH_ID, Script, TRANSACTION, Undo, key, merchant,
    micropay, paid, record, refused, short, signed,
};
use crate::config::Northbound;
use crate::merchants::Directory;

const OTHER_BEARER: &str = "hufu_sk_fedcba9876543210fedcba9876543210";

fn payment() -> Value {
    json!({ "out_trade_no": NUMBER, "auth_code": CODE, "amount_fen": 1288, "body": "深圳店-便利店购物" })
}

async fn call(harness: &Harness, method: &str, path: &str, headers: &str, body: &Value) -> Answered {
    let headers = format!("Authorization: Bearer {BEARER}\r\nContent-Type: application/json\r\n{headers}");
    let body = if body.is_null() { String::new() } else { body.to_string() };
    harness.send(method, path, &headers, body.as_bytes()).await
}

async fn create(harness: &Harness, headers: &str, body: &Value) -> (u16, Value) {
    read(&call(harness, "POST", "/v1/payments", headers, body).await)
}

fn read(answer: &Answered) -> (u16, Value) {
    (answer.status, serde_json::from_str(&answer.body).unwrap_or_else(|err| panic!("{err}: {answer:?}")))
}

#[tokio::test]
async fn a_payment_is_the_same_as_by_xml() {
    let by_xml = Harness::start().await;
    by_xml.post("/pay/micropay", &signed(KEY, Kind::Md5, &micropay())).await;
    let harness = Harness::start().await;
    let (status, answer) = create(&harness, "", &payment()).await;
    assert_eq!(status, 200);
    assert_eq!(
        answer,
        json!({
            "out_trade_no": NUMBER,
            "state": "paid",
            "amount_fen": 1288,
            "channel": "wechat_v2",
            "transaction_id": TRANSACTION,
            "paid_at": "2026-11-23T02:15:03Z",
            "openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o",
            "created_at": "2026-11-23T02:15:00Z",
        })
    );
    let (ours, theirs) = (harness.engine.payment(), by_xml.engine.payment());
    assert_eq!((ours.key, ours.amount, ours.provider), (theirs.key, theirs.amount, theirs.provider));
    assert_eq!((ours.wait, ours.attach), (Wait::FirstWord, theirs.attach));
    let pairs = |fields: &protocol::Fields| {
        let mut pairs: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.sort();
        pairs
    };
    let expected: Vec<_> =
        pairs(&theirs.upstream).into_iter().map(|pair| pair.replace("203.0.113.10", "127.0.0.1")).collect();
    assert_eq!(pairs(&ours.upstream), expected);
}

#[tokio::test]
async fn every_member_goes_upstream_under_its_name_there() {
    let config = Northbound { spbill_create_ip: Some("203.0.113.77".parse().unwrap()), ..short() };
    let harness = Harness::with(config).await;
    let mut body = payment();
    body["till_id"] = json!("POS-0007");
    body["attach"] = json!("店员=07&班次=早 <x>");
    body["expires_at"] = json!("2026-11-23T10:25:00+08:00");
    assert_eq!(create(&harness, "", &body).await.0, 200);
    let upstream = harness.engine.payment().upstream;
    for (name, value) in [
        ("device_info", "POS-0007"),
        ("attach", "店员=07&班次=早 <x>"),
        ("spbill_create_ip", "203.0.113.77"),
        ("total_fee", "1288"),
    ] {
        assert_eq!(upstream.get(name), Some(value));
    }
    // Ours to keep: the wallet refuses a moment that is less than a minute away.
    assert_eq!(upstream.get("time_expire"), None);
    assert_eq!(harness.engine.payment().expires_at, Some(UnixMs(1_795_400_700_000)));
}

#[tokio::test]
async fn a_stale_submit_is_refused_and_a_repeat_is_not() {
    let harness = Harness::start().await;
    harness.script(Script::NotAccepted(NotAccepted::Expired));
    let (status, body) = create(&harness, "", &payment()).await;
    assert_eq!(status, 422, "{body}");
    assert_eq!(body["type"], "urn:hufu:expired");
    assert_eq!((&body["field"], &body["money_may_have_moved"]), (&json!("expires_at"), &json!(false)));
    // The engine has forgotten the payment, the store has not.
    harness.script(Script::Paid);
    assert_eq!(create(&harness, "", &payment()).await.0, 200);
    harness.script(Script::Shut(NotAccepted::Expired));
    let (status, body) = create(&harness, "", &payment()).await;
    assert_eq!((status, &body["state"]), (200, &json!("paid")), "{body}");
}

#[tokio::test]
async fn states_have_their_status_and_words() {
    let open = || record(NUMBER, State::Accepted);
    for (stored, status, state, failure) in [
        (open(), 202, "processing", None),
        (record(NUMBER, State::Pending), 202, "awaiting_password", None),
        (paid(open()), 200, "paid", None),
        (refused(open(), "NOTENOUGH", "余额不足"), 200, "failed", Some("NOTENOUGH")),
        (refused(open(), "NOAUTH", "无权限"), 200, "failed", Some("NOAUTH")),
        (record(NUMBER, State::Reversing), 200, "reversing", Some("ORDERREVERSED")),
        (record(NUMBER, State::Reversed), 200, "reversed", Some("ORDERREVERSED")),
        (Record { amount: None, ..record(NUMBER, State::Reversed) }, 200, "reversed", Some("ORDERREVERSED")),
    ] {
        let harness = Harness::start().await;
        let amount = stored.amount.map(protocol::Fen::get);
        harness.engine.put(stored);
        let answer = call(&harness, "GET", &format!("/v1/payments/{NUMBER}"), "", &Value::Null).await;
        let (got, body) = read(&answer);
        assert_eq!((got, body["state"].as_str()), (status, Some(state)));
        assert_eq!(body["amount_fen"].as_u64(), amount, "{body}");
        assert_eq!(body["failure"]["code"].as_str(), failure, "{body}");
        assert_eq!(body["transaction_id"].is_string(), state == "paid", "{body}");
        assert!(answer.head.contains("content-type: application/json"));
    }
}

#[tokio::test]
async fn a_repeat_is_the_same_payment_and_other_content_a_conflict() {
    let _covers = covers::covers(&["INV-16"]);
    let harness = Harness::start().await;
    let first = create(&harness, "", &payment()).await;
    assert_eq!(create(&harness, "", &payment()).await, first);
    let mut other_code = payment();
    other_code["auth_code"] = json!("104567890123456789");
    assert_eq!(create(&harness, "", &other_code).await, first);
    let mut other = payment();
    other["amount_fen"] = json!(1289);
    let (status, problem) = create(&harness, "", &other).await;
    assert_eq!((status, problem["type"].as_str()), (409, Some("urn:hufu:conflict")));
    assert_eq!(problem["money_may_have_moved"], json!(true));
}

#[tokio::test]
async fn prefer_says_what_is_waited_for() {
    for (prefer, wait, applied) in [
        ("", Wait::FirstWord, None),
        ("Prefer: wait=0\r\n", Wait::Nothing, Some("preference-applied: wait=0")),
        ("Prefer: respond-async, wait=9\r\n", Wait::Definite, Some("preference-applied: wait=9")),
        ("Prefer: wait=600\r\n", Wait::Definite, Some("preference-applied: wait=30")),
    ] {
        let harness = Harness::start().await;
        let answer = call(&harness, "POST", "/v1/payments", prefer, &payment()).await;
        assert_eq!(harness.engine.payment().wait, wait, "{prefer}");
        assert_eq!(answer.head.lines().find(|line| line.starts_with("preference")), applied, "{prefer}");
    }
}

#[tokio::test]
async fn a_till_that_waits_hears_the_end() {
    let harness = Harness::start().await;
    harness.engine.put(record(NUMBER, State::Pending));
    let path = format!("/v1/payments/{NUMBER}");
    let told = async {
        harness.engine.asked(2).await;
        assert!(
            matches!(harness.engine.calls()[1], Call::Watch(watched, Wait::Definite) if watched == key(1, NUMBER))
        );
        harness.engine.tell(&Arc::new(paid(record(NUMBER, State::Pending))), Said::Watched);
    };
    let (answer, ()) = tokio::join!(call(&harness, "GET", &path, "Prefer: wait=20\r\n", &Value::Null), told);
    let (status, body) = read(&answer);
    assert_eq!((status, body["state"].as_str()), (200, Some("paid")));
    // What is definite is not waited for.
    harness.engine.put(paid(record(NUMBER, State::Pending)));
    assert_eq!(call(&harness, "GET", &path, "Prefer: wait=20\r\n", &Value::Null).await.status, 200);
    assert_eq!(harness.engine.calls().len(), 3);
}

#[tokio::test]
async fn a_wait_that_ends_without_a_word_tells_what_is_durable() {
    let harness = Harness::start().await;
    harness.script(Script::Silent);
    let (status, body) = create(&harness, "Prefer: wait=1\r\n", &payment()).await;
    assert_eq!((status, body["state"].as_str()), (202, Some("processing")));
    let path = format!("/v1/payments/{NUMBER}");
    let (status, body) = read(&call(&harness, "GET", &path, "Prefer: wait=1\r\n", &Value::Null).await);
    assert_eq!((status, body["state"].as_str()), (202, Some("processing")));
    *harness.engine.store_down.lock().unwrap() = true;
    let other = json!({ "out_trade_no": "another-1", "auth_code": CODE, "amount_fen": 1, "body": "b" });
    let (status, body) = create(&harness, "", &other).await;
    assert_eq!((status, body["money_may_have_moved"].as_bool()), (503, Some(true)), "{body}");
}

#[tokio::test]
async fn reversals() {
    for (undo, status, state) in [
        (Undo::Proven, 200, Some("reversed")),
        (Undo::Unproven, 202, Some("reversing")),
        (Undo::Silent, 202, Some("paid")),
        (Undo::TooOld, 409, None),
        (Undo::NotAccepted(NotAccepted::Full), 503, None),
    ] {
        let harness = Harness::start().await;
        harness.undo(undo);
        harness.engine.put(paid(record(NUMBER, State::Accepted)));
        let path = format!("/v1/payments/{NUMBER}/reversal");
        let (got, body) = read(&call(&harness, "POST", &path, "", &json!({})).await);
        assert_eq!((got, body["state"].as_str()), (status, state), "{undo:?}");
        if state.is_none() {
            assert_eq!(body["money_may_have_moved"], json!(true), "{undo:?}");
        }
        assert!(matches!(harness.engine.calls()[0], Call::Reverse(asked, _) if asked == key(1, NUMBER)));
    }
    let harness = Harness::start().await;
    let path = format!("/v1/payments/{NUMBER}/reversal");
    assert_eq!(call(&harness, "POST", &path, "", &json!({"amount_fen": 1})).await.status, 400);
    assert!(harness.engine.calls().is_empty());
}

#[tokio::test]
async fn a_reversal_that_waits_for_nothing_is_told_the_first_thing_that_is_durable() {
    let harness = Harness::start().await;
    harness.undo(Undo::Silent);
    let path = format!("/v1/payments/{NUMBER}/reversal");
    let nothing = json!({});
    let asking = call(&harness, "POST", &path, "Prefer: wait=0\r\n", &nothing);
    let telling = async {
        // The reversal, and the question for what is durable: nothing is yet.
        harness.engine.asked(2).await;
        assert!(
            matches!(harness.engine.calls()[1], Call::Watch(asked, Wait::Nothing) if asked == key(1, NUMBER))
        );
        harness.engine.tell(&Arc::new(record(NUMBER, State::Reversing)), Said::Watched);
    };
    let (answer, ()) = tokio::join!(asking, telling);
    let (status, body) = read(&answer);
    assert_eq!((status, body["state"].as_str()), (202, Some("reversing")));
    assert!(answer.head.contains("preference-applied: wait=0"), "{answer:?}");
}

#[tokio::test]
async fn a_question_that_is_not_taken_says_nothing_of_the_reversal_that_may_be_under_way() {
    for present in [None, Some(record(NUMBER, State::Reversing))] {
        let harness = Harness::start().await;
        harness.undo(Undo::Silent);
        let path = format!("/v1/payments/{NUMBER}/reversal");
        let nothing = json!({});
        let asking = call(&harness, "POST", &path, "Prefer: wait=0\r\n", &nothing);
        let refusing = async {
            harness.engine.asked(2).await;
            if let Some(record) = present.clone() {
                harness.engine.put(record);
            }
            harness.engine.refuse_last(NotAccepted::Full);
        };
        let (answer, ()) = tokio::join!(asking, refusing);
        let (status, body) = read(&answer);
        match present {
            Some(_) => assert_eq!((status, body["state"].as_str()), (202, Some("reversing"))),
            None => {
                assert_eq!((status, &body["money_may_have_moved"]), (503, &json!(true)), "{body}");
                assert!(!body.to_string().contains("nothing was taken"), "{body}");
            }
        }
    }
}

/// A request that must come to nothing.
async fn refuses(what: &str, method: &str, path: &str, headers: &str, body: &str, status: u16, says: &str) {
    let harness = Harness::start().await;
    let answer = harness.send(method, path, headers, body.as_bytes()).await;
    assert_eq!(answer.status, status, "{what}: {answer:?}");
    assert!(answer.head.contains("content-type: application/problem+json"), "{what}: {answer:?}");
    let (_, problem) = read(&answer);
    assert!(answer.body.contains(says), "{what}: {answer:?}");
    assert_eq!(problem["status"], json!(status), "{what}");
    assert_eq!(problem["money_may_have_moved"], json!(false), "{what}");
    for member in ["type", "title"] {
        assert!(problem[member].is_string(), "{what}: {member}");
    }
    assert!(harness.engine.calls().is_empty(), "{what}: the engine was asked");
    let log = harness.log.text();
    assert!(!log.contains(CODE) && !log.contains(BEARER) && !answer.body.contains(CODE), "{what}: {log}");
    assert!(log.contains("request refused"), "{what}: {log}");
    assert_eq!(create(&harness, "", &payment()).await.0, 200, "after {what}");
}

#[tokio::test]
async fn whoever_has_no_key_is_told_so_and_no_more() {
    let body = payment().to_string();
    for (what, headers) in [
        ("no key", String::new()),
        ("unknown key", "Authorization: Bearer hufu_sk_0123456789abcdef0123456789abcdeF\r\n".to_owned()),
        ("no bearer", format!("Authorization: Basic {BEARER}\r\n")),
        ("two keys", format!("Authorization: Bearer {BEARER}\r\nAuthorization: Bearer {OTHER_BEARER}\r\n")),
        ("a signing key", format!("Authorization: Bearer {KEY}\r\n")),
    ] {
        for (method, path) in
            [("POST", "/v1/payments"), ("GET", "/v1/payments/P20261123"), ("GET", "/v1/payments/x/y")]
        {
            let body = if method == "POST" { body.as_str() } else { "" };
            refuses(what, method, path, &headers, body, 401, "urn:hufu:unauthorized").await;
        }
    }
    let harness = Harness::start().await;
    let answer = harness.send("POST", "/v1/payments", "", body.as_bytes()).await;
    assert!(answer.head.contains("www-authenticate: bearer"));
}

#[tokio::test]
async fn members_are_checked_and_named() {
    let headers = format!("Authorization: Bearer {BEARER}\r\n");
    let with = |name: &str, value: Value| {
        let mut body = payment();
        body[name] = value;
        body.to_string()
    };
    let without = |name: &str| {
        let mut body = payment();
        body.as_object_mut().unwrap().remove(name);
        body.to_string()
    };
    let raw = |amount: &str| payment().to_string().replace("1288", amount);
    let twice = payment().to_string().replacen('{', "{\"amount_fen\":1,", 1);
    for (body, status, says) in [
        (String::new(), 400, "not well-formed JSON"),
        ("[]".to_owned(), 400, "the body is no JSON object"),
        // The decoder takes the values of a structure as a list too.
        (format!("[\"{NUMBER}\",\"{CODE}\",1288,\"b\",null,null,null]"), 400, "the body is no JSON object"),
        (payment().to_string() + "x", 400, "not well-formed JSON"),
        (payment().to_string()[..60].to_owned(), 400, "not well-formed JSON"),
        (without("body"), 400, "missing field `body`"),
        (with("total_fee", json!(1)), 400, "unknown field `total_fee`"),
        (twice, 400, "duplicate field `amount_fen`"),
        (raw("1288.0"), 400, "wrong type"),
        (raw("1.288e3"), 400, "wrong type"),
        (raw("\\\"1288\\\"").replace("\\\"", "\""), 400, "wrong type"),
        (raw("-1"), 400, "wrong type"),
        (raw("01288"), 400, "not well-formed"),
        (raw("18446744073709551617"), 400, "wrong type"),
        (raw("0"), 422, "amount_fen"),
        (raw("2147483648"), 422, "amount_fen"),
        (with("out_trade_no", json!("12345")), 422, "\"field\":\"out_trade_no\""),
        (with("out_trade_no", json!("P2026 1123")), 422, "\"field\":\"out_trade_no\""),
        (with("out_trade_no", json!("")), 422, "\"field\":\"out_trade_no\""),
        (with("auth_code", json!("13456789012345678")), 422, "\"field\":\"auth_code\""),
        (with("auth_code", json!("284567890123456789")), 422, "\"field\":\"auth_code\""),
        (with("body", json!("x".repeat(129))), 422, "\"field\":\"body\""),
        (with("body", json!("x\u{0}")), 422, "\"field\":\"body\""),
        (with("body", json!("x\ry")), 422, "\"field\":\"body\""),
        (with("till_id", json!("x".repeat(33))), 422, "\"field\":\"till_id\""),
        (with("attach", json!("a&total_fee=1")), 422, "name of a field"),
        (with("attach", json!("x".repeat(2_000))), 422, "\"field\":\"attach\""),
        (with("expires_at", json!("tomorrow")), 422, "\"field\":\"expires_at\""),
        (with("expires_at", json!("20261123102500")), 422, "\"field\":\"expires_at\""),
    ] {
        refuses(&body, "POST", "/v1/payments", &headers, &body, status, says).await;
    }
    let form = format!("{headers}Content-Type: text/xml\r\n");
    refuses("not JSON", "POST", "/v1/payments", &form, &payment().to_string(), 415, "urn:hufu:media_type")
        .await;
}

#[tokio::test]
async fn routes_are_exact() {
    let headers = format!("Authorization: Bearer {BEARER}\r\n");
    for (method, path, status) in [
        ("PUT", "/v1/payments", 405),
        ("DELETE", "/v1/payments/P20261123", 405),
        ("GET", "/v1/payments/P20261123/reversal", 405),
        ("POST", "/v1/payments/P20261123/reversal/x", 404),
        ("GET", "/v1/payments/", 404),
        ("GET", "/v1/paymentsx", 404),
        ("GET", "/v1/payments/..%2fx", 404),
        ("GET", "/v1/payments/12345", 404),
    ] {
        refuses(path, method, path, &headers, "", status, "urn:hufu:").await;
    }
}

#[tokio::test]
async fn anothers_payment_is_not_found() {
    let _covers = covers::covers(&["INV-20", "MI-21"]);
    let harness = Harness::start().await;
    harness.engine.put(paid(record(NUMBER, State::Accepted)));
    let headers = format!("Authorization: Bearer {OTHER_BEARER}\r\n");
    let path = format!("/v1/payments/{NUMBER}");
    let theirs = harness.send("GET", &path, &headers, b"").await;
    let none = harness.send("GET", "/v1/payments/P20990101", &headers, b"").await;
    assert_eq!((theirs.status, &theirs.body), (404, &none.body));
    // A number is decoded as a path has it, once.
    let escaped = path.replace("P2026", "%502026");
    assert_eq!(call(&harness, "GET", &escaped, "", &Value::Null).await.status, 200);
}

#[tokio::test]
async fn only_who_has_looked_says_that_no_money_moved() {
    let _covers = covers::covers(&["OP-06"]);
    let harness = Harness::start().await;
    harness.script(Script::NotAccepted(NotAccepted::Throttled));
    let answer = call(&harness, "POST", "/v1/payments", "", &payment()).await;
    let (status, problem) = read(&answer);
    assert_eq!((status, problem["money_may_have_moved"].as_bool()), (503, Some(false)));
    assert!(answer.head.contains("retry-after: "));
    let mut one = merchant(1, Some(SUB_MCH_ID), KEY, BEARER);
    one.status = Status::Disabled;
    harness.merchants.replace(Directory::new(vec![one]).unwrap());
    let (status, problem) = create(&harness, "", &payment()).await;
    assert_eq!((status, problem["money_may_have_moved"].as_bool()), (403, Some(true)), "nobody has looked");
    // The one that the engine refused was looked up before it was told so.
    let calls = harness.engine.calls();
    assert!(matches!(calls.as_slice(), [Call::Pay(_), Call::Find]), "{calls:?}");
}

#[tokio::test]
async fn a_key_that_asks_too_often_is_told_to_wait() {
    let _covers = covers::covers(&["OV-03"]);
    let harness = Harness::with(Northbound { merchant_per_second: 1, merchant_burst: 1, ..short() }).await;
    assert_eq!(create(&harness, "", &payment()).await.0, 200);
    let (status, problem) = create(&harness, "", &payment()).await;
    assert_eq!((status, problem["money_may_have_moved"].as_bool()), (429, Some(true)), "nobody has looked");
    assert_eq!(harness.engine.calls().len(), 1);
}

#[tokio::test]
async fn a_long_poll_outlives_the_idle_deadline() {
    let harness = Harness::with(Northbound { idle_deadline: Duration::from_millis(50), ..short() }).await;
    harness.engine.put(record(NUMBER, State::Pending));
    let path = format!("/v1/payments/{NUMBER}");
    let answer = call(&harness, "GET", &path, "Prefer: wait=1\r\n", &Value::Null).await;
    assert_eq!(answer.status, 202);
}
