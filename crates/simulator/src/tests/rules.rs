//! Rules that hold whatever the customer: numbers, codes, dialogs, reversals, callers.

use super::{Desk, NO, START_MS, caller, key, options, words};
use crate::{Call, Caller, Code, Key, Micropay, Number, Options, Request, State, SubMerchants, Violation};

fn check(options: Options, bbss: u16, script: &str, expected: &str) {
    let mut desk = Desk::new(options);
    desk.play(script, &Code::for_customer(bbss, 7), 1288);
    assert_eq!(desk.story(), expected, "customer {bbss:04}: {script}");
}

#[test]
fn a_repeated_pay_request_never_charges_twice() {
    let repeated = "pay_request_repeated";
    check(options(), 0, "pay pay", &format!("SUCCESS ORDERPAID | paid 1288-0 done@0 {repeated}"));
    check(options(), 105, "pay pay", &format!("USERPAYING USERPAYING | paying 0-0 {repeated}"));
    check(options(), 303, "pay @4 pay", &format!("USERPAYING TRADE_ERROR | pay_error 0-0 done@3 {repeated}"));
    check(options(), 500, "pay pay", &format!("NOTENOUGH NOTENOUGH | not_pay 0-0 {repeated}"));
    check(options(), 900, "pay pay", &format!("SYSTEMERROR SYSTEMERROR | not_pay 0-0 {repeated}"));
    check(options(), 1200, "pay pay", &format!("drop drop | lost 0-0 {repeated}"));
    check(
        options(),
        2050,
        "pay @1 pay @60 query",
        &format!("hang ORDERPAID SUCCESS | paid 1288-0 done@1 {repeated}"),
    );
    check(options(), 3301, "pay @2 pay", &format!("USERPAYING ORDERCLOSED | closed 0-0 {repeated}"));
    check(
        options(),
        0,
        "pay @16 reverse pay",
        &format!("SUCCESS SUCCESS/N ORDERREVERSED | revoked 1288-1288 done@0 pay_after_reversal {repeated}"),
    );
}

#[test]
fn other_content_under_the_number_is_refused() {
    let mut desk = Desk::new(options());
    desk.pay(NO, &Code::for_customer(0, 1), 1288);
    assert_eq!(words(&desk.pay(NO, &Code::for_customer(0, 1), 1289).reply), "OUT_TRADE_NO_USED");
    assert_eq!(words(&desk.pay(NO, &Code::for_customer(0, 2), 1288).reply), "OUT_TRADE_NO_USED");
    let entry = desk.wallet.entry(&key(NO)).expect("recorded");
    assert_eq!(entry.violations, [Violation::ContentChanged, Violation::ContentChanged]);
    assert_eq!(
        (entry.pay_requests, entry.captures, entry.content.as_str()),
        (3, 1, "out_trade_no=P20261123000000000001&total_fee=1288")
    );
}

#[test]
fn numbers_belong_to_a_merchant() {
    let mut desk = Desk::new(options());
    desk.pay(NO, &Code::for_customer(0, 1), 1288);
    let neighbour = Caller { sub_mch_id: "1900000111".into(), ..caller() };
    let request = |call| Request { caller: neighbour.clone(), call };
    let pay = Call::Micropay(Micropay::new(NO, Code::for_customer(0, 2).as_str(), 5));
    assert_eq!(words(&desk.wallet.handle(&request(pay), START_MS).reply), "SUCCESS");
    let transaction_id = desk.wallet.entry(&key(NO)).expect("recorded").transaction_id.clone();
    let query = Call::OrderQuery(Number::TransactionId(transaction_id.into()));
    assert_eq!(words(&desk.wallet.handle(&request(query.clone()), START_MS).reply), "ORDERNOTEXIST");
    assert_eq!(words(&desk.call(query).reply), "SUCCESS");
    assert_eq!(desk.wallet.entry(&Key::new("1900000109", "1900000111", NO)).map(|e| e.captured_fen), Some(5));
}

#[test]
fn a_code_pays_once() {
    let mut desk = Desk::new(options());
    let code = Code::for_customer(112, 1);
    desk.pay(NO, &code, 1288);
    let second = desk.pay("P2", &code, 1288);
    let answer = second.reply.answer().expect("an answer");
    assert_eq!(answer.get("err_code"), Some("AUTH_CODE_INVALID"));
    assert_eq!(answer.get("err_code_des"), Some("每个二维码仅限使用一次，请刷新再试"));
    assert_eq!(words(&desk.query("P2").reply), "ORDERNOTEXIST");
    assert_eq!(
        words(&desk.call(Call::Micropay(Micropay::new("P3", "281234567890123456", 1))).reply),
        "AUTH_CODE_INVALID"
    );
}

