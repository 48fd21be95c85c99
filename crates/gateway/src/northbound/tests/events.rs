//! Streams of events and lists over real sockets: exact, resumable, bounded, and nobody else's.

use std::time::Duration;

use serde_json::Value;
use state_machine::Record;
use state_machine::record::{State, TillReversal};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::support::{Answered, BEARER, Harness, key, paid, record, refused, short};
use crate::config::Northbound;
use crate::merchants::Directory;

const OTHER_BEARER: &str = "hufu_sk_fedcba9876543210fedcba9876543210";

fn next(record: &Record, state: State) -> Record {
    let next = Record { version: record.version + 1, state, ..record.clone() };
    match state {
        State::Paid => paid(next),
        State::Failed => refused(next, "NOTENOUGH", "余额不足"),
        State::Accepted | State::Pending | State::Reversing | State::Reversed => next,
    }
}

fn order(number: u32) -> Record {
    record(&format!("P2026112300{number:06}"), State::Accepted)
}

async fn get(harness: &Harness, path: &str, headers: &str) -> Answered {
    harness.send("GET", path, &format!("Authorization: Bearer {BEARER}\r\n{headers}"), b"").await
}

/// A stream, read as it comes.
struct Listening {
    stream: TcpStream,
    text: String,
}

impl Listening {
    /// Asks, and reads the head and what comes first.
    async fn open(harness: &Harness, path: &str, headers: &str) -> Self {
        let mut stream = TcpStream::connect(harness.at).await.unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {BEARER}\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut listening = Self { stream, text: String::new() };
        listening.until("retry: 1000\n\n").await;
        let head = listening.text.to_ascii_lowercase();
        for line in ["http/1.1 200", "content-type: text/event-stream\r\n", "cache-control: no-store\r\n"] {
            assert!(head.contains(line), "{head}");
        }
        listening
    }

    async fn more(&mut self) -> bool {
        let mut buffer = [0; 4_096];
        let count = tokio::time::timeout(Duration::from_secs(10), self.stream.read(&mut buffer));
        let count = count.await.unwrap_or_else(|_| panic!("neither words nor the end: {:?}", self.text));
        let count = count.unwrap_or(0);
        self.text.push_str(&String::from_utf8_lossy(&buffer[..count]));
        count > 0
    }

    async fn until(&mut self, words: &str) {
        while !self.text.contains(words) {
            assert!(self.more().await, "closed: {:?}", self.text);
        }
    }

    /// Reads to the end of the answer.
    async fn end(mut self) -> String {
        while !self.text.ends_with("\r\n0\r\n\r\n") && self.more().await {}
        self.text
    }

    /// `number out_trade_no state` of each event so far.
    fn events(&self) -> Vec<String> {
        events(&self.text)
    }
}

/// Reads events as a client does, line by line.
fn events(text: &str) -> Vec<String> {
    let (mut id, mut found) = (String::new(), Vec::new());
    for line in text.lines() {
        if let Some(number) = line.strip_prefix("id: ") {
            id = number.to_owned();
        } else if let Some(data) = line.strip_prefix("data: ") {
            let data: Value = serde_json::from_str(data).unwrap_or_else(|err| panic!("{err}: {data}"));
            let of = |name: &str| data[name].as_str().unwrap_or("-").to_owned();
            found.push(format!("{id} {} {}", of("out_trade_no"), of("state")));
        }
    }
    found
}

#[tokio::test]
async fn a_merchant_hears_each_state_as_it_becomes_durable_and_nothing_of_others() {
    let harness = Harness::start().await;
    let one = order(1);
    harness.engine.put(one.clone());
    // From now on: what was before is not repeated, and its place is told.
    let mut heard = Listening::open(&harness, "/v1/events", "").await;
    heard.until("id: 1\n\n").await;
    harness.engine.put(Record { key: key(2, "P2026112300000009"), ..order(9) });
    let asked = next(&one, State::Pending);
    harness.engine.put(asked.clone());
    harness.engine.put(next(&asked, State::Paid));
    heard.until("\"paid\"").await;
    let number = one.key.number;
    assert_eq!(heard.events(), [format!("2 {number} awaiting_password"), format!("3 {number} paid")]);
    // The same, for whoever begins at the beginning or anywhere else.
    for (path, headers, from) in [
        ("/v1/events?after=0", "", 0),
        ("/v1/events", "Last-Event-ID: 0\r\n", 0),
        ("/v1/events?after=0", "Last-Event-ID: 2\r\n", 2),
        ("/v1/events", "last-event-id: 1\r\n", 1),
    ] {
        let mut again = Listening::open(&harness, path, headers).await;
        again.until("\"paid\"").await;
        let all = ["1 N processing", "2 N awaiting_password", "3 N paid"];
        let all = all.map(|event| event.replace('N', number.as_str()));
        assert_eq!(again.events(), all[from..], "{path} {headers}");
    }
}

