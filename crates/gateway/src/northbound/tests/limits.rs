//! Rates and places: who is refused, that it is told nothing was sent, and that it costs nobody else.

use std::time::Duration;

use signer::Kind;
use store::Settings;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::support::{
    BEARER, Harness, KEY, NUMBER, OTHER_KEY, SUB_MCH_ID, about, merchant, micropay, short, signed,
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
