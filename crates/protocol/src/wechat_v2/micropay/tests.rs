//! Requests of tills: what is read, what is refused, and by which word.

use proptest::prelude::{prop, prop_assert, proptest};

use super::{MicropayRequest, content_pairs, upstream_pairs};
use crate::wechat_v2::{Envelope, OrderQueryRequest, OrderRef, RequestError, ReverseRequest};
use crate::xml::{Message, Reader};
use crate::{AmountError, IdError};

const BASE: &[(&str, &str)] = &[
    ("appid", "wxd930ea5d5a258f4f"),
    ("mch_id", "1900000109"),
    ("sub_mch_id", "1900000110"),
    ("nonce_str", "5K8264ILTKCH16CQ2502SI8ZNMTM67VS"),
    ("sign", "B773DF097DDCDCF4A37F4CFA26D82C84"),
    ("body", "深圳店-便利店购物"),
    ("out_trade_no", "P20261123000000000001"),
    ("total_fee", "1288"),
    ("spbill_create_ip", "203.0.113.10"),
    ("auth_code", "134567890123456789"),
];

/// Reads the base request with `changes`; a change to "" is an empty element.
fn read<T>(changes: &[(&str, &str)], read: impl FnOnce(&Message<'_>) -> T) -> T {
    let changed = |name: &str| changes.iter().any(|(changed, _)| *changed == name);
    let pairs = BASE.iter().filter(|(name, _)| !changed(name)).chain(changes);
    let escape = |value: &str| value.replace('&', "&amp;").replace('<', "&lt;").replace('\r', "&#13;");
    let elements: String = pairs.map(|(name, value)| format!("<{name}>{}</{name}>", escape(value))).collect();
    let mut reader = Reader::new();
    let document = format!("<xml>{elements}</xml>");
    read(&reader.read(document.as_bytes()).expect("well-formed"))
}

fn refused(changes: &[(&str, &str)]) -> Option<RequestError> {
    read(changes, |message| MicropayRequest::read(message).err())
}

#[test]
fn full_request_is_read() {
    let document = include_bytes!("../../../tests/vectors/02_micropay_request_full_hmac.xml");
    let mut reader = Reader::new();
    let message = reader.read(document).expect("well-formed");
    let request = MicropayRequest::read(&message).expect("within limits");
    assert_eq!(request.out_trade_no.as_str(), "P20261123000000000001");
    assert_eq!(request.auth_code.expose(), "134567890123456789");
    assert_eq!(request.total_fee.get(), 1288);
    assert_eq!(request.body, "深圳店-便利店购物");
    assert_eq!(request.attach, Some("店员=07&班次=早"));
    assert_eq!(request.time_start_s, Some(1_795_400_100));
    assert_eq!(request.time_expire_s, Some(1_795_400_700));
    assert_eq!(request.limit_pay, Some("no_credit"));
    assert!(request.detail.is_some() && request.scene_info.is_some() && !request.profit_sharing);
    assert!(!format!("{request:?}").contains("567890123"));
    let envelope = Envelope::read(&message).expect("complete");
    assert_eq!(envelope.sign_type, Some("HMAC-SHA256"));
    assert_eq!(envelope.sub_mch_id.expect("sent").as_str(), "1900000110");
}

#[test]
fn examples_are_read() {
    for document in [
        &include_bytes!("../../../tests/vectors/01_micropay_request_min.xml")[..],
        include_bytes!("../../../tests/vectors/03_micropay_request_empty_fields.xml"),
    ] {
        let mut reader = Reader::new();
        let message = reader.read(document).expect("well-formed");
        let request = MicropayRequest::read(&message).expect("within limits");
        assert_eq!((request.attach, request.device_info, request.goods_tag), (None, None, None));
    }
}

#[test]
fn what_is_missing_is_named() {
    for field in ["out_trade_no", "auth_code", "total_fee", "body", "spbill_create_ip"] {
        let error = refused(&[(field, "")]).expect("mandatory");
        assert_eq!(error, RequestError::Missing(field));
        assert_eq!((error.err_code(), error.err_code_des()), ("LACK_PARAMS", format!("缺少参数{field}")));
    }
    for field in ["appid", "mch_id", "nonce_str", "sign"] {
        let error = read(&[(field, "")], |message| Envelope::read(message).err());
        assert_eq!(error, Some(RequestError::Missing(field)));
    }
}

#[test]
fn limits_count_characters() {
    let _covers = covers::covers(&["MI-24"]);
    for (field, max) in [
        ("body", 128),
        ("attach", 127),
        ("device_info", 32),
        ("detail", 6000),
        ("goods_tag", 32),
        ("limit_pay", 32),
        ("scene_info", 256),
        ("receipt", 8),
        ("version", 32),
    ] {
        assert_eq!(refused(&[(field, &"虎".repeat(max))]), None, "{field}");
        let error = refused(&[(field, &"虎".repeat(max + 1))]).expect("too long");
        assert_eq!(error, RequestError::TooLong { field, max });
        assert_eq!(error.err_code(), "PARAM_ERROR");
        assert!(error.err_code_des().contains(field) && error.to_string().contains(field));
    }
}

#[test]
fn what_is_malformed_is_refused() {
    let id = |cause| Some(RequestError::Id { field: "out_trade_no", cause });
    for (field, value, expected) in [
        ("out_trade_no", "12345", id(IdError::TooShort(6))),
        ("out_trade_no", " P2026112300001", id(IdError::Character)),
        ("total_fee", "0", Some(RequestError::Amount(AmountError::Zero))),
        ("total_fee", "12.88", Some(RequestError::Amount(AmountError::Malformed))),
        ("total_fee", "2147483648", Some(RequestError::Amount(AmountError::TooLarge))),
        ("auth_code", "283452345234523452", Some(RequestError::NotWeChat)),
        ("auth_code", "13456789012345678", Some(RequestError::NotWeChat)),
        ("spbill_create_ip", "localhost", Some(RequestError::Malformed("spbill_create_ip"))),
        ("spbill_create_ip", "2001:db8::1", None),
        ("time_start", "20261323101503", Some(RequestError::Malformed("time_start"))),
        ("time_expire", "2026-11-23", Some(RequestError::Malformed("time_expire"))),
        ("profit_sharing", "Y", None),
        ("profit_sharing", "y", Some(RequestError::Malformed("profit_sharing"))),
        ("fee_type", "CNY", None),
        ("fee_type", "USD", Some(RequestError::NotOffered("fee_type"))),
        ("deposit", "Y", Some(RequestError::NotOffered("deposit"))),
        ("deposit", "N", None),
        ("attach", "a\rb", Some(RequestError::Malformed("attach"))),
        ("some_new_field", "whatever", None),
    ] {
        assert_eq!(refused(&[(field, value)]), expected, "{field}={value:?}");
    }
    let error = refused(&[("auth_code", "6212345678901234567")]).expect("another wallet");
    assert_eq!(error.err_code(), "AUTH_CODE_INVALID");
    assert_eq!(error.err_code_des(), "请扫描微信支付授权码(以10/11/12/13/14/15为前缀的18位数字)");
    let scanned = read(&[("auth_code", " 134567890123456789 ")], |message| {
        MicropayRequest::read(message).map(|request| request.auth_code.expose().to_owned())
    });
    assert_eq!(scanned.as_deref(), Ok("134567890123456789"));
}

/// MI-07: the signed text `attach=x&body=y` must not read in two ways.
#[test]
fn values_that_hold_a_field_are_refused() {
    let _covers = covers::covers(&["MI-07"]);
    for (value, refusal) in [
        ("a=1&b=2", None),
        ("店员=07&班次=早", None),
        ("a&b", None),
        ("key=1", None),
        ("x&total_fee", None),
        ("x&total_fees=1", None),
        ("x& total_fee=1", None),
        ("x&total_fee=1", Some(RequestError::Resplit)),
        ("x&y&auth_code=", Some(RequestError::Resplit)),
        ("x&key=1", Some(RequestError::Resplit)),
        ("x&sign=1", Some(RequestError::Resplit)),
        ("x&sign_type=MD5", Some(RequestError::Resplit)),
        ("x&sub_mch_id=1", Some(RequestError::Resplit)),
        ("&deposit=Y", Some(RequestError::Resplit)),
    ] {
        assert_eq!(refused(&[("attach", value)]), refusal, "{value}");
        assert_eq!(refused(&[("unknown_field", value)]), refusal, "{value}");
    }
    assert_eq!(refused(&[("key", "x")]), Some(RequestError::KeyField));
    assert_eq!(refused(&[("key", "")]), Some(RequestError::KeyField));
    let query = |changes: &[(&str, &str)]| read(changes, |message| OrderQueryRequest::read(message).err());
    assert_eq!(query(&[("x", "1&transaction_id=2")]), Some(RequestError::Resplit));
    assert_eq!(query(&[("x", "1&total_fee=2")]), None);
    assert_eq!(query(&[("key", "x")]), Some(RequestError::KeyField));
}

#[test]
fn orders_are_named_by_either_number() {
    let number = |order: OrderRef| match order {
        OrderRef::TransactionId(id) => format!("wallet {id}"),
        OrderRef::OutTradeNo(no) => format!("merchant {no}"),
    };
    for (changes, expected) in [
        (&[][..], Ok("merchant P20261123000000000001")),
        (&[("transaction_id", "")], Ok("merchant P20261123000000000001")),
        (&[("transaction_id", "42000026112345")], Ok("wallet 42000026112345")),
        (&[("out_trade_no", ""), ("transaction_id", "4200")], Ok("wallet 4200")),
        (&[("out_trade_no", "")], Err(RequestError::Missing("out_trade_no"))),
        (
            &[("transaction_id", "42 00")],
            Err(RequestError::Id { field: "transaction_id", cause: IdError::Character }),
        ),
    ] {
        let expected = expected.map(str::to_owned);
        let query = read(changes, |message| OrderQueryRequest::read(message).map(|r| number(r.order)));
        let reverse = read(changes, |message| ReverseRequest::read(message).map(|r| number(r.order)));
        assert_eq!((&query, &reverse), (&expected, &expected), "{changes:?}");
    }
}

#[test]
fn content_leaves_out_what_a_retry_changes() {
    let _covers = covers::covers(&["INV-16"]);
    let document = include_bytes!("../../../tests/vectors/02_micropay_request_full_hmac.xml");
    let mut reader = Reader::new();
    let message = reader.read(document).expect("well-formed");
    let names: Vec<_> = content_pairs(&message).map(|(name, _)| name).collect();
    assert_eq!(
        names,
        [
            "appid",
            "mch_id",
            "sub_appid",
            "sub_mch_id",
            "device_info",
            "version",
            "body",
            "detail",
            "attach",
            "out_trade_no",
            "total_fee",
            "fee_type",
            "goods_tag",
            "limit_pay",
            "receipt",
            "scene_info",
            "profit_sharing"
        ]
    );
    read(&[("attach", ""), ("other", "1")], |message| {
        assert!(content_pairs(message).all(|(name, _)| name != "attach"));
        assert!(content_pairs(message).any(|pair| pair == ("other", "1")));
    });
}

#[test]
fn upstream_gets_known_fields_as_they_came() {
    read(
        &[
            ("auth_code", "]C1134567890123456789"),
            ("attach", " a=1&b "),
            ("goods_tag", ""),
            ("deposit", "N"),
            ("unknown_field", "1"),
            ("sign_type", "MD5"),
        ],
        |message| {
            assert_eq!(
                upstream_pairs(message).collect::<Vec<_>>(),
                [
                    ("body", "深圳店-便利店购物"),
                    ("out_trade_no", "P20261123000000000001"),
                    ("total_fee", "1288"),
                    ("spbill_create_ip", "203.0.113.10"),
                    ("auth_code", "134567890123456789"),
                    ("attach", " a=1&b "),
                ]
            );
        },
    );
}

proptest! {
    /// What goes upstream is never more than was read, and no value makes a reader panic.
    #[test]
    fn any_values_are_read_or_refused(
        changes in prop::collection::btree_map(
            prop::sample::select(&["attach", "auth_code", "total_fee", "out_trade_no", "time_start", "x", "key"][..]),
            "(\\PC|&|=|total_fee=|[0-9]){0,40}",
            0..5,
        ),
    ) {
        let changes: Vec<_> = changes.iter().map(|(name, value)| (*name, value.as_str())).collect();
        read(&changes, |message| {
            let read = MicropayRequest::read(message);
            let resplit = changes.iter().any(|(name, value)| *name == "key" || value.contains("&total_fee="));
            prop_assert!(read.is_err() || !resplit);
            prop_assert!(Envelope::read(message).is_ok());
            prop_assert!(upstream_pairs(message).count() <= content_pairs(message).count() + 3);
            Ok(())
        })?;
    }
}