#[tokio::test]
async fn a_payment_is_followed_from_its_beginning_to_its_outcome() {
    let harness = Harness::start().await;
    let one = order(1);
    let path = format!("/v1/payments/{}/events", one.key.number);
    let none = get(&harness, &path, "").await;
    assert_eq!((none.status, none.body.contains("urn:hufu:not_found")), (404, true));
    harness.engine.put(one.clone());
    harness.engine.put(order(2));
    let mut heard = Listening::open(&harness, &path, "").await;
    heard.until("\"processing\"").await;
    harness.engine.put(next(&order(2), State::Pending));
    harness.engine.put(next(&one, State::Paid));
    let text = heard.end().await;
    let number = one.key.number;
    assert_eq!(events(&text), [format!("1 {number} processing"), format!("4 {number} paid")]);
    // Over: whoever heard it all is told not to come again, whoever missed something hears it.
    let again = get(&harness, &path, "Last-Event-ID: 4\r\n").await;
    assert_eq!((again.status, again.body.as_str()), (204, ""));
    let missed = get(&harness, &path, "Last-Event-ID: 1\r\n").await;
    assert_eq!(events(&missed.body), [format!("4 {number} paid")]);
    // A reversal that the till asks for afterwards is new.
    let undone = Record { till_reversal: TillReversal::Asked, version: 3, ..next(&one, State::Paid) };
    harness.engine.put(undone.clone());
    let mut heard = Listening::open(&harness, &path, "Last-Event-ID: 4\r\n").await;
    heard.until("\"reversing\"").await;
    harness.engine.put(Record { till_reversal: TillReversal::Done, version: 4, ..undone });
    let text = heard.end().await;
    assert_eq!(events(&text), [format!("5 {number} reversing"), format!("6 {number} reversed")]);
}

#[tokio::test]
async fn cut_anywhere_the_next_connection_goes_on_exactly() {
    let _covers = covers::covers(&["NM-01"]);
    let harness = Harness::start().await;
    let mut expected = Vec::new();
    for number in 1..=60 {
        let one = order(number);
        harness.engine.put(one.clone());
        harness.engine.put(next(&one, State::Failed));
        expected.push(format!("{} {} processing", number * 2 - 1, one.key.number));
        expected.push(format!("{} {} failed", number * 2, one.key.number));
    }
    // Each connection is cut within what it hears, at another place; only whole events count, as for any client.
    let (mut heard, mut last, mut connections) = (Vec::new(), "0".to_owned(), 0);
    while heard.len() < expected.len() {
        let mut listening =
            Listening::open(&harness, "/v1/events", &format!("Last-Event-ID: {last}\r\n")).await;
        let want = listening.text.len() + 331 * (connections + 1);
        while listening.text.len() < want && !listening.text.contains(&format!("id: {}\n", expected.len())) {
            assert!(listening.more().await);
        }
        let cut = want.min(listening.text.len());
        let cut = (0..=cut).rev().find(|at| listening.text.is_char_boundary(*at)).unwrap();
        let whole = listening.text[..cut].rfind("\n\n").map_or("", |end| &listening.text[..end + 2]);
        let new = events(whole);
        if let Some(newest) = new.last() {
            last = newest.split(' ').next().unwrap().to_owned();
        }
        heard.extend(new);
        connections += 1;
    }
    assert_eq!(heard, expected);
    assert!(connections > 3, "{connections}");
}

