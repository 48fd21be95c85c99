//! Every row of the table, and every rule that holds for all of them. Source: wechatpay-v2 §2.2, §2.3, §4.5.

use protocol::fact::{PayFact, QueryFact, RefundFact, ReverseFact, Row};
use protocol::wechat_v2::verdict::{Alarm, Exchange, Expected, RefundsPage};
use signer::Kind;

use crate::support::{
    Fact, NUMBER, OPERATIONS, Operation, REFUND_NUMBER, answer, check, expected, judge, judge_answer, number,
    verify,
};

/// What makes an answer say that money moved.
const PAID: [(&str, &str); 4] = [
    ("result_code", "SUCCESS"),
    ("out_trade_no", NUMBER),
    ("total_fee", "1288"),
    ("transaction_id", "4200002611202611231234567890"),
];

fn with<'a>(base: &[(&'a str, &'a str)], extra: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let changed = |name: &str| extra.iter().any(|(changed, _)| *changed == name);
    base.iter().filter(|(name, _)| !changed(name)).chain(extra).copied().collect()
}

fn fail(err_code: &str) -> [(&str, &str); 3] {
    [("result_code", "FAIL"), ("err_code", err_code), ("err_code_des", "原因")]
}

#[test]
fn refusals_of_a_payment() {
    let _covers = covers::covers(&["UB-05", "UB-07", "UB-08", "UB-09"]);
    use Alarm::{Misconfigured, NumberTaken, UnknownWord};
    for (err_code, row, alarm, row_if_twice) in [
        ("USERPAYING", Row::A7, None, Row::A7),
        ("SYSTEMERROR", Row::A8, None, Row::A8),
        ("BANKERROR", Row::A8, None, Row::A8),
        ("AUTHCODEEXPIRE", Row::A9, None, Row::A10),
        ("AUTH_CODE_ERROR", Row::A9, None, Row::A10),
        ("AUTH_CODE_INVALID", Row::A9, None, Row::A10),
        ("NOTENOUGH", Row::A11, None, Row::A10),
        ("NOTSUPORTCARD", Row::A11, None, Row::A10),
        ("TRADE_ERROR", Row::A11, None, Row::A10),
        ("ORDERPAID", Row::A12, Some(NumberTaken), Row::A12),
        ("OUT_TRADE_NO_USED", Row::A13, None, Row::A13),
        ("INVALID_REQUEST", Row::A13, None, Row::A13),
        ("BUYER_MISMATCH", Row::A13, None, Row::A13),
        ("ORDERCLOSED", Row::A14, None, Row::A10),
        ("ORDERREVERSED", Row::A14, None, Row::A10),
        ("NOAUTH", Row::A15, Some(Misconfigured), Row::A10),
        ("PARAM_ERROR", Row::A15, Some(Misconfigured), Row::A10),
        ("APPID_NOT_EXIST", Row::A15, Some(Misconfigured), Row::A10),
        ("APPID_MCHID_NOT_MATCH", Row::A15, Some(Misconfigured), Row::A10),
        ("MCHID_NOT_EXIST", Row::A15, Some(Misconfigured), Row::A10),
        ("LACK_PARAMS", Row::A15, Some(Misconfigured), Row::A10),
        ("SIGNERROR", Row::A15, Some(Misconfigured), Row::A10),
        ("XML_FORMAT_ERROR", Row::A15, Some(Misconfigured), Row::A10),
        ("REQUIRE_POST_METHOD", Row::A15, Some(Misconfigured), Row::A10),
        ("POST_DATA_EMPTY", Row::A15, Some(Misconfigured), Row::A10),
        ("NOT_UTF8", Row::A15, Some(Misconfigured), Row::A10),
        ("FREQUENCY_LIMITED", Row::A16, None, Row::A16),
        ("RULELIMIT", Row::A17, Some(UnknownWord), Row::A17),
        ("NEVER_SEEN_BEFORE", Row::A17, Some(UnknownWord), Row::A17),
        ("", Row::A17, Some(UnknownWord), Row::A17),
        ("notenough", Row::A17, Some(UnknownWord), Row::A17),
    ] {
        let verdict = check(Operation::Pay, &fail(err_code), row, alarm, true);
        assert_eq!(verdict.throttled, row == Row::A16, "{err_code}");
        assert_eq!(verdict.err_code.as_ref().map_or("", |code| code.as_str()), err_code);
        let Fact::Pay(fact) = verdict.fact else { panic!("a pay fact") };
        let (kind, refusal) = match fact {
            PayFact::InProgress => ("in progress", None),
            PayFact::Unclear => ("unclear", None),
            PayFact::Refused(refusal) => ("refused", Some(refusal)),
            PayFact::RefusedOutright(refusal) => ("outright", Some(refusal)),
            PayFact::NumberTaken { refusal, ours_possible: true } => ("taken", Some(refusal)),
            PayFact::NumberTaken { refusal, ours_possible: false } => ("another's", Some(refusal)),
            PayFact::Unsent | PayFact::RefusedUnsigned | PayFact::Paid(_) => panic!("{err_code}"),
        };
        let expected_kind = match row {
            Row::A7 => "in progress",
            Row::A9 | Row::A11 => "refused",
            Row::A13 if err_code == "BUYER_MISMATCH" => "another's",
            Row::A12 | Row::A13 => "taken",
            Row::A14 | Row::A15 => "outright",
            _ => "unclear",
        };
        assert_eq!(kind, expected_kind, "{err_code}");
        if let Some(refusal) = refusal {
            assert_eq!((refusal.code.as_str(), &*refusal.description), (err_code, "原因"));
        }

        let (number, body) = (number(), answer(&fail(err_code), true));
        let twice = Expected { delivered_once: false, ..expected(&number, 1288) };
        let exchange = Exchange::Answer { status: 200, body: &body };
        let verdict = judge(Operation::Pay, &exchange, &twice, verify(Kind::Md5));
        assert_eq!(verdict.row, row_if_twice, "{err_code}");
        assert!(row_if_twice != Row::A10 || verdict.fact == Fact::Pay(PayFact::Unclear), "{err_code}");
    }
    check(Operation::Pay, &[("result_code", "PERHAPS")], Row::A17, Some(UnknownWord), true);
    check(Operation::Pay, &[], Row::A17, Some(UnknownWord), true);
}

