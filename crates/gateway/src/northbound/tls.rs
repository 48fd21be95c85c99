//! TLS towards tills: what is shown to them, whose certificates are believed, and how both are changed while
//! connections go on.
//!
//! A client certificate is asked for and never demanded: it is a merchant's setting whether one is needed, and the
//! merchant is not known before the request. One that is expired or of a stranger counts as none and does not end the
//! handshake: a till that was pointed here from the wallet shows the wallet's certificate when it reverses.

use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoClientAuth, WebPkiClientVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use sha2::{Digest as _, Sha256};
use state_machine::UnixMs;
use thiserror::Error;

use crate::acquirer::certificate_ends_at;
use crate::clock::Clock;
use crate::config;
use crate::metrics;

/// HTTP/2, as ALPN names it. Source: RFC 9113, section 3.1.
pub(super) const H2: &[u8] = b"h2";
const HTTP_1_1: &[u8] = b"http/1.1";
/// An operator hears of the end of a certificate so long before.
const WARN_MS: i64 = 30 * 24 * 3600 * 1000;
/// Longest file taken, in bytes.
const FILE_MAX: u64 = 1024 * 1024;

/// Why certificate, key and issuers cannot be used. What was in use before stays in use.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{0}: {1}")]
    File(PathBuf, #[source] io::Error),
    /// The key may be read by everybody.
    #[error("{0}: everybody may read it: chmod o-rwx")]
    Open(PathBuf),
    /// No PEM, or not of what it should be.
    #[error("{0}: {1}")]
    Pem(PathBuf, String),
    /// The certificate has ended.
    #[error("{0}: the certificate ended at {1}")]
    Ended(PathBuf, String),
    /// Certificate and key do not belong together, or the library refuses them.
    #[error("certificate and key cannot be used: {0}")]
    Pair(#[from] rustls::Error),
}

/// SHA-256 of a certificate's DER, as `openssl x509 -fingerprint -sha256` shows it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// A client certificate that a connection's peer has proven to hold, of an issuer that is trusted. An extension of
/// every request on that connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    /// Which.
    pub fingerprint: Fingerprint,
    /// When it ends: a connection may outlive it.
    pub ends_at: Option<UnixMs>,
}

impl PeerCertificate {
    /// Whether it is one of `fingerprints` and has not ended at `now`.
    #[must_use]
    pub fn is_one_of(&self, fingerprints: &[Fingerprint], now: UnixMs) -> bool {
        fingerprints.contains(&self.fingerprint) && self.ends_at.is_none_or(|end| now < end)
    }
}

/// What is shown to tills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The certificate.
    pub fingerprint: Fingerprint,
    /// When it ends, if that can be read.
    pub ends_at: Option<UnixMs>,
}

/// What one handshake is made with.
pub(super) struct Loaded {
    server: Arc<ServerConfig>,
    /// `None` where no certificate is asked for.
    clients: Option<Arc<dyn ClientCertVerifier>>,
    shown: Shown,
}

impl Loaded {
    pub(super) fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// The certificate of `chain`, if it is to be believed at this moment.
    pub(super) fn trusted(&self, chain: &[CertificateDer<'_>]) -> Option<PeerCertificate> {
        let (certificate, issuers) = chain.split_first()?;
        let fingerprint = Fingerprint::of(certificate);
        let now = UnixTime::since_unix_epoch(Duration::from_millis(u64::try_from(Clock::wall().0).ok()?));
        match self.clients.as_ref()?.verify_client_cert(certificate, issuers, now) {
            Ok(_) => Some(PeerCertificate { fingerprint, ends_at: certificate_ends_at(certificate) }),
            Err(err) => {
                tracing::debug!(%fingerprint, %err, "a client certificate counts as none");
                None
            }
        }
    }
}

/// What tills are shown at the moment; replaced as a whole.
pub struct Tls {
    files: config::Tls,
    current: ArcSwap<Loaded>,
    /// What the files were when they were looked at last.
    tried: Mutex<Stamp>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).field("shown", &self.shown()).finish()
    }
}

/// Tells one content of the files from another without reading them: inode, length and time of each.
type Stamp = Vec<Option<(u64, u64, i64, i64)>>;

impl Tls {
    /// Reads the files. A certificate that has ended is taken and complained of: without the switch no open payment
    /// would be brought to its end.
    ///
    /// # Errors
    ///
    /// [`TlsError`].
    pub fn open(files: config::Tls) -> Result<Self, TlsError> {
        let tried = Mutex::new(stamp(&files));
        let loaded = load(&files)?;
        let tls = Self { files, current: ArcSwap::from_pointee(loaded), tried };
        tls.report();
        Ok(tls)
    }

    /// Takes what the files hold now into use for new connections, all of it or nothing; those open go on.
    ///
    /// # Errors
    ///
    /// [`TlsError`], and also for a certificate that has ended: what is in use stays in use.
    pub fn reload(&self) -> Result<Shown, TlsError> {
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        *tried = stamp(&self.files);
        let now = Clock::wall();
        let loaded = load(&self.files).and_then(|loaded| match loaded.shown.ends_at {
            Some(end) if end <= now => {
                Err(TlsError::Ended(self.files.certificate_file.clone(), moment(Some(end))))
            }
            Some(_) | None => Ok(loaded),
        });
        metrics::tls_reload(loaded.is_ok());
        match loaded {
            Ok(loaded) => {
                self.current.store(Arc::new(loaded));
                tracing::info!(shown = ?self.shown(), "the certificate for tills was loaded again");
                self.report();
                Ok(self.shown())
            }
            Err(err) => {
                let ends_at = moment(self.shown().ends_at);
                tracing::error!(%err, %ends_at, "the certificate for tills was not loaded; the one before stays in use");
                Err(err)
            }
        }
    }