#[tokio::test]
async fn numbers_that_are_none_are_refused() {
    let harness = Harness::start().await;
    harness.engine.put(order(1));
    for (path, headers, status, says) in [
        ("/v1/events", "Last-Event-ID: 2\r\n", 409, "urn:hufu:unknown_event"),
        ("/v1/events?after=999999999999999999", "", 409, "urn:hufu:unknown_event"),
        ("/v1/events?after=1000000000000000000", "", 422, "\"after\""),
        ("/v1/events?after=%2b1", "", 422, "\"after\""),
        ("/v1/events?after=-1", "", 422, "\"after\""),
        ("/v1/events?after=", "", 422, "\"after\""),
        ("/v1/events?before=1", "", 422, "\"query\""),
        ("/v1/events", "Last-Event-ID: x\r\n", 422, "\"Last-Event-ID\""),
        ("/v1/events", "Last-Event-ID: 1\r\nLast-Event-ID: 1\r\n", 422, "\"Last-Event-ID\""),
        ("/v1/payments/P2026112300000001/events", "Last-Event-ID: 7\r\n", 409, "urn:hufu:unknown_event"),
        ("/v1/payments/P2026112300000002/events", "", 404, "urn:hufu:not_found"),
        ("/v1/events/", "", 404, "urn:hufu:no_route"),
    ] {
        let answer = get(&harness, path, headers).await;
        assert_eq!(answer.status, status, "{path} {headers}: {answer:?}");
        assert!(answer.body.contains(says), "{answer:?}");
    }
    let post = harness.send("POST", "/v1/events", &format!("Authorization: Bearer {BEARER}\r\n"), b"").await;
    assert_eq!((post.status, post.head.contains("allow: get\r\n")), (405, true), "{post:?}");
    let stranger = harness.send("GET", "/v1/events", "", b"").await;
    assert_eq!(stranger.status, 401);
}

#[tokio::test]
async fn a_quiet_stream_gives_signs_of_life_and_ends_with_its_key() {
    let _covers = covers::covers(&["OP-06"]);
    let harness = Harness::with(Northbound { heartbeat: Duration::from_millis(30), ..short() }).await;
    let mut heard = Listening::open(&harness, "/v1/events", "").await;
    heard.until(":\n\n\r\n3\r\n:\n\n").await;
    // The merchant's key is taken away.
    harness.merchants.replace(Directory::new(Vec::new()).unwrap());
    harness.engine.put(order(1));
    let text = heard.end().await;
    assert!(!text.contains("data:"), "{text}");
    assert_eq!(get(&harness, "/v1/events", "").await.status, 401);
}

