//! Every customer of the simulator, driven through real sockets: what the till hears at the end, why, and
//! where the money is. Between them they produce every answer class of the decision table.

use std::time::Duration;

use state_machine::record::{Cause, State};

use crate::support::{World, until};

/// How one customer ends: code, `trade_state` at the till, durable state, causes that may stand in the record,
/// and whether the wallet keeps the money.
type Case = (u16, &'static str, State, &'static [&'static str], bool);

#[rustfmt::skip]
const CASES: &[Case] = &[
    (0,    "SUCCESS",    State::Paid,     &["A6"],             true),
    (103,  "SUCCESS",    State::Paid,     &["B4"],             true),
    (140,  "SUCCESS",    State::Paid,     &["B4"],             true),
    (200,  "REVOKED",    State::Reversed, &["B7"],             false),
    (303,  "REVOKED",    State::Reversed, &["B7"],             false),
    (402,  "SUCCESS",    State::Paid,     &["B4"],             true),
    (406,  "REVOKED",    State::Reversed, &["B7"],             false),
    (500,  "PAYERROR",   State::Failed,   &["A11"],            false),
    (600,  "PAYERROR",   State::Failed,   &["A9"],             false),
    (700,  "PAYERROR",   State::Failed,   &["A9"],             false),
    (800,  "SUCCESS",    State::Paid,     &["B4"],             true),
    (900,  "REVOKED",    State::Reversed, &["deadline"],       false),
    (1003, "SUCCESS",    State::Paid,     &["B4"],             true),
    (1100, "SUCCESS",    State::Paid,     &["B4"],             true),
    (1200, "REVOKED",    State::Reversed, &["B3"],             false),
    (1303, "SUCCESS",    State::Paid,     &["A6", "B4"],       true),
    (1402, "REVOKED",    State::Reversed, &["B7", "deadline"], false),
    (1505, "SUCCESS",    State::Paid,     &["B4"],             true),
    (1600, "REVOKED",    State::Reversed, &["B7", "deadline"], false),
    (1702, "REVOKED",    State::Reversed, &["B7", "deadline"], false),
    (1800, "SUCCESS",    State::Paid,     &["B4"],             true),
    (1900, "SUCCESS",    State::Paid,     &["B4"],             true),
    (2030, "REVOKED",    State::Reversed, &["B3"],             false),
    (2100, "PAYERROR",   State::Failed,   &["A11"],            false),
    (2200, "PAYERROR",   State::Failed,   &["A11"],            false),
    (2300, "PAYERROR",   State::Failed,   &["A12"],            false),
    (2400, "PAYERROR",   State::Failed,   &["A13"],            false),
    (2500, "PAYERROR",   State::Failed,   &["A13"],            false),
    (2600, "REVOKED",    State::Reversed, &["B3"],             false),
    (2700, "PAYERROR",   State::Failed,   &["A15"],            false),
    (2800, "SUCCESS",    State::Paid,     &["B4"],             true),
    (2900, "SUCCESS",    State::Paid,     &["B4"],             true),
    (3000, "USERPAYING", State::Accepted, &["held"],           true),
    (3103, "SUCCESS",    State::Paid,     &["B4"],             true),
    (3200, "SUCCESS",    State::Paid,     &["B4"],             true),
    (3300, "PAYERROR",   State::Failed,   &["B8"],             false),
    (3400, "PAYERROR",   State::Failed,   &["B8"],             false),
    (3503, "PAYERROR",   State::Failed,   &["B9"],             false),
    (3602, "REVOKED",    State::Reversed, &["B7", "deadline"], false),
    (3700, "REVOKED",    State::Reversed, &["B7", "deadline"], false),
    (3800, "REVOKED",    State::Reversed, &["B7", "deadline"], false),
    (3900, "SUCCESS",    State::Paid,     &["B4"],             true),
];

const FEN: u64 = 1288;

#[tokio::test(flavor = "multi_thread")]
async fn every_customer_ends_as_the_table_says() {
    let _covers = covers::covers(&[
        "INV-01", "INV-04", "INV-06", "INV-12", "UB-01", "UB-02", "UB-05", "UB-07", "UB-10", "UB-13", "UB-14",
    ]);
    let world = World::new(20).await;
    let switch = world.switch().await;
    let (world, switch) = (&world, &switch);
    let ends = CASES.iter().enumerate().map(|(n, case)| check(world, switch, n, case));
    let wrong: Vec<String> = join_all(ends).await.into_iter().filter_map(Result::err).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert_eq!(world.violations(), Vec::<String>::new());
}

/// Drives one customer to its end and says what is not as the table has it.
async fn check(world: &World, switch: &gateway::switch::Switch, n: usize, case: &Case) -> Result<(), String> {
    let (bbss, trade_state, state, causes, kept) = *case;
    let till = world.till(switch, 0);
    let number = format!("CUSTOMER-{bbss:04}");
    let code = simulator::Code::for_customer(bbss, u64::try_from(n).unwrap_or(0));
    let first = till.pay(&number, code.as_str(), FEN).await;
    let ended = until(Duration::from_secs(60), async || {
        let record = world.record(switch, 0, &number).await?;
        let over = record.state == state && (record.is_definite() || record.held.is_some());
        over.then_some(record)
    })
    .await;
    let Some(record) = ended else {
        let now = world.record(switch, 0, &number).await;
        return Err(format!("{bbss:04}: never became {state:?}: {now:?}; first answer {first:?}"));
    };
    let cause = if record.held.is_some() { "held" } else { record.cause.map_or("-", Cause::as_str) };
    let told = till.query(&number).await;
    let seen = told.get("trade_state").cloned().unwrap_or_default();
    let (held, captures) = world.money(0, &number);
    let money = if kept { held >= FEN } else { held == 0 };
    let paid = if trade_state == "SUCCESS" {
        told.get("total_fee").is_some_and(|fee| *fee == FEN.to_string())
    } else {
        true
    };
    let right = seen == trade_state && causes.contains(&cause) && money && captures <= 1 && paid;
    if right {
        Ok(())
    } else {
        Err(format!(
            "{bbss:04}: told {seen} for {trade_state}, cause {cause} for {causes:?}, {held} fen held after \
             {captures} captures; record {record:?}; first {first:?}; last {told:?}"
        ))
    }
}

/// Drives all of them at once, on one task.
async fn join_all<F: Future<Output = T>, T>(futures: impl Iterator<Item = F>) -> Vec<T> {
    let mut waiting: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        let mut all = true;
        for (future, done) in &mut waiting {
            if done.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(value) => *done = Some(value),
                    std::task::Poll::Pending => all = false,
                }
            }
        }
        if all { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    waiting.into_iter().filter_map(|(_, done)| done).collect()
}
