//! The wallet's face on real sockets: plain HTTP, two-way TLS, and what it does to a connection on purpose.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use simulator::http::{PlainCounts, SharedWallet, TestPki, serve_plain, serve_tls};
use simulator::{Code, Key, Options, Provider, SignType, SubMerchants, Wallet, sign, write_xml};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

const KEY: &str = "192006250b4c09247ec02edce69f6a2d";
const MCH_ID: &str = "1900000109";
const SUB_MCH_ID: &str = "1900000110";

fn wallet(speed: u32) -> SharedWallet {
    let provider = Provider {
        appid: "wxd930ea5d5a258f4f".to_owned(),
        mch_id: MCH_ID.to_owned(),
        key: KEY.to_owned(),
        sub_merchants: SubMerchants::Any,
    };
    Arc::new(Mutex::new(Wallet::new(1, Options { speed, ..Options::new(provider) })))
}

/// A wallet that listens without TLS; it stops when the handle is aborted.
async fn plain(wallet: &SharedWallet, counts: PlainCounts) -> (std::net::SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    (address, tokio::spawn(serve_plain(Arc::clone(wallet), listener, counts)))
}

fn signed(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut pairs = vec![
        ("appid", "wxd930ea5d5a258f4f"),
        ("mch_id", MCH_ID),
        ("sub_mch_id", SUB_MCH_ID),
        ("nonce_str", "5K8264ILTKCH16CQ2502SI8ZNMTM67VS"),
    ];
    pairs.extend(fields);
    write_xml(pairs.iter().copied(), Some(&sign(pairs.iter().copied(), KEY, SignType::Md5)))
}

fn micropay(out_trade_no: &str, bbss: u16, n: u64) -> Vec<u8> {
    let code = Code::for_customer(bbss, n);
    signed(&[
        ("body", "test"),
        ("spbill_create_ip", "203.0.113.10"),
        ("out_trade_no", out_trade_no),
        ("total_fee", "1288"),
        ("auth_code", code.as_str()),
    ])
}

/// Sends one request; the status and body, or `None` if the connection ended without a byte of an answer.
async fn post<S>(stream: &mut S, path: &str, body: &[u8]) -> Option<(u16, String)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let head = format!("POST {path} HTTP/1.1\r\nHost: wallet\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat()).await.expect("written");
    let mut received = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&received).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok())
                .unwrap_or(0_usize);
            if body.len() >= length {
                let status = head.get(9..12).and_then(|status| status.parse().ok());
                return Some((status.expect("a status"), body.to_owned()));
            }
        }
        if stream.read_buf(&mut received).await.unwrap_or(0) == 0 {
            assert!(received.is_empty(), "a cut answer: {text}");
            return None;
        }
    }
}

/// The body of a page, read to the end of the connection.
async fn get(address: std::net::SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.expect("written");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("UTF-8");
    text.split_once("\r\n\r\n").expect("head and body").1.to_owned()
}

fn held_fen(wallet: &SharedWallet, out_trade_no: &str) -> Option<u64> {
    let wallet = wallet.lock().expect("not poisoned");
    wallet.entry(&Key::new(MCH_ID, SUB_MCH_ID, out_trade_no)).map(simulator::Entry::held_fen)
}