#[tokio::test]
async fn streams_are_bounded_for_a_merchant_and_in_all() {
    let _covers = covers::covers(&["INV-24"]);
    let config = Northbound { merchant_streams_max: 2, streams_max: 3, ..short() };
    let harness = Harness::with(config).await;
    let first = Listening::open(&harness, "/v1/events", "").await;
    let _second = Listening::open(&harness, "/v1/events", "").await;
    let third = get(&harness, "/v1/events", "").await;
    assert_eq!((third.status, third.body.contains("urn:hufu:streams")), (429, true), "{third:?}");
    assert!(third.head.contains("retry-after: 1"), "{third:?}");
    let other = || async {
        let mut stream = TcpStream::connect(harness.at).await.unwrap();
        let request =
            format!("GET /v1/events HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {OTHER_BEARER}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut listening = Listening { stream, text: String::new() };
        while !listening.text.contains("\r\n\r\n") {
            assert!(listening.more().await);
        }
        listening
    };
    let _third = other().await;
    assert!(other().await.text.contains("429"), "one merchant's bound does not make room in all");
    // Whoever hangs up makes room.
    drop(first);
    let mut tries = 0;
    while get_head(&harness).await.contains("429") {
        tries += 1;
        assert!(tries < 1_000, "the place is never given back");
    }
}

/// The first line of another stream of the first merchant, which is hung up at once.
async fn get_head(harness: &Harness) -> String {
    let mut stream = TcpStream::connect(harness.at).await.unwrap();
    let request = format!("GET /v1/events HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {BEARER}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut listening = Listening { stream, text: String::new() };
    while !listening.text.contains("\r\n") {
        assert!(listening.more().await);
    }
    listening.text
}

#[tokio::test]
async fn what_cannot_be_trusted_is_said_and_what_cannot_be_read_ends_the_stream() {
    let _covers = covers::covers(&["DB-11"]);
    let harness = Harness::start().await;
    let (one, two) = (order(1), order(2));
    harness.engine.put(one.clone());
    harness.engine.put(two.clone());
    harness.engine.damage(one.key);
    let mut heard = Listening::open(&harness, "/v1/events?after=0", "").await;
    heard.until("\"processing\"").await;
    assert!(heard.text.contains("id: 1\nevent: unreadable\ndata: {\"money_may_have_moved\":true}\n\n"));
    assert!(heard.events()[1].starts_with("2 "), "{:?}", heard.events());
    *harness.engine.store_down.lock().unwrap() = true;
    harness.engine.put(next(&two, State::Pending));
    let text = heard.end().await;
    assert!(text.ends_with("\r\n0\r\n\r\n") && !text.contains("awaiting"), "{text}");
    let refused = get(&harness, "/v1/events", "").await;
    assert_eq!((refused.status, refused.body.contains("urn:hufu:store_down")), (503, true), "{refused:?}");
}

#[tokio::test]
async fn lists_go_by_day_and_state_page_by_page() {
    let harness = Harness::start().await;
    let other = Record { key: key(2, "P2026112300000001"), ..order(1) };
    harness.engine.put(other);
    for number in 1..=7 {
        let mut one = order(number);
        // The seventh is of the next day in +08:00.
        one.accepted_at.0 += i64::from(number) + if number == 7 { 86_400_000 } else { 0 };
        harness.engine.put(one.clone());
        if number % 2 == 0 {
            harness.engine.put(next(&one, State::Failed));
        }
    }
    let page = |query: String| {
        let harness = &harness;
        async move {
            let answer = get(harness, &format!("/v1/payments{query}"), "").await;
            assert_eq!(answer.status, 200, "{query}: {answer:?}");
            let body: Value = serde_json::from_str(&answer.body).unwrap();
            let numbers = body["payments"].as_array().unwrap().iter();
            let numbers: Vec<u64> = numbers
                .map(|one| one["out_trade_no"].as_str().unwrap()[10..].parse::<u64>().unwrap())
                .collect();
            (numbers, body["next_page_token"].as_str().map(str::to_owned))
        }
    };
    assert_eq!(page(String::new()).await, ((1..=7).collect(), None));
    assert_eq!(page("?day=2026-11-23".to_owned()).await.0, [1, 2, 3, 4, 5, 6]);
    assert_eq!(page("?day=2026-11-24".to_owned()).await.0, [7]);
    assert_eq!(page("?day=2026-11-22".to_owned()).await.0, [0; 0]);
    assert_eq!(page("?state=failed&day=2026-11-23".to_owned()).await.0, [2, 4, 6]);
    let (mut all, mut token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let (numbers, next) = page(format!("?limit=2&day=2026-11-23{token}")).await;
        all.extend(numbers);
        pages += 1;
        if pages == 1 {
            // What comes meanwhile moves nothing.
            harness.engine.put(Record { key: key(1, "P2026112300000000"), ..order(0) });
        }
        let Some(next) = next else { break };
        token = format!("&page_token={next}");
    }
    assert_eq!((all, pages), (vec![1, 2, 3, 4, 5, 6], 4));
    // Another merchant's token, another list's, and none at all.
    for path in [format!("?limit=2{token}"), "?page_token=00".to_owned(), "?day=today".to_owned()] {
        let answer = get(&harness, &format!("/v1/payments{path}"), "").await;
        assert_eq!((answer.status, answer.body.contains("urn:hufu:invalid")), (422, true), "{answer:?}");
    }
    let theirs = format!("Authorization: Bearer {OTHER_BEARER}\r\n");
    let path = format!("/v1/payments?limit=2&day=2026-11-23{token}");
    assert_eq!(harness.send("GET", &path, &theirs, b"").await.status, 422);
}
