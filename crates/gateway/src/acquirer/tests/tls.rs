//! Certificates: the wallet's, ours, and who is shown which.

use std::sync::Arc;
use std::time::Duration;

use protocol::fact::Row;
use protocol::wechat_v2::verdict::Verdict;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd,
};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::PrivateKeyDer;
use tokio::net::TcpListener;

use super::super::wechat_v2::{Acquirer, ProviderAccount, SubMerchant};
use super::super::{ClientCertificate, SetupError};
use super::support::{Act, Seen, Standin, account, number, pay, pay_by, query, short, vector, within};
use crate::clock::Clock;

type Ca = CertifiedIssuer<'static, KeyPair>;

fn ca(name: &str) -> Ca {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate")
}

/// A certificate for `name` by `ca`; one that has ended if `expired`.
fn certificate(ca: &Ca, name: &str, expired: bool) -> (Certificate, KeyPair) {
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    if expired {
        params.not_after = date_time_ymd(2024, 1, 1);
    }
    let key = KeyPair::generate().expect("a key");
    (params.signed_by(&key, ca).expect("a certificate"), key)
}

/// The wallet's settings; with `client_ca` it looks at client certificates, and insists if `insists`.
fn server(
    (certificate, key): (Certificate, KeyPair),
    client_ca: &Ca,
    insists: bool,
) -> Arc<rustls::ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(client_ca.der().clone()).expect("a root");
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let verifier = if insists { verifier } else { verifier.allow_unauthenticated() };
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("PKCS#8");
    Arc::new(
        rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_client_cert_verifier(verifier.build().expect("a verifier"))
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a key pair"),
    )
}

fn client_certificate(ca: &Ca) -> ClientCertificate {
    let (certificate, key) = certificate(ca, "1900000109", false);
    ClientCertificate {
        chain_pem: certificate.pem().into_bytes(),
        key_pem: key.serialize_pem().into_bytes().into(),
    }
}

fn trusting(url: String, ca: &Ca) -> ProviderAccount {
    ProviderAccount { extra_ca_pem: Some(ca.pem().into_bytes()), ..account(&[url]) }
}

async fn reverse(client: &Acquirer) -> Verdict<protocol::fact::ReverseFact> {
    let (sub_mch_id, sub_appid) =
        ("1900000110".parse().expect("a number"), "wx2421b1c4370ec43b".parse().expect("an appid"));
    let merchant = SubMerchant { sub_mch_id: &sub_mch_id, sub_appid: Some(&sub_appid) };
    client.reverse(merchant, &number(), false).await
}

/// §1.3: a bad certificate would fail the calls that need none.
#[tokio::test]
async fn the_client_certificate_is_shown_to_secapi_only() {
    let ca = ca("the only one");
    let one = |name: &str| vec![Act::Answer(vector(name)), Act::Answer(vector(name))];
    let mut wallet = Standin::https(
        vec![one("query_success"), one("reversed")],
        server(certificate(&ca, "127.0.0.1", false), &ca, false),
    )
    .await;
    let account =
        ProviderAccount { certificate: Some(client_certificate(&ca)), ..trusting(wallet.url(), &ca) };
    let client = Acquirer::new(account).expect("sound settings");
    assert!(client.can_reverse());
    for _ in 0..2 {
        assert_eq!(query(&client, false).await.row, Row::B4);
        assert_eq!(reverse(&client).await.row, Row::C1);
    }
    for (path, certified) in [("/pay/orderquery", false), ("/secapi/pay/reverse", true)].repeat(2) {
        let request = wallet.request().await;
        assert_eq!((request.path(), request.certified), (path, certified));
    }
    assert_eq!(wallet.counts(), (0, 0), "two connections, each used twice");
}

