//! Answers that go on: what ends them, and what does not.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::{Request, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::super::body::{Body, Pieces};
use super::super::server::{Handler, Life, Limits, Reply, serve};
use super::support::{read_all, short};

/// What the test sends, until it hangs up.
struct Sent(mpsc::Receiver<Bytes>);

impl Pieces for Sent {
    async fn next(&mut self) -> Option<Bytes> {
        self.0.recv().await
    }
}

/// Answers each request with the next of its streams.
struct Streams(Mutex<Vec<mpsc::Receiver<Bytes>>>);

impl Handler for Streams {
    async fn handle(&self, _: Request<Incoming>, _: SocketAddr) -> Reply {
        let next = self.0.lock().unwrap().remove(0);
        Response::new(Body::stream(Sent(next)))
    }
}

struct Rig {
    at: SocketAddr,
    life: watch::Sender<Life>,
    served: JoinHandle<()>,
}

async fn rig(streams: Vec<mpsc::Receiver<Bytes>>) -> Rig {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let (life, watching) = watch::channel(Life::Running);
    let handler = Arc::new(Streams(Mutex::new(streams)));
    let served = tokio::spawn(serve(listener, handler, Limits::from(&short()), watching));
    Rig { at, life, served }
}

/// Asks, and reads until `until` was read.
async fn ask(at: SocketAddr, until: &str) -> TcpStream {
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    hear(&mut stream, until).await;
    stream
}

async fn hear(stream: &mut TcpStream, until: &str) {
    let mut heard = Vec::new();
    while !String::from_utf8_lossy(&heard).contains(until) {
        heard.push(stream.read_u8().await.unwrap_or_else(|_| panic!("{heard:?}")));
    }
}

#[tokio::test]
async fn a_quiet_stream_outlives_every_deadline_and_then_the_connection_serves_on() {
    let (sender, first) = mpsc::channel(1);
    let (other, second) = mpsc::channel(1);
    let rig = rig(vec![first, second]).await;
    sender.send("one".into()).await.unwrap();
    let mut stream = ask(rig.at, "one\r\n").await;
    // Longer than the idle, head, body and write deadlines together.
    assert!(
        tokio::time::timeout(Duration::from_millis(900), stream.read_u8()).await.is_err(),
        "neither bytes nor the end"
    );
    sender.send("two".into()).await.unwrap();
    hear(&mut stream, "two").await;
    drop(sender);
    hear(&mut stream, "0\r\n\r\n").await;
    other.send("three".into()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    hear(&mut stream, "three").await;
    // Now nothing is being answered: idle connections end.
    drop(other);
    hear(&mut stream, "0\r\n\r\n").await;
    assert!(read_all(&mut stream).await.is_empty());
}

#[tokio::test]
async fn a_drain_ends_the_streams_before_it_and_a_stop_ends_all() {
    let _covers = covers::covers(&["PR-14"]);
    let (before, first) = mpsc::channel(1);
    let (during, second) = mpsc::channel(1);
    let rig = rig(vec![first, second]).await;
    before.send("one".into()).await.unwrap();
    let mut one = ask(rig.at, "one").await;
    rig.life.send(Life::Draining).unwrap();
    hear(&mut one, "0\r\n\r\n").await;
    assert!(before.is_closed(), "what makes the pieces is gone");
    during.send("two".into()).await.unwrap();
    let mut two = ask(rig.at, "two").await;
    during.send("three".into()).await.unwrap();
    hear(&mut two, "three").await;
    rig.life.send(Life::Stopping).unwrap();
    assert_eq!(read_all(&mut two).await, b"\r\n0\r\n\r\n");
    tokio::time::timeout(Duration::from_secs(4), rig.served).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn a_till_that_hangs_up_or_does_not_read_is_cut() {
    let _covers = covers::covers(&["NM-06"]);
    let (heard, first) = mpsc::channel(1);
    let (unread, second) = mpsc::channel(1);
    let rig = rig(vec![first, second]).await;
    heard.send("one".into()).await.unwrap();
    let stream = ask(rig.at, "one").await;
    drop(stream);
    tokio::time::timeout(Duration::from_secs(4), heard.closed()).await.expect("the end is noticed");
    unread.send("two".into()).await.unwrap();
    let stream = ask(rig.at, "two").await;
    // As much as the kernel takes, and the write deadline after that: the pieces are never piled up here.
    let piece = Bytes::from(vec![b'x'; 64 * 1024]);
    let fill = async { while unread.send(piece.clone()).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(4), fill).await.expect("it is cut");
    drop(stream);
}
