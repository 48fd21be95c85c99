//! Rates and places: who is refused, that it is told nothing was sent, and that it costs nobody else.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use signer::Kind;
use state_machine::record::State;
use state_machine::shard::Said;
use store::Settings;
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

use super::super::server::THRESHOLD_MAX;
use super::support::{
    BEARER, Harness, KEY, NUMBER, OTHER_KEY, SUB_MCH_ID, Script, about, merchant, micropay, paid, record,
    short, signed,
};
use crate::config::Northbound;
use crate::merchants::{Directory, Merchant};

const PAY: &str = "/pay/micropay";

#[tokio::test]
async fn all_merchants_together_have_a_rate() {
    let _covers = covers::covers(&["OV-03"]);
    let config =
        Northbound { per_second: 1, burst: 3, merchant_per_second: 100, merchant_burst: 100, ..short() };
    let harness = Harness::with(config).await;
    let pay = signed(KEY, Kind::Md5, &micropay());
    // Whoever is not who it says uses up nothing.
    for _ in 0..5 {
        let stranger = harness.post(PAY, &signed(OTHER_KEY, Kind::Md5, &micropay())).await;
        assert_eq!(stranger.get("return_msg"), "签名错误");
    }
    for _ in 0..3 {
        assert_eq!(harness.post(PAY, &pay).await.get("return_code"), "SUCCESS");
    }
    let calls = harness.engine.calls().len();
    let refused = harness.post(PAY, &pay).await;
    assert_eq!(refused.get("err_code"), "FREQUENCY_LIMITED");
    assert!(refused.get("err_code_des").contains("未扣款"), "{refused:?}");
    let headers = format!("Authorization: Bearer {BEARER}\r\n");
    assert_eq!(harness.send("GET", "/v1/payments/P1", &headers, b"").await.status, 429);
    assert_eq!(harness.engine.calls().len(), calls, "nothing was asked for them");
}

#[tokio::test]
async fn a_merchant_may_have_a_rate_of_its_own() {
    let _covers = covers::covers(&["OV-03"]);
    let harness = Harness::with(Northbound { merchant_per_second: 1, merchant_burst: 2, ..short() }).await;
    let query = signed(KEY, Kind::Md5, &about(NUMBER));
    let asked = async |count: usize| {
        let mut taken = 0;
        for _ in 0..count {
            let answer = harness.post("/pay/orderquery", &query).await;
            taken += usize::from(answer.get("err_code") == "ORDERNOTEXIST");
        }
        taken
    };
    assert!(asked(20).await < 20, "what all may");
    let settings = Settings { burst: Some(1_000), ..Settings::default() };
    let own = Merchant { settings, ..merchant(1, Some(SUB_MCH_ID), KEY, BEARER) };
    harness.merchants.replace(Directory::new(vec![own]).unwrap());
    assert_eq!(asked(20).await, 20, "what it may");
}