#[test]
fn the_eleventh_free_payment_of_a_day_asks() {
    let mut desk = Desk::new(options());
    let mut pay = |at_s: i64, payer: u32, serial: u32| {
        desk.at_s(at_s);
        words(&desk.pay(&format!("P{payer}-{serial}"), &Code::for_payer(0, payer, serial), 1).reply)
    };
    for serial in 0..10 {
        assert_eq!(pay(0, 5, serial), "SUCCESS", "{serial}");
    }
    assert_eq!(pay(0, 5, 10), "USERPAYING");
    assert_eq!(pay(0, 6, 0), "SUCCESS", "another payer has payments of its own");
    // It is 10:15 in Beijing: the day ends 13 h 45 min later.
    assert_eq!(pay(13 * 3600 + 45 * 60 - 1, 5, 11), "USERPAYING");
    assert_eq!(pay(13 * 3600 + 45 * 60, 5, 12), "SUCCESS");
}

#[test]
fn a_reversal_returns_everything_once_and_repeats_its_answer() {
    check(
        options(),
        0,
        "pay @15 reverse query reverse @99 reverse query",
        "SUCCESS SUCCESS/N REVOKED SUCCESS/N SUCCESS/N REVOKED | revoked 1288-1288 done@0",
    );
    check(options(), 3301, "pay @20 reverse query", "USERPAYING SUCCESS/N CLOSED | closed 0-0");
    check(
        options(),
        3501,
        "pay @20 reverse query",
        "USERPAYING TRADE_ERROR/N REFUND | refund 1288-1288 done@1",
    );
}

#[test]
fn an_early_reversal_is_done_and_noted() {
    check(options(), 0, "pay @14 reverse", "SUCCESS SUCCESS/N | revoked 1288-1288 done@0 early_reversal");
    check(options(), 0, "pay @15 reverse", "SUCCESS SUCCESS/N | revoked 1288-1288 done@0");
    check(options(), 200, "pay @14 reverse", "USERPAYING USERPAYING/Y | paying 0-0 early_reversal");
    check(options(), 1200, "pay @14 reverse", "drop SUCCESS/N | lost 0-0 early_reversal");
    let slack = Options { reversal_slack_ms: 1000, ..options() };
    check(slack, 0, "pay @14 reverse", "SUCCESS SUCCESS/N | revoked 1288-1288 done@0");
    let fast = Options { speed: 5, ..options() };
    check(fast.clone(), 0, "pay @2 reverse", "SUCCESS SUCCESS/N | revoked 1288-1288 done@0 early_reversal");
    check(fast, 0, "pay @3 reverse", "SUCCESS SUCCESS/N | revoked 1288-1288 done@0");
}

#[test]
fn a_payment_cannot_be_reversed_after_seven_days() {
    let week = 7 * 86_400;
    check(options(), 0, &format!("pay @{} reverse", week), "SUCCESS SUCCESS/N | revoked 1288-1288 done@0");
    check(
        options(),
        0,
        &format!("pay @{} reverse", week + 1),
        "SUCCESS REVERSE_EXPIRE/N | paid 1288-0 done@0",
    );
}

#[test]
fn the_reversal_of_an_unknown_number_is_forgotten_unless_the_option_fences() {
    let mut desk = Desk::new(options());
    assert_eq!(words(&desk.reverse(NO).reply), "SUCCESS/N");
    assert_eq!(words(&desk.query(NO).reply), "ORDERNOTEXIST");
    assert_eq!(words(&desk.pay(NO, &Code::for_customer(0, 1), 1).reply), "SUCCESS");
    assert_eq!(desk.wallet.stats().unknown_reversals, 1);

    let fencing = Options { fences_unknown_reversals: true, ..options() };
    let mut desk = Desk::new(fencing.clone());
    desk.reverse(NO);
    assert_eq!(words(&desk.pay(NO, &Code::for_customer(0, 1), 1).reply), "ORDERREVERSED");
    check(fencing, 2030, "pay @16 reverse @31 query", "hang SUCCESS/N ORDERNOTEXIST | refused 0-0");
}