#[test]
fn paid_answers_must_be_about_our_payment() {
    let _covers = covers::covers(&["INV-03", "INV-04", "NU-12", "UB-10"]);
    check(Operation::Pay, &PAID, Row::A6, None, true);
    check(Operation::Pay, &with(&PAID, &[("fee_type", "CNY")]), Row::A6, None, true);
    check(Operation::Pay, &with(&PAID, &[("sub_appid", "wx2421b1c4370ec43b")]), Row::A6, None, true);
    for (changes, alarm) in [
        (("out_trade_no", ""), Alarm::NotVerified),
        (("out_trade_no", "P20261123000000000002"), Alarm::WrongOrder),
        (("out_trade_no", "p20261123000000000001"), Alarm::WrongOrder),
        (("total_fee", ""), Alarm::NotVerified),
        (("total_fee", "01288"), Alarm::NotVerified),
        (("total_fee", "1289"), Alarm::AmountDiffers),
        (("fee_type", "USD"), Alarm::AmountDiffers),
        (("transaction_id", ""), Alarm::NotVerified),
        (("appid", ""), Alarm::WrongMerchant),
        (("appid", "wx0000000000000000"), Alarm::WrongMerchant),
        (("mch_id", "1900000100"), Alarm::WrongMerchant),
        (("mch_id", ""), Alarm::WrongMerchant),
        (("sub_mch_id", ""), Alarm::WrongMerchant),
        (("sub_mch_id", "1900000111"), Alarm::WrongMerchant),
        (("sub_appid", "wx0000000000000000"), Alarm::WrongMerchant),
    ] {
        let verdict = check(Operation::Pay, &with(&PAID, &[changes]), Row::A5, Some(alarm), false);
        assert_eq!(verdict.fact, Fact::Pay(PayFact::Unclear), "{changes:?}");
    }
    // A refusal that names another order or merchant is as little ours.
    let other = with(&fail("NOTENOUGH"), &[("out_trade_no", "P20261123000000000002")]);
    check(Operation::Pay, &other, Row::A5, Some(Alarm::WrongOrder), false);
    let other = with(&fail("NOTENOUGH"), &[("mch_id", "1900000100")]);
    check(Operation::Pay, &other, Row::A5, Some(Alarm::WrongMerchant), false);
}

