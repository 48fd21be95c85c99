//! Every customer by himself, with nothing broken: what becomes durable and why, and what the till hears.

use state_machine::record::{Cause, Held};
use state_machine::shard::Said;
use state_machine::till::{self, PayAnswer};

use super::super::{Customers, Setup, Tills, World};

/// The states that became durable; cause, proof, and why it is held; the first word to the till; at the end the
/// word to the same payment again, and to a query.
fn story(bbss: u16) -> String {
    let setup = Setup {
        faults: false,
        customers: Customers::Only(bbss),
        tills: Tills::Patient,
        rate: 1,
        ..Setup::new(11, 1)
    };
    let mut world = World::new(setup, Some(0));
    let report = world.play_on();
    assert_eq!(report.violations, [], "{bbss:04}");
    let record = world.judge.durable(0).cloned().expect("accepted");
    let lines = world.lines.iter().map(|line| line.get(13..).unwrap_or_default());
    let first = lines.clone().find_map(|line| line.strip_prefix("till is told: ")?.split(' ').next());
    let mut states: Vec<&str> = lines
        .filter(|line| line.starts_with("durable: "))
        .filter_map(|line| line.split(' ').nth(3))
        .collect();
    states.dedup();
    let why = [
        record.cause.map(Cause::as_str),
        record.proof.map(protocol::fact::Row::as_str),
        record.held.map(Held::as_str),
    ];
    let why: Vec<&str> = why.into_iter().flatten().collect();
    let again = match till::pay(&record, Said::Repeated) {
        PayAnswer::Paid(_) => "SUCCESS",
        PayAnswer::Fail(fail) => fail.code,
    };
    let query = till::query(&record).trade_state;
    format!("{} | {} | {} {again} {query}", states.join(" "), why.join(" "), first.unwrap_or("-"))
}

/// Customer `bbss` ends as `expected`.
fn check(bbss: u16, expected: &str) {
    assert_eq!(story(bbss), expected, "customer {bbss:04}");
}

#[test]
fn who_pays_at_once_or_is_asked() {
    check(0, "ACCEPTED PAID | A6 | SUCCESS ORDERPAID SUCCESS");
    check(102, "ACCEPTED PENDING PAID | B4 | USERPAYING ORDERPAID SUCCESS");
    check(144, "ACCEPTED PENDING PAID | B4 | USERPAYING ORDERPAID SUCCESS");
    check(146, "ACCEPTED PENDING REVERSING REVERSED | deadline B8 | USERPAYING ORDERREVERSED REVOKED");
    check(200, "ACCEPTED PENDING REVERSING REVERSED | B7 B8 | USERPAYING ORDERREVERSED REVOKED");
    check(309, "ACCEPTED PENDING REVERSING REVERSED | B7 B8 | USERPAYING ORDERREVERSED REVOKED");
    check(340, "ACCEPTED PENDING REVERSING REVERSED | B7 B8 | USERPAYING ORDERREVERSED REVOKED");
    check(400, "ACCEPTED PENDING PAID | B4 | USERPAYING ORDERPAID SUCCESS");
    check(405, "ACCEPTED PENDING PAID | B4 | USERPAYING ORDERPAID SUCCESS");
    check(406, "ACCEPTED PENDING REVERSING REVERSED | B7 B8 | USERPAYING ORDERREVERSED REVOKED");
}

#[test]
fn who_is_refused() {
    check(500, "ACCEPTED FAILED | A11 | PAYERROR NOTENOUGH PAYERROR");
    check(600, "ACCEPTED FAILED | A9 | PAYERROR AUTHCODEEXPIRE PAYERROR");
    check(700, "ACCEPTED FAILED | A9 | PAYERROR AUTH_CODE_INVALID PAYERROR");
    check(2100, "ACCEPTED FAILED | A11 | PAYERROR TRADE_ERROR PAYERROR");
    check(2200, "ACCEPTED FAILED | A11 | PAYERROR NOTSUPORTCARD PAYERROR");
    check(2300, "ACCEPTED FAILED | A12 | USERPAYING OUT_TRADE_NO_USED PAYERROR");
    check(2400, "ACCEPTED FAILED | A13 | USERPAYING OUT_TRADE_NO_USED PAYERROR");
    check(2500, "ACCEPTED FAILED | A13 | USERPAYING INVALID_REQUEST PAYERROR");
    check(2600, "ACCEPTED REVERSING REVERSED | B3 C9 | USERPAYING ORDERREVERSED REVOKED");
    check(2700, "ACCEPTED FAILED | A15 | PAYERROR NOAUTH PAYERROR");
}

