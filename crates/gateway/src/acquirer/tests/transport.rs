//! What is proven unsent, what may have left, and what becomes of connections and hosts.

use std::sync::Arc;
use std::time::Duration;

use protocol::fact::{PayFact, Row};
use state_machine::Tick;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::super::PoolLimits;
use super::super::wechat_v2::{Acquirer, Deadlines};
use super::super::wire::{Gate, Wire};
use super::support::{
    Act, Seen, Standin, account, acquirer, http, impatient, nobody, pay, pay_by, query, short, vector, within,
};
use crate::clock::Clock;

/// Plays `act` as the answer to a pay request and checks what comes of it; then a query must use another
/// connection, and nobody may have received the payment twice.
async fn check_lost(act: Act, expected: &str) {
    let mut wallet = Standin::http(vec![vec![act], vec![Act::Answer(vector("query_userpaying"))]]).await;
    let mut backup = Standin::http(vec![]).await;
    let mut account = account(&[wallet.url(), backup.url()]);
    account.deadlines.pay_read = impatient().pay_read;
    let client = Acquirer::new(account).expect("sound settings");

    assert_eq!(short(&pay(&client).await), expected);
    assert_eq!(query(&client, false).await.row, Row::B6);

    let mut seen = Vec::new();
    while seen.last().is_none_or(|last| last != "/pay/orderquery") {
        match wallet.next().await {
            Seen::Connected => seen.push("connected".to_owned()),
            Seen::Request(request) => seen.push(request.path().to_owned()),
            Seen::HandshakeFailed | Seen::Closed | Seen::PeerClosed | Seen::PeerReset => {}
        }
    }
    assert_eq!(seen, ["connected", "/pay/micropay", "connected", "/pay/orderquery"], "{expected}");
    assert_eq!(backup.counts(), (0, 0), "a payment that may have left goes to nobody else");
}

/// A chunked answer of blanks that has not ended yet.
fn endless(bytes: usize) -> Vec<u8> {
    let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..bytes.div_ceil(1024) {
        answer.extend_from_slice(b"400\r\n");
        answer.extend_from_slice(&[b' '; 1024]);
        answer.extend_from_slice(b"\r\n");
    }
    answer
}

/// NU-03, NU-04, INV-10, INV-02: A2 once a byte may have left, whatever comes back or does not.
#[tokio::test]
async fn an_answer_that_is_lost_or_odd_leaves_the_payment_unknown() {
    let _covers = covers::covers(&["INV-10", "NU-03", "NU-04"]);
    let paid = http(200, &vector("paid"));
    for act in [
        Act::Reset,
        Act::Silence,
        Act::RawClose(Vec::new()),
        Act::RawClose(paid[..10].to_vec()),
        Act::RawClose(paid[..paid.len() - 1].to_vec()),
        Act::Status(502, "<html>502 Bad Gateway</html>".to_owned()),
        Act::Status(500, vector("paid")),
        Act::Status(302, String::new()),
        Act::Answer(String::new()),
        Act::Answer("<html>公益404</html>".to_owned()),
        Act::Answer(format!("{}{}", vector("paid"), " ".repeat(64 * 1024))),
        Act::Raw(endless(65 * 1024)),
        Act::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n<xml>".to_vec()),
        Act::Raw(b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()),
        Act::Raw(format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(100)).into_bytes()),
    ] {
        check_lost(act, "A2 left").await;
    }
}

/// INV-24: 64 KiB are an answer; one byte more is none, and more is not waited for.
#[tokio::test]
async fn the_length_of_an_answer_is_limited() {
    let _covers = covers::covers(&["INV-24"]);
    let padded = |bytes: usize| {
        let paid = vector("paid");
        paid.replacen('\n', &"\n".repeat(bytes + 1 - paid.len()), 1)
    };
    for (act, expected) in [
        (Act::Answer(padded(64 * 1024)), "A6 left"),
        (Act::Answer(padded(64 * 1024 + 1)), "A2 left"),
        (Act::Raw(endless(65 * 1024)), "A2 left"),
    ] {
        let wallet = Standin::http(vec![vec![act]]).await;
        assert_eq!(short(&within(pay(&acquirer(&[wallet.url()]))).await), expected);
    }
}

