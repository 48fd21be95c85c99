//! A cashier who scans again, on real sockets: one of both payments is charged at most, and the next customer is served.

use std::time::Duration;

use gateway::admin::Setting;
use gateway::switch::Switch;
use simulator::Code;
use state_machine::record::{Cause, State};
use state_machine::rescan::RescanRule;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::road::Road;
use crate::support::till::{Answer, Till};
use crate::support::{World, until};

const FEN: u64 = 1_288;

async fn world(rule: RescanRule) -> World {
    let world = World::new(20).await;
    world.set(0, &[(Setting::Rescan, rule.as_str())]);
    world
}

fn word<'a>(told: &'a Answer, name: &str) -> &'a str {
    told.get(name).map_or("", String::as_str)
}

/// Sends a pay request, and is gone before anybody knows what becomes of it.
async fn pay_and_vanish(world: &World, switch: &Switch, number: &str, code: &Code, fen: u64) {
    let till = world.till(switch, 0);
    let fen = fen.to_string();
    let body = till.sign(&[
        ("body", "便利店购物"),
        ("out_trade_no", number),
        ("total_fee", &fen),
        ("spbill_create_ip", "203.0.113.10"),
        ("auth_code", code.as_str()),
    ]);
    let mut stream = TcpStream::connect(till.gateway()).await.expect("it listens");
    let head =
        format!("POST /pay/micropay HTTP/1.1\r\nHost: gateway\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).await.expect("written");
    becomes(world, switch, number, State::Pending).await;
}

/// Waits until a payment of the first merchant is in `state`.
async fn becomes(world: &World, switch: &Switch, number: &str, state: State) {
    until(Duration::from_secs(20), async || {
        world.record(switch, 0, number).await.filter(|record| record.state == state)
    })
    .await
    .unwrap_or_else(|| panic!("{number} never becomes {state:?}"));
}

/// The next customer wants the same: served as soon as the outcome of the sale before has been in the till's hands for a
/// moment, and at once told why not until then.
async fn next_customer_is_served(till: &Till, prefix: &str, fen: u64) {
    let mut n = 0;
    until(Duration::from_secs(20), async || {
        n += 1;
        let told =
            till.pay(&format!("{prefix}-{n}"), Code::for_customer(0, 100 * fen + n).as_str(), fen).await;
        let served = word(&told, "result_code") == "SUCCESS";
        assert!(served || word(&told, "err_code_des").contains("已支付"), "{told:?}");
        served.then_some(())
    })
    .await
    .expect("the next customer is served in the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_is_charged_once_the_first_is_proven_reversed() {
    let _covers = covers::covers(&["INV-01", "INV-08"]);
    let world = world(RescanRule::Settle).await;
    let switch = world.switch().await;
    let till = world.till(&switch, 0);
    let told = till.pay("SALE-1", Code::for_customer(200, 1).as_str(), FEN).await;
    assert_eq!(word(&told, "err_code"), "USERPAYING", "the customer is asked, and never answers");
    let told = till.pay("SALE-2", Code::for_customer(0, 2).as_str(), FEN).await;
    assert_eq!(word(&told, "result_code"), "SUCCESS", "{told:?}");
    let first = world.record(&switch, 0, "SALE-1").await.expect("a payment");
    assert_eq!((first.state, first.cause), (State::Reversed, Some(Cause::Rescan)));
    let second = world.record(&switch, 0, "SALE-2").await.expect("a payment");
    assert!(second.accepted_at >= first.changed_at, "taken after the proof");
    assert_eq!((world.money(0, "SALE-1").0, world.money(0, "SALE-2")), (0, (FEN, 1)));
    // Another merchant has nothing held against each other.
    let other = world.till(&switch, 1);
    let _ = other.pay("SALE-1", Code::for_customer(200, 3).as_str(), FEN).await;
    let told = other.pay("SALE-2", Code::for_customer(0, 4).as_str(), FEN).await;
    assert_eq!(word(&told, "result_code"), "SUCCESS");
    assert_eq!(world.record(&switch, 1, "SALE-1").await.map(|one| one.state), Some(State::Pending));
    assert_eq!(world.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_is_refused_with_the_state_of_the_first() {
    let world = world(RescanRule::Refuse).await;
    let switch = world.switch().await;
    let till = world.till(&switch, 0);
    let _ = till.pay("SALE-1", Code::for_customer(200, 1).as_str(), FEN).await;
    let told = till.pay("SALE-2", Code::for_customer(0, 2).as_str(), FEN).await;
    assert_eq!(word(&told, "err_code"), "TRADE_ERROR");
    assert_eq!(
        word(&told, "err_code_des"),
        "上一笔同金额订单SALE-1等待用户输入支付密码，请先查询或撤销。本次未受理，未扣款"
    );
    assert_eq!(word(&till.query("SALE-2").await, "err_code"), "ORDERNOTEXIST");
    // Another amount, and another till, are other sales.
    let told = till.pay("SALE-3", Code::for_customer(0, 3).as_str(), FEN + 1).await;
    assert_eq!(word(&told, "result_code"), "SUCCESS");
    let code = Code::for_customer(0, 4);
    let fen = FEN.to_string();
    let fields = [
        ("body", "便利店购物"),
        ("out_trade_no", "SALE-4"),
        ("total_fee", &fen),
        ("spbill_create_ip", "203.0.113.10"),
        ("device_info", "POS-07"),
        ("auth_code", code.as_str()),
    ];
    assert_eq!(word(&till.ask("/pay/micropay", &fields).await, "result_code"), "SUCCESS");
    // The till settles the first by itself, and scans again.
    while word(&till.reverse("SALE-1").await, "recall") != "N" {}
    let told = till.pay("SALE-5", Code::for_customer(0, 5).as_str(), FEN).await;
    assert_eq!(word(&told, "result_code"), "SUCCESS", "{told:?}");
    assert_eq!((world.money(0, "SALE-1").0, world.money(0, "SALE-2")), (0, (0, 0)));
    assert_eq!(world.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_paid_and_unheard_is_not_paid_again_and_not_after_a_restart_either() {
    let _covers = covers::covers(&["INV-01", "PR-03"]);
    let world = world(RescanRule::Settle).await;
    let mut switch = world.switch().await;
    for (number, code, fen, restarts) in [("LOST-1", 1, 1_288, false), ("LOST-2", 2, 500, true)] {
        pay_and_vanish(&world, &switch, number, &Code::for_customer(140, code), fen).await;
        becomes(&world, &switch, number, State::Paid).await;
        if restarts {
            switch.stop().await;
            switch = world.switch().await;
        }
        let till = world.till(&switch, 0);
        let again = format!("{number}-AGAIN");
        let told = till.pay(&again, Code::for_customer(0, 10 + code).as_str(), fen).await;
        let expected = format!("上一笔同金额订单{number}已支付，请勿重复收款。本次未受理，未扣款");
        assert_eq!((word(&told, "err_code"), word(&told, "err_code_des")), ("TRADE_ERROR", &*expected));
        assert_eq!((world.money(0, number), world.money(0, &again)), ((fen, 1), (0, 0)));
        // That answer is in the till's hands now.
        next_customer_is_served(&till, &format!("{number}-NEXT"), fen).await;
    }
    assert_eq!(world.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_till_that_has_the_answer_serves_the_next_customer() {
    let world = world(RescanRule::Refuse).await;
    let switch = world.switch().await;
    let till = world.till(&switch, 0);
    let told = till.pay("FIRST-0", Code::for_customer(0, 1).as_str(), FEN).await;
    assert_eq!(word(&told, "result_code"), "SUCCESS");
    next_customer_is_served(&till, "FIRST", FEN).await;
    // By a query, too.
    pay_and_vanish(&world, &switch, "SECOND-0", &Code::for_customer(140, 20), 500).await;
    becomes(&world, &switch, "SECOND-0", State::Paid).await;
    assert_eq!(word(&till.query("SECOND-0").await, "trade_state"), "SUCCESS");
    next_customer_is_served(&till, "SECOND", 500).await;
}

/// Over TLS the kernel acknowledges what the till has, as without; in HTTP/2 a connection goes on, and tells by its next
/// frame or its end.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_arrived_over_tls_is_known_too() {
    let world = world(RescanRule::Refuse).await;
    let switch = world.switch_over_tls().await;
    for (prefix, fen, http2) in [("HTTP1", FEN, false), ("HTTP2", 500, true)] {
        let till = world.till(&switch, 0).over(Road::over_tls(world.trusting(), http2));
        let told = till.pay(&format!("{prefix}-0"), Code::for_customer(0, fen).as_str(), fen).await;
        assert_eq!(word(&told, "result_code"), "SUCCESS", "{told:?}");
        next_customer_is_served(&till, prefix, fen).await;
    }
}
