//! One line a customer: what was done, and what the customer and the wallet made of it. Source: DESIGN §5.

use super::{Desk, options};
use crate::{Code, behaviour, customers_table};

/// Customer `bbss` pays 12.88 CNY.
fn check(bbss: u16, script: &str, expected: &str) {
    check_amount(bbss, 1288, script, expected);
}

fn check_amount(bbss: u16, fen: u64, script: &str, expected: &str) {
    let mut desk = Desk::new(options());
    desk.play(script, &Code::for_customer(bbss, 7), fen);
    assert_eq!(desk.story(), expected, "customer {bbss:04}: {script}");
}

#[test]
fn customers_who_pay_at_once_or_are_asked() {
    check(0, "pay query", "SUCCESS SUCCESS | paid 1288-0 done@0");
    check(112, "pay @11 query @12 query", "USERPAYING USERPAYING SUCCESS | paid 1288-0 done@12");
    check(144, "pay @43 query @44 query", "USERPAYING USERPAYING SUCCESS | paid 1288-0 done@44");
    check(100, "pay query", "USERPAYING SUCCESS | paid 1288-0 done@0");
    check(200, "pay @29 query @30 query", "USERPAYING USERPAYING PAYERROR | pay_error 0-0");
    check(309, "pay @8 query @9 query", "USERPAYING USERPAYING PAYERROR | pay_error 0-0 done@9");
    check(340, "pay @30 query @50", "USERPAYING PAYERROR | pay_error 0-0");
    check(400, "pay @1 query @2 query", "USERPAYING USERPAYING SUCCESS | paid 1288-0 done@2");
    check(405, "pay @11 query @12 query", "USERPAYING USERPAYING SUCCESS | paid 1288-0 done@12");
    check(406, "pay @11 query @12 query", "USERPAYING USERPAYING PAYERROR | pay_error 0-0 done@12");
    check(6700, "pay", "SUCCESS | paid 1288-0 done@0");
}

#[test]
fn customers_who_are_refused() {
    check(500, "pay query", "NOTENOUGH NOTPAY | not_pay 0-0");
    check(600, "pay query", "AUTHCODEEXPIRE ORDERNOTEXIST | refused 0-0");
    check(700, "pay query", "AUTH_CODE_INVALID ORDERNOTEXIST | refused 0-0");
    check(2100, "pay query", "TRADE_ERROR PAYERROR | pay_error 0-0");
    check(2200, "pay query", "NOTSUPORTCARD ORDERNOTEXIST | refused 0-0");
    check(2300, "pay query", "ORDERPAID ORDERNOTEXIST | refused 0-0");
    check(2400, "pay query", "OUT_TRADE_NO_USED ORDERNOTEXIST | refused 0-0");
    check(2500, "pay query", "INVALID_REQUEST ORDERNOTEXIST | refused 0-0");
    check(2600, "pay query", "FREQUENCY_LIMITED ORDERNOTEXIST | refused 0-0");
    check(2700, "pay query", "NOAUTH ORDERNOTEXIST | refused 0-0");
}

#[test]
fn wallets_whose_pay_answer_says_nothing() {
    check(800, "pay query", "SYSTEMERROR SUCCESS | paid 1288-0 done@0");
    check(900, "pay query @60 query", "SYSTEMERROR NOTPAY NOTPAY | not_pay 0-0");
    check(1007, "pay @6 query @7 query", "BANKERROR NOTPAY SUCCESS | paid 1288-0 done@7");
    check(1030, "pay @20 reverse @40 query", "BANKERROR SUCCESS/N REVOKED | revoked 0-0");
    check(1100, "pay query", "drop SUCCESS | paid 1288-0 done@0");
    check(1200, "pay query @20 reverse @60 query", "drop ORDERNOTEXIST SUCCESS/N ORDERNOTEXIST | lost 0-0");
    check(1309, "pay query", "SUCCESS+9000 SUCCESS | paid 1288-0 done@0");
    check(1800, "pay query", "unsigned:系统繁忙 SUCCESS | paid 1288-0 done@0");
    check(1900, "pay query", "forged:SUCCESS SUCCESS | paid 1288-0 done@0");
    check(2800, "pay query", "PAYER_UNDER_REVIEW SUCCESS | paid 1288-0 done@0");
    check(2900, "pay query", "other:SUCCESS SUCCESS | paid 1288-0 done@0");
    check(3900, "pay query", "http502 SUCCESS | paid 1288-0 done@0");
}