#[test]
fn auto_revoke_is_an_option() {
    check(options(), 900, "pay @45 query", "SYSTEMERROR NOTPAY | not_pay 0-0");
    let revoking = || Options { auto_revoke_after_s: Some(45), ..options() };
    check(revoking(), 900, "pay @44 query @45 query", "SYSTEMERROR NOTPAY REVOKED | revoked 0-0");
    check(revoking(), 200, "pay @44 query @45 query", "USERPAYING PAYERROR REVOKED | revoked 0-0");
    check(
        revoking(),
        160,
        "pay @44 query @45 query @61 query",
        "USERPAYING USERPAYING REVOKED REVOKED | revoked 0-0",
    );
    check(revoking(), 0, "pay @45 query", "SUCCESS SUCCESS | paid 1288-0 done@0");
}

#[test]
fn speed_divides_customers_and_wallet() {
    let fast = || Options { speed: 10, ..options() };
    check(fast(), 150, "pay @4 query @5 query", "USERPAYING USERPAYING SUCCESS | paid 1288-0 done@5");
    check(fast(), 200, "pay @2 query @3 query", "USERPAYING USERPAYING PAYERROR | pay_error 0-0");
    check(fast(), 1330, "pay", "SUCCESS+3000 | paid 1288-0 done@0");
    check(fast(), 2050, "pay @4 query @5 query", "hang ORDERNOTEXIST SUCCESS | paid 1288-0 done@5");
}

#[test]
fn callers_whose_ids_do_not_belong_together_are_refused() {
    let check = |policy: SubMerchants, change: fn(&mut Caller), expected: &str| {
        let mut options = options();
        options.providers[0].sub_merchants = policy;
        let mut desk = Desk::new(options);
        let mut caller = caller();
        change(&mut caller);
        let pay = Call::Micropay(Micropay::new(NO, Code::for_customer(0, 1).as_str(), 1));
        let outcome = desk.wallet.handle(&Request { caller, call: pay }, START_MS);
        assert_eq!(words(&outcome.reply), expected);
    };
    let listed = || SubMerchants::Listed(vec!["1900000110".to_owned()]);
    check(listed(), |_| {}, "SUCCESS");
    check(listed(), |c| c.sub_mch_id = "1900000111".into(), "unsigned:受理关系不存在");
    check(SubMerchants::Any, |c| c.sub_mch_id.clear(), "unsigned:受理机构必须传入sub_mch_id");
    check(SubMerchants::Plain, |c| c.sub_mch_id.clear(), "SUCCESS");
    check(SubMerchants::Plain, |_| {}, "unsigned:普通商户不能传入sub_mch_id");
    check(SubMerchants::Any, |c| c.appid = "wx2421b1c4370ec43b".into(), "APPID_MCHID_NOT_MATCH");
    check(SubMerchants::Any, |c| c.mch_id = "1900000999".into(), "unsigned:商户号非法");
}

#[test]
fn events_can_be_stepped_exactly() {
    let mut desk = Desk::new(options());
    assert_eq!(desk.wallet.next_event_at(), None);
    desk.pay(NO, &Code::for_customer(112, 1), 1);
    desk.pay("P2", &Code::for_customer(103, 2), 1);
    assert_eq!(desk.wallet.stats().peak_open_dialogs, 2);
    for (at_s, state) in [(3, State::Paying), (12, State::Paid)] {
        assert_eq!(desk.wallet.next_event_at(), Some(START_MS + at_s * 1000));
        desk.wallet.advance(START_MS + at_s * 1000);
        assert_eq!(desk.wallet.entry(&key(NO)).map(|entry| entry.state), Some(state));
    }
    assert_eq!(desk.wallet.next_event_at(), None);
    let stats = desk.wallet.stats();
    assert_eq!((stats.open_dialogs, stats.peak_open_dialogs, stats.pay_requests), (0, 2, 2));
    // Time that goes back counts as the latest seen.
    assert_eq!(desk.query(NO).at_ms, START_MS + 12_000);
}

#[test]
fn an_answer_takes_the_time_that_the_options_say() {
    let mut desk = Desk::new(Options { answer_ms: (50, 300), speed: 2, ..options() });
    let late: Vec<i64> = (0..200).map(|_| desk.query(NO).at_ms - START_MS).collect();
    assert!(late.iter().all(|ms| (25..=150).contains(ms)), "{late:?}");
    assert!(late.iter().any(|ms| *ms > 120) && late.iter().any(|ms| *ms < 50), "{late:?}");
}