#[test]
fn plain_merchants_have_no_sub_merchant() {
    let number = number();
    let expected = Expected { sub_appid: None, sub_mch_id: None, ..expected(&number, 1288) };
    for (sub_mch_id, row) in [("", Row::A6), ("1900000110", Row::A5)] {
        let body = answer(&with(&PAID, &[("sub_mch_id", sub_mch_id)]), true);
        let exchange = Exchange::Answer { status: 200, body: &body };
        assert_eq!(judge(Operation::Pay, &exchange, &expected, verify(Kind::Md5)).row, row);
    }
}

#[test]
fn states_of_an_order() {
    let _covers = covers::covers(&["UB-13", "UB-14"]);
    for (state, row, fact) in [
        ("USERPAYING", Row::B6, QueryFact::InProgress),
        ("ACCEPT", Row::B6, QueryFact::InProgress),
        ("NOTPAY", Row::B6, QueryFact::Unpaid),
        ("PAYERROR", Row::B7, QueryFact::PayError),
        ("CLOSED", Row::B8, QueryFact::Closed),
        ("REVOKED", Row::B8, QueryFact::Revoked),
    ] {
        let state = [("result_code", "SUCCESS"), ("trade_state", state), ("out_trade_no", NUMBER)];
        assert_eq!(check(Operation::Query, &state, row, None, true).fact, Fact::Query(fact));
        let nameless = with(&state, &[("out_trade_no", "")]);
        check(Operation::Query, &nameless, Row::B1, Some(Alarm::NotVerified), false);
        let other = with(&state, &[("out_trade_no", "P20261123000000000002")]);
        check(Operation::Query, &other, Row::B1, Some(Alarm::WrongOrder), false);
        let other = with(&state, &[("sub_mch_id", "1900000111")]);
        let verdict = check(Operation::Query, &other, Row::B1, Some(Alarm::WrongMerchant), false);
        assert_eq!(verdict.fact, Fact::Query(QueryFact::Unclear));
    }
    for state in ["", "success", "FROZEN"] {
        let state = [("result_code", "SUCCESS"), ("trade_state", state), ("out_trade_no", NUMBER)];
        let verdict = check(Operation::Query, &state, Row::B6, Some(Alarm::UnknownWord), true);
        assert_eq!(verdict.fact, Fact::Query(QueryFact::UnknownState));
    }
    for (err_code, row, alarm) in [
        ("ORDERNOTEXIST", Row::B2, None),
        ("SYSTEMERROR", Row::B1, None),
        ("FREQUENCY_LIMITED", Row::B1, None),
        ("SIGNERROR", Row::B1, Some(Alarm::Misconfigured)),
        ("USERPAYING", Row::B1, Some(Alarm::UnknownWord)),
        ("", Row::B1, Some(Alarm::UnknownWord)),
    ] {
        let verdict = check(Operation::Query, &fail(err_code), row, alarm, true);
        assert_eq!(verdict.throttled, err_code == "FREQUENCY_LIMITED");
        let not_found = verdict.fact == Fact::Query(QueryFact::NotFound);
        assert_eq!(not_found, row == Row::B2);
        let other = with(&fail(err_code), &[("mch_id", "1900000100")]);
        check(Operation::Query, &other, Row::B1, Some(Alarm::WrongMerchant), false);
    }
    check(Operation::Query, &[("trade_state", "CLOSED")], Row::B1, Some(Alarm::UnknownWord), true);
}

