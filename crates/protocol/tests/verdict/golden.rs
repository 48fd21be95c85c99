//! Every stored answer comes to its row. Source: wechatpay-v2, appendix A.

use std::fs;

use protocol::fact::{PayFact, QueryFact, RefundStatus, Row, attach_digest};
use protocol::wechat_v2::verdict::{Exchange, RefundsPage};
use signer::Kind;

use crate::support::{Fact, Operation, expected, judge, number, verify};

fn vector(file: &str) -> Vec<u8> {
    fs::read(format!("{}/tests/vectors/{file}", env!("CARGO_MANIFEST_DIR"))).expect(file)
}

fn check(file: &str, operation: Operation, row: Row) -> Fact {
    let (number, body) = (number(), vector(file));
    let amount = if operation == Operation::RefundQuery { 1000 } else { 1288 };
    let kind = if file.starts_with("98") { Kind::HmacSha256 } else { Kind::Md5 };
    let exchange = Exchange::Answer { status: 200, body: &body };
    let verdict = judge(operation, &exchange, &expected(&number, amount), verify(kind));
    assert_eq!(verdict.row, row, "{file}: {verdict:?}");
    verdict.fact
}

#[test]
fn pay_answers() {
    for (file, row) in [
        ("04_micropay_resp_success.xml", Row::A6),
        ("05_micropay_resp_success_coupons.xml", Row::A6),
        ("06_micropay_resp_userpaying.xml", Row::A7),
        ("07_micropay_resp_userpaying_same_amount.xml", Row::A7),
        ("08_micropay_resp_notenough.xml", Row::A11),
        ("09_micropay_resp_systemerror.xml", Row::A8),
        ("10_micropay_resp_bankerror.xml", Row::A8),
        ("11_micropay_resp_code_used.xml", Row::A9),
        ("12_micropay_resp_code_expired.xml", Row::A9),
        ("13_micropay_resp_cancelled.xml", Row::A11),
        ("14_micropay_resp_orderpaid.xml", Row::A12),
        ("15_micropay_resp_return_fail.xml", Row::A3),
        ("16_micropay_resp_return_odd.xml", Row::A4),
        ("90_resp_unknown_fields.xml", Row::A6),
        ("91_resp_whitespace_value.xml", Row::A6),
        ("92_resp_escaped_text.xml", Row::A6),
        ("93_neg_tampered_amount.xml", Row::A5),
        ("94_neg_missing_sign.xml", Row::A5),
        ("95_neg_lowercase_sign.xml", Row::A5),
        ("96_neg_xxe.xml", Row::A2),
        ("97_neg_duplicate_element.xml", Row::A2),
        ("98_resp_hmac.xml", Row::A6),
    ] {
        let fact = check(file, Operation::Pay, row);
        assert_eq!(
            fact.is_unclear(),
            !matches!(row, Row::A6 | Row::A7 | Row::A9 | Row::A11 | Row::A12),
            "{file}"
        );
    }
}

#[test]
fn query_answers() {
    for (file, row) in [
        ("21_orderquery_resp_success.xml", Row::B4),
        ("22_orderquery_resp_success_coupons.xml", Row::B4),
        ("23_orderquery_resp_refund.xml", Row::B9),
        ("24_orderquery_resp_notpay.xml", Row::B6),
        ("25_orderquery_resp_closed.xml", Row::B8),
        ("26_orderquery_resp_revoked.xml", Row::B8),
        ("27_orderquery_resp_userpaying.xml", Row::B6),
        ("28_orderquery_resp_payerror.xml", Row::B7),
        ("29_orderquery_resp_accept.xml", Row::B6),
        ("30_orderquery_resp_notexist.xml", Row::B2),
        ("31_orderquery_resp_systemerror.xml", Row::B1),
    ] {
        check(file, Operation::Query, row);
    }
}

#[test]
fn reversal_and_refund_answers() {
    for (file, operation, row) in [
        ("41_reverse_resp_done.xml", Operation::Reverse, Row::C1),
        ("42_reverse_resp_recall_y.xml", Operation::Reverse, Row::C2),
        ("43_reverse_resp_success_recall_y.xml", Operation::Reverse, Row::C2),
        ("44_reverse_resp_userpaying.xml", Operation::Reverse, Row::C5),
        ("45_reverse_resp_expired.xml", Operation::Reverse, Row::C6),
        ("51_refund_resp_accepted.xml", Operation::Refund, Row::D1),
        ("52_refund_resp_coupons.xml", Operation::Refund, Row::D1),
        ("53_refund_resp_need_retry.xml", Operation::Refund, Row::D2),
        ("54_refund_resp_notenough.xml", Operation::Refund, Row::D3),
        ("62_refundquery_resp_notexist.xml", Operation::RefundQuery, Row::D10),
    ] {
        check(file, operation, row);
    }
}

#[test]
fn money_is_read_whole() {
    let Fact::Pay(PayFact::Paid(paid)) = check("04_micropay_resp_success.xml", Operation::Pay, Row::A6)
    else {
        panic!("paid");
    };
    assert_eq!(paid.amount.get(), 1288);
    assert_eq!(paid.transaction_id.as_str(), "4200002611202611231234567890");
    assert_eq!(paid.time_end_s, Some(1_795_400_103));
    assert_eq!(paid.attach, 0);
    assert!(paid.merchant_matches);
    let names: Vec<_> = paid.fields.iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        [
            "openid",
            "is_subscribe",
            "sub_openid",
            "sub_is_subscribe",
            "trade_type",
            "bank_type",
            "fee_type",
            "total_fee",
            "cash_fee_type",
            "cash_fee",
            "transaction_id",
            "attach",
            "time_end"
        ]
    );
    let Fact::Pay(PayFact::Paid(paid)) = check("91_resp_whitespace_value.xml", Operation::Pay, Row::A6)
    else {
        panic!("paid");
    };
    assert_eq!(paid.attach, attach_digest("  前后有空格  "));
    assert_eq!(paid.fields.get("attach"), Some("  前后有空格  "));
}

#[test]
fn refusals_keep_the_wallet_s_words() {
    let Fact::Pay(PayFact::Refused(refusal)) =
        check("08_micropay_resp_notenough.xml", Operation::Pay, Row::A11)
    else {
        panic!("refused");
    };
    assert_eq!(refusal.code.as_str(), "NOTENOUGH");
    assert!(!refusal.description.is_empty());
}

#[test]
fn refunded_payment_is_returned_money() {
    let Fact::Query(QueryFact::Returned(paid)) =
        check("23_orderquery_resp_refund.xml", Operation::Query, Row::B9)
    else {
        panic!("returned");
    };
    assert_eq!((paid.amount.get(), paid.merchant_matches), (1288, true));
    assert_eq!(paid.fields.get("trade_state"), None);
}

#[test]
fn refunds_are_listed_one_by_one() {
    let fact = check("61_refundquery_resp_two_refunds.xml", Operation::RefundQuery, Row::B9);
    let Fact::RefundQuery(RefundsPage::Listed { total, records, count }) = fact else { panic!("listed") };
    assert_eq!((total.get(), count), (1000, None));
    let listed: Vec<_> = records.iter().map(|r| (&*r.out_refund_no, r.amount.get(), r.status)).collect();
    assert_eq!(
        listed,
        [
            ("R20261123000000000011", 400, RefundStatus::Success),
            ("R20261123000000000012", 600, RefundStatus::Processing)
        ]
    );
}