#[tokio::test]
async fn one_connection_serves_many_requests_and_the_books_can_be_read() {
    let wallet = wallet(1);
    let (address, server) = plain(&wallet, PlainCounts::AsCertified).await;
    let mut stream = TcpStream::connect(address).await.expect("connected");
    for n in 0..300 {
        let (status, body) =
            post(&mut stream, "/pay/micropay", &micropay(&format!("P{n}"), 0, n)).await.expect("an answer");
        assert_eq!(status, 200);
        assert!(body.contains("<result_code><![CDATA[SUCCESS]]></result_code>"), "{body}");
    }
    let reverse = signed(&[("out_trade_no", "P7")]);
    let (_, body) = post(&mut stream, "/secapi/pay/reverse", &reverse).await.expect("an answer");
    assert!(body.contains("<recall><![CDATA[N]]></recall>"), "{body}");

    let ledger = get(address, "/sim/ledger").await;
    let pages: Vec<serde_json::Value> =
        ledger.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(pages.len(), 300);
    for (n, page) in pages.iter().enumerate() {
        assert_eq!(page["out_trade_no"], format!("P{n}"));
        assert_eq!(page["returned_fen"], if n == 7 { 1288 } else { 0 });
    }
    assert_eq!(pages[7]["violations"][0], "early_reversal");
    let stats: serde_json::Value = serde_json::from_str(&get(address, "/sim/stats").await).expect("JSON");
    assert_eq!((&stats["pay_requests"], &stats["reversals"]), (&300.into(), &1.into()));
    assert_eq!(get(address, "/livez").await, "ok\n");
    assert_eq!(get(address, "/nothing").await, "not found\n");

    server.abort();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0, "connections end with the server");
}

#[tokio::test]
async fn a_dropped_answer_closes_the_connection_after_the_charge() {
    let wallet = wallet(1);
    let (address, _server) = plain(&wallet, PlainCounts::AsCertified).await;
    let mut stream = TcpStream::connect(address).await.expect("connected");
    assert_eq!(post(&mut stream, "/pay/micropay", &micropay("P1", 1100, 1)).await, None);
    assert_eq!(held_fen(&wallet, "P1"), Some(1288));
}

#[tokio::test]
async fn a_page_of_the_gateway_comes_after_the_charge() {
    let wallet = wallet(1);
    let (address, _server) = plain(&wallet, PlainCounts::AsCertified).await;
    let mut stream = TcpStream::connect(address).await.expect("connected");
    let (status, body) = post(&mut stream, "/pay/micropay", &micropay("P1", 3900, 1)).await.expect("a page");
    assert_eq!(status, 502);
    assert!(body.starts_with("<html>"), "{body}");
    assert_eq!(held_fen(&wallet, "P1"), Some(1288));
}

#[tokio::test]
async fn delays_are_real_and_divided_by_the_speed() {
    let wallet = wallet(500);
    let (address, _server) = plain(&wallet, PlainCounts::AsCertified).await;
    let mut stream = TcpStream::connect(address).await.expect("connected");
    let before = tokio::time::Instant::now();
    let (_, body) = post(&mut stream, "/pay/micropay", &micropay("P1", 1350, 1)).await.expect("an answer");
    assert!(body.contains("SUCCESS"), "{body}");
    assert!(before.elapsed() >= Duration::from_millis(99), "50 s / 500, {:?}", before.elapsed());

    // The pay request arrives 5 s / 500 late; its connection stays open for 60 s / 500, and nothing comes.
    let before = tokio::time::Instant::now();
    assert_eq!(post(&mut stream, "/pay/micropay", &micropay("P2", 2005, 2)).await, None);
    assert!(before.elapsed() >= Duration::from_millis(119), "{:?}", before.elapsed());
    get(address, "/sim/stats").await;
    assert_eq!(held_fen(&wallet, "P2"), Some(1288));
}

#[tokio::test]
async fn what_is_not_a_request_is_refused() {
    let wallet = wallet(1);
    let (address, _server) = plain(&wallet, PlainCounts::AsAnonymous).await;
    let mut stream = TcpStream::connect(address).await.expect("connected");
    let mut answer = async |path: &str, body: &[u8]| post(&mut stream, path, body).await.expect("an answer");
    let (status, body) = answer("/secapi/pay/reverse", &signed(&[("out_trade_no", "P1")])).await;
    assert_eq!(status, 400);
    assert!(body.contains("No required SSL certificate was sent"), "{body}");
    let (status, body) = answer("/pay/micropay", b"<xml><mch_id>1900000109</mch_id></xml>").await;
    assert_eq!((status, body.contains("签名错误")), (200, true), "{body}");
    assert_eq!(answer("/elsewhere", b"<xml></xml>").await.0, 404);
    let stats: serde_json::Value = serde_json::from_str(&get(address, "/sim/stats").await).expect("JSON");
    assert_eq!(
        (&stats["no_certificate"], &stats["bad_signatures"], &stats["malformed"]),
        (&1.into(), &1.into(), &1.into())
    );

    let mut stream = TcpStream::connect(address).await.expect("connected");
    // The refusal may be lost when the connection closes over the unread rest.
    let refused = post(&mut stream, "/pay/micropay", &vec![b' '; 65_600]).await;
    assert!(refused.is_none_or(|(status, _)| status == 413));
}

