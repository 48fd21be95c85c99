//! TLS towards tills: handshakes that are right and wrong, client certificates, and changing files.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Request, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::version::{TLS12, TLS13};
use signer::Kind;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

use super::super::TlsListener;
use super::super::server::{Handler, Life, Limits, Reply, plain, serve};
use super::super::tls::{Fingerprint, PeerCertificate, Tls, TlsError};
use super::pki::{Files, Pair, Shake, authority, connect, pair};
use super::support::{Answered, BEARER, Harness, KEY, NUMBER, OTHER_BEARER, OTHER_KEY, about, short, signed};
use crate::clock::Clock;
use crate::config::Northbound;

/// Each version alone.
const VERSIONS: [&[&rustls::SupportedProtocolVersion]; 2] = [&[&TLS12], &[&TLS13]];

/// Says which protocol is spoken and which certificate was shown.
struct Mirror;

impl Handler for Mirror {
    async fn handle(&self, request: Request<Incoming>, _: SocketAddr) -> Reply {
        let shown = request.extensions().get::<PeerCertificate>();
        let shown = shown.map_or_else(|| "none".to_owned(), |one| one.fingerprint.to_string());
        let version = if request.version() == Version::HTTP_2 { "2" } else { "1" };
        plain(StatusCode::OK, &format!("{version} {shown}"))
    }
}

struct Place {
    at: SocketAddr,
    tls: Arc<Tls>,
    files: Files,
    _life: watch::Sender<Life>,
}

impl Place {
    async fn new() -> Self {
        Self::with(short()).await
    }

    async fn with(config: Northbound) -> Self {
        let files = Files::new();
        let tls = Arc::new(Tls::open(files.config()).expect("files that are right"));
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = tcp.local_addr().unwrap();
        let (life, watching) = watch::channel(Life::Running);
        let listener = TlsListener::new(tcp, Arc::clone(&tls));
        tokio::spawn(serve(listener, Arc::new(Mirror), Limits::from(&config), watching));
        Self { at, tls, files, _life: life }
    }

    /// What a request on a connection of its own is told; `Err` if the handshake or the request fails.
    async fn ask(&self, shake: Shake<'_>) -> std::io::Result<String> {
        let stream = connect(self.at, &self.files.authority, shake).await?;
        let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let io = TokioIo::new(stream);
        let request = Request::get("https://localhost/").body(Full::<Bytes>::default()).unwrap();
        let answer = if h2 {
            let executor = TokioExecutor::new();
            let (mut send, connection) =
                hyper::client::conn::http2::handshake(executor, io).await.map_err(std::io::Error::other)?;
            tokio::spawn(connection);
            send.send_request(request).await.map_err(std::io::Error::other)?
        } else {
            let (mut send, connection) =
                hyper::client::conn::http1::handshake(io).await.map_err(std::io::Error::other)?;
            tokio::spawn(connection);
            send.send_request(request).await.map_err(std::io::Error::other)?
        };
        let body = answer.into_body().collect().await.map_err(std::io::Error::other)?.to_bytes();
        Ok(String::from_utf8_lossy(&body).trim_end().to_owned())
    }

    async fn works(&self) {
        assert_eq!(self.ask(Shake::default()).await.unwrap(), "1 none");
    }
}

#[tokio::test]
async fn alpn_chooses_the_protocol() {
    let place = Place::new().await;
    let both: &[_] = &["h2", "http/1.1"];
    for (protocols, told) in [
        (both, "2 none"),
        (&["h2"], "2 none"),
        (&["http/1.1", "h2"], "2 none"),
        (&["http/1.1"], "1 none"),
        (&[], "1 none"),
    ] {
        for versions in VERSIONS {
            let shake = Shake { protocols, versions, ..Shake::default() };
            assert_eq!(place.ask(shake).await.unwrap(), told, "{protocols:?}");
        }
    }
}