#[test]
fn wallets_that_are_late_or_odd_in_queries() {
    check(
        1505,
        "pay @2 query @3 query @5 query",
        "USERPAYING ORDERNOTEXIST USERPAYING SUCCESS | paid 1288-0 done@5",
    );
    check(2020, "pay @19 query @20 query", "hang ORDERNOTEXIST SUCCESS | paid 1288-0 done@20");
    check(2099, "pay @54 query @55 query", "hang ORDERNOTEXIST SUCCESS | paid 1288-0 done@55");
    check(
        2030,
        "pay @16 reverse query @30 query @31 reverse query",
        "hang SUCCESS/N ORDERNOTEXIST SUCCESS SUCCESS/N REVOKED | revoked 1288-1288 done@30",
    );
    check(
        3104,
        "pay @5 query query query query query",
        "USERPAYING SYSTEMERROR drop http502 SYSTEMERROR SUCCESS | paid 1288-0 done@3",
    );
    check(3200, "pay @5 query @6 query @7 query", "USERPAYING ACCEPT DEBITING SUCCESS | paid 1288-0 done@7");
    check(3200, "pay @5 query @16 reverse query", "USERPAYING ACCEPT SUCCESS/N REVOKED | revoked 0-0");
    check(3306, "pay @5 query @6 query", "USERPAYING USERPAYING CLOSED | closed 0-0");
    check(3406, "pay @5 query @6 query", "USERPAYING USERPAYING REVOKED | revoked 0-0");
    check(3506, "pay @5 query @6 query", "USERPAYING USERPAYING REFUND | refund 1288-1288 done@6");
}

#[test]
fn wallets_that_are_odd_in_reversals() {
    check(200, "pay @20 reverse", "USERPAYING USERPAYING/Y | paying 0-0");
    check(
        1402,
        "pay @31 reverse query reverse query reverse query",
        "USERPAYING SUCCESS/Y PAYERROR SUCCESS/Y PAYERROR SUCCESS/N REVOKED | revoked 0-0",
    );
    check(
        1600,
        "pay @44 query @45 reverse query",
        "USERPAYING USERPAYING SUCCESS/N REVOKED | revoked 1288-1288 done@45",
    );
    check(
        1601,
        "pay @45 reverse query @50 reverse query",
        "USERPAYING USERPAYING/Y SUCCESS SUCCESS/N REVOKED | revoked 1288-1288 done@45",
    );
    check(
        1701,
        "pay @31 reverse query reverse query",
        "USERPAYING SUCCESS/N PAYERROR SUCCESS/N REVOKED | revoked 0-0",
    );
    check(
        3602,
        "pay @31 reverse reverse query reverse query",
        "USERPAYING SYSTEMERROR/Y SYSTEMERROR/Y PAYERROR SUCCESS/N REVOKED | revoked 0-0",
    );
    check(
        3700,
        "pay @31 reverse query reverse query",
        "USERPAYING REVERSE_EXPIRE/N PAYERROR SUCCESS/N REVOKED | revoked 0-0",
    );
    check(
        3800,
        "pay @31 reverse query reverse query",
        "USERPAYING INVALID_REQUEST/N PAYERROR SUCCESS/N REVOKED | revoked 0-0",
    );
}

#[test]
fn another_amount_is_charged_and_reported() {
    check(3000, "pay query", "SUCCESS SUCCESS | paid 1289-0 done@0");
    let mut desk = Desk::new(options());
    let paid = desk.pay(super::NO, &Code::for_customer(3000, 7), 1288);
    assert_eq!(paid.reply.answer().and_then(|answer| answer.get("total_fee")), Some("1289"));
    let queried = desk.query(super::NO);
    assert_eq!(queried.reply.answer().and_then(|answer| answer.get("total_fee")), Some("1289"));
}

#[test]
fn the_answer_of_another_order_has_the_same_amount_and_another_number() {
    let mut desk = Desk::new(options());
    let paid = desk.pay(super::NO, &Code::for_customer(2900, 7), 1288);
    let answer = paid.reply.answer().expect("an answer");
    assert_eq!(answer.get("total_fee"), Some("1288"));
    assert_ne!(answer.get("out_trade_no"), Some(super::NO));
    assert!(answer.of_another_order);
    let queried = desk.query(super::NO);
    assert_eq!(queried.reply.answer().and_then(|answer| answer.get("out_trade_no")), Some(super::NO));
}

#[test]
fn a_large_amount_asks_whoever_would_pay_without_a_password() {
    check_amount(0, 100_000, "pay", "SUCCESS | paid 100000-0 done@0");
    check_amount(0, 100_001, "pay @5 query @6 query", "USERPAYING USERPAYING SUCCESS | paid 100001-0 done@6");
    check_amount(1100, 100_001, "pay @6 query", "drop SUCCESS | paid 100001-0 done@6");
    check_amount(
        1001,
        100_001,
        "pay @5 query @6 query",
        "BANKERROR USERPAYING SUCCESS | paid 100001-0 done@6",
    );
    check_amount(2010, 100_001, "pay @15 query @16 query", "hang USERPAYING SUCCESS | paid 100001-0 done@16");
    check_amount(112, 100_001, "pay @11 query", "USERPAYING USERPAYING | paying 0-0");
    check_amount(500, 100_001, "pay", "NOTENOUGH | not_pay 0-0");
}

#[test]
fn the_table_for_people_has_a_line_for_every_customer() {
    let table = customers_table();
    for bb in (0..=39).chain([99]) {
        assert_eq!(table.matches(&format!("\n  {bb:02}  ")).count(), 1, "{bb:02}");
    }
    // Every number but those that pay at once does something of its own.
    let at_once = behaviour(0, 3);
    for bb in 1..=39 {
        assert_ne!(crate::Behaviour { bb: 0, ..behaviour(bb, 3) }, at_once, "{bb:02}");
    }
}
