use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{Fault, Proxy};

/// What never comes is waited for this long.
const NEVER: Duration = Duration::from_millis(300);

/// A server that answers each 8 bytes with the same 8 bytes, and tells of each that arrived.
async fn echo() -> (SocketAddr, mpsc::UnboundedReceiver<[u8; 8]>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (heard, hears) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let heard = heard.clone();
            tokio::spawn(async move {
                let mut bytes = [0; 8];
                while stream.read_exact(&mut bytes).await.is_ok() {
                    let _ = heard.send(bytes);
                    let _ = stream.write_all(&bytes).await;
                }
            });
        }
    });
    (address, hears)
}

async fn proxied() -> (Proxy, mpsc::UnboundedReceiver<[u8; 8]>) {
    let (address, hears) = echo().await;
    (Proxy::start("127.0.0.1:0".parse().unwrap(), address, 1).await.unwrap(), hears)
}

/// Asks and reads up to 8 bytes of answer; an error is a reset.
async fn ask(stream: &mut TcpStream, text: &[u8; 8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(text).await?;
    let mut answer = Vec::new();
    while answer.len() < 8 {
        let mut part = [0; 8];
        match stream.read(&mut part).await? {
            0 => break,
            read => answer.extend_from_slice(&part[..read]),
        }
    }
    Ok(answer)
}

#[tokio::test]
async fn a_whole_network_carries_both_ways_also_late_or_lossy() {
    let (proxy, _hears) = proxied().await;
    for fault in [Fault::None, Fault::Late(20), Fault::Lossy] {
        proxy.set(fault);
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        for text in [b"question", b"another."] {
            assert_eq!(ask(&mut stream, text).await.unwrap(), text, "{fault:?}");
        }
    }
}

#[tokio::test]
async fn a_cut_network_carries_nothing_until_it_heals_and_then_everything() {
    let (proxy, mut hears) = proxied().await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    assert_eq!(ask(&mut stream, b"question").await.unwrap(), b"question");
    assert_eq!(hears.recv().await.as_ref(), Some(b"question"));
    proxy.set(Fault::BlackHole);
    stream.write_all(b"too late").await.unwrap();
    assert!(timeout(NEVER, hears.recv()).await.is_err(), "nothing arrives");
    // Whoever hangs up does not call back what is on its way.
    drop(stream);
    proxy.set(Fault::None);
    assert_eq!(hears.recv().await.as_ref(), Some(b"too late"));
}

#[tokio::test]
async fn lost_answers_are_those_of_requests_that_arrived() {
    let (proxy, mut hears) = proxied().await;
    proxy.set(Fault::AnswersLost);
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    assert!(timeout(NEVER, ask(&mut stream, b"question")).await.is_err(), "no answer comes");
    assert_eq!(hears.recv().await.as_ref(), Some(b"question"));
}

#[tokio::test]
async fn an_answer_breaks_off_in_the_middle() {
    let (proxy, mut hears) = proxied().await;
    for (fault, ends_well) in [(Fault::Half, true), (Fault::Reset, false)] {
        proxy.set(fault);
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        match ask(&mut stream, b"question").await {
            Ok(answer) => assert!(ends_well && answer == b"ques", "{fault:?}: {answer:?}"),
            Err(_) => assert!(!ends_well, "{fault:?}"),
        }
        assert_eq!(hears.recv().await.as_ref(), Some(b"question"), "the request arrived");
    }
}

#[tokio::test]
async fn a_network_that_refuses_resets_what_is_open_and_opens_again() {
    let (proxy, _hears) = proxied().await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    assert_eq!(ask(&mut stream, b"question").await.unwrap(), b"question");
    proxy.set(Fault::Refuse);
    assert!(stream.read_exact(&mut [0; 1]).await.is_err(), "what was open is gone");
    assert!(TcpStream::connect(proxy.address).await.is_err(), "nobody listens");
    proxy.set(Fault::None);
    let mut stream = loop {
        if let Ok(stream) = TcpStream::connect(proxy.address).await {
            break stream;
        }
    };
    assert_eq!(ask(&mut stream, b"question").await.unwrap(), b"question");
}
