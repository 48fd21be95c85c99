//! Whoever has not shown to be a till is served by threads of their own.

use std::net::SocketAddr;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::super::server::{Handler, Life, Limits, Reply, Standing, plain, serve};
use super::support::short;

/// Says by which thread it was called; proves whoever asks for `/till`, and says then by which thread it goes on.
struct Whose;

impl Handler for Whose {
    const PROVES: bool = true;

    async fn handle(&self, request: Request<Incoming>, _: SocketAddr) -> Reply {
        let before = thread();
        if request.uri().path() == "/till" {
            Standing::prove(request.extensions());
            tokio::task::yield_now().await;
        }
        plain(StatusCode::OK, &format!("{before} {now}", now = thread()))
    }
}

/// `lobby`, or `tills`.
fn thread() -> &'static str {
    if std::thread::current().name() == Some("hufu-lobby") { "lobby" } else { "tills" }
}

struct Till(TcpStream);

impl Till {
    async fn ask(&mut self, path: &str) -> String {
        self.0.write_all(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\n") || answer.ends_with(b"\r\n") {
            assert_ne!(self.0.read_buf(&mut answer).await.unwrap(), 0, "closed");
        }
        let answer = String::from_utf8(answer).unwrap();
        answer.lines().last().unwrap().to_owned()
    }
}

/// From the moment that a request has proven who asks, its connection is served by the tills' threads: the rest of that
/// request too.
#[tokio::test]
async fn a_connection_leaves_the_lobby_when_it_is_proven() {
    let _covers = covers::covers(&["NM-07", "INV-24"]);
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = tcp.local_addr().unwrap();
    let (_life, watching) = watch::channel(Life::Running);
    tokio::spawn(serve(tcp, Arc::new(Whose), Limits::from(&short()), watching));
    let mut till = Till(TcpStream::connect(at).await.unwrap());
    assert_eq!(till.ask("/").await, "lobby lobby");
    assert_eq!(till.ask("/").await, "lobby lobby");
    assert_eq!(till.ask("/till").await, "lobby tills");
    assert_eq!(till.ask("/").await, "tills tills");
    assert_eq!(till.ask("/till").await, "tills tills");
}

/// Who is still there when the listener has stopped is cut off, whichever thread serves it.
#[tokio::test]
async fn a_stop_ends_who_waits_in_the_lobby() {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = tcp.local_addr().unwrap();
    let (life, watching) = watch::channel(Life::Running);
    let served = tokio::spawn(serve(tcp, Arc::new(Whose), Limits::from(&short()), watching));
    let mut till = Till(TcpStream::connect(at).await.unwrap());
    assert_eq!(till.ask("/").await, "lobby lobby");
    // The beginning of a request that never ends.
    till.0.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    life.send(Life::Stopping).unwrap();
    served.await.unwrap();
    let mut rest = Vec::new();
    till.0.read_to_end(&mut rest).await.unwrap();
}
