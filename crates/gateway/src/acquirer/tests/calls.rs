//! What is written, and how answers of each operation are judged.

use std::time::Duration;

use protocol::fact::{RefundFact, RefundStatus, RefundsFact, Row};
use protocol::{Fen, Fields};
use signer::{Case, Key, KeyRing, Kind, Scratch};

use super::super::wechat_v2::{Acquirer, HostConfig, ProviderAccount, SubMerchant};
use super::support::{
    Act, CODE, KEY, NUMBER, Request, Standin, account, acquirer, amount, number, pay, query, short, signed,
    vector,
};
use crate::clock::Clock;

/// Whether the signature of a request is that of [`KEY`].
fn is_signed(request: &Request, kind: Kind) -> bool {
    let pairs = request.pairs();
    let pairs = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let sign = request.get("sign").expect("a signature");
    let key = Key::new(KEY).expect("well-formed");
    key.verify(kind, pairs, &sign, Case::Exact, &mut Scratch::new())
}

/// INV-03: number and amount are those of the record, whatever the till's fields say.
#[tokio::test]
async fn a_pay_request_is_signed_and_whole() {
    let mut wallet =
        Standin::http(vec![vec![Act::Answer(vector("paid")), Act::Answer(vector("paid"))]]).await;
    let client = Acquirer::new(ProviderAccount {
        hosts: vec![HostConfig { base_url: format!("{}/xdc/apiv2sandbox/", wallet.url()) }],
        ..account(&[])
    })
    .expect("sound settings");
    assert_eq!(short(&pay(&client).await), "A6 left");
    let request = wallet.request().await;
    assert_eq!(request.path(), "/xdc/apiv2sandbox/pay/micropay");
    assert!(request.head.contains(&format!("host: {}\r\n", wallet.address)), "{}", request.head);
    assert!(request.head.contains("content-type: text/xml; charset=utf-8\r\n"), "{}", request.head);
    assert!(is_signed(&request, Kind::Md5));
    let mut names: Vec<_> = request.pairs().into_iter().map(|(name, _)| name).collect();
    names.sort();
    assert_eq!(
        names,
        [
            "appid",
            "auth_code",
            "body",
            "mch_id",
            "nonce_str",
            "out_trade_no",
            "sign",
            "spbill_create_ip",
            "sub_appid",
            "sub_mch_id",
            "total_fee"
        ]
    );
    for (name, value) in [
        ("appid", "wxd930ea5d5a258f4f"),
        ("mch_id", "1900000109"),
        ("sub_appid", "wx2421b1c4370ec43b"),
        ("sub_mch_id", "1900000110"),
        ("out_trade_no", NUMBER),
        ("total_fee", "1288"),
        ("auth_code", CODE),
        ("body", "深圳店-便利店购物"),
    ] {
        assert_eq!(request.get(name).as_deref(), Some(value), "{name}");
    }
    let nonce = request.get("nonce_str").expect("a nonce");
    assert!(nonce.len() == 32 && nonce.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{nonce}");
    assert_eq!(short(&pay(&client).await), "A6 left");
    assert_ne!(wallet.request().await.get("nonce_str"), Some(nonce), "fresh each time");
}

/// The answer is signed as the request was, and by no other method.
#[tokio::test]
async fn hmac_is_named_signed_and_expected() {
    let answers = ["hmac", "paid"].map(|name| Act::Answer(vector(name)));
    let mut wallet = Standin::http(vec![answers.into()]).await;
    let client = Acquirer::new(ProviderAccount { sign_kind: Kind::HmacSha256, ..account(&[wallet.url()]) })
        .expect("sound settings");
    assert_eq!(short(&pay(&client).await), "A6 left");
    let request = wallet.request().await;
    assert_eq!(request.get("sign_type").as_deref(), Some("HMAC-SHA256"));
    assert!(is_signed(&request, Kind::HmacSha256));
    assert_eq!(short(&pay(&client).await), "A5 left", "MD5");
}

#[tokio::test]
async fn answers_signed_with_the_previous_key_are_verified() {
    let _covers = covers::covers(&["CF-05", "UB-24"]);
    let new = Key::new(&"n".repeat(32)).expect("well-formed");
    let old = Key::new(KEY).expect("well-formed");
    for (previous, expected) in [(Some(old), "A6 left"), (None, "A5 left")] {
        let wallet = Standin::http(vec![vec![Act::Answer(vector("paid"))]]).await;
        let account =
            ProviderAccount { keys: KeyRing::new(new.clone(), previous), ..account(&[wallet.url()]) };
        let client = Acquirer::new(account).expect("sound settings");
        assert_eq!(short(&pay(&client).await), expected);
    }
}

/// NU-12, INV-04: well signed, but about something else.
#[tokio::test]
async fn an_answer_about_another_payment_decides_nothing() {
    let _covers = covers::covers(&["INV-10", "NU-12"]);
    let paid = |number: &str, fee: &str| {
        signed(
            KEY,
            Kind::Md5,
            &[
                ("result_code", "SUCCESS"),
                ("out_trade_no", number),
                ("total_fee", fee),
                ("transaction_id", "4200002611202611231234567890"),
                ("time_end", "20261123101503"),
            ],
        )
    };
    for (answer, expected) in [
        (paid(NUMBER, "1288"), "A6 left"),
        (paid("P20261123000000000002", "1288"), "A5 left"),
        (paid(NUMBER, "1"), "A5 left"),
        (paid("", "1288"), "A5 left"),
    ] {
        let wallet = Standin::http(vec![vec![Act::Answer(answer.clone())]]).await;
        assert_eq!(short(&pay(&acquirer(&[wallet.url()])).await), expected, "{answer}");
    }
}

/// A field that no XML reader would give back as it was signed: nothing is sent, and that is certain.
#[tokio::test]
async fn what_cannot_be_written_is_not_sent() {
    let mut wallet = Standin::http(vec![]).await;
    let client = acquirer(&[wallet.url()]);
    let sub_mch_id = "1900000110".parse().expect("a number");
    let merchant = SubMerchant { sub_mch_id: &sub_mch_id, sub_appid: None };
    for body in ["a\rb", "a\0b", "a\u{1f}b", "a\u{FFFE}"] {
        let pairs = Fields::new([("auth_code", CODE), ("body", body)]);
        let leave_by = Clock::tick().saturating_add(5000);
        let reply =
            client.pay(merchant, &number(), amount(), pairs.iter(), (leave_by, Duration::ZERO), |_| ()).await;
        assert_eq!(short(&reply), "A1 unsent", "{body:?}");
    }
    assert_eq!(wallet.counts(), (0, 0));
}

#[tokio::test]
async fn a_query_names_the_order() {
    let mut wallet = Standin::http(vec![vec![Act::Answer(vector("query_success"))]]).await;
    assert_eq!(query(&acquirer(&[wallet.url()]), false).await.row, Row::B4);
    let request = wallet.request().await;
    assert_eq!(request.path(), "/pay/orderquery");
    assert_eq!(request.get("out_trade_no").as_deref(), Some(NUMBER));
    assert!(is_signed(&request, Kind::Md5));
    assert_eq!(request.pairs().len(), 7);
}

#[tokio::test]
async fn a_refund_carries_both_amounts() {
    let mut wallet = Standin::http(vec![vec![Act::Answer(vector("refund"))]]).await;
    let client = acquirer(&[wallet.url()]);
    let (sub_mch_id, sub_appid) =
        ("1900000110".parse().expect("a number"), "wx2421b1c4370ec43b".parse().expect("an appid"));
    let merchant = SubMerchant { sub_mch_id: &sub_mch_id, sub_appid: Some(&sub_appid) };
    let part = Fen::new(1288).expect("an amount");
    let verdict = client.refund(merchant, &number(), "R20261123000000000001", amount(), part, false).await;
    assert_eq!((verdict.row, verdict.fact), (Row::D1, RefundFact::Accepted));
    let request = wallet.request().await;
    assert_eq!(request.path(), "/secapi/pay/refund");
    assert!(is_signed(&request, Kind::Md5));
    for (name, value) in
        [("out_refund_no", "R20261123000000000001"), ("total_fee", "1288"), ("refund_fee", "1288")]
    {
        assert_eq!(request.get(name).as_deref(), Some(value), "{name}");
    }
}

/// A page of `count` refunds of 10 fen each, from `first` on, of `total` in all.
fn page(first: usize, count: usize, total: usize) -> String {
    let mut pairs = vec![
        ("result_code".to_owned(), "SUCCESS".to_owned()),
        ("out_trade_no".to_owned(), NUMBER.to_owned()),
        ("total_fee".to_owned(), "1288".to_owned()),
        ("total_refund_count".to_owned(), total.to_string()),
        ("refund_count".to_owned(), count.to_string()),
    ];
    for index in 0..count {
        let status = if first + index == 11 { "PROCESSING" } else { "SUCCESS" };
        pairs.push((format!("out_refund_no_{index}"), format!("R{}", first + index)));
        pairs.push((format!("refund_fee_{index}"), "10".to_owned()));
        pairs.push((format!("refund_status_{index}"), status.to_owned()));
    }
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    signed(KEY, Kind::Md5, &pairs)
}

async fn refunds(answers: Vec<String>) -> (RefundsFact, Vec<Option<String>>) {
    let asked = answers.len();
    let acts = answers.into_iter().map(Act::Answer).collect();
    let mut wallet = Standin::http(vec![acts, vec![]]).await;
    let client = acquirer(&[wallet.url()]);
    let (sub_mch_id, sub_appid) =
        ("1900000110".parse().expect("a number"), "wx2421b1c4370ec43b".parse().expect("an appid"));
    let merchant = SubMerchant { sub_mch_id: &sub_mch_id, sub_appid: Some(&sub_appid) };
    let fact = client.refundquery(merchant, &number(), Some(amount()), Some("R11"), false).await;
    let mut offsets = Vec::new();
    for _ in 0..asked {
        let request = wallet.request().await;
        assert_eq!(request.path(), "/pay/refundquery");
        offsets.push(request.get("offset"));
    }
    assert_eq!(wallet.counts().1, 0, "no page too many");
    (fact, offsets)
}

/// B9: only all pages together say how much was returned.
#[tokio::test]
async fn refunds_are_listed_to_the_last_page() {
    let (fact, offsets) = refunds(vec![page(0, 10, 12), page(10, 2, 12)]).await;
    let ours = Some(RefundStatus::Processing);
    assert_eq!(fact, RefundsFact::Listed { returned_fen: 110, pending_fen: 10, ours });
    assert_eq!(offsets, [None, Some("10".to_owned())]);
}

#[tokio::test]
async fn one_page_that_is_not_verified_spoils_the_list() {
    let spoilt = page(10, 2, 12).replace("<refund_fee_0>10<", "<refund_fee_0>90<");
    assert_eq!(refunds(vec![page(0, 10, 12), spoilt]).await.0, RefundsFact::Unclear);
}

/// INV-24: a wallet that lists one refund a page is not asked for ever.
#[tokio::test]
async fn the_number_of_pages_is_limited() {
    let pages = (0..5).map(|first| page(first, 1, 50)).collect();
    let (fact, offsets) = refunds(pages).await;
    assert_eq!(fact, RefundsFact::Unclear);
    assert_eq!(offsets.len(), 5);
}

/// INV-26: what is shown of a client or an account holds no secret.
#[test]
fn nothing_secret_is_shown() {
    let _covers = covers::covers(&["INV-26"]);
    let account = account(&["http://wallet".to_owned()]);
    for shown in [format!("{account:?}"), format!("{:?}", Acquirer::new(account.clone()).expect("sound"))] {
        assert!(!shown.contains(KEY), "{shown}");
    }
}