#[test]
fn money_found_by_a_query_is_never_overlooked() {
    for (state, row, row_if_not_ours) in [("SUCCESS", Row::B4, Row::B5), ("REFUND", Row::B9, Row::B9)] {
        let paid = with(&PAID, &[("trade_state", state)]);
        let money = |verdict: Fact| match verdict {
            Fact::Query(QueryFact::Paid(paid)) if state == "SUCCESS" => paid,
            Fact::Query(QueryFact::Returned(paid)) if state == "REFUND" => paid,
            other => panic!("{other:?}"),
        };
        let ours = money(check(Operation::Query, &paid, row, None, true).fact);
        assert_eq!((ours.amount.get(), ours.merchant_matches), (1288, true));

        for other in [("sub_mch_id", "1900000111"), ("mch_id", "1900000100"), ("sub_mch_id", "")] {
            let alarm = Some(Alarm::WrongMerchant);
            let held = check(Operation::Query, &with(&paid, &[other]), row_if_not_ours, alarm, true);
            assert!(!money(held.fact).merchant_matches, "{other:?}");
        }
        let other = judge_answer(Operation::Query, &with(&paid, &[("total_fee", "1")]));
        assert_eq!(other.row, row_if_not_ours);
        assert_eq!(money(other.fact).amount.get(), 1);

        for (change, alarm) in [
            (("out_trade_no", ""), Alarm::NotVerified),
            (("out_trade_no", "P20261123000000000002"), Alarm::WrongOrder),
            (("total_fee", ""), Alarm::NotVerified),
            (("total_fee", "0"), Alarm::NotVerified),
            (("fee_type", "HKD"), Alarm::AmountDiffers),
            (("transaction_id", ""), Alarm::NotVerified),
        ] {
            let verdict = check(Operation::Query, &with(&paid, &[change]), Row::B1, Some(alarm), false);
            assert_eq!(verdict.fact, Fact::Query(QueryFact::Unclear), "{change:?}");
        }
    }
}

#[test]
fn answers_to_a_reversal() {
    use Alarm::{ReversalRefused, UnknownWord};
    for (result, err_code, recall, row, alarm) in [
        ("SUCCESS", "", "N", Row::C1, None),
        ("SUCCESS", "", "", Row::C1, None),
        ("SUCCESS", "", "Y", Row::C2, None),
        ("FAIL", "SYSTEMERROR", "Y", Row::C2, None),
        ("FAIL", "TRADE_ERROR", "Y", Row::C2, None),
        ("FAIL", "", "Y", Row::C2, None),
        ("PERHAPS", "", "Y", Row::C2, None),
        ("FAIL", "SYSTEMERROR", "N", Row::C4, None),
        ("FAIL", "SYSTEMERROR", "", Row::C4, None),
        ("FAIL", "USERPAYING", "Y", Row::C5, None),
        ("FAIL", "USERPAYING", "N", Row::C5, None),
        ("FAIL", "REVERSE_EXPIRE", "N", Row::C6, None),
        ("FAIL", "TRADE_ERROR", "N", Row::C7, Some(ReversalRefused)),
        ("FAIL", "INVALID_REQUEST", "", Row::C7, Some(ReversalRefused)),
        ("FAIL", "INVALID_TRANSACTIONID", "", Row::C7, Some(ReversalRefused)),
        ("FAIL", "PARAM_ERROR", "", Row::C7, Some(ReversalRefused)),
        ("FAIL", "ORDERPAID", "", Row::C7, Some(ReversalRefused)),
        ("FAIL", "SIGNERROR", "", Row::C7, Some(ReversalRefused)),
        ("FAIL", "ORDERNOTEXIST", "N", Row::C9, None),
        ("FAIL", "FREQUENCY_LIMITED", "", Row::C3, None),
        ("FAIL", "NEVER_SEEN_BEFORE", "", Row::C3, Some(UnknownWord)),
        ("FAIL", "", "", Row::C3, Some(UnknownWord)),
        ("PERHAPS", "", "N", Row::C3, Some(UnknownWord)),
    ] {
        let fields = [("result_code", result), ("err_code", err_code), ("recall", recall)];
        let fact = match row {
            Row::C1 => ReverseFact::Done,
            Row::C2 => ReverseFact::CallAgain,
            Row::C4 => ReverseFact::SystemError,
            Row::C5 => ReverseFact::InProgress,
            Row::C6 => ReverseFact::Expired,
            Row::C7 => ReverseFact::Refused,
            Row::C9 => ReverseFact::Absent,
            _ => ReverseFact::Unclear,
        };
        assert_eq!(check(Operation::Reverse, &fields, row, alarm, true).fact, Fact::Reverse(fact));
        for (other, alarm) in [
            (("mch_id", "1900000100"), Alarm::WrongMerchant),
            (("out_trade_no", "P20261123000000000002"), Alarm::WrongOrder),
        ] {
            let verdict = check(Operation::Reverse, &with(&fields, &[other]), Row::C3, Some(alarm), false);
            assert_eq!(verdict.fact, Fact::Reverse(ReverseFact::Unclear));
        }
    }
}

