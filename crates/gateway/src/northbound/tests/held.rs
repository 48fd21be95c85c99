//! Requests that wait for the outcome: the long poll of the drop-in XML, and hold mode.

use std::sync::Arc;
use std::time::Duration;

use protocol::wechat_v2::field;
use signer::Kind;
use state_machine::record::{Cause, Held, Record, State};
use state_machine::shard::{Said, Wait};
use store::Settings;
use store::merchant::Mode;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::support::{
    Answered, BEARER, Call, Harness, KEY, NUMBER, SUB_MCH_ID, Script, TRANSACTION, about, key, merchant,
    micropay, paid, read_all, record, short, signed, with,
};
use crate::config::Northbound;
use crate::merchants::{Directory, Merchant};

const PAY: &str = "/pay/micropay";
const QUERY: &str = "/pay/orderquery";

/// Longer than any test takes: whoever waits to its end has waited for nothing.
const LONG: Duration = Duration::from_secs(600);

fn query() -> String {
    signed(KEY, Kind::Md5, &about(NUMBER))
}

/// A gateway where queries wait for `long_poll` by default, and its merchant has these of its own.
async fn harness(long_poll: Duration, mode: Mode, settings: Settings) -> Harness {
    let harness = Harness::with(Northbound { long_poll, drain: LONG, ..short() }).await;
    let one = Merchant { mode, settings, ..merchant(1, Some(SUB_MCH_ID), KEY, BEARER) };
    harness.merchants.replace(Directory::new(vec![one]).expect("one merchant"));
    harness
}

/// Sends a request on a connection of its own, whose answer is read later.
async fn begin(harness: &Harness, path: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(harness.at).await.expect("a connection");
    let length = body.len();
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(format!("{head}{body}").as_bytes()).await.expect("written");
    stream
}

async fn end(mut stream: TcpStream) -> Answered {
    Answered::read(read_all(&mut stream).await)
}

fn open() -> Record {
    record(NUMBER, State::Pending)
}

#[tokio::test]
async fn a_query_waits_for_the_outcome_of_an_open_payment() {
    for (outcome, trade_state) in [
        (paid(record(NUMBER, State::Paid)), "SUCCESS"),
        (Record { cause: Some(Cause::Deadline), ..record(NUMBER, State::Reversing) }, "PAYERROR"),
        (record(NUMBER, State::Reversed), "REVOKED"),
    ] {
        let harness = harness(LONG, Mode::Relay, Settings::default()).await;
        harness.engine.put(open());
        let stream = begin(&harness, QUERY, &query()).await;
        harness.engine.asked(2).await;
        assert!(
            matches!(harness.engine.calls()[..], [Call::Find, Call::Watch(of, Wait::Definite)] if of == key(1, NUMBER))
        );
        harness.engine.tell(&Arc::new(outcome), Said::Watched);
        let answer = end(stream).await;
        answer.assert_signed(Kind::Md5, KEY);
        assert_eq!(answer.get("trade_state"), trade_state);
    }
}

#[tokio::test]
async fn a_query_by_either_number_answers_at_once_where_nothing_is_open() {
    let harness = harness(LONG, Mode::Relay, Settings::default()).await;
    assert_eq!(harness.post(QUERY, &query()).await.get("err_code"), "ORDERNOTEXIST");
    harness.engine.put(paid(record(NUMBER, State::Paid)));
    assert_eq!(harness.post(QUERY, &query()).await.get("trade_state"), "SUCCESS");
    let by_transaction = with(about(NUMBER), field::TRANSACTION_ID, Some(TRANSACTION));
    let answer = harness.post(QUERY, &signed(KEY, Kind::Md5, &by_transaction)).await;
    assert_eq!(answer.get("trade_state"), "SUCCESS");
    assert!(!harness.engine.calls().iter().any(|call| matches!(call, Call::Watch(..))));
}

#[tokio::test]
async fn a_query_by_the_wallets_number_waits_if_that_payment_is_open() {
    let harness = harness(LONG, Mode::Relay, Settings::default()).await;
    // Money was found, but it differs: open, and held for the operator.
    let held =
        Record { state: State::Pending, held: Some(Held::Differs), ..paid(record(NUMBER, State::Pending)) };
    harness.engine.put(held);
    let by_transaction = with(about(NUMBER), field::TRANSACTION_ID, Some(TRANSACTION));
    let stream = begin(&harness, QUERY, &signed(KEY, Kind::Md5, &by_transaction)).await;
    harness.engine.asked(2).await;
    assert!(matches!(harness.engine.calls()[1], Call::Watch(of, Wait::Definite) if of == key(1, NUMBER)));
    harness.engine.tell(&Arc::new(paid(record(NUMBER, State::Paid))), Said::Watched);
    assert_eq!(end(stream).await.get("trade_state"), "SUCCESS");
}