/// NU-12, INV-04: answers that are whole but do not fit.
#[tokio::test]
async fn an_answer_that_does_not_fit_decides_nothing_and_ends_its_connection() {
    let _covers = covers::covers(&["INV-10", "NU-12"]);
    for (answer, expected) in [
        ("return_fail", "A3 left"),
        ("tampered", "A5 left"),
        ("unsigned", "A5 left"),
        ("lowercase", "A5 left"),
        ("hmac", "A5 left"),
    ] {
        check_lost(Act::Answer(vector(answer)), expected).await;
    }
}

/// NU-01: refused, and a name that no resolver takes.
#[tokio::test]
async fn a_host_that_cannot_be_reached_was_sent_nothing() {
    let _covers = covers::covers(&["NU-01"]);
    let no_name = format!("http://{}.invalid", "a".repeat(64));
    for url in [nobody().await, no_name] {
        let reply = pay_by(&acquirer(&[url]), Clock::tick().saturating_add(5000), |_| panic!("left")).await;
        assert_eq!(short(&reply), "A1 unsent");
    }
}

#[tokio::test]
async fn a_fitting_answer_keeps_its_connection() {
    let answers = ["notenough", "paid", "userpaying", "query_success"].map(|name| Act::Answer(vector(name)));
    let mut wallet = Standin::http(vec![answers.into()]).await;
    let client = acquirer(&[wallet.url()]);
    assert_eq!(short(&pay(&client).await), "A11 left");
    let before = Clock::tick();
    let reply = pay(&client).await;
    assert_eq!(short(&reply), "A6 left");
    assert!(reply.left_at.is_some_and(|at| before <= at && at <= Clock::tick()));
    assert_eq!(short(&pay(&client).await), "A7 left");
    assert_eq!(query(&client, false).await.row, Row::B4);
    assert_eq!(wallet.counts(), (1, 4));
}

#[tokio::test]
async fn a_peer_that_wants_to_close_is_not_asked_again() {
    let paid = vector("paid");
    let close =
        format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{paid}", paid.len());
    let old = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{paid}", paid.len());
    for answer in [close, old] {
        let mut wallet = Standin::http(vec![
            vec![Act::Raw(answer.into_bytes())],
            vec![Act::Answer(vector("query_success"))],
        ])
        .await;
        let client = acquirer(&[wallet.url()]);
        assert_eq!(short(&pay(&client).await), "A6 left");
        assert_eq!(query(&client, false).await.row, Row::B4);
        assert_eq!(wallet.counts(), (2, 2));
    }
}

/// A pooled connection that has closed is noticed before anything is written: no doubt, and no second sending.
#[tokio::test]
async fn a_pooled_connection_found_closed_is_replaced() {
    let _covers = covers::covers(&["INV-02"]);
    let mut wallet = Standin::http(vec![
        vec![Act::RawClose(http(200, &vector("query_userpaying")))],
        vec![Act::Answer(vector("paid"))],
    ])
    .await;
    let client = acquirer(&[wallet.url()]);
    assert_eq!(query(&client, false).await.row, Row::B6);
    wallet.until(&Seen::Closed).await;
    assert_eq!(short(&pay(&client).await), "A6 left");
    assert_eq!(wallet.counts(), (1, 1));
}

#[tokio::test]
async fn a_pooled_connection_found_closed_and_a_host_gone_is_unsent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let client = acquirer(&[url]);
    let serve = async {
        let (mut peer, _) = listener.accept().await.expect("a connection");
        let mut request = [0; 4096];
        assert!(peer.read(&mut request).await.expect("a request") > 0);
        peer.write_all(&http(200, &vector("query_userpaying"))).await.expect("written");
        peer
    };
    let (verdict, peer) = tokio::join!(query(&client, false), serve);
    assert_eq!(verdict.row, Row::B6);
    drop((peer, listener));
    assert_eq!(short(&pay(&client).await), "A1 unsent");
}

