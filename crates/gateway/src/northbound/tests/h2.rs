//! HTTP/2: the limits and deadlines of HTTP/1.1 hold, and what only HTTP/2 makes possible is bounded.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

use super::super::server::{Handler, Life, Limits, Reply, STRIKES_MAX, Strike, plain, read_body, serve};
use super::super::{Accept, Opened, Protocol};
use super::support::short;
use crate::config::Northbound;
use crate::metrics;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// HTTP/2 without TLS around it, as ALPN would have chosen it.
struct Bare(TcpListener);

impl Accept for Bare {
    type Stream = TcpStream;
    type Arrived = TcpStream;
    type Opening = std::future::Ready<io::Result<Opened<TcpStream>>>;

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.0.accept().await
    }

    fn open(&self, stream: TcpStream) -> Self::Opening {
        std::future::ready(Ok(Opened { stream, protocol: Protocol::Http2, certificate: None }))
    }
}

/// Reads each body and says how long it was; `/stranger` is struck, `/slow` never answered.
#[derive(Default)]
struct Count {
    begun: AtomicU32,
    under_way: Arc<AtomicU32>,
}

/// One that is being answered.
struct UnderWay(Arc<AtomicU32>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Handler for Count {
    async fn handle(&self, request: Request<Incoming>, _: SocketAddr) -> Reply {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.under_way.fetch_add(1, Ordering::Relaxed);
        let _under_way = UnderWay(Arc::clone(&self.under_way));
        let (head, body) = request.into_parts();
        if head.uri.path() == "/slow" {
            std::future::pending::<()>().await;
        }
        let body = match read_body(&head.headers, body, &short()).await {
            Ok(body) => body,
            Err(err) => return err.reply(),
        };
        let mut reply = plain(StatusCode::OK, &format!("{}", body.len()));
        if head.uri.path() == "/stranger" {
            reply.extensions_mut().insert(Strike);
        }
        reply
    }
}

struct Place {
    at: SocketAddr,
    count: Arc<Count>,
    life: watch::Sender<Life>,
}

impl Place {
    async fn new() -> Self {
        Self::with(short()).await
    }

    async fn with(config: Northbound) -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = tcp.local_addr().unwrap();
        let (life, watching) = watch::channel(Life::Running);
        let count = Arc::<Count>::default();
        tokio::spawn(serve(Bare(tcp), Arc::clone(&count), Limits::from(&config), watching));
        Self { at, count, life }
    }

    async fn works(&self) {
        let mut wire = Wire::open(self, &[]).await;
        wire.send(&[request(1, "/", 5)]).await;
        assert!(wire.until(|frame| frame.kind == DATA && frame.stream == 1).await.is_some());
    }
}

#[derive(Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

/// A connection frame by frame.
struct Wire(TcpStream);

impl Wire {
    /// Opens one whose settings are `settings`.
    async fn open(place: &Place, settings: &[u8]) -> Self {
        let mut wire = Self(TcpStream::connect(place.at).await.unwrap());
        wire.send(&[PREFACE.to_vec(), frame(SETTINGS, 0, 0, settings)]).await;
        wire
    }

    /// Writes; whoever was refused need not take it.
    async fn send(&mut self, frames: &[Vec<u8>]) {
        let _ = self.0.write_all(&frames.concat()).await;
    }

    async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        tokio::time::timeout(Duration::from_secs(10), self.0.read_exact(&mut head))
            .await
            .expect("not hung")
            .ok()?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap()];
        self.0.read_exact(&mut payload).await.ok()?;
        Some(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload })
    }

    /// The first frame that is `wanted`; `None` if the connection ends without it.
    async fn until(&mut self, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if wanted(&frame) {
                return Some(frame);
            }
        }
    }

    /// Reads to the end of the connection: how many answers there were, and whether it said that it ends.
    async fn goodbye(&mut self) -> (u32, bool) {
        let (mut answers, mut goodbye) = (0, false);
        while let Some(frame) = self.next().await {
            answers += u32::from(frame.kind == DATA && frame.flags & END_STREAM != 0);
            goodbye |= frame.kind == GOAWAY;
        }
        (answers, goodbye)
    }

    /// Reads to the end of the connection.
    async fn end(&mut self) {
        assert!(self.until(|_| false).await.is_none());
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[a, b, c, kind, flags][..], &stream.to_be_bytes(), payload].concat()
}

/// A header block without a table or Huffman. Source: RFC 7541, appendix A and section 6.2.2.
fn block(method: u8, path: &str) -> Vec<u8> {
    let literal =
        |index: u8, text: &str| [&[index, u8::try_from(text.len()).unwrap()][..], text.as_bytes()].concat();
    [vec![method, 0x87], literal(4, path), literal(1, "h")].concat()
}

