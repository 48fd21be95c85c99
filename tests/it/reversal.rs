//! What tills ask for besides paying: reversals of every kind, repeats, other merchants' numbers.

use std::time::Duration;

use simulator::Code;
use state_machine::record::{State, TillReversal};

use crate::support::till::Answer;
use crate::support::{World, until};

const FEN: u64 = 500;

fn field<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.get(name).map_or("", String::as_str)
}

fn code(bbss: u16, n: u64) -> String {
    Code::for_customer(bbss, n).as_str().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paid_order_is_reversed_when_its_till_asks() {
    let world = World::new(20).await;
    let switch = world.switch().await;
    let till = world.till(&switch, 0);
    let paid = till.pay("REVERSE-PAID-1", &code(0, 1), FEN).await;
    assert_eq!(field(&paid, "result_code"), "SUCCESS");
    assert_eq!(world.money(0, "REVERSE-PAID-1"), (FEN, 1));
    let reversed = till.reverse("REVERSE-PAID-1").await;
    assert_eq!(
        (field(&reversed, "result_code"), field(&reversed, "recall")),
        ("SUCCESS", "N"),
        "{reversed:?}"
    );
    assert_eq!(world.money(0, "REVERSE-PAID-1"), (0, 1));
    assert_eq!(field(&till.query("REVERSE-PAID-1").await, "trade_state"), "REVOKED");
    let record = world.record(&switch, 0, "REVERSE-PAID-1").await.expect("it is stored");
    assert_eq!((record.state, record.till_reversal), (State::Paid, TillReversal::Done), "PAID itself stays");
    let again = till.reverse("REVERSE-PAID-1").await;
    assert_eq!(field(&again, "recall"), "N");
    assert_eq!(world.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_order_is_reversed_when_its_till_gives_up() {
    let world = World::new(20).await;
    let switch = world.switch().await;
    let till = world.till(&switch, 0);
    let asked = till.pay("REVERSE-OPEN-1", &code(200, 2), FEN).await;
    assert_eq!(field(&asked, "err_code"), "USERPAYING");
    let reversed = till.reverse("REVERSE-OPEN-1").await;
    assert_eq!(field(&reversed, "recall"), "N", "{reversed:?}");
    assert_eq!(world.money(0, "REVERSE-OPEN-1").0, 0);
    let again = till.pay("REVERSE-OPEN-1", &code(0, 3), FEN).await;
    assert_eq!(field(&again, "err_code"), "ORDERREVERSED", "the number is used up: {again:?}");
    assert_eq!(world.money(0, "REVERSE-OPEN-1").0, 0);
    assert_eq!(world.violations(), Vec::<String>::new());
}

/// NM-00: the reversal overtakes its own payment.
#[tokio::test(flavor = "multi_thread")]
async fn a_reversal_that_overtakes_its_payment_closes_the_number() {
    let _covers = covers::covers(&["NM-00"]);
    let world = World::new(20).await;
    let switch = world.switch().await;
    let till = world.till(&switch, 0);
    let reversed = till.reverse("OVERTAKEN-1").await;
    assert_eq!(
        (field(&reversed, "result_code"), field(&reversed, "recall")),
        ("SUCCESS", "N"),
        "{reversed:?}"
    );
    let late = till.pay("OVERTAKEN-1", &code(0, 4), FEN).await;
    assert_eq!(field(&late, "err_code"), "ORDERREVERSED");
    assert_eq!(field(&till.query("OVERTAKEN-1").await, "trade_state"), "REVOKED");
    assert_eq!(world.money(0, "OVERTAKEN-1"), (0, 0), "nothing was sent");
    // The same after the order has left memory: the store remembers.
    let left = until(Duration::from_secs(20), async || (switch.core().orders() == 0).then_some(())).await;
    assert!(left.is_some(), "a settled order leaves memory");
    let late = till.pay("OVERTAKEN-1", &code(0, 5), FEN).await;
    assert_eq!(field(&late, "err_code"), "ORDERREVERSED");
    assert_eq!(world.money(0, "OVERTAKEN-1"), (0, 0));
}

/// INV-16: the same number.
#[tokio::test(flavor = "multi_thread")]
async fn a_number_is_one_payment_whatever_is_repeated() {
    let _covers = covers::covers(&["INV-01", "INV-16", "NM-02"]);
    let world = World::new(20).await;
    let switch = world.switch().await;
    let till = world.till(&switch, 0);
    let open = till.pay("REPEAT-0001", &code(130, 6), FEN).await;
    assert_eq!(field(&open, "err_code"), "USERPAYING");
    let repeated = till.pay("REPEAT-0001", &code(0, 7), FEN).await;
    assert_eq!(field(&repeated, "err_code"), "USERPAYING", "another code is the same content");
    let other = till.pay("REPEAT-0001", &code(0, 8), FEN + 1).await;
    assert_eq!(field(&other, "err_code"), "OUT_TRADE_NO_USED");
    let paid = until(Duration::from_secs(20), async || {
        let answer = till.query("REPEAT-0001").await;
        (field(&answer, "trade_state") == "SUCCESS").then_some(answer)
    })
    .await
    .expect("the password comes");
    assert_eq!((field(&paid, "total_fee"), field(&paid, "attach")), ("500", "店员=07&班次=早"));
    assert!(!field(&paid, "transaction_id").is_empty() && !field(&paid, "openid").is_empty());
    let by_transaction =
        till.ask("/pay/orderquery", &[("transaction_id", field(&paid, "transaction_id"))]).await;
    assert_eq!(field(&by_transaction, "out_trade_no"), "REPEAT-0001");
    let repeated = till.pay("REPEAT-0001", &code(0, 9), FEN).await;
    assert_eq!(field(&repeated, "err_code"), "ORDERPAID");
    assert_eq!(world.money(0, "REPEAT-0001"), (FEN, 1), "charged once");
}

/// INV-20: two merchants, one number.
#[tokio::test(flavor = "multi_thread")]
async fn merchants_do_not_see_each_others_numbers() {
    let _covers = covers::covers(&["INV-20", "MI-21"]);
    let world = World::new(20).await;
    let switch = world.switch().await;
    let (first, second) = (world.till(&switch, 0), world.till(&switch, 1));
    let paid = first.pay("SHARED-0001", &code(0, 10), FEN).await;
    assert_eq!(field(&paid, "result_code"), "SUCCESS");
    assert_eq!(field(&second.query("SHARED-0001").await, "err_code"), "ORDERNOTEXIST");
    let id = field(&paid, "transaction_id");
    let by_id = second.ask("/pay/orderquery", &[("transaction_id", id)]).await;
    assert_eq!(field(&by_id, "err_code"), "ORDERNOTEXIST");
    let own = second.pay("SHARED-0001", &code(0, 11), FEN + 1).await;
    assert_eq!(field(&own, "result_code"), "SUCCESS", "the number is free for another merchant: {own:?}");
    assert_eq!((world.money(0, "SHARED-0001").0, world.money(1, "SHARED-0001").0), (FEN, FEN + 1));
}

/// NU-14: what could not be reversed is not accepted.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_certificate_nothing_is_accepted() {
    let _covers = covers::covers(&["NU-14"]);
    let world = World::new(20).await;
    let switch = world.switch_without_certificate().await;
    let till = world.till(&switch, 0);
    let refused = till.pay("NO-CERTIFICATE-1", &code(0, 12), FEN).await;
    assert_eq!(field(&refused, "err_code"), "FREQUENCY_LIMITED", "{refused:?}");
    assert!(field(&refused, "err_code_des").contains("未扣款"), "{refused:?}");
    assert_eq!(
        field(&till.query("NO-CERTIFICATE-1").await, "err_code"),
        "ORDERNOTEXIST",
        "nothing is stored"
    );
    assert_eq!(world.money(0, "NO-CERTIFICATE-1"), (0, 0));
}
