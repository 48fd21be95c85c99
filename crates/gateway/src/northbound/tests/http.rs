//! Connections: every limit at its edge, what is slow, what is smuggled, what is cut, and what a stop does.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use signer::Kind;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::super::server::{ACCEPT_PAUSE, Handler, Life, Limits, Reply, STRIKES_MAX, plain, serve};
use super::super::{Accept, Opened};
use super::support::{
    Answered, Harness, KEY, NUMBER, OTHER_KEY, Script, about, micropay, read_all, short, signed,
};
use crate::config::Northbound;
use hyper::body::Incoming;
use hyper::{Request, StatusCode};

const QUERY: &str = "/pay/orderquery";

fn good() -> String {
    signed(KEY, Kind::Md5, &about(NUMBER))
}

/// A whole request, kept alive.
fn request(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Reads one answer from a connection that stays open.
async fn one(stream: &mut TcpStream) -> Answered {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.to_ascii_lowercase();
            let length = length.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
            if body.len() >= length.parse().unwrap() {
                return Answered::read(bytes);
            }
        }
        let mut buffer = [0; 4_096];
        let count = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut buffer)).await;
        let count = count.expect("an answer").expect("a connection");
        assert!(count > 0, "closed: {text}");
        bytes.extend_from_slice(&buffer[..count]);
    }
}

/// The gateway still works.
async fn works(harness: &Harness) {
    let before = harness.engine.calls().len();
    assert_eq!(harness.post(QUERY, &good()).await.get("err_code"), "ORDERNOTEXIST");
    assert_eq!(harness.engine.calls().len(), before + 1);
}

