//! Certificates of a test, and tills that speak TLS.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config;

pub(super) type Authority = CertifiedIssuer<'static, KeyPair>;
/// A certificate and its key.
pub(super) type Pair = (rcgen::Certificate, KeyPair);

pub(super) fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate that ended at the end of `until`, a year.
pub(super) fn pair(by: &Authority, name: &str, until: i32) -> Pair {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_after = date_time_ymd(until, 12, 31);
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, by).unwrap(), key)
}

/// Files of a listener, and who made what is in them.
pub(super) struct Files {
    pub(super) folder: TempDir,
    pub(super) authority: Authority,
}

impl Files {
    pub(super) fn new() -> Self {
        let files = Self { folder: tempfile::tempdir().unwrap(), authority: authority("ours") };
        files.put(&pair(&files.authority, "localhost", 2099));
        fs::write(files.at("ca.pem"), files.authority.pem()).unwrap();
        files
    }

    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn put(&self, pair: &Pair) {
        self.put_certificate(pair);
        self.put_key(pair);
    }

    pub(super) fn put_certificate(&self, (certificate, _): &Pair) {
        fs::write(self.at("cert.pem"), certificate.pem()).unwrap();
    }

    pub(super) fn put_key(&self, (_, key): &Pair) {
        fs::write(self.at("key.pem"), key.serialize_pem()).unwrap();
        fs::set_permissions(self.at("key.pem"), fs::Permissions::from_mode(0o640)).unwrap();
    }

    pub(super) fn config(&self) -> config::Tls {
        config::Tls {
            certificate_file: self.at("cert.pem"),
            key_file: self.at("key.pem"),
            client_ca_file: Some(self.at("ca.pem")),
        }
    }
}

/// How a till does its handshake.
pub(super) struct Shake<'p> {
    pub(super) protocols: &'p [&'p str],
    pub(super) versions: &'static [&'static rustls::SupportedProtocolVersion],
    pub(super) name: &'static str,
    pub(super) shows: Option<&'p Pair>,
}

impl Default for Shake<'_> {
    fn default() -> Self {
        Self { protocols: &[], versions: rustls::ALL_VERSIONS, name: "localhost", shows: None }
    }
}

/// A connection of a till that trusts `authority`.
pub(super) async fn connect(
    at: SocketAddr,
    authority: &Authority,
    shake: Shake<'_>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(shake.versions)
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match shake.shows {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
            let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = shake.protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let tcp = TcpStream::connect(at).await?;
    let name = ServerName::try_from(shake.name).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await
}