#[tokio::test]
async fn handshakes_that_are_wrong_end_and_cost_nobody_else() {
    let _covers = covers::covers(&["INV-24", "NM-05"]);
    let place = Place::new().await;
    let raw = async |bytes: &[u8]| {
        let mut stream = TcpStream::connect(place.at).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut read = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut read))
            .await
            .expect("it ends");
        read
    };
    // HTTP where TLS is spoken: told in words that a person understands.
    let told = String::from_utf8(raw(b"POST /pay/micropay HTTP/1.1\r\nHost: h\r\n\r\n").await).unwrap();
    assert!(
        told.starts_with("HTTP/1.1 400 ") && told.contains("https://") && told.contains("nothing sent"),
        "{told}"
    );
    assert!(raw(b"\0\x01garbage").await.is_empty());
    // TLS 1.0, made by hand: no library speaks it any more. Alert 40 is handshake_failure, 70 is
    // protocol_version.
    let mut hello = vec![3, 1];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0, 0x2F, 1, 0]);
    let length = u8::try_from(hello.len()).unwrap();
    let handshake = [&[1, 0, 0, length][..], &hello].concat();
    let record = [&[0x16, 3, 1, 0, length + 4][..], &handshake].concat();
    let alert = raw(&record).await;
    assert!(matches!(alert[..], [0x15, 3, _, 0, 2, 2, 40 | 70]), "{alert:?}");
    let wrong = |shake| async { place.ask(shake).await.expect_err("refused").to_string() };
    let alpn = wrong(Shake { protocols: &["spdy/3"], ..Shake::default() }).await;
    assert!(alpn.contains("NoApplicationProtocol"), "{alpn}");
    // The till asks for somebody else: it is shown who is here, and goes.
    let name = wrong(Shake { name: "pay.example.com", ..Shake::default() }).await;
    assert!(name.contains("certificate"), "{name}");
    place.works().await;

    // Cut anywhere, or never finished: gone at the deadline.
    for cut in 1..record.len() {
        let mut stream = TcpStream::connect(place.at).await.unwrap();
        stream.write_all(&record[..cut]).await.unwrap();
        stream.shutdown().await.unwrap();
    }
    let started = Instant::now();
    for begun in [&[][..], &record[..20]] {
        assert!(raw(begun).await.len() <= 7, "an alert at most");
    }
    let deadline = short().handshake_deadline;
    assert!(started.elapsed() >= deadline && started.elapsed() < deadline * 2 + Duration::from_secs(3));
    place.works().await;
}

#[tokio::test]
async fn a_certificate_counts_if_it_is_of_an_issuer_that_is_trusted() {
    let place = Place::new().await;
    let ours = pair(&place.files.authority, "till", 2099);
    let ended = pair(&place.files.authority, "till", 2024);
    let theirs = pair(&authority("the wallet's"), "1900000109", 2099);
    let fingerprint = {
        use sha2::Digest as _;
        hex(&sha2::Sha256::digest(ours.0.der()))
    };
    for protocols in [&["h2"][..], &[]] {
        for versions in VERSIONS {
            for (shows, told) in [
                (None, "none"),
                (Some(&ours), fingerprint.as_str()),
                (Some(&ended), "none"),
                (Some(&theirs), "none"),
            ] {
                let told = format!("{} {told}", if protocols.is_empty() { 1 } else { 2 });
                let shake = Shake { protocols, versions, shows, ..Shake::default() };
                assert_eq!(place.ask(shake).await.unwrap(), told);
            }
        }
    }
}