#[test]
fn answers_to_a_refund() {
    use Alarm::{RefundRefused, UnknownWord};
    let accepted = [
        ("result_code", "SUCCESS"),
        ("out_trade_no", NUMBER),
        ("total_fee", "1288"),
        ("out_refund_no", REFUND_NUMBER),
    ];
    let verdict = check(Operation::Refund, &accepted, Row::D1, None, true);
    assert_eq!(verdict.fact, Fact::Refund(RefundFact::Accepted));
    for (change, alarm) in [
        (("out_trade_no", ""), Alarm::NotVerified),
        (("total_fee", ""), Alarm::NotVerified),
        (("total_fee", "1"), Alarm::AmountDiffers),
        (("out_refund_no", ""), Alarm::NotVerified),
        (("out_refund_no", "R20261123000000000002"), Alarm::WrongOrder),
        (("mch_id", ""), Alarm::WrongMerchant),
    ] {
        let verdict = check(Operation::Refund, &with(&accepted, &[change]), Row::D2, Some(alarm), false);
        assert_eq!(verdict.fact, Fact::Refund(RefundFact::Unclear), "{change:?}");
    }
    for (err_code, row, alarm) in [
        ("SYSTEMERROR", Row::D2, None),
        ("BIZERR_NEED_RETRY", Row::D2, None),
        ("NOTENOUGH", Row::D3, Some(RefundRefused)),
        ("FREQUENCY_LIMITED", Row::D4, None),
        ("INVALID_REQ_TOO_MUCH", Row::D4, None),
        ("ORDERNOTEXIST", Row::D5, Some(RefundRefused)),
        ("TRADE_OVERDUE", Row::D5, Some(RefundRefused)),
        ("USER_ACCOUNT_ABNORMAL", Row::D5, Some(RefundRefused)),
        ("ERROR", Row::D5, Some(RefundRefused)),
        ("INVALID_REQUEST", Row::D5, Some(RefundRefused)),
        ("PARAM_ERROR", Row::D5, Some(RefundRefused)),
        ("NEVER_SEEN_BEFORE", Row::D2, Some(UnknownWord)),
        ("", Row::D2, Some(UnknownWord)),
    ] {
        let verdict = check(Operation::Refund, &fail(err_code), row, alarm, true);
        assert_eq!(verdict.throttled, row == Row::D4);
        let kind_fits = match verdict.fact {
            Fact::Refund(RefundFact::NotEnough) => row == Row::D3,
            Fact::Refund(RefundFact::Throttled) => row == Row::D4,
            Fact::Refund(RefundFact::Refused(refusal)) => row == Row::D5 && refusal.code.as_str() == err_code,
            Fact::Refund(RefundFact::Unclear) => row == Row::D2,
            other => panic!("{other:?}"),
        };
        assert!(kind_fits, "{err_code}");
    }
}

/// The rows of answers that never came or do not fit, in the order of `OPERATIONS`.
fn unfit(exchange: &Exchange<'_>, rows: [Row; 5], alarms: [Option<Alarm>; 5], throttled: bool) {
    let number = number();
    for ((operation, row), alarm) in OPERATIONS.into_iter().zip(rows).zip(alarms) {
        let verdict = judge(operation, exchange, &expected(&number, 1288), verify(Kind::Md5));
        assert_eq!((verdict.row, verdict.alarm), (row, alarm), "{operation:?} {exchange:?}");
        assert!(verdict.fact.is_unclear() && !verdict.keep_connection, "{operation:?} {exchange:?}");
        assert_eq!(verdict.throttled, throttled, "{operation:?} {exchange:?}");
    }
}

#[test]
fn exchanges_without_an_answer() {
    let _covers = covers::covers(&["INV-10", "NU-01", "NU-03"]);
    let lost = [Row::A2, Row::B1, Row::C3, Row::D2, Row::B9];
    unfit(&Exchange::Unsent, [Row::A1, Row::B1, Row::C3, Row::D2, Row::B9], [None; 5], false);
    unfit(&Exchange::Lost, lost, [None; 5], false);
    let certificate = [None, None, Some(Alarm::NoCertificate), Some(Alarm::NoCertificate), None];
    let refused = [Row::A2, Row::B1, Row::C8, Row::D2, Row::B9];
    unfit(&Exchange::NoCertificate, refused, certificate, false);
    let paid = answer(&PAID, true);
    unfit(&Exchange::Answer { status: 400, body: &paid }, refused, certificate, false);
    for status in [0, 100, 199, 201, 204, 301, 401, 404, 500, 502, 503] {
        unfit(&Exchange::Answer { status, body: &paid }, lost, [None; 5], false);
    }
    unfit(&Exchange::Answer { status: 429, body: b"" }, lost, [None; 5], true);
    for body in
        [&b""[..], b"<html>502</html>", b"{}", b"<xml></xml>", b"<xml><return_msg>OK</return_msg></xml>"]
    {
        unfit(&Exchange::Answer { status: 200, body }, lost, [None; 5], false);
    }
}

