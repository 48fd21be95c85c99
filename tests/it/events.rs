//! A merchant's events over real sockets and restarts: each once, in order, whoever reads them and however often.

use std::net::SocketAddr;
use std::time::Duration;

use simulator::Code;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::World;

/// Reads on from the event `last` until the stream ends or `enough`; returns the events as
/// `id out_trade_no state`. Only what arrived whole counts.
pub(crate) async fn listen(at: SocketAddr, last: u64, enough: impl Fn(&[String]) -> bool) -> Vec<String> {
    let mut stream = TcpStream::connect(at).await.expect("a connection");
    let request = format!(
        "GET /v1/events HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer hufu_sk_test0\r\nLast-Event-ID: {last}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("written");
    let (mut bytes, mut heard) = (Vec::new(), Vec::new());
    while !enough(&heard) {
        let mut buffer = [0; 4_096];
        let read = tokio::time::timeout(Duration::from_secs(60), stream.read(&mut buffer));
        let count = read.await.unwrap_or_else(|_| panic!("nothing more is told: {heard:?}")).unwrap_or(0);
        if count == 0 {
            break;
        }
        bytes.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&bytes);
        let whole = text.rfind("\n\n").map_or("", |end| &text[..end]);
        heard = events(whole);
    }
    heard
}

fn events(text: &str) -> Vec<String> {
    let (mut id, mut found) = ("", Vec::new());
    for line in text.lines() {
        if let Some(number) = line.strip_prefix("id: ") {
            id = number;
        } else if let Some(data) = line.strip_prefix("data: ") {
            let data: serde_json::Value = serde_json::from_str(data).expect("JSON");
            let of = |name: &str| data[name].as_str().unwrap_or_else(|| panic!("{data}")).to_owned();
            found.push(format!("{id} {} {}", of("out_trade_no"), of("state")));
        }
    }
    found
}

fn number_of(event: &str) -> u64 {
    event.split(' ').next().and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("{event}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn events_go_on_exactly_over_restarts() {
    let _covers = covers::covers(&["INV-13", "PR-14"]);
    const PAYMENTS: u64 = 45;
    let world = World::new(20).await;
    let mut switch = world.switch_of_shards(3).await;
    // A third is asked for the password and pays later, a third never answers, a third pays at once.
    let bbss = |n: u64| [140_u16, 200, 0][usize::try_from(n % 3).unwrap_or(0)];
    let over = |events: &[String]| {
        let ended = |event: &&String| event.ends_with(" paid") || event.ends_with(" reversed");
        events.iter().filter(ended).count() as u64
    };
    let mut heard: Vec<String> = Vec::new();
    for part in 0..3_u32 {
        let at = switch.gateway_addr();
        let last = heard.last().map_or(0, |event| number_of(event));
        let before = over(&heard);
        let listening = tokio::spawn(listen(at, last, move |more| before + over(more) == PAYMENTS));
        let till = world.till(&switch, 0);
        for n in u64::from(part) * 15..u64::from(part + 1) * 15 {
            let code = Code::for_customer(bbss(n), 1_000 + n);
            let told = till.pay(&format!("EVENTS-{n:04}"), code.as_str(), 700 + n).await;
            assert!(told.contains_key("result_code"));
        }
        if part < 2 {
            // In the middle of everything: the stream ends with the switch.
            switch.stop().await;
            heard.extend(listening.await.expect("a listener"));
            switch = world.switch_of_shards(1 + part).await;
        } else {
            heard.extend(listening.await.expect("a listener"));
        }
    }
    let numbers: Vec<u64> = heard.iter().map(|event| number_of(event)).collect();
    assert_eq!(
        numbers,
        (1..=numbers.len() as u64).collect::<Vec<_>>(),
        "none lost, none repeated: {heard:?}"
    );
    // Whoever reads it all at once is told the very same.
    let last = heard.len() as u64;
    let again = listen(switch.gateway_addr(), 0, |more| more.len() as u64 >= last).await;
    assert_eq!(again, heard);
    for n in 0..PAYMENTS {
        let number = format!(" EVENTS-{n:04} ");
        let states = heard.iter().filter_map(|event| event.split_once(&number).map(|(_, state)| state));
        let states: Vec<&str> = states.collect();
        match bbss(n) {
            0 => assert!(matches!(states[..], ["processing", "paid"]), "{number}: {states:?}"),
            140 => assert_eq!(states.last(), Some(&"paid"), "{number}: {states:?}"),
            _ => assert!(states.ends_with(&["reversing", "reversed"]), "{number}: {states:?}"),
        }
        assert_eq!(states.first(), Some(&"processing"), "{number}");
    }
    assert_eq!(world.violations(), Vec::<String>::new());
    switch.stop().await;
}
