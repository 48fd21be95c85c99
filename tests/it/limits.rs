//! Bounds that many tills together reach in the whole product.

use std::time::Duration;

use simulator::Code;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::{World, get, until};

/// Requests that wait for one payment.
const WAITERS_MAX: usize = 16;
/// A customer who is asked for the password and never answers.
const SILENT: u16 = 200;
const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn more_requests_than_may_wait_send_the_longest_away() {
    let _covers = covers::covers(&["INV-24"]);
    let world = World::new(1).await;
    let switch = world.switch().await;
    let till = || world.till(&switch, 0);
    let told = till().pay("CROWD-0001", Code::for_customer(SILENT, 1).as_str(), 1288).await;
    assert_eq!(told.get("err_code").map(String::as_str), Some("USERPAYING"), "{told:?}");

    let reached = async || {
        let text = get(switch.admin_addr(), "/metrics").await;
        let series = "hufu_limits_reached_total{limit=\"waiters\"} ";
        text.lines().find_map(|line| line.strip_prefix(series)?.parse::<u64>().ok())
    };
    let before = reached().await.expect("it is exposed");
    let mut waiting = JoinSet::new();
    for _ in 0..=WAITERS_MAX {
        let till = till();
        waiting.spawn(async move {
            let began = Instant::now();
            (till.query("CROWD-0001").await, began.elapsed())
        });
    }
    let (told, after) = waiting.join_next().await.expect("one is sent away").expect("no panic");
    assert_eq!(told.get("trade_state").map(String::as_str), Some("USERPAYING"), "{told:?}");
    // A query waits 4 s for an outcome; this one had to make room.
    assert!(after < Duration::from_secs(3), "{after:?}");
    assert_eq!(waiting.len(), WAITERS_MAX, "the others wait");
    let more = until(LIMIT, async || reached().await.filter(|count| *count > before)).await;
    assert!(more.is_some(), "it is counted");
    waiting.abort_all();
    switch.stop().await;
}