#[tokio::test]
async fn patience_ends_with_the_durable_state() {
    // The merchant's own time counts before that of the configuration.
    let own = Settings { long_poll_ms: Some(100), ..Settings::default() };
    let harness = harness(LONG, Mode::Relay, own).await;
    harness.engine.put(open());
    let begun = Instant::now();
    let stream = begin(&harness, QUERY, &query()).await;
    harness.engine.asked(2).await;
    // Decided, and nobody told: what is durable is looked up once more.
    harness.engine.put(paid(record(NUMBER, State::Paid)));
    assert_eq!(end(stream).await.get("trade_state"), "SUCCESS");
    assert!(begun.elapsed() >= Duration::from_millis(100));
}

#[tokio::test]
async fn no_patience_answers_at_once() {
    let off = Settings { long_poll_ms: Some(0), ..Settings::default() };
    let harness = harness(LONG, Mode::Relay, off).await;
    harness.engine.put(open());
    assert_eq!(harness.post(QUERY, &query()).await.get("trade_state"), "USERPAYING");
    assert!(
        matches!(harness.engine.calls()[..], [Call::Find, Call::Watch(of, Wait::Nothing)] if of == key(1, NUMBER)),
        "a question all the same: it moves its payment forward"
    );
}

#[tokio::test]
async fn a_till_that_hangs_up_while_it_is_held_changes_nothing() {
    let _covers = covers::covers(&["NM-01"]);
    let harness = harness(LONG, Mode::Hold, Settings::default()).await;
    harness.script(Script::Silent);
    let pays = begin(&harness, PAY, &signed(KEY, Kind::Md5, &micropay())).await;
    harness.engine.asked(1).await;
    drop(pays);
    let held = begin(&harness, QUERY, &query()).await;
    let left = begin(&harness, QUERY, &query()).await;
    harness.engine.asked(5).await;
    drop(left);
    let calls = harness.engine.calls();
    let asked = |wanted: fn(&Call) -> bool| calls.iter().filter(|call| wanted(call)).count();
    assert_eq!(asked(|call| matches!(call, Call::Pay(_))), 1);
    assert_eq!(asked(|call| matches!(call, Call::Reverse(..))), 0);
    // The one that stayed hears the outcome.
    harness.engine.tell(&Arc::new(paid(record(NUMBER, State::Paid))), Said::Watched);
    assert_eq!(end(held).await.get("trade_state"), "SUCCESS");
}

#[tokio::test]
async fn hold_mode_answers_only_what_is_definite() {
    let own = Settings { hold_ms: Some(30_000), ..Settings::default() };
    let harness = harness(LONG, Mode::Hold, own).await;
    harness.script(Script::Silent);
    let stream = begin(&harness, PAY, &signed(KEY, Kind::Md5, &micropay())).await;
    harness.engine.asked(1).await;
    assert_eq!(harness.engine.payment().wait, Wait::Definite);
    harness.engine.tell(&Arc::new(paid(record(NUMBER, State::Paid))), Said::Fresh);
    let answer = end(stream).await;
    answer.assert_signed(Kind::Md5, KEY);
    assert_eq!(answer.get("result_code"), "SUCCESS");
    assert_eq!(answer.get("transaction_id"), TRANSACTION);
}

#[tokio::test]
async fn hold_mode_ends_in_userpaying_after_the_hold_time() {
    let harness = harness(LONG, Mode::Hold, Settings::default()).await;
    harness.script(Script::Silent);
    let begun = Instant::now();
    let answer = harness.post(PAY, &signed(KEY, Kind::Md5, &micropay())).await;
    answer.assert_signed(Kind::Md5, KEY);
    assert_eq!(answer.get("result_code"), "FAIL");
    assert_eq!(answer.get("err_code"), "USERPAYING");
    assert!(begun.elapsed() >= short().hold, "the hold time of the configuration");
}