/// NU-13: fails closed, and before anything was sent.
#[tokio::test]
async fn a_wallet_that_cannot_prove_itself_is_sent_nothing() {
    let _covers = covers::covers(&["INV-25", "NU-13"]);
    let (ca, other) = (ca("trusted"), ca("unknown"));
    for (why, shown, plain) in [
        ("expired", certificate(&ca, "127.0.0.1", true), false),
        ("wrong name", certificate(&ca, "api.mch.weixin.qq.com", false), false),
        ("unknown issuer", certificate(&other, "127.0.0.1", false), false),
        ("not TLS at all", certificate(&ca, "127.0.0.1", false), true),
    ] {
        let answer = || vec![Act::Answer(vector("paid"))];
        let mut wallet = if plain {
            Standin::http(vec![answer(), answer()]).await
        } else {
            Standin::https(vec![answer(), answer()], server(shown, &ca, false)).await
        };
        let url = format!("https://{}", wallet.address);
        let mut account = trusting(url, &ca);
        // A peer that does not speak TLS waits for more of what it takes for a request.
        account.deadlines.connect = Duration::from_millis(if plain { 100 } else { 2000 });
        let client = Acquirer::new(account).expect("sound settings");
        let reply = pay_by(&client, Clock::tick().saturating_add(5000), |_| panic!("left")).await;
        assert_eq!(short(&reply), "A1 unsent", "{why}");
        let end = if plain { Seen::PeerReset } else { Seen::HandshakeFailed };
        loop {
            match wallet.next().await {
                Seen::Request(request) => panic!("{why}: {request:?}"),
                seen if seen == end || seen == Seen::PeerClosed => break,
                Seen::Connected
                | Seen::HandshakeFailed
                | Seen::Closed
                | Seen::PeerClosed
                | Seen::PeerReset => {}
            }
        }
    }
}

#[tokio::test]
async fn the_public_roots_do_not_trust_everybody() {
    let _covers = covers::covers(&["NU-13"]);
    let ca = ca("not public");
    let wallet = Standin::https(vec![vec![]], server(certificate(&ca, "127.0.0.1", false), &ca, false)).await;
    let client = Acquirer::new(account(&[wallet.url()])).expect("sound settings");
    assert_eq!(short(&pay(&client).await), "A1 unsent");
}