/// NU-12: what is left over from one answer is never the answer to the next request.
#[tokio::test]
async fn bytes_beyond_an_answer_are_never_the_next_answer() {
    let _covers = covers::covers(&["NU-12"]);
    let mut glued = http(200, &vector("query_userpaying"));
    glued.extend_from_slice(&http(200, &vector("notenough")));
    let mut wallet = Standin::http(vec![vec![Act::Raw(glued)], vec![Act::Answer(vector("paid"))]]).await;
    let client = acquirer(&[wallet.url()]);
    assert_eq!(query(&client, false).await.row, Row::B6);
    assert_eq!(short(&pay(&client).await), "A6 left");
    assert_eq!(wallet.counts(), (2, 2));
}

/// The same, when they come while the connection is idle.
#[tokio::test]
async fn bytes_on_an_idle_connection_end_it() {
    let _covers = covers::covers(&["NU-12"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let client = acquirer(&[format!("http://{}", listener.local_addr().expect("bound"))]);
    let mut request = [0; 4096];
    let serve = async {
        let (mut peer, _) = listener.accept().await.expect("a connection");
        assert!(peer.read(&mut request).await.expect("a request") > 0);
        peer.write_all(&http(200, &vector("query_userpaying"))).await.expect("written");
        peer
    };
    let (verdict, mut first) = tokio::join!(query(&client, false), serve);
    assert_eq!(verdict.row, Row::B6);
    first.write_all(&http(200, &vector("notenough"))).await.expect("written");
    let mut request = [0; 4096];
    let serve = async {
        let (mut peer, _) = listener.accept().await.expect("another connection");
        assert!(peer.read(&mut request).await.expect("a request") > 0);
        peer.write_all(&http(200, &vector("paid"))).await.expect("written");
        peer
    };
    let (reply, _second) = within(async { tokio::join!(pay(&client), serve) }).await;
    assert_eq!(short(&reply), "A6 left");
}

/// A1: the backup gets a payment that is proven unsent, and no other.
#[tokio::test]
async fn a_payment_proven_unsent_goes_to_the_backup_once() {
    let _covers = covers::covers(&["INV-02", "NU-01"]);
    let mut backup = Standin::http(vec![vec![Act::Answer(vector("paid"))]]).await;
    let client = acquirer(&[nobody().await, backup.url()]);
    assert_eq!(short(&pay(&client).await), "A6 left");
    assert_eq!(backup.counts(), (1, 1));

    let mut third = Standin::http(vec![vec![Act::Answer(vector("paid"))]]).await;
    let client = acquirer(&[nobody().await, nobody().await, third.url()]);
    assert_eq!(short(&pay(&client).await), "A1 unsent");
    assert_eq!(third.counts(), (0, 0), "one other host, not all of them");
}

#[tokio::test]
async fn a_payment_lost_on_the_backup_is_lost() {
    let _covers = covers::covers(&["INV-02"]);
    let mut backup = Standin::http(vec![vec![Act::Reset]]).await;
    let client = acquirer(&[nobody().await, backup.url()]);
    assert_eq!(short(&pay(&client).await), "A2 left");
    assert_eq!(backup.counts(), (1, 1));
}

/// NU-10, B1: two failures in a row, or the caller's wish, lead to the other host.
#[tokio::test]
async fn queries_change_the_host() {
    let _covers = covers::covers(&["NU-10"]);
    let bad = || Act::Status(503, "<html>".to_owned());
    let mut primary = Standin::http(vec![vec![bad()], vec![bad()]]).await;
    let asked = ["query_userpaying", "query_success", "query_success"].map(|name| Act::Answer(vector(name)));
    let mut backup = Standin::http(vec![asked.into()]).await;
    let client = acquirer(&[primary.url(), backup.url()]);
    assert_eq!(query(&client, false).await.row, Row::B1);
    assert_eq!(query(&client, true).await.row, Row::B6, "asked for the other host");
    assert_eq!(query(&client, false).await.row, Row::B1);
    assert_eq!(query(&client, false).await.row, Row::B4, "moved");
    assert_eq!(query(&client, false).await.row, Row::B4, "and stays");
    assert_eq!(primary.counts(), (2, 2));
    assert_eq!(backup.counts(), (1, 3));
}

#[tokio::test]
async fn the_moment_of_leaving_is_told_before_the_answer() {
    let (told, tell) = oneshot::channel();
    let wallet = Standin::http(vec![vec![Act::AnswerWhen(tell, vector("paid"))]]).await;
    let client = acquirer(&[wallet.url()]);
    let before = Clock::tick();
    let mut left_at = None;
    // The wallet answers only after this was called.
    let reply = pay_by(&client, before.saturating_add(5000), |at| {
        left_at = Some(at);
        told.send(()).expect("the wallet waits");
    })
    .await;
    assert_eq!(short(&reply), "A6 left");
    assert_eq!(reply.left_at, left_at, "all of it left in one write");
    assert!(left_at.is_some_and(|at| before <= at && at <= Clock::tick()));
}

/// G3: not one byte after `leave_by`.
#[tokio::test]
async fn nothing_leaves_too_late() {
    let mut wallet = Standin::http(vec![]).await;
    let client = acquirer(&[wallet.url(), wallet.url()]);
    for leave_by in [Tick::ZERO, Clock::tick()] {
        assert_eq!(short(&pay_by(&client, leave_by, |_| panic!("left")).await), "A1 unsent");
    }
    assert_eq!(wallet.counts(), (0, 0));
}

async fn pair() -> (Arc<Gate>, Wire, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let ours = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connected");
    let (theirs, _) = listener.accept().await.expect("a connection");
    let gate = Gate::new(ours);
    (Arc::clone(&gate), Wire(gate), theirs)
}

/// The same at the socket itself: a request that is held up between the last check and the first byte.
#[tokio::test]
async fn the_socket_refuses_the_first_byte_after_its_time() {
    let (gate, mut wire, mut theirs) = pair().await;
    wire.write_all(b"a handshake").await.expect("no request is under way");
    gate.arm(Tick::from_ms(1));
    let error = wire.write_all(b"POST").await.expect_err("too late");
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    assert_eq!(gate.left_at(), None);
    gate.answered();
    drop((gate, wire));
    let mut received = String::new();
    theirs.read_to_string(&mut received).await.expect("text");
    assert_eq!(received, "a handshake");
}

#[tokio::test]
async fn a_request_that_has_begun_is_written_to_its_end() {
    let (gate, mut wire, mut theirs) = pair().await;
    let leave_by = Clock::tick().saturating_add(20);
    gate.arm(leave_by);
    wire.write_all(b"PO").await.expect("in time");
    let begun = gate.left_at().expect("left");
    while Clock::tick() <= leave_by {
        tokio::task::yield_now().await;
    }
    wire.write_all(b"ST").await.expect("half a request helps nobody");
    assert!(gate.left_at() >= Some(begun));
    gate.answered();
    drop((gate, wire));
    let mut received = String::new();
    theirs.read_to_string(&mut received).await.expect("text");
    assert_eq!(received, "POST");
}

/// C9 counts from the moment at which the connection closed: what the kernel still holds must not leave then.
#[tokio::test]
async fn a_request_that_is_given_up_is_withdrawn() {
    let mut wallet = Standin::http(vec![vec![Act::Silence]]).await;
    let mut account = account(&[wallet.url()]);
    account.deadlines = impatient();
    let client = Acquirer::new(account).expect("sound settings");
    assert_eq!(short(&pay(&client).await), "A2 left");
    wallet.until(&Seen::PeerReset).await;
}

#[tokio::test]
async fn a_dropped_call_closes_its_connection() {
    let mut wallet =
        Standin::http(vec![vec![Act::Silence], vec![Act::Answer(vector("query_success"))]]).await;
    let mut account = account(&[wallet.url()]);
    account.pool.connections_max = 1;
    let client = Acquirer::new(account).expect("sound settings");
    tokio::select! {
        _ = pay(&client) => panic!("nobody answers"),
        _ = wallet.request() => {}
    }
    wallet.until(&Seen::PeerReset).await;
    assert_eq!(query(&client, false).await.row, Row::B4, "its place in the pool is free again");
}

/// INV-24: as many connections as configured, and one request too many waits, then is unsent.
#[tokio::test]
async fn the_pool_has_a_limit() {
    let _covers = covers::covers(&["INV-24"]);
    let (told, tell) = oneshot::channel();
    let mut wallet = Standin::http(vec![vec![
        Act::AnswerWhen(tell, vector("paid")),
        Act::Answer(vector("query_success")),
    ]])
    .await;
    let mut account = account(&[wallet.url()]);
    account.pool = PoolLimits { connections_max: 1, ..PoolLimits::default() };
    account.deadlines = Deadlines { connect: Duration::from_millis(30), ..Deadlines::default() };
    let client = Acquirer::new(account).expect("sound settings");
    let others = async {
        let first = wallet.request().await;
        assert_eq!(first.path(), "/pay/micropay");
        let second = pay(&client).await;
        told.send(()).expect("the wallet waits");
        second
    };
    let (first, second) = tokio::join!(pay(&client), others);
    assert_eq!((short(&first).as_str(), short(&second).as_str()), ("A6 left", "A1 unsent"));
    assert_eq!(query(&client, false).await.row, Row::B4);
    assert_eq!(wallet.counts(), (0, 1), "on the connection of the first");
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_time() {
    let mut wallet = Standin::http(vec![
        vec![Act::Answer(vector("query_success"))],
        vec![Act::Answer(vector("query_success"))],
    ])
    .await;
    let mut account = account(&[wallet.url()]);
    account.pool.idle_max = Duration::from_millis(20);
    let client = Acquirer::new(account).expect("sound settings");
    for _ in 0..2 {
        assert_eq!(query(&client, false).await.row, Row::B4);
        // Nobody asks for anything: it is closed all the same, in good order.
        wallet.until(&Seen::PeerClosed).await;
    }
}

/// The age counts when a connection is wanted, not only when somebody comes to close it.
#[tokio::test]
async fn a_connection_that_idled_too_long_is_not_used() {
    let answer = || vec![Act::Answer(vector("query_success")), Act::Answer(vector("query_success"))];
    let mut wallet = Standin::http(vec![answer(), answer()]).await;
    let mut account = account(&[wallet.url()]);
    account.pool.idle_max = Duration::ZERO;
    let client = Acquirer::new(account).expect("sound settings");
    for _ in 0..2 {
        assert_eq!(query(&client, false).await.row, Row::B4);
    }
    assert_eq!(wallet.counts(), (2, 2));
}

#[tokio::test]
async fn a_query_has_a_limit_as_a_whole() {
    let mut wallet = Standin::http(vec![vec![Act::Silence]]).await;
    let mut account = account(&[wallet.url()]);
    account.deadlines.query_read = Duration::from_secs(60);
    let client = Acquirer::new(account).expect("sound settings");
    let (sub_mch_id, number) = ("1900000110".parse().expect("a number"), super::support::number());
    let merchant = super::super::wechat_v2::SubMerchant { sub_mch_id: &sub_mch_id, sub_appid: None };
    let asked = client.query(merchant, &number, None, false, Some(Duration::from_millis(30)));
    let verdict = within(asked).await;
    assert_eq!(verdict.row, Row::B1);
    wallet.until(&Seen::PeerReset).await;
}

/// What a caller relies on: A1 and only A1 is the fact `Unsent`.
#[tokio::test]
async fn unsent_is_a_fact_of_its_own() {
    let reply = pay(&acquirer(&[nobody().await])).await;
    assert_eq!((reply.left_at, reply.verdict.fact), (None, PayFact::Unsent));
}