#[test]
fn pay_answers_that_say_nothing() {
    check(800, "ACCEPTED PAID | B4 | SUCCESS ORDERPAID SUCCESS");
    check(900, "ACCEPTED REVERSING REVERSED | deadline B8 | USERPAYING ORDERREVERSED REVOKED");
    check(1007, "ACCEPTED PAID | B4 | USERPAYING ORDERPAID SUCCESS");
    check(1060, "ACCEPTED REVERSING REVERSED | deadline B8 | USERPAYING ORDERREVERSED REVOKED");
    check(1100, "ACCEPTED PAID | B4 | SUCCESS ORDERPAID SUCCESS");
    check(1200, "ACCEPTED REVERSING REVERSED | B3 C9 | USERPAYING ORDERREVERSED REVOKED");
    check(1309, "ACCEPTED PAID | B4 | SUCCESS ORDERPAID SUCCESS");
    check(1320, "ACCEPTED PAID | B4 | SUCCESS ORDERPAID SUCCESS");
    check(1800, "ACCEPTED PAID | B4 | SUCCESS ORDERPAID SUCCESS");
    check(1900, "ACCEPTED PAID | B4 | SUCCESS ORDERPAID SUCCESS");
    check(2800, "ACCEPTED PAID | B4 | SUCCESS ORDERPAID SUCCESS");
    check(2900, "ACCEPTED PAID | B4 | SUCCESS ORDERPAID SUCCESS");
    check(3900, "ACCEPTED PAID | B4 | SUCCESS ORDERPAID SUCCESS");
}

#[test]
fn late_and_odd_queries() {
    check(1502, "ACCEPTED PENDING PAID | B4 | USERPAYING ORDERPAID SUCCESS");
    check(1520, "ACCEPTED PENDING PAID | B4 | USERPAYING ORDERPAID SUCCESS");
    check(2008, "ACCEPTED PAID | B4 | USERPAYING ORDERPAID SUCCESS");
    check(2020, "ACCEPTED PAID | B4 | USERPAYING ORDERPAID SUCCESS");
    check(2055, "ACCEPTED REVERSING REVERSED | B3 B8 | USERPAYING ORDERREVERSED REVOKED");
    check(3000, "ACCEPTED | differs | USERPAYING USERPAYING USERPAYING");
    check(3100, "ACCEPTED PENDING PAID | B4 | USERPAYING ORDERPAID SUCCESS");
    check(3103, "ACCEPTED PENDING PAID | B4 | USERPAYING ORDERPAID SUCCESS");
    check(3200, "ACCEPTED PENDING PAID | B4 | USERPAYING ORDERPAID SUCCESS");
    check(3304, "ACCEPTED PENDING FAILED | B8 | USERPAYING ORDERCLOSED PAYERROR");
    check(3404, "ACCEPTED PENDING FAILED | B8 | USERPAYING ORDERCLOSED PAYERROR");
    check(3504, "ACCEPTED PENDING FAILED | B9 | USERPAYING ORDERREVERSED PAYERROR");
}

#[test]
fn odd_reversals() {
    check(1400, "ACCEPTED PENDING REVERSING REVERSED | B7 B8 | USERPAYING ORDERREVERSED REVOKED");
    check(1402, "ACCEPTED PENDING REVERSING REVERSED | B7 B8 | USERPAYING ORDERREVERSED REVOKED");
    check(1600, "ACCEPTED PENDING REVERSING REVERSED | deadline B8 | USERPAYING ORDERREVERSED REVOKED");
    check(1602, "ACCEPTED PENDING REVERSING REVERSED | deadline B8 | USERPAYING ORDERREVERSED REVOKED");
    check(1700, "ACCEPTED PENDING REVERSING REVERSED | B7 B8 | USERPAYING ORDERREVERSED REVOKED");
    check(1702, "ACCEPTED PENDING REVERSING REVERSED | B7 B8 | USERPAYING ORDERREVERSED REVOKED");
    check(3600, "ACCEPTED PENDING REVERSING REVERSED | B7 B8 | USERPAYING ORDERREVERSED REVOKED");
    check(3602, "ACCEPTED PENDING REVERSING REVERSED | B7 B8 | USERPAYING ORDERREVERSED REVOKED");
    check(3700, "ACCEPTED PENDING REVERSING REVERSED | B7 C6 | USERPAYING ORDERREVERSED REVOKED");
    check(3800, "ACCEPTED PENDING REVERSING REVERSED | B7 B8 | USERPAYING ORDERREVERSED REVOKED");
}