/// C8: refused in TLS 1.3 after our side of the handshake, by HTTP 400, or without a word.
#[tokio::test]
async fn a_refused_client_certificate_is_told_from_other_faults() {
    let _covers = covers::covers(&["NU-14"]);
    let (namesake, other) = (ca("the wallet's"), ca("another's"));
    let ca = ca("the wallet's");
    let no_certificate = "<html>400 No required SSL certificate was sent</html>";
    for (why, issuer, insists, act, expected) in [
        ("another issuer", &other, true, None, Row::C8),
        ("another issuer of the same name", &namesake, true, None, Row::C8),
        ("HTTP 400", &ca, true, Some(Act::Status(400, no_certificate.to_owned())), Row::C8),
        ("closed", &ca, true, Some(Act::RawClose(Vec::new())), Row::C8),
        (
            "cut",
            &ca,
            true,
            Some(Act::RawClose(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n<".to_vec())),
            Row::C3,
        ),
        ("502", &ca, true, Some(Act::Status(502, String::new())), Row::C3),
        ("reset", &ca, true, Some(Act::Reset), Row::C3),
    ] {
        let wallet = Standin::https(
            vec![act.into_iter().collect()],
            server(certificate(&ca, "127.0.0.1", false), &ca, insists),
        )
        .await;
        let account =
            ProviderAccount { certificate: Some(client_certificate(issuer)), ..trusting(wallet.url(), &ca) };
        let client = Acquirer::new(account).expect("sound settings");
        assert_eq!(reverse(&client).await.row, expected, "{why}");
    }
}

/// CF-04: what an operator is told before the first payment.
#[tokio::test]
async fn a_check_tells_certificate_key_and_binding_apart() {
    let _covers = covers::covers(&["CF-04"]);
    let (wallets, other) = (ca("the wallet's"), ca("another's"));
    let answer = |name: &str| Act::Answer(vector(name));
    let unsigned = |text: &str| {
        Act::Answer(format!("<xml><return_code>FAIL</return_code><return_msg>{text}</return_msg></xml>"))
    };
    for (issuer, without, with, expected) in [
        (&wallets, answer("query_success"), Some(answer("query_success")), "ok"),
        (&other, answer("query_success"), None, "certificate"),
        (&wallets, answer("query_success"), Some(Act::Status(400, "<html>".to_owned())), "certificate"),
        (&wallets, answer("query_success"), Some(Act::RawClose(Vec::new())), "certificate"),
        (&wallets, answer("query_success"), Some(Act::Reset), "certificate"),
        (&wallets, unsigned("签名错误"), None, "wrong_key"),
        (&wallets, answer("tampered"), None, "wrong_key"),
        (&wallets, unsigned("受理关系不存在"), None, "not_bound"),
        (&wallets, answer("query_success"), Some(unsigned("受理关系不存在")), "not_bound"),
        (&wallets, Act::Answer("<html>".to_owned()), None, "unclear"),
        (&wallets, Act::Status(502, String::new()), None, "unclear"),
        (&wallets, Act::RawClose(Vec::new()), None, "unreachable"),
    ] {
        let scripts = std::iter::once(vec![without]).chain([with.into_iter().collect()]).collect();
        let wallet =
            Standin::https(scripts, server(certificate(&wallets, "127.0.0.1", false), &wallets, false)).await;
        let account = ProviderAccount {
            certificate: Some(client_certificate(issuer)),
            ..trusting(wallet.url(), &wallets)
        };
        let client = Acquirer::new(account).expect("sound settings");
        let sub_mch_id = "1900000110".parse().expect("a number");
        let merchant = SubMerchant { sub_mch_id: &sub_mch_id, sub_appid: None };
        let found = client.check(merchant, &number(), Clock::wall()).await;
        assert_eq!(found.as_str(), expected, "{found:?}");
    }
}

/// NU-14: nothing is sent that cannot succeed, and the caller can know before it accepts a payment.
#[tokio::test]
async fn without_a_certificate_nothing_is_reversed() {
    let _covers = covers::covers(&["NU-14"]);
    let ca = ca("the only one");
    let mut wallet = Standin::https(vec![], server(certificate(&ca, "127.0.0.1", false), &ca, false)).await;
    let client = Acquirer::new(trusting(wallet.url(), &ca)).expect("sound settings");
    assert!(!client.can_reverse());
    assert_eq!(reverse(&client).await.row, Row::C8);
    assert_eq!(wallet.counts(), (0, 0));
}

/// The simulator speaks plain HTTP and asks for no certificate.
#[tokio::test]
async fn plain_http_needs_no_certificate() {
    let wallet =
        Standin::http(vec![vec![Act::Answer(vector("reversed"))], vec![Act::RawClose(Vec::new())]]).await;
    let client = Acquirer::new(account(&[wallet.url()])).expect("sound settings");
    assert!(client.can_reverse());
    assert_eq!(reverse(&client).await.row, Row::C1);
}

/// G3: the last moment also ends a handshake that gets nowhere.
#[tokio::test]
async fn a_handshake_without_an_answer_is_unsent() {
    let _covers = covers::covers(&["NU-02"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("https://{}", listener.local_addr().expect("bound"));
    let mut account = account(&[url]);
    account.deadlines.connect = Duration::from_secs(60);
    let client = Acquirer::new(account).expect("sound settings");
    let leave_by = Clock::tick().saturating_add(50);
    let reply = within(pay_by(&client, leave_by, |_| panic!("left"))).await;
    assert_eq!(short(&reply), "A1 unsent");
}

#[test]
fn unusable_settings_are_refused() {
    let ca = ca("the only one");
    for url in [
        "",
        "127.0.0.1:8080",
        "ftp://wallet",
        "https://",
        "http://a:b@wallet",
        "http://wallet:99999",
        "http://wallet/?a",
    ] {
        let made = Acquirer::new(account(&[url.to_owned()]));
        assert!(matches!(made, Err(SetupError::BaseUrl(_))), "{url:?}: {made:?}");
    }
    assert!(matches!(Acquirer::new(account(&[])), Err(SetupError::NoHost)));
    let https = || account(&["https://wallet".to_owned()]);
    let made = Acquirer::new(ProviderAccount { extra_ca_pem: Some(b"no PEM".to_vec()), ..https() });
    assert!(matches!(made, Err(SetupError::ExtraCa(_))), "{made:?}");
    let mismatched =
        ClientCertificate { key_pem: client_certificate(&ca).key_pem, ..client_certificate(&ca) };
    for certificate in [
        mismatched,
        ClientCertificate { chain_pem: Vec::new(), ..client_certificate(&ca) },
        ClientCertificate { key_pem: Vec::new().into(), ..client_certificate(&ca) },
    ] {
        let made = Acquirer::new(ProviderAccount { certificate: Some(certificate), ..https() });
        assert!(matches!(made, Err(SetupError::ClientCertificate(_))), "{made:?}");
    }
}
