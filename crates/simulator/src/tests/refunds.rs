//! Refunds and their queries. Source: wechatpay-v2 §3.4, §3.5.

use super::{Desk, NO, key, options, words};
use crate::{Answer, Call, Code, Number, Refund, RefundNumber, Reply};

impl Desk {
    fn refund(&mut self, out_refund_no: &str, refund_fee: u64) -> String {
        let refund = Refund {
            number: Number::OutTradeNo(NO.into()),
            out_refund_no: out_refund_no.into(),
            total_fee: 1000,
            refund_fee,
        };
        words(&self.call(Call::Refund(refund)).reply)
    }

    fn refunds(&mut self, number: RefundNumber, offset: Option<u32>) -> Answer {
        let reply = self.call(Call::RefundQuery { number, offset }).reply;
        let Reply::Answer(answer) = reply else { panic!("no answer: {reply:?}") };
        answer
    }

    fn refunds_of_order(&mut self, offset: Option<u32>) -> Answer {
        self.refunds(RefundNumber::Order(Number::OutTradeNo(NO.into())), offset)
    }
}

/// A desk with a payment of 10 CNY.
fn paid(bbss: u16) -> Desk {
    let mut desk = Desk::new(options());
    desk.pay(NO, &Code::for_customer(bbss, 1), 1000);
    desk
}

fn fields<'a>(answer: &'a Answer, names: &[&str]) -> Vec<&'a str> {
    names.iter().map(|name| answer.get(name).unwrap_or("-")).collect()
}

#[test]
fn a_refund_is_accepted_first_and_done_later() {
    let mut desk = paid(0);
    assert_eq!(desk.refund("R1", 400), "SUCCESS");
    assert_eq!(words(&desk.query(NO).reply), "REFUND");
    let names =
        ["refund_count", "refund_fee_0", "refund_status_0", "refund_success_time_0", "total_refund_count"];
    assert_eq!(fields(&desk.refunds_of_order(None), &names), ["1", "400", "PROCESSING", "-", "-"]);
    assert_eq!(desk.wallet.entry(&key(NO)).map(|entry| entry.returned_fen), Some(0));
    desk.at_s(10);
    assert_eq!(
        fields(&desk.refunds_of_order(Some(0)), &names),
        ["1", "400", "SUCCESS", "2026-11-23 10:15:10", "1"]
    );
    assert_eq!(desk.wallet.entry(&key(NO)).map(|entry| entry.returned_fen), Some(400));
    assert_eq!(words(&desk.reverse(NO).reply), "TRADE_ERROR/N");
}

#[test]
fn the_same_refund_number_refunds_once() {
    let mut desk = paid(0);
    assert_eq!(desk.refund("R1", 400), "SUCCESS");
    assert_eq!(desk.refund("R1", 400), "SUCCESS");
    assert_eq!(desk.refund("R1", 401), "INVALID_REQUEST");
    desk.at_s(20);
    desk.wallet.advance(desk.now_ms);
    let entry = desk.wallet.entry(&key(NO)).expect("recorded");
    assert_eq!((entry.refunds, entry.returned_fen), (1, 400));
}

#[test]
fn refunds_never_exceed_the_payment() {
    let mut desk = paid(0);
    assert_eq!(desk.refund("R1", 600), "SUCCESS");
    assert_eq!(desk.refund("R2", 400), "FREQUENCY_LIMITED");
    desk.at_s(60);
    assert_eq!(desk.refund("R2", 401), "ERROR");
    assert_eq!(desk.refund("R2", 0), "PARAM_ERROR");
    assert_eq!(desk.refund("R2", 400), "SUCCESS");
    desk.at_s(120);
    assert_eq!(desk.refund("R3", 1), "ERROR");
    let entry = desk.wallet.entry(&key(NO)).expect("recorded");
    assert_eq!(
        (entry.captured_fen, entry.returned_fen, entry.refunds, entry.violations.len()),
        (1000, 1000, 2, 2)
    );
}

#[test]
fn what_is_not_paid_cannot_be_refunded() {
    assert_eq!(paid(200).refund("R1", 1000), "ORDERNOTEXIST");
    assert_eq!(paid(600).refund("R1", 1000), "ORDERNOTEXIST");
    let mut desk = paid(0);
    desk.at_s(15);
    desk.reverse(NO);
    assert_eq!(desk.refund("R1", 1000), "ERROR");
    assert_eq!(answer_code(&desk.refunds_of_order(None)), "REFUNDNOTEXIST");
    desk = paid(0);
    desk.at_s(366 * 86_400);
    assert_eq!(desk.refund("R1", 1000), "TRADE_OVERDUE");
}

#[test]
fn refunds_come_in_pages_of_ten() {
    let mut desk = paid(0);
    for n in 0..50 {
        desk.at_s(60 * n);
        assert_eq!(desk.refund(&format!("R{n}"), 2), "SUCCESS", "{n}");
    }
    desk.at_s(60 * 50);
    assert_eq!(desk.refund("R50", 2), "ERROR", "50 refunds are the most");
    let names = ["refund_count", "total_refund_count", "out_refund_no_0", "out_refund_no_9", "refund_fee"];
    assert_eq!(fields(&desk.refunds_of_order(None), &names), ["10", "50", "R0", "R9", "100"]);
    assert_eq!(fields(&desk.refunds_of_order(Some(45)), &names), ["5", "50", "R45", "-", "100"]);
    assert_eq!(answer_code(&desk.refunds_of_order(Some(50))), "PARAM_ERROR");
}

#[test]
fn one_refund_is_found_by_either_number() {
    let mut desk = paid(0);
    desk.refund("R1", 400);
    let by_no = desk.refunds(RefundNumber::OutRefundNo("R1".into()), None);
    let refund_id = by_no.get("refund_id_0").expect("listed").to_owned();
    let by_id = desk.refunds(RefundNumber::RefundId(refund_id.into()), None);
    assert_eq!(fields(&by_id, &["out_refund_no_0", "refund_fee_0"]), ["R1", "400"]);
    let unknown = desk.refunds(RefundNumber::OutRefundNo("R2".into()), None);
    assert_eq!(answer_code(&unknown), "REFUNDNOTEXIST");
}

#[test]
fn a_refund_on_the_platform_is_listed_in_full() {
    let mut desk = paid(3503);
    desk.at_s(3);
    let names = ["refund_count", "refund_fee_0", "refund_status_0", "refund_fee", "total_fee"];
    assert_eq!(fields(&desk.refunds_of_order(Some(0)), &names), ["1", "1000", "SUCCESS", "1000", "1000"]);
}

fn answer_code(answer: &Answer) -> &str {
    answer.get("err_code").unwrap_or("SUCCESS")
}
