//! Money that comes to light while its till is gone: it goes back, or is kept, as its merchant wants it; and a till that
//! asks in time has it.

use std::net::SocketAddr;
use std::time::Duration;

use gateway::admin::Setting;
use gateway::switch::Switch;
use simulator::Code;
use state_machine::record::{Cause, State};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::events::listen;
use crate::support::till::Answer;
use crate::support::{World, get, until};

const FEN: u64 = 1288;
/// At twenty times the speed the password comes 0.1 s after the scan, and the first query 0.15 s after that.
const SPEED: u32 = 20;
const CUSTOMER: u16 = 102;
/// More than anything here takes.
const LIMIT: Duration = Duration::from_secs(60);

fn field<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.get(name).map_or("", String::as_str)
}

fn code(n: u64) -> String {
    Code::for_customer(CUSTOMER, n).as_str().to_owned()
}

/// A world whose first merchant wants money back that no till asks about for `after_ms`.
async fn world(after_ms: u64) -> World {
    let mut world = World::new(SPEED).await;
    world.absent_after_ms = after_ms;
    world.set(0, &[(Setting::AbsentTill, "reverse")]);
    world
}

/// A till pays, hears that the customer is asked for the password, and hangs up.
async fn pay(world: &World, switch: &Switch, n: u8, number: &str, payer: u64) {
    let told = world.till(switch, n).pay(number, &code(payer), FEN).await;
    assert_eq!(field(&told, "err_code"), "USERPAYING", "{told:?}");
}

/// Waits until the wallet was asked: the customer has paid before, so its answer is the proof.
async fn proven(world: &World, n: u8, number: &str) {
    let asked = until(LIMIT, async || world.entry(n, number).filter(|entry| entry.queries > 0)).await;
    let entry = asked.unwrap_or_else(|| panic!("{number}: the wallet is never asked"));
    assert_eq!((entry.captures, entry.held_fen()), (1, FEN), "{number}: paid before the first query");
}

/// Waits for an end that is durable.
async fn ended(world: &World, switch: &Switch, n: u8, number: &str) -> (State, Option<Cause>) {
    let record = until(LIMIT, async || {
        let record = world.record(switch, n, number).await?;
        (record.is_definite() && !record.is_open()).then_some(record)
    });
    let record = record.await.unwrap_or_else(|| panic!("{number} never ends"));
    (record.state, record.cause)
}