    /// As [`Tls::reload`], if the files are not what they were when they were looked at last. A pair that is half
    /// written is not taken, and looked at again when the other half is there.
    pub fn reload_if_changed(&self) {
        let changed = *self.tried.lock().unwrap_or_else(PoisonError::into_inner) != stamp(&self.files);
        if changed {
            // It says itself how it went.
            let _ = self.reload();
        }
    }

    /// Whether tills are asked for certificates of their own.
    #[must_use]
    pub const fn asks_for_certificates(&self) -> bool {
        self.files.client_ca_file.is_some()
    }

    /// What tills are shown.
    #[must_use]
    pub fn shown(&self) -> Shown {
        self.current.load().shown
    }

    /// Sets the metric, and complains of a certificate that ends soon. To be called now and then.
    pub fn report(&self) {
        let Some(end) = self.shown().ends_at else { return };
        metrics::tls_certificate_end(end);
        let left_ms = end.0.saturating_sub(Clock::wall().0);
        if left_ms <= 0 {
            tracing::error!(ended_at = %moment(Some(end)), "the certificate for tills has ended: tills refuse it");
        } else if left_ms < WARN_MS {
            tracing::warn!(ends_at = %moment(Some(end)), "the certificate for tills ends soon");
        }
    }

    pub(super) fn load(&self) -> Guard<Arc<Loaded>> {
        self.current.load()
    }
}

/// What tills would be shown.
///
/// # Errors
///
/// [`TlsError`].
pub fn look(files: &config::Tls) -> Result<Shown, TlsError> {
    load(files).map(|loaded| loaded.shown)
}

/// A moment for people.
fn moment(at: Option<UnixMs>) -> String {
    at.and_then(super::rfc3339).unwrap_or_else(|| "an unknown moment".to_owned())
}

fn stamp(files: &config::Tls) -> Stamp {
    let stamp = |path: &PathBuf| {
        let meta = std::fs::metadata(path).ok()?;
        Some((meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()))
    };
    [&files.certificate_file, &files.key_file].into_iter().chain(&files.client_ca_file).map(stamp).collect()
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |err| TlsError::File(path.to_owned(), err);
    if std::fs::metadata(path).map_err(failed)?.len() > FILE_MAX {
        return Err(TlsError::Pem(path.to_owned(), format!("is over {FILE_MAX} bytes")));
    }
    std::fs::read(path).map_err(failed)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bad = |what: String| TlsError::Pem(path.to_owned(), what);
    let chain = CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|err| bad(err.to_string()))?;
    if chain.is_empty() { Err(bad("no certificate in it".to_owned())) } else { Ok(chain) }
}

fn load(files: &config::Tls) -> Result<Loaded, TlsError> {
    let chain = certificates(&files.certificate_file)?;
    let path = &files.key_file;
    let meta = std::fs::metadata(path).map_err(|err| TlsError::File(path.clone(), err))?;
    if meta.permissions().mode() & 0o007 != 0 {
        return Err(TlsError::Open(path.clone()));
    }
    let pem = zeroize::Zeroizing::new(read(path)?);
    // What the parser says might show a piece of the key.
    let key = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| TlsError::Pem(path.clone(), "no private key in PEM".to_owned()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = files.client_ca_file.as_deref().map(|path| trust(path, &provider)).transpose()?;
    let asked: Arc<dyn ClientCertVerifier> = match &clients {
        None => Arc::new(NoClientAuth),
        Some(clients) => Arc::new(AnyCertificate {
            hints: clients.root_hint_subjects().to_vec(),
            algorithms: provider.signature_verification_algorithms,
        }),
    };
    let shown = chain.first().map(|certificate| Shown {
        fingerprint: Fingerprint::of(certificate),
        ends_at: certificate_ends_at(certificate),
    });
    let shown = shown.ok_or_else(|| TlsError::Pem(files.certificate_file.clone(), "is empty".to_owned()))?;
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(asked)
        .with_single_cert(chain, key)?;
    server.alpn_protocols = vec![H2.to_vec(), HTTP_1_1.to_vec()];
    // Tickets hold no memory here, so tens of thousands of tills resume cheaply. Early data stays off, as is the
    // library's default: it may be delivered twice.
    server.ticketer = rustls::crypto::ring::Ticketer::new()?;
    Ok(Loaded { server: Arc::new(server), clients, shown })
}

/// Believes the issuers in a file.
fn trust(path: &Path, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let bad = |err: &dyn std::fmt::Display| TlsError::Pem(path.to_owned(), err.to_string());
    let mut roots = RootCertStore::empty();
    for issuer in certificates(path)? {
        roots.add(issuer).map_err(|err| bad(&err))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|err| bad(&err))
}

/// Takes every certificate whose holder proves to have its key, and none; [`Loaded::trusted`] judges it afterwards.
#[derive(Debug)]
struct AnyCertificate {
    hints: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for AnyCertificate {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