#[tokio::test]
async fn a_merchant_with_a_certificate_is_served_where_it_was_shown() {
    let _covers = covers::covers(&["INV-25"]);
    let files = Files::new();
    let tls = Arc::new(Tls::open(files.config()).unwrap());
    let (till, next) = (pair(&files.authority, "till", 2099), pair(&files.authority, "till", 2099));
    let other = pair(&files.authority, "another till", 2099);
    let digest = |pair: &Pair| {
        use sha2::Digest as _;
        Some(sha2::Sha256::digest(pair.0.der()).into())
    };
    let named = [digest(&till), digest(&next)];
    let harness = Harness::over(
        short(),
        |tcp| TlsListener::new(tcp, tls),
        |merchants| merchants[1].settings.client_certificates = named,
    )
    .await;
    let mut pairs = about(NUMBER);
    pairs.retain(|(name, _)| *name != "sub_mch_id");
    let second = signed(OTHER_KEY, Kind::Md5, &pairs);
    let first = signed(KEY, Kind::Md5, &about(NUMBER));
    let ask = async |shows: Option<&Pair>, text: String| {
        let shake = Shake { shows, ..Shake::default() };
        let mut stream = connect(harness.at, &files.authority, shake).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut read = Vec::new();
        let _ = stream.read_to_end(&mut read).await;
        Answered::read(read)
    };
    let xml = |path: &str, body: &str| {
        format!("POST {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    let json = |bearer: &str| {
        format!(
            "GET /v1/payments/{NUMBER} HTTP/1.1\r\nConnection: close\r\nAuthorization: Bearer {bearer}\r\n\r\n"
        )
    };
    for shows in [None, Some(&other)] {
        let before = harness.engine.calls().len();
        let refused = ask(shows, xml("/pay/orderquery", &second)).await;
        assert_eq!(refused.get("err_code"), "NOAUTH", "{refused:?}");
        assert!(!refused.get("err_code_des").contains("未扣款"), "it may be paid: {refused:?}");
        let refused = ask(shows, xml("/secapi/pay/reverse", &second)).await;
        assert_eq!([refused.get("err_code"), refused.get("recall")], ["NOAUTH", "Y"], "{refused:?}");
        assert!(!refused.get("err_code_des").contains("未扣款"), "it may be paid: {refused:?}");
        let refused = ask(shows, json(OTHER_BEARER)).await;
        assert_eq!(refused.status, 403, "{refused:?}");
        assert!(refused.body.contains("urn:hufu:client_certificate"), "{refused:?}");
        assert_eq!(harness.engine.calls().len(), before, "nothing was asked for them");
        // Others are served as ever.
        assert_eq!(ask(shows, xml("/pay/orderquery", &first)).await.get("err_code"), "ORDERNOTEXIST");
        assert_eq!(ask(shows, json(BEARER)).await.status, 404);
    }
    for shows in [Some(&till), Some(&next)] {
        assert_eq!(ask(shows, xml("/pay/orderquery", &second)).await.get("err_code"), "ORDERNOTEXIST");
        assert_eq!(ask(shows, json(OTHER_BEARER)).await.status, 404);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_certificate_is_looked_at_again_with_each_request() {
    let now = Clock::wall();
    let (one, other) = (Fingerprint([1; 32]), Fingerprint([2; 32]));
    let shown =
        |ms: i64| PeerCertificate { fingerprint: one, ends_at: Some(state_machine::UnixMs(now.0 + ms)) };
    assert!(shown(1).is_one_of(&[other, one], now));
    assert!(!shown(0).is_one_of(&[one], now), "it has ended while the connection went on");
    assert!(!shown(1).is_one_of(&[other], now));
    assert!(!shown(1).is_one_of(&[], now));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_under_load_fails_no_request() {
    let place = Arc::new(Place::with(Northbound { idle_deadline: Duration::from_secs(20), ..short() }).await);
    let over = Arc::new(AtomicBool::new(false));
    let tills: Vec<_> = (0..4)
        .map(|till| {
            let (place, over) = (Arc::clone(&place), Arc::clone(&over));
            tokio::spawn(async move {
                let protocols: &[&str] = if till % 2 == 0 { &["h2"] } else { &[] };
                let mut asked = 0_u32;
                while !over.load(Ordering::Relaxed) {
                    place.ask(Shake { protocols, ..Shake::default() }).await.expect("no request fails");
                    asked += 1;
                }
                asked
            })
        })
        .collect();
    // A connection from before goes on with what it began with.
    let kept = connect(place.at, &place.files.authority, Shake::default()).await.unwrap();
    let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(kept)).await.unwrap();
    tokio::spawn(connection);
    let mut before = place.tls.shown();
    for _ in 0..10 {
        place.files.put(&pair(&place.files.authority, "localhost", 2099));
        let shown = place.tls.reload().expect("a pair");
        assert_ne!(shown, before);
        before = shown;
        let request = Request::get("/").header("host", "h").body(Full::<Bytes>::default()).unwrap();
        assert_eq!(send.send_request(request).await.expect("the connection goes on").status(), 200);
        place.works().await;
    }
    let stream = connect(place.at, &place.files.authority, Shake::default()).await.unwrap();
    let certificate = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
    let leaf = fs::read_to_string(place.files.at("cert.pem")).unwrap();
    use rustls_pki_types::pem::PemObject as _;
    assert_eq!(certificate, rustls_pki_types::CertificateDer::from_pem_slice(leaf.as_bytes()).unwrap());
    over.store(true, Ordering::Relaxed);
    for till in tills {
        assert!(till.await.expect("no till fails") > 0);
    }
}

#[tokio::test]
async fn files_that_are_wrong_change_nothing() {
    let _covers = covers::covers(&["CF-07"]);
    let place = Place::new().await;
    let before = place.tls.shown();
    let certificate = fs::read(place.files.at("cert.pem")).unwrap();
    let key = fs::read(place.files.at("key.pem")).unwrap();
    let other = pair(&place.files.authority, "localhost", 2099);
    let ended = pair(&place.files.authority, "localhost", 2024);
    type Spoil<'s> = (&'s str, &'s dyn Fn(), fn(&TlsError) -> bool);
    let spoils: [Spoil<'_>; 7] = [
        ("no certificate", &|| fs::remove_file(place.files.at("cert.pem")).unwrap(), |err| {
            matches!(err, TlsError::File(..))
        }),
        (
            "half a certificate",
            &|| fs::write(place.files.at("cert.pem"), &certificate[..300]).unwrap(),
            |err| matches!(err, TlsError::Pem(..)),
        ),
        ("no key", &|| fs::write(place.files.at("key.pem"), "").unwrap(), |err| {
            matches!(err, TlsError::Pem(..))
        }),
        ("another key", &|| place.files.put_key(&other), |err| matches!(err, TlsError::Pair(_))),
        ("issuers that are none", &|| fs::write(place.files.at("ca.pem"), "x").unwrap(), |err| {
            matches!(err, TlsError::Pem(..))
        }),
        ("ended", &|| place.files.put(&ended), |err| matches!(err, TlsError::Ended(..))),
        (
            "a key for everybody",
            &|| {
                use std::os::unix::fs::PermissionsExt as _;
                fs::set_permissions(place.files.at("key.pem"), fs::Permissions::from_mode(0o644)).unwrap();
            },
            |err| matches!(err, TlsError::Open(_)),
        ),
    ];
    for (what, spoil, is_it) in spoils {
        spoil();
        let err = place.tls.reload().expect_err(what);
        assert!(is_it(&err), "{what}: {err}");
        assert_eq!(place.tls.shown(), before, "{what}");
        place.works().await;
        fs::write(place.files.at("cert.pem"), &certificate).unwrap();
        fs::write(place.files.at("key.pem"), &key).unwrap();
        fs::write(place.files.at("ca.pem"), place.files.authority.pem()).unwrap();
    }
    // What has ended is better than nothing at a start: open payments have to be brought to their end.
    place.files.put(&ended);
    assert!(Tls::open(place.files.config()).is_ok());
}

#[tokio::test]
async fn a_renewed_pair_is_noticed_when_it_is_whole() {
    let _covers = covers::covers(&["CF-07"]);
    let place = Place::new().await;
    let before = place.tls.shown();
    place.tls.reload_if_changed();
    assert_eq!(place.tls.shown(), before);
    let renewed = pair(&place.files.authority, "localhost", 2099);
    place.files.put_certificate(&renewed);
    place.tls.reload_if_changed();
    assert_eq!(place.tls.shown(), before, "the key is not there yet");
    place.works().await;
    place.files.put_key(&renewed);
    place.tls.reload_if_changed();
    assert_ne!(place.tls.shown(), before);
    place.works().await;
}