const POST: u8 = 0x83;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn head(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &block(POST, path))
}

/// A whole POST with a body of `length` bytes.
fn request(stream: u32, path: &str, length: usize) -> Vec<u8> {
    [head(stream, path), frame(DATA, END_STREAM, stream, &vec![b'x'; length])].concat()
}

#[tokio::test]
async fn many_requests_at_once_are_answered_on_one_connection() {
    let place = Place::new().await;
    let mut wire = Wire::open(&place, &[]).await;
    wire.send(&(0..50).map(|n| request(2 * n + 1, "/", 7)).collect::<Vec<_>>()).await;
    let mut answered = 0;
    while answered < 50 {
        let frame = wire.next().await.expect("an answer");
        if frame.kind == DATA && !frame.payload.is_empty() {
            assert_eq!(frame.payload, b"7\n");
            answered += 1;
        }
    }
}

#[tokio::test]
async fn floods_end_the_connection_and_nobody_elses() {
    let _covers = covers::covers(&["INV-24"]);
    let place = Place::new().await;
    let resets = (0..4_000)
        .map(|n| [head(2 * n + 1, "/slow"), frame(RST_STREAM, 0, 2 * n + 1, &[0, 0, 0, 8])].concat());
    let open = [head(1, "/slow"), Vec::new()].concat();
    let floods: [(&str, Vec<Vec<u8>>); 9] = [
        ("rapid reset", resets.collect()),
        ("pings", vec![frame(PING, 0, 0, &[7; 8]); 4_000]),
        ("pongs", vec![frame(PING, 1, 0, &[7; 8]); 4_000]),
        ("settings", vec![frame(SETTINGS, 0, 0, &[]); 4_000]),
        ("windows", vec![frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]); 4_000]),
        ("priorities", vec![frame(2, 0, 3, &[0, 0, 0, 0, 1]); 4_000]),
        ("unknown frames", vec![frame(0xAA, 0, 0, &[]); 4_000]),
        ("empty data", [vec![open], vec![frame(DATA, 0, 1, &[]); 4_000]].concat()),
        (
            "continuations",
            [
                vec![frame(HEADERS, 0, 1, &block(POST, "/"))],
                vec![frame(CONTINUATION, 0, 1, &[0; 100]); 1_000],
            ]
            .concat(),
        ),
    ];
    for (what, frames) in floods {
        let mut wire = Wire::open(&place, &[]).await;
        let before = place.count.begun.load(Ordering::Relaxed);
        let (mut read, mut write) = wire.0.split();
        let bytes = frames.concat();
        let mut sink = Vec::new();
        let both = async {
            let _ = tokio::join!(write.write_all(&bytes), read.read_to_end(&mut sink));
        };
        tokio::time::timeout(Duration::from_secs(10), both)
            .await
            .unwrap_or_else(|_| panic!("{what} goes on"));
        let begun = place.count.begun.load(Ordering::Relaxed) - before;
        assert!(begun <= 1_100, "{what}: {begun} requests were begun");
        place.works().await;
    }
    // What was begun and taken back is over.
    while place.count.under_way.load(Ordering::Relaxed) > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn more_requests_at_once_than_allowed_are_refused() {
    let _covers = covers::covers(&["INV-24"]);
    metrics::install().expect("no other recorder");
    let place = Place::new().await;
    let mut wire = Wire::open(&place, &[]).await;
    wire.send(&(0..101).map(|n| head(2 * n + 1, "/slow")).collect::<Vec<_>>()).await;
    let refused = wire.until(|frame| frame.kind == RST_STREAM).await.expect("a reset");
    // REFUSED_STREAM: nothing was done for it, it may be asked again.
    assert_eq!((refused.stream, refused.payload.as_slice()), (201, &[0, 0, 0, 7][..]));
    while place.count.begun.load(Ordering::Relaxed) < 100 {
        tokio::task::yield_now().await;
    }
    wire.send(&[head(203, "/slow")]).await;
    assert!(wire.until(|frame| frame.kind == RST_STREAM && frame.stream == 203).await.is_some());
    assert_eq!(place.count.begun.load(Ordering::Relaxed), 100);
    let told = metrics::render();
    let series = "hufu_limits_reached_total{limit=\"connection_requests\"} ";
    let count = told.lines().find_map(|line| line.strip_prefix(series)?.parse::<u64>().ok());
    assert!(count.is_some_and(|count| count >= 1), "{count:?}");
}