#[test]
fn unsigned_refusals_decide_nothing() {
    let _covers = covers::covers(&["INV-10", "UB-06"]);
    for (text, ours, throttled) in [
        ("签名错误", true, false),
        ("参数格式错误", true, false),
        ("XML格式错误", true, false),
        ("商户无权限", true, false),
        ("post数据为空", true, false),
        ("invalid Sign", true, false),
        ("系统繁忙", false, false),
        ("系统超时", false, false),
        ("频率限制", false, true),
        ("当前使用此业务的用户过多,请稍后再试", false, true),
        ("", false, false),
    ] {
        // A signature would change nothing: there is none in such messages.
        for signed in [false, true] {
            let body = answer(&[("return_code", "FAIL"), ("return_msg", text)], signed);
            let pay = if ours { Row::A3 } else { Row::A4 };
            let alarm = ours.then_some(Alarm::UnsignedRefusal);
            let rows = [pay, Row::B1, Row::C3, Row::D2, Row::B9];
            unfit(&Exchange::Answer { status: 200, body: &body }, rows, [alarm; 5], throttled);
        }
    }
    let body = answer(&[("return_code", "FAIL"), ("return_msg", "签名错误")], false);
    let number = number();
    let exchange = Exchange::Answer { status: 200, body: &body };
    let verdict = judge(Operation::Pay, &exchange, &expected(&number, 1288), verify(Kind::Md5));
    assert_eq!(verdict.fact, Fact::Pay(PayFact::RefusedUnsigned));
    let body = answer(&with(&PAID, &[("return_code", "success")]), true);
    let rows = [Row::A4, Row::B1, Row::C3, Row::D2, Row::B9];
    unfit(&Exchange::Answer { status: 200, body: &body }, rows, [None; 5], false);
}

#[test]
fn unsigned_success_decides_nothing() {
    let _covers = covers::covers(&["INV-04", "INV-25"]);
    let rows = [Row::A5, Row::B1, Row::C3, Row::D2, Row::B9];
    let alarms = [Some(Alarm::NotVerified); 5];
    for fields in [&PAID[..], &fail("NOTENOUGH"), &fail("SYSTEMERROR"), &fail("ORDERNOTEXIST"), &[]] {
        let unsigned = answer(fields, false);
        unfit(&Exchange::Answer { status: 200, body: &unsigned }, rows, alarms, false);
        let forged = answer(&with(fields, &[("sign", "00000000000000000000000000000000")]), false);
        unfit(&Exchange::Answer { status: 200, body: &forged }, rows, alarms, false);
        // The wrong method is a wrong signature.
        let signed = answer(fields, true);
        let number = number();
        let exchange = Exchange::Answer { status: 200, body: &signed };
        for (operation, row) in OPERATIONS.into_iter().zip(rows) {
            let verdict = judge(operation, &exchange, &expected(&number, 1288), verify(Kind::HmacSha256));
            assert_eq!((verdict.row, verdict.fact.is_unclear()), (row, true));
        }
    }
}

#[test]
fn a_refund_query_fails_without_a_word() {
    for (err_code, row, alarm) in [
        ("REFUNDNOTEXIST", Row::D10, None),
        ("SYSTEMERROR", Row::B9, None),
        ("FREQUENCY_LIMITED", Row::B9, None),
        ("PARAM_ERROR", Row::B9, Some(Alarm::Misconfigured)),
        ("NEVER_SEEN_BEFORE", Row::B9, Some(Alarm::UnknownWord)),
    ] {
        let verdict = check(Operation::RefundQuery, &fail(err_code), row, alarm, true);
        let none = verdict.fact == Fact::RefundQuery(RefundsPage::None);
        assert_eq!((none, verdict.fact.is_unclear()), (row == Row::D10, row != Row::D10));
    }
}