/// How many payments were kept, or given back, for want of a till.
async fn counted(admin: SocketAddr, outcome: &str) -> u64 {
    let text = get(admin, "/metrics").await;
    let name = format!("hufu_absent_tills_total{{outcome=\"{outcome}\"}} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&name));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name}in\n{text}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_till_asks_about_goes_back() {
    let _covers = covers::covers(&["INV-07", "INV-09"]);
    let world = world(1_000).await;
    // The till of the other merchant waits for the outcome, and is gone before it comes.
    world.set(1, &[(Setting::Mode, "hold"), (Setting::AbsentTill, "reverse")]);
    let switch = world.switch().await;
    pay(&world, &switch, 0, "GONE-0001", 1).await;
    let slow = Code::for_customer(140, 2);
    let fields = [
        ("body", "Tea"),
        ("out_trade_no", "GONE-0002"),
        ("total_fee", "1288"),
        ("spbill_create_ip", "203.0.113.10"),
        ("auth_code", slow.as_str()),
    ];
    let body = world.till(&switch, 1).sign(&fields);
    let request =
        format!("POST /pay/micropay HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let mut waiting = TcpStream::connect(switch.gateway_addr()).await.expect("it listens");
    waiting.write_all(request.as_bytes()).await.expect("written");
    let arrived = until(LIMIT, async || world.entry(1, "GONE-0002")).await;
    assert_eq!(arrived.map(|entry| entry.captures), Some(0), "the customer has not entered the password yet");
    drop(waiting);

    for (n, number) in [(0, "GONE-0001"), (1, "GONE-0002")] {
        assert_eq!(
            ended(&world, &switch, n, number).await,
            (State::Reversed, Some(Cause::AbsentTill)),
            "{number}"
        );
        let entry = world.entry(n, number).expect("it is in the wallet's books");
        assert_eq!((entry.captured_fen, entry.returned_fen, entry.captures), (FEN, FEN, 1), "{number}");
        assert!(entry.reversals > 0, "{number}");
        let told = world.till(&switch, n).query(number).await;
        assert_eq!(field(&told, "trade_state"), "REVOKED", "{number}: {told:?}");
    }
    // What anybody could have heard: never that it is paid.
    let heard = listen(switch.gateway_addr(), 0, |heard| {
        heard.last().is_some_and(|event| event.ends_with(" reversed"))
    });
    let heard = heard.await;
    let states: Vec<&str> = heard.iter().filter_map(|event| event.rsplit(' ').next()).collect();
    assert!(states.ends_with(&["reversing", "reversed"]) && !states.contains(&"paid"), "{heard:?}");
    assert_eq!(world.violations(), Vec::<String>::new());
    switch.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_till_that_asks_in_time_is_told_paid_and_it_stays_paid() {
    let _covers = covers::covers(&["INV-05", "INV-07"]);
    let world = world(20_000).await;
    let switch = world.switch().await;
    let till = world.till(&switch, 0);
    let numbers = ["CLAIMED-BY-QUERY", "CLAIMED-BY-JSON", "CLAIMED-BY-REPEAT"];
    for (number, payer) in numbers.into_iter().zip(10..) {
        pay(&world, &switch, 0, number, payer).await;
    }
    for (number, payer) in numbers.into_iter().zip(20..) {
        proven(&world, 0, number).await;
        let record = world.record(&switch, 0, number).await.expect("it is stored");
        assert!(record.is_open(), "nothing is decided before somebody asks: {record:?}");
        let (told, paid) = match number {
            "CLAIMED-BY-JSON" => {
                let answer = get(switch.gateway_addr(), &format!("/v1/payments/{number}")).await;
                (answer, "\"state\":\"paid\"")
            }
            "CLAIMED-BY-REPEAT" => {
                let answer = till.pay(number, &code(payer), FEN).await;
                (field(&answer, "err_code").to_owned(), "ORDERPAID")
            }
            _ => (field(&till.query(number).await, "trade_state").to_owned(), "SUCCESS"),
        };
        assert!(told.contains(paid), "{number}: {told}");
        // Told is durable: there is no way back from it.
        let record = world.record(&switch, 0, number).await.expect("it is stored");
        assert_eq!(record.state, State::Paid, "{number}");
    }
    // What has left memory has no deadline any more.
    let left = until(LIMIT, async || (switch.core().orders() == 0).then_some(())).await;
    assert!(left.is_some(), "a settled order leaves memory");
    for number in numbers {
        assert_eq!(field(&till.query(number).await, "trade_state"), "SUCCESS", "{number}");
        let entry = world.entry(0, number).expect("it is in the wallet's books");
        assert_eq!((entry.held_fen(), entry.captures, entry.reversals), (FEN, 1, 0), "{number}");
    }
    assert_eq!(world.violations(), Vec::<String>::new());
    switch.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_paid_at_once_and_counted_when_no_till_asks() {
    let mut world = World::new(SPEED).await;
    world.absent_after_ms = 3_000;
    let switch = world.switch().await;
    let admin = switch.admin_addr();
    let before = counted(admin, "keep").await;
    pay(&world, &switch, 0, "KEPT-0001", 30).await;
    pay(&world, &switch, 1, "ASKED-0001", 31).await;
    // This till asks: of it nothing is counted.
    let told = until(LIMIT, async || {
        let told = world.till(&switch, 1).query("ASKED-0001").await;
        (field(&told, "trade_state") == "SUCCESS").then_some(())
    });
    assert!(told.await.is_some(), "its till is told");
    assert_eq!(
        ended(&world, &switch, 0, "KEPT-0001").await,
        (State::Paid, Some(Cause::Row(protocol::fact::Row::B4)))
    );
    let said = until(LIMIT, async || (counted(admin, "keep").await > before).then_some(())).await;
    assert!(said.is_some(), "it is said that no till has asked");
    // Both leave memory: nothing is left that could count once more, or reverse.
    let left = until(LIMIT, async || (switch.core().orders() == 0).then_some(())).await;
    assert!(left.is_some(), "settled orders leave memory");
    assert_eq!(counted(admin, "keep").await, before + 1, "once, and for that one");
    for (n, number) in [(0, "KEPT-0001"), (1, "ASKED-0001")] {
        let told = world.till(&switch, n).query(number).await;
        assert_eq!(field(&told, "trade_state"), "SUCCESS", "{number}: {told:?}");
        let entry = world.entry(n, number).expect("it is in the wallet's books");
        assert_eq!((entry.held_fen(), entry.captures, entry.reversals), (FEN, 1, 0), "{number}");
    }
    assert_eq!(world.violations(), Vec::<String>::new());
    switch.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_the_time_begins_anew() {
    let _covers = covers::covers(&["INV-07", "INV-12", "PR-03"]);
    let mut world = world(30_000).await;
    let switch = world.switch().await;
    for (number, payer) in [("LEFT-0001", 40), ("BACK-0001", 41)] {
        pay(&world, &switch, 0, number, payer).await;
    }
    for number in ["LEFT-0001", "BACK-0001"] {
        proven(&world, 0, number).await;
    }
    switch.stop().await;
    // Shorter from here on, so that the end is seen soon.
    world.absent_after_ms = 5_000;
    let switch = world.switch().await;
    assert_eq!((switch.recovery().open, switch.recovery().damaged), (2, 0));
    let left = world.record(&switch, 0, "LEFT-0001").await.expect("it is stored");
    assert!(matches!(left.state, State::Accepted | State::Pending), "nothing was decided: {left:?}");
    let back = until(LIMIT, async || {
        let told = world.till(&switch, 0).query("BACK-0001").await;
        (field(&told, "trade_state") != "USERPAYING" && field(&told, "err_code").is_empty()).then_some(told)
    });
    let back = back.await.expect("its till is told");
    assert_eq!(field(&back, "trade_state"), "SUCCESS", "{back:?}");
    assert_eq!(ended(&world, &switch, 0, "LEFT-0001").await, (State::Reversed, Some(Cause::AbsentTill)));
    assert_eq!(ended(&world, &switch, 0, "BACK-0001").await.0, State::Paid, "what was told stays");
    for (number, held) in [("LEFT-0001", 0), ("BACK-0001", FEN)] {
        let entry = world.entry(0, number).expect("it is in the wallet's books");
        assert_eq!((entry.held_fen(), entry.captures, entry.pay_requests), (held, 1, 1), "{number}");
    }
    assert_eq!(world.violations(), Vec::<String>::new());
    switch.stop().await;
}