#[tokio::test]
async fn one_connection_carries_many_requests() {
    let harness = Harness::start().await;
    let mut stream = TcpStream::connect(harness.at).await.unwrap();
    for _ in 0..3 {
        stream.write_all(request(QUERY, &good()).as_bytes()).await.unwrap();
        assert_eq!(one(&mut stream).await.get("err_code"), "ORDERNOTEXIST");
    }
    // Two at once are two requests, answered in order.
    let (first, second) =
        (request(QUERY, &good()), request("/pay/micropay", &signed(KEY, Kind::Md5, &micropay())));
    stream
        .write_all(format!("{first}{second}GET / HTTP/1.1\r\nConnection: close\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let bytes = read_all(&mut stream).await;
    let text = String::from_utf8(bytes).unwrap();
    let order = ["ORDERNOTEXIST", "MICROPAY", "hufu"].map(|word| text.find(word).expect(word));
    assert!(order.is_sorted(), "{text}");
    assert_eq!(harness.engine.calls().len(), 5);
}

#[tokio::test]
async fn what_two_readers_could_read_in_two_ways_is_answered_400_and_closed() {
    let _covers = covers::covers(&["MI-13", "MI-14"]);
    let hidden = request("/pay/micropay", &signed(KEY, Kind::Md5, &micropay()));
    let body = good();
    let length = body.len();
    for (what, text) in [
        (
            "both lengths",
            format!(
                "POST {QUERY} HTTP/1.1\r\nContent-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"
            ),
        ),
        (
            "both, other order",
            format!(
                "POST {QUERY} HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n{hidden}"
            ),
        ),
        (
            "two lengths",
            format!(
                "POST {QUERY} HTTP/1.1\r\nContent-Length: {length}\r\nContent-Length: {length}\r\n\r\n{body}"
            ),
        ),
        (
            "two different lengths",
            format!("POST {QUERY} HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: {length}\r\n\r\n{hidden}"),
        ),
        ("signed length", format!("POST {QUERY} HTTP/1.1\r\nContent-Length: +{length}\r\n\r\n{body}")),
        (
            "list of lengths",
            format!("POST {QUERY} HTTP/1.1\r\nContent-Length: {length}, {length}\r\n\r\n{body}"),
        ),
        (
            "other coding",
            format!("POST {QUERY} HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n{hidden}"),
        ),
        (
            "blank before colon",
            format!("POST {QUERY} HTTP/1.1\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n{hidden}"),
        ),
        ("bare line feed", format!("POST {QUERY} HTTP/1.1\nContent-Length: {length}\n\n{body}")),
        (
            "bare line feed in a header",
            format!("POST {QUERY} HTTP/1.1\r\nX: a\nContent-Length: {length}\r\n\r\n{body}"),
        ),
        (
            "continued line",
            format!("POST {QUERY} HTTP/1.1\r\nX: a\r\n Content-Length: {length}\r\n\r\n{body}"),
        ),
        ("body on GET", format!("GET {QUERY} HTTP/1.1\r\nContent-Length: {}\r\n\r\n{hidden}", hidden.len())),
        (
            "chunk overflow",
            format!(
                "POST {QUERY} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n{hidden}"
            ),
        ),
        (
            "negative chunk",
            format!(
                "POST {QUERY} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabcde\r\n0\r\n\r\n{hidden}"
            ),
        ),
        (
            "chunk without end",
            format!(
                "POST {QUERY} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcdefg\r\n0\r\n\r\n{hidden}"
            ),
        ),
        (
            "NUL in a header",
            format!("POST {QUERY} HTTP/1.1\r\nX: \0\r\nContent-Length: {length}\r\n\r\n{body}"),
        ),
    ] {
        let harness = Harness::start().await;
        let answer = Answered::read(harness.raw(text.as_bytes()).await);
        assert_eq!(answer.status, 400, "{what}");
        assert!(!answer.body.contains("HTTP/1.1"), "{what}: one answer and no second: {answer:?}");
        // The same in pieces.
        let mut stream = TcpStream::connect(harness.at).await.unwrap();
        stream.set_nodelay(true).unwrap();
        for piece in text.as_bytes().chunks(9) {
            if stream.write_all(piece).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        assert_eq!(Answered::read(read_all(&mut stream).await).status, 400, "{what}, in pieces");
        assert!(harness.engine.calls().is_empty(), "{what}");
        works(&harness).await;
    }
}

#[tokio::test]
async fn a_request_before_a_faulty_one_is_answered_first_however_long_that_takes() {
    // The wait is far longer than a head may take: nothing is read any more, so nothing is late.
    let harness = Harness::with(Northbound { hold: Duration::from_millis(600), ..short() }).await;
    harness.script(Script::Silent);
    let good = request("/pay/micropay", &signed(KEY, Kind::Md5, &micropay()));
    let faulty = "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx";
    let bytes = harness.raw(format!("{good}{faulty}{good}").as_bytes()).await;
    let text = String::from_utf8(bytes).unwrap();
    assert_eq!(text.matches("HTTP/1.1 200").count(), 1, "{text}");
    let (first, second) = text.split_once("HTTP/1.1 400").expect("a second answer");
    assert!(first.contains("USERPAYING"), "{text}");
    assert!(second.ends_with("\r\n\r\nthe length of the body is given twice\n"), "{text}");
    assert_eq!(harness.engine.calls().len(), 2, "one payment, looked up once when the wait was over");
    // The target that stands in for a fault is no route.
    assert_eq!(harness.send("GET", "/.refused", "", b"").await.status, 404);
}

#[tokio::test]
async fn a_chunked_body_is_as_good_as_another() {
    let harness = Harness::start().await;
    let body = good();
    let (first, second) = body.split_at(17);
    let text = format!(
        "POST {QUERY} HTTP/1.1\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{first}\r\n{:X};a=b\r\n{second}\r\n0\r\n\r\n",
        first.len(),
        second.len()
    );
    assert_eq!(Answered::read(harness.raw(text.as_bytes()).await).get("err_code"), "ORDERNOTEXIST");
}

#[tokio::test]
async fn a_body_that_is_cut_comes_to_nothing() {
    let _covers = covers::covers(&["NM-04"]);
    let body = signed(KEY, Kind::Md5, &micropay());
    for (what, text) in [
        ("by length", request("/pay/micropay", &body)),
        (
            "in chunks",
            format!(
                "POST /pay/micropay HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
                body.len()
            ),
        ),
    ] {
        let harness = Harness::start().await;
        let cut = &text.as_bytes()[..text.len() - 7];
        let mut stream = TcpStream::connect(harness.at).await.unwrap();
        stream.write_all(cut).await.unwrap();
        stream.shutdown().await.unwrap();
        let answer = Answered::read(read_all(&mut stream).await);
        assert_eq!(answer.status, 400, "{what}");
        assert!(harness.engine.calls().is_empty(), "{what}");
        assert!(harness.log.text().contains("the body was cut"), "{what}");
        works(&harness).await;
    }
}

#[tokio::test]
async fn limits_hold_at_their_edge() {
    let _covers = covers::covers(&["INV-24"]);
    let at_most = short().body_bytes_max;
    let head_max = short().head_bytes_max;
    let harness = Harness::start().await;
    // A body of exactly the limit is read: it is no XML, which is another answer.
    let whole = harness.send("POST", QUERY, "", &vec![b'x'; at_most]).await;
    assert_eq!(
        (whole.status, whole.get("return_msg")),
        (200, "XML格式错误：text between elements".to_owned())
    );
    let over = harness.send("POST", QUERY, "", &vec![b'x'; at_most + 1]).await;
    assert_eq!(over.status, 413);
    assert!(over.head.contains("connection: close"));
    let mut chunked = format!("POST {QUERY} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes();
    for _ in 0..=at_most / 1_024 {
        chunked.extend_from_slice(b"400\r\n");
        chunked.extend_from_slice(&[b'x'; 1_024]);
        chunked.extend_from_slice(b"\r\n");
    }
    assert_eq!(Answered::read(harness.raw(&chunked).await).status, 413);
    // Announced and never sent: refused at once.
    let announced = format!("POST {QUERY} HTTP/1.1\r\nContent-Length: 4294967297\r\n\r\n");
    assert_eq!(Answered::read(harness.raw(announced.as_bytes()).await).status, 413);

    let headers = |count: usize| "X: y\r\n".repeat(count);
    let most = short().headers_max;
    // `send` has three of its own.
    assert_eq!(harness.send("GET", "/", &headers(most - 3), b"").await.status, 200);
    assert_eq!(harness.send("GET", "/", &headers(most - 2), b"").await.status, 431);
    let long = |length: usize| format!("X: {}\r\n", "y".repeat(length));
    assert_eq!(harness.send("GET", "/", &long(head_max - 200), b"").await.status, 200);
    for over in [head_max, 10 * head_max] {
        let text = format!("GET / HTTP/1.1\r\n{}\r\n", long(over));
        let refused = harness.raw(text.as_bytes()).await;
        assert!(refused.starts_with(b"HTTP/1.1 4"), "{over} {:?}", String::from_utf8_lossy(&refused));
    }
    assert!(harness.engine.calls().is_empty());
    works(&harness).await;
}

#[tokio::test]
async fn compressed_bodies_are_refused() {
    let harness = Harness::start().await;
    for coding in ["gzip", "deflate", "br", "identity, gzip"] {
        let answer =
            harness.send("POST", QUERY, &format!("Content-Encoding: {coding}\r\n"), good().as_bytes()).await;
        assert_eq!(answer.status, 415, "{coding}");
    }
    assert!(harness.engine.calls().is_empty());
    let answer = harness.send("POST", QUERY, "Content-Encoding: identity\r\n", good().as_bytes()).await;
    assert_eq!(answer.get("err_code"), "ORDERNOTEXIST");
}

/// Sends `text` byte by byte until the gateway closes; returns how long that took, and what came back.
async fn drip(harness: &Harness, first: &str, text: &str) -> (Duration, Vec<u8>) {
    let started = Instant::now();
    let mut stream = TcpStream::connect(harness.at).await.unwrap();
    stream.write_all(first.as_bytes()).await.unwrap();
    let (mut read, mut write) = stream.split();
    let mut answer = Vec::new();
    let mut every = tokio::time::interval(Duration::from_millis(20));
    for byte in text.bytes() {
        tokio::select! {
            ended = read.read_to_end(&mut answer) => {
                let _ = ended;
                return (started.elapsed(), answer);
            }
            _ = every.tick() => {
                if write.write_all(&[byte]).await.is_err() {
                    break;
                }
            }
        }
    }
    let _ = read.read_to_end(&mut answer).await;
    (started.elapsed(), answer)
}

#[tokio::test]
async fn one_byte_at_a_time_ends_at_the_deadline() {
    let _covers = covers::covers(&["NM-05"]);
    let harness = Harness::start().await;
    let body = signed(KEY, Kind::Md5, &micropay());
    let whole = request("/pay/micropay", &body);
    let head = whole.strip_suffix(body.as_str()).unwrap();
    for (what, first, rest) in [("head", "", whole.as_str()), ("body", head, body.as_str())] {
        let (took, _) = drip(&harness, first, rest).await;
        // The whole would take seconds; the deadline is 150 ms.
        assert!(took >= Duration::from_millis(140) && took < Duration::from_secs(3), "{what}: {took:?}");
    }
    assert!(harness.engine.calls().is_empty());
    works(&harness).await;
}

#[tokio::test]
async fn idle_connections_are_closed_and_waiting_ones_are_not() {
    let _covers = covers::covers(&["NM-07"]);
    // A hold longer than the idle deadline: while a till waits it may be silent.
    let config = Northbound { hold: Duration::from_millis(700), ..short() };
    let harness = Harness::with(config).await;
    let started = Instant::now();
    // Whatever came first and however it came: after its answer a connection is idle.
    for headers in [String::new(), format!("X: {}\r\n", "y".repeat(16_000))] {
        let text = format!("GET / HTTP/1.1\r\n{headers}\r\n");
        let answered = String::from_utf8(harness.raw(text.as_bytes()).await).unwrap();
        assert!(answered.starts_with("HTTP/1.1 200"), "{answered}");
    }
    let mut silent = TcpStream::connect(harness.at).await.unwrap();
    let mut used = TcpStream::connect(harness.at).await.unwrap();
    used.write_all(request(QUERY, &good()).as_bytes()).await.unwrap();
    one(&mut used).await;
    harness.script(Script::Silent);
    let mut waiting = TcpStream::connect(harness.at).await.unwrap();
    waiting
        .write_all(request("/pay/micropay", &signed(KEY, Kind::Md5, &micropay())).as_bytes())
        .await
        .unwrap();
    assert!(read_all(&mut silent).await.is_empty());
    assert!(read_all(&mut used).await.is_empty());
    assert!(started.elapsed() >= Duration::from_millis(290));
    assert_eq!(one(&mut waiting).await.get("err_code"), "USERPAYING");
    assert!(started.elapsed() >= Duration::from_millis(690));
}

#[tokio::test]
async fn a_till_that_hangs_up_cancels_nothing() {
    let _covers = covers::covers(&["NM-01"]);
    let harness = Harness::with(Northbound { hold: Duration::from_secs(20), ..short() }).await;
    harness.script(Script::Silent);
    let mut stream = TcpStream::connect(harness.at).await.unwrap();
    stream
        .write_all(request("/pay/micropay", &signed(KEY, Kind::Md5, &micropay())).as_bytes())
        .await
        .unwrap();
    harness.engine.asked(1).await;
    drop(stream);
    let answer = harness.post(QUERY, &good()).await;
    assert_eq!(answer.get("trade_state"), "USERPAYING");
}

#[tokio::test]
async fn a_panic_ends_one_request() {
    let _covers = covers::covers(&["PR-10"]);
    let harness = Harness::start().await;
    harness.script(Script::Panic);
    let answer = harness.post("/pay/micropay", &signed(KEY, Kind::Md5, &micropay())).await;
    assert_eq!(answer.status, 500);
    assert!(harness.log.text().contains("a request panicked"));
    works(&harness).await;
}

#[tokio::test]
async fn wrong_signatures_without_end_close_the_connection() {
    let _covers = covers::covers(&["OV-09"]);
    let harness = Harness::start().await;
    let wrong = request(QUERY, &signed(OTHER_KEY, Kind::Md5, &about(NUMBER)));
    let right = request(QUERY, &good());
    let mut stream = TcpStream::connect(harness.at).await.unwrap();
    for _ in 0..2 {
        for _ in 1..STRIKES_MAX {
            stream.write_all(wrong.as_bytes()).await.unwrap();
            assert_eq!(one(&mut stream).await.get("return_msg"), "签名错误");
        }
        // One good request, and the count begins anew.
        stream.write_all(right.as_bytes()).await.unwrap();
        assert_eq!(one(&mut stream).await.get("err_code"), "ORDERNOTEXIST");
    }
    for _ in 0..STRIKES_MAX {
        stream.write_all(wrong.as_bytes()).await.unwrap();
    }
    let text = String::from_utf8(read_all(&mut stream).await).unwrap();
    assert_eq!(text.matches("签名错误").count(), usize::try_from(STRIKES_MAX).unwrap());
    assert_eq!(text.matches("connection: close").count(), 1);
}

#[tokio::test]
async fn when_every_place_is_taken_the_idle_make_room() {
    let _covers = covers::covers(&["NM-07"]);
    let config = Northbound { connections_max: 4, idle_deadline: Duration::from_secs(60), ..short() };
    let harness = Harness::with(config).await;
    let mut first = TcpStream::connect(harness.at).await.unwrap();
    first.write_all(request(QUERY, &good()).as_bytes()).await.unwrap();
    one(&mut first).await;
    let mut rest = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(harness.at).await.unwrap();
        stream.write_all(request(QUERY, &good()).as_bytes()).await.unwrap();
        one(&mut stream).await;
        rest.push(stream);
    }
    // A fifth gets in; the one that has been idle longest makes room.
    works(&harness).await;
    assert!(read_all(&mut first).await.is_empty());
    let last = rest.last_mut().unwrap();
    last.write_all(request(QUERY, &good()).as_bytes()).await.unwrap();
    assert_eq!(one(last).await.get("err_code"), "ORDERNOTEXIST");
}

#[tokio::test]
async fn draining_asks_tills_to_go_and_stopping_finishes_what_waits() {
    let _covers = covers::covers(&["PR-14"]);
    let harness = Harness::with(Northbound { hold: Duration::from_millis(400), ..short() }).await;
    let mut kept = TcpStream::connect(harness.at).await.unwrap();
    kept.write_all(request(QUERY, &good()).as_bytes()).await.unwrap();
    assert!(!one(&mut kept).await.head.contains("connection: close"));
    harness.life.send(Life::Draining).unwrap();
    kept.write_all(request(QUERY, &good()).as_bytes()).await.unwrap();
    let answer = one(&mut kept).await;
    assert!(answer.head.contains("connection: close"), "{answer:?}");
    assert!(read_all(&mut kept).await.is_empty());
    works(&harness).await;

    harness.script(Script::Silent);
    let mut waiting = TcpStream::connect(harness.at).await.unwrap();
    waiting
        .write_all(request("/pay/micropay", &signed(KEY, Kind::Md5, &micropay())).as_bytes())
        .await
        .unwrap();
    let calls = harness.engine.calls().len();
    harness.engine.asked(calls + 1).await;
    let mut idle = TcpStream::connect(harness.at).await.unwrap();
    idle.write_all(b"").await.unwrap();
    harness.life.send(Life::Stopping).unwrap();
    assert_eq!(one(&mut waiting).await.get("err_code"), "USERPAYING");
    tokio::time::timeout(Duration::from_secs(4), harness.served).await.expect("it ends").unwrap();
    assert!(read_all(&mut idle).await.is_empty());
    assert!(TcpStream::connect(harness.at).await.is_err(), "nobody listens any more");
}

/// Streams in memory with small buffers, one after another.
struct Pipes(tokio::sync::Mutex<mpsc::Receiver<DuplexStream>>);

impl Accept for Pipes {
    type Stream = DuplexStream;
    type Arrived = DuplexStream;
    type Opening = std::future::Ready<io::Result<Opened<DuplexStream>>>;

    async fn accept(&self) -> io::Result<(DuplexStream, SocketAddr)> {
        let stream = self.0.lock().await.recv().await.ok_or(io::ErrorKind::BrokenPipe)?;
        Ok((stream, SocketAddr::from(([127, 0, 0, 1], 1))))
    }

    fn open(&self, arrived: DuplexStream) -> Self::Opening {
        std::future::ready(Ok(Opened::plain(arrived)))
    }
}

struct Long;

impl Handler for Long {
    async fn handle(&self, _: Request<Incoming>, _: SocketAddr) -> Reply {
        plain(StatusCode::OK, &"x".repeat(64 * 1024))
    }
}

#[tokio::test]
async fn an_answer_that_nobody_reads_ends_at_the_deadline() {
    let _covers = covers::covers(&["NM-06"]);
    let (sender, receiver) = mpsc::channel(4);
    let (life, watching) = watch::channel(Life::Running);
    let pipes = Pipes(tokio::sync::Mutex::new(receiver));
    let served = tokio::spawn(serve(pipes, Arc::new(Long), Limits::from(&short()), watching));
    let (mut till, gateway) = tokio::io::duplex(1_024);
    sender.send(gateway).await.unwrap();
    till.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    // The answer has begun. Not a byte more is read until the gateway has given up: then there is only what
    // the buffer held.
    till.read_u8().await.unwrap();
    let started = Instant::now();
    life.send(Life::Stopping).unwrap();
    tokio::time::timeout(Duration::from_secs(4), served).await.expect("it gives up").unwrap();
    assert!(started.elapsed() >= Duration::from_millis(140), "{:?}", started.elapsed());
    let mut read = Vec::new();
    till.read_to_end(&mut read).await.unwrap();
    assert!(read.len() <= 1_024, "{}", read.len());
}

/// A listener without a free descriptor for its first calls.
struct Scarce {
    pipes: Pipes,
    refusals: std::sync::atomic::AtomicUsize,
    calls: mpsc::UnboundedSender<Instant>,
}

impl Accept for Scarce {
    type Stream = DuplexStream;
    type Arrived = DuplexStream;
    type Opening = std::future::Ready<io::Result<Opened<DuplexStream>>>;

    async fn accept(&self) -> io::Result<(DuplexStream, SocketAddr)> {
        use std::sync::atomic::Ordering::Relaxed;
        let _ = self.calls.send(Instant::now());
        if self.refusals.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        self.pipes.accept().await
    }

    fn open(&self, arrived: DuplexStream) -> Self::Opening {
        self.pipes.open(arrived)
    }
}

#[tokio::test]
async fn without_descriptors_accepting_pauses_and_goes_on() {
    let _covers = covers::covers(&["PR-12"]);
    let (sender, receiver) = mpsc::channel(4);
    let (life, watching) = watch::channel(Life::Running);
    let (calls, mut called) = mpsc::unbounded_channel();
    let pipes = Pipes(tokio::sync::Mutex::new(receiver));
    let scarce = Scarce { pipes, refusals: 3.into(), calls };
    let served = tokio::spawn(serve(scarce, Arc::new(Long), Limits::from(&short()), watching));
    let (mut till, gateway) = tokio::io::duplex(128 * 1024);
    sender.send(gateway).await.unwrap();
    till.write_all(b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut read = Vec::new();
    till.read_to_end(&mut read).await.unwrap();
    assert!(read.starts_with(b"HTTP/1.1 200") && read.len() > 64 * 1024, "{}", read.len());
    life.send(Life::Stopping).unwrap();
    served.await.unwrap();
    let mut before = called.recv().await.unwrap();
    for _ in 0..3 {
        let next = called.recv().await.unwrap();
        assert!(next - before >= ACCEPT_PAUSE, "it must not spin: {:?}", next - before);
        before = next;
    }
}

#[tokio::test]
async fn random_bytes_come_to_nothing() {
    let _covers = covers::covers(&["MI-25"]);
    let harness = Harness::start().await;
    let valid = request(QUERY, &good());
    for seed in 1..=60_u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut bytes = valid.clone().into_bytes();
        for _ in 0..seed % 7 + 1 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let at = usize::try_from(state % u64::try_from(bytes.len()).unwrap()).unwrap();
            bytes[at] ^= u8::try_from(state >> 56).unwrap() | 1;
        }
        let mut stream = TcpStream::connect(harness.at).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        // Closed or answered, but never left hanging.
        read_all(&mut stream).await;
    }
    works(&harness).await;
}