#[tokio::test]
async fn an_address_has_so_many_connections() {
    let _covers = covers::covers(&["INV-24"]);
    let harness = Harness::with(Northbound { address_connections_max: 2, ..short() }).await;
    let first = TcpStream::connect(harness.at).await.unwrap();
    let _second = TcpStream::connect(harness.at).await.unwrap();
    let mut third = TcpStream::connect(harness.at).await.unwrap();
    let mut told = String::new();
    third.read_to_string(&mut told).await.unwrap();
    assert!(told.starts_with("HTTP/1.1 503 ") && told.ends_with("nothing sent.\n"), "{told}");
    drop(first);
    // The place is free as soon as the switch has noticed.
    loop {
        let mut again = TcpStream::connect(harness.at).await.unwrap();
        again.write_all(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut told = Vec::new();
        let _ = again.read_to_end(&mut told).await;
        if told.starts_with(b"HTTP/1.1 200") {
            return;
        }
    }
}

#[tokio::test]
async fn when_every_place_is_taken_the_slow_lose_theirs() {
    let _covers = covers::covers(&["NM-05", "NM-07"]);
    let patient = Duration::from_secs(60);
    let config = Northbound {
        connections_max: 4,
        head_deadline: patient,
        body_deadline: patient,
        idle_deadline: patient,
        ..short()
    };
    let harness = Harness::with(config).await;
    let query = signed(KEY, Kind::Md5, &about(NUMBER));
    let whole = format!("POST /pay/orderquery HTTP/1.1\r\nContent-Length: {}\r\n\r\n{query}", query.len());
    let mut idle = TcpStream::connect(harness.at).await.unwrap();
    idle.write_all(whole.as_bytes()).await.unwrap();
    idle.read_u8().await.unwrap();
    let mut slow = Vec::new();
    for bytes in [&whole[..20], &whole[..whole.len() - 1], "G"] {
        let mut stream = TcpStream::connect(harness.at).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    let started = Instant::now();
    // Nobody is called slow before a second is over; a till that comes then gets in at once, by the slow one's place.
    tokio::time::sleep_until(started + Duration::from_millis(1_300)).await;
    let before = Instant::now();
    assert_eq!(harness.post("/pay/orderquery", &query).await.get("err_code"), "ORDERNOTEXIST");
    assert!(before.elapsed() < Duration::from_secs(1), "{:?}", before.elapsed());
    // It was the slow one of longest standing, not the one that asks for nothing.
    assert_eq!(slow.remove(0).read(&mut [0; 1]).await.unwrap_or(0), 0);
    idle.write_all(whole.as_bytes()).await.unwrap();
    let mut answers = vec![0; 4_096];
    assert!(idle.read(&mut answers).await.unwrap() > 0, "it goes on");
}

/// A connection of 127.0.0.2, from where no till has come.
async fn stranger(at: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 2], 0))).unwrap();
    socket.connect(at).await.unwrap()
}

#[tokio::test]
async fn tills_keep_their_places_and_get_in_however_many_strangers_come() {
    let _covers = covers::covers(&["NM-05", "NM-07", "INV-24"]);
    let patient = Duration::from_secs(120);
    let config = Northbound {
        connections_max: 4,
        head_deadline: patient,
        idle_deadline: patient,
        newcomers_per_second: 1,
        ..short()
    };
    let harness = Harness::with(config).await;
    let query = signed(KEY, Kind::Md5, &about(NUMBER));
    let whole = format!("POST /pay/orderquery HTTP/1.1\r\nContent-Length: {}\r\n\r\n{query}", query.len());
    let answered = async |till: &mut TcpStream| {
        till.write_all(whole.as_bytes()).await.unwrap();
        let mut answer = vec![0; 4_096];
        let read = till.read(&mut answer).await.unwrap_or(0);
        answer.starts_with(b"HTTP/1.1 200") && read > 0
    };
    // It has been idle longest of all when the others come.
    let mut till = TcpStream::connect(harness.at).await.unwrap();
    assert!(answered(&mut till).await);
    let mut inside = Vec::new();
    let began = Instant::now();
    for _ in 0..3 {
        let mut slow = stranger(harness.at).await;
        slow.write_all(&whole.as_bytes()[..20]).await.unwrap();
        inside.push(slow);
    }
    // From here on strangers have been there for longer than a till takes.
    tokio::time::sleep_until(began + Duration::from_millis(1_300)).await;
    // They come until one is turned away, which is told so; those before took the places of strangers.
    let told = loop {
        let mut newcomer = stranger(harness.at).await;
        let mut told = String::new();
        tokio::select! {
            read = newcomer.read_to_string(&mut told) => {
                read.unwrap();
                break told;
            }
            () = first_closed(&mut inside) => inside.push(newcomer),
        }
    };
    assert!(told.starts_with("HTTP/1.1 503 ") && told.ends_with("nothing sent.\n"), "{told}");
    // A till that comes from where tills come gets in all the same, and the one before has lost nothing.
    assert_eq!(harness.post("/pay/orderquery", &query).await.get("err_code"), "ORDERNOTEXIST");
    assert!(answered(&mut till).await);
}