#[tokio::test]
async fn many_connections_stay_open_at_once() {
    let wallet = wallet(1);
    let (address, _server) = plain(&wallet, PlainCounts::AsCertified).await;
    let mut streams = Vec::new();
    for _ in 0..400 {
        streams.push(TcpStream::connect(address).await.expect("connected"));
    }
    for round in 0..2_u64 {
        for (n, stream) in (0_u64..).zip(&mut streams) {
            let body = micropay(&format!("P{round}-{n}"), 0, round * 1000 + n);
            let (status, _) = post(stream, "/pay/micropay", &body).await.expect("an answer");
            assert_eq!(status, 200);
        }
    }
    assert_eq!(wallet.lock().expect("not poisoned").totals().captures, 800);
}

/// A TLS connection to `address` that trusts `pki`, with the client certificate of `client` if there is one.
async fn tls(
    address: std::net::SocketAddr,
    pki: &TestPki,
    client: Option<&TestPki>,
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(pki.roots().expect("an authority"));
    let config = match client {
        Some(client) => {
            let certificate = CertificateDer::from_pem_slice(client.client_cert_pem.as_bytes()).expect("PEM");
            let key = PrivateKeyDer::from_pem_slice(client.client_key_pem.as_bytes()).expect("PEM");
            builder.with_client_auth_cert(vec![certificate], key).expect("a client certificate")
        }
        None => builder.with_no_client_auth(),
    };
    let stream = TcpStream::connect(address).await.expect("connected");
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .expect("the server's certificate is trusted")
}

#[tokio::test]
async fn tls_demands_the_client_certificate_on_secapi_only() {
    let folder = tempfile::tempdir().expect("a folder");
    TestPki::generate(&["localhost", "127.0.0.1"], MCH_ID)
        .expect("made")
        .write_to(folder.path())
        .expect("written");
    let pki = TestPki::read_from(folder.path()).expect("read back");
    let wallet = wallet(1);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(serve_tls(Arc::clone(&wallet), listener, pki.server_config().expect("fits together")));

    let reverse = signed(&[("out_trade_no", "P1")]);
    let mut anonymous = tls(address, &pki, None).await;
    let (status, _) = post(&mut anonymous, "/pay/micropay", &micropay("P1", 0, 1)).await.expect("an answer");
    assert_eq!((status, held_fen(&wallet, "P1")), (200, Some(1288)));
    let (status, body) = post(&mut anonymous, "/secapi/pay/reverse", &reverse).await.expect("an answer");
    assert_eq!(status, 400);
    assert!(body.contains("No required SSL certificate was sent"), "{body}");
    assert_eq!(held_fen(&wallet, "P1"), Some(1288));

    let mut certified = tls(address, &pki, Some(&pki)).await;
    let (status, body) = post(&mut certified, "/secapi/pay/reverse", &reverse).await.expect("an answer");
    assert_eq!((status, held_fen(&wallet, "P1")), (200, Some(0)), "{body}");

    // A certificate of another authority does not pass the handshake.
    let stranger = TestPki::generate(&["localhost"], MCH_ID).expect("made");
    let mut refused = tls(address, &pki, Some(&stranger)).await;
    let head = b"POST /pay/orderquery HTTP/1.1\r\nHost: wallet\r\nContent-Length: 0\r\n\r\n";
    let _ = refused.write_all(head).await;
    assert!(!matches!(refused.read(&mut [0; 1]).await, Ok(1..)), "no answer to a stranger");
}
