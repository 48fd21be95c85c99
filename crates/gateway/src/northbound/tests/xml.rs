//! The drop-in XML: what a till's client depends on.

use signer::{Key, Kind, Scratch};
use state_machine::record::{Cause, Held, Record, State, TillReversal};
use state_machine::shard::{NotAccepted, Said, Wait};
use state_machine::{MerchantId, ProviderId, till};
use std::sync::Arc;
use store::merchant::{SignKinds, Status};

use super::support::{
    APPID, BEARER, CODE, Call, Harness, KEY, MCH_ID, NUMBER, OTHER_KEY, SUB_MCH_ID, Script, TRANSACTION,
    Undo, about, key, merchant, micropay, paid, record, refused, short, signed, with,
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
        (
            Script::NotAccepted(NotAccepted::Full),
            "FREQUENCY_LIMITED",
            "系统繁忙，未受理，未扣款，请稍后重试；重复提交的订单请先查询",
        ),
        (Script::NotAccepted(NotAccepted::Crowded), "USERPAYING", till::TEXT_UNCLEAR),
        (
            Script::NotAccepted(NotAccepted::Expired),
            "PARAM_ERROR",
            "已超过time_expire，未受理，未扣款，请重新下单",
        ),
        (
            Script::NotAccepted(NotAccepted::Stopping),
            "FREQUENCY_LIMITED",
            "系统维护中，未受理，未扣款，请稍后重试；重复提交的订单请先查询",
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
    let _covers = covers::covers(&["INV-16", "MI-09"]);
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
    let _covers = covers::covers(&["INV-09"]);
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

#[tokio::test]
async fn only_what_the_merchant_allows_signs() {
    let _covers = covers::covers(&["MI-06"]);
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
    let _covers = covers::covers(&["CF-05"]);
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
    let _covers = covers::covers(&["OP-06"]);
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
    let _covers = covers::covers(&["INV-20", "OV-03"]);
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
    let _covers = covers::covers(&["MI-08"]);
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