#[tokio::test]
async fn who_is_being_answered_keeps_its_place_and_few_wait_for_one() {
    const PLACES: u32 = 400;
    let _covers = covers::covers(&["NM-07", "INV-24"]);
    let patient = Duration::from_secs(120);
    let config = Northbound {
        connections_max: PLACES,
        hold: patient,
        idle_deadline: patient,
        merchant_burst: 1_000,
        ..short()
    };
    let harness = Harness::with(config).await;
    harness.script(Script::Unheard);
    let request = |path: &str, body: &str| {
        format!("POST {path} HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    let pay = request(PAY, &signed(KEY, Kind::Md5, &micropay()));
    let mut tills = Vec::new();
    for asked in 1..=PLACES {
        let mut till = TcpStream::connect(harness.at).await.unwrap();
        till.write_all(pay.as_bytes()).await.unwrap();
        harness.engine.asked(usize::try_from(asked).unwrap()).await;
        tills.push(till);
    }
    // Newcomers come, and slowly enough, until as many wait for a place as may.
    let mut waiting = Vec::new();
    let told = loop {
        let mut newcomer = TcpStream::connect(harness.at).await.unwrap();
        let mut told = String::new();
        let soon = Duration::from_millis(20);
        match tokio::time::timeout(soon, newcomer.read_to_string(&mut told)).await {
            Ok(read) => {
                read.unwrap();
                break told;
            }
            Err(_) => waiting.push(newcomer),
        }
        assert!(waiting.len() < 10 * THRESHOLD_MAX, "nobody is turned away");
    };
    assert!(told.starts_with("HTTP/1.1 503 "), "{told}");
    // The tills are told what became of their payment, and then there is place.
    harness.engine.tell(&Arc::new(paid(record(NUMBER, State::Accepted))), Said::Fresh);
    for till in &mut tills {
        assert!(till.read(&mut [0; 12]).await.unwrap() > 0);
    }
    let query = request("/pay/orderquery", &signed(KEY, Kind::Md5, &about(NUMBER)));
    let mut first = waiting.remove(0);
    first.write_all(query.as_bytes()).await.unwrap();
    assert!(first.read(&mut [0; 12]).await.unwrap() > 0);
}

/// Waits until one of them is closed, and takes it out.
async fn first_closed(streams: &mut Vec<TcpStream>) {
    let closed = std::future::poll_fn(|cx| {
        let mut byte = [0; 1];
        let ended = |stream: &mut TcpStream| {
            let mut buf = ReadBuf::new(&mut byte);
            match Pin::new(stream).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) => buf.filled().is_empty(),
                Poll::Ready(Err(_)) => true,
                Poll::Pending => false,
            }
        };
        streams.iter_mut().position(ended).map_or(Poll::Pending, Poll::Ready)
    });
    let place = closed.await;
    drop(streams.remove(place));
}

#[tokio::test]
async fn nobody_loses_a_place_that_nobody_wants() {
    let _covers = covers::covers(&["NM-07"]);
    let patient = Duration::from_secs(120);
    let config = Northbound { connections_max: 3, idle_deadline: patient, ..short() };
    let harness = Harness::with(config).await;
    let headers = format!("GET /v1/payments/P1 HTTP/1.1\r\nAuthorization: Bearer {BEARER}\r\n\r\n");
    let mut tills = Vec::new();
    for _ in 0..3 {
        let mut till = TcpStream::connect(harness.at).await.unwrap();
        till.write_all(headers.as_bytes()).await.unwrap();
        tills.push(till);
    }
    // Each is answered, and again: every place is taken all the while.
    for _ in 0..2 {
        for till in &mut tills {
            let mut answer = vec![0; 4_096];
            let read = till.read(&mut answer).await.unwrap();
            assert!(answer[..read].starts_with(b"HTTP/1.1 404"));
            till.write_all(headers.as_bytes()).await.unwrap();
        }
    }
}