#[tokio::test]
async fn heads_bodies_and_idle_connections_have_their_deadlines() {
    let _covers = covers::covers(&["NM-05", "NM-07"]);
    let place = Place::new().await;
    let started = Instant::now();
    let took = |least: Duration| {
        let took = started.elapsed();
        assert!(took >= least.mul_f32(0.9) && took < least + Duration::from_secs(3), "{took:?}");
    };
    // Never a preface, and a head that is never whole: the connection ends.
    let mut silent = TcpStream::connect(place.at).await.unwrap();
    let mut headless = Wire::open(&place, &[]).await;
    headless.send(&[frame(HEADERS, 0, 1, &block(POST, "/"))]).await;
    let mut cut = Wire::open(&place, &[]).await;
    cut.send(&[request(1, "/", 400)[..200].to_vec()]).await;
    // A body that never ends costs its own request only.
    let mut slow = Wire::open(&place, &[]).await;
    slow.send(&[head(1, "/"), frame(DATA, 0, 1, b"x"), request(3, "/", 2)]).await;
    assert!(slow.until(|frame| frame.stream == 3 && frame.kind == DATA).await.is_some());
    let refused = slow.until(|frame| frame.stream == 1 && frame.kind == DATA).await.expect("an answer");
    assert_eq!(refused.payload, b"the body came too slowly\n");
    took(short().body_deadline);
    headless.end().await;
    cut.end().await;
    let _ = silent.read_to_end(&mut Vec::new()).await;
    took(short().head_deadline);
    let mut idle = Wire::open(&place, &[]).await;
    idle.send(&[request(1, "/", 3)]).await;
    let started = Instant::now();
    idle.end().await;
    assert!(started.elapsed() >= short().idle_deadline.mul_f32(0.9), "{:?}", started.elapsed());
    place.works().await;
}

#[tokio::test]
async fn an_answer_for_which_there_is_no_window_ends_at_the_deadline() {
    let _covers = covers::covers(&["NM-06"]);
    let place = Place::new().await;
    // SETTINGS_INITIAL_WINDOW_SIZE 0, and no window is ever opened.
    let mut wire = Wire::open(&place, &[0, 4, 0, 0, 0, 0]).await;
    wire.send(&[request(1, "/", 3)]).await;
    let head = wire.until(|frame| frame.kind == HEADERS).await.expect("the head needs no window");
    assert_eq!(head.flags & END_STREAM, 0);
    let started = Instant::now();
    assert!(wire.until(|frame| frame.kind == DATA).await.is_none());
    assert!(started.elapsed() < short().write_deadline * 3 + Duration::from_secs(2));
    place.works().await;
}

#[tokio::test]
async fn strangers_and_stops_end_a_connection_with_a_goodbye() {
    let _covers = covers::covers(&["OV-09", "PR-14"]);
    let place = Place::new().await;
    let mut wire = Wire::open(&place, &[]).await;
    let last = STRIKES_MAX - 1;
    for n in 0..last {
        wire.send(&[request(2 * n + 1, "/stranger", 1)]).await;
        assert!(wire.until(|frame| frame.kind == DATA).await.is_some());
    }
    wire.send(&[request(2 * last + 1, "/stranger", 1)]).await;
    assert_eq!(wire.goodbye().await, (1, true), "an answer, and a goodbye before or after it");
    let mut draining = Wire::open(&place, &[]).await;
    draining.send(&[request(1, "/", 1)]).await;
    assert!(draining.until(|frame| frame.kind == DATA).await.is_some());
    place.life.send(Life::Draining).unwrap();
    draining.send(&[request(3, "/", 1)]).await;
    assert_eq!(draining.goodbye().await, (1, true), "an answer, and a goodbye before or after it");
}

#[tokio::test]
async fn heads_over_the_limits_are_refused() {
    let _covers = covers::covers(&["NM-04"]);
    let place = Place::new().await;
    let header = |n: usize| {
        let (name, value) = (format!("x{n:03}"), "y".repeat(20));
        [&[0, 4][..], name.as_bytes(), &[20], value.as_bytes()].concat()
    };
    for (count, status) in [(60, "1"), (100, "431"), (500, "431")] {
        let mut wire = Wire::open(&place, &[]).await;
        let fields: Vec<u8> = (0..count).flat_map(header).collect();
        let payload = [block(POST, "/"), fields].concat();
        assert!(payload.len() < 16_384);
        let body = frame(DATA, END_STREAM, 1, b"x");
        wire.send(&[frame(HEADERS, END_HEADERS, 1, &payload), body]).await;
        let told =
            wire.until(|frame| frame.stream == 1 && frame.kind != WINDOW_UPDATE).await.expect("an answer");
        // 431 is no status of the static table: it stands in the block in digits, plain or Huffman-coded.
        let is_ok = told.payload.first() == Some(&0x88);
        assert_eq!(is_ok, status == "1", "{count}: {told:?}");
    }
    place.works().await;
}
