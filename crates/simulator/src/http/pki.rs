//! Certificates for tests and demonstrations: an authority, a server, and a provider's client certificate.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use thiserror::Error;

const CA: &str = "ca.pem";
const SERVER_CERTIFICATE: &str = "server_cert.pem";
const SERVER_KEY: &str = "server_key.pem";
/// The names under which the channel hands them out. Source: wechatpay-v2 §1.3.
const CLIENT_CERTIFICATE: &str = "apiclient_cert.pem";
const CLIENT_KEY: &str = "apiclient_key.pem";

/// Why there are no usable certificates.
#[derive(Debug, Error)]
pub enum PkiError {
    /// They could not be made.
    #[error("certificates could not be made: {0}")]
    Make(#[from] rcgen::Error),
    /// They could not be read, or do not make a TLS configuration.
    #[error("certificates cannot be used: {0}")]
    Use(String),
}

/// Certificates and keys in PEM. Never for production: the authority's key is thrown away, nothing is revoked.
#[derive(Clone)]
pub struct TestPki {
    /// The authority that both sides trust.
    pub ca_pem: String,
    /// The server's certificate.
    pub server_cert_pem: String,
    /// The server's key.
    pub server_key_pem: String,
    /// The provider's client certificate (`apiclient_cert.pem`).
    pub client_cert_pem: String,
    /// The provider's client key (`apiclient_key.pem`).
    pub client_key_pem: String,
}

impl fmt::Debug for TestPki {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestPki").finish_non_exhaustive()
    }
}

impl TestPki {
    /// Makes an authority, a server certificate for `names` (host names or addresses), and a client certificate
    /// for the provider `mch_id`.
    ///
    /// # Errors
    ///
    /// [`PkiError::Make`] if a name cannot stand in a certificate.
    pub fn generate(names: &[&str], mch_id: &str) -> Result<Self, PkiError> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, "Hufu simulator authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let leaf = |common_name: &str, names: Vec<String>, usage| -> Result<(String, String), PkiError> {
            let mut params = CertificateParams::new(names)?;
            params.distinguished_name.push(DnType::CommonName, common_name);
            params.extended_key_usages = vec![usage];
            let key = KeyPair::generate()?;
            Ok((params.signed_by(&key, &authority)?.pem(), key.serialize_pem()))
        };
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let (server_cert_pem, server_key_pem) =
            leaf("Hufu simulator", names, ExtendedKeyUsagePurpose::ServerAuth)?;
        let (client_cert_pem, client_key_pem) =
            leaf(mch_id, Vec::new(), ExtendedKeyUsagePurpose::ClientAuth)?;
        Ok(Self { ca_pem: authority.pem(), server_cert_pem, server_key_pem, client_cert_pem, client_key_pem })
    }

    /// Writes `ca.pem`, `server_cert.pem`, `server_key.pem`, `apiclient_cert.pem` and `apiclient_key.pem` into
    /// `folder`, which must exist.
    ///
    /// # Errors
    ///
    /// Whatever the file system says.
    pub fn write_to(&self, folder: &Path) -> io::Result<()> {
        for (name, pem) in [
            (CA, &self.ca_pem),
            (SERVER_CERTIFICATE, &self.server_cert_pem),
            (SERVER_KEY, &self.server_key_pem),
            (CLIENT_CERTIFICATE, &self.client_cert_pem),
            (CLIENT_KEY, &self.client_key_pem),
        ] {
            fs::write(folder.join(name), pem)?;
        }
        Ok(())
    }

    /// Reads what [`TestPki::write_to`] wrote.
    ///
    /// # Errors
    ///
    /// Whatever the file system says.
    pub fn read_from(folder: &Path) -> io::Result<Self> {
        let read = |name| fs::read_to_string(folder.join(name));
        Ok(Self {
            ca_pem: read(CA)?,
            server_cert_pem: read(SERVER_CERTIFICATE)?,
            server_key_pem: read(SERVER_KEY)?,
            client_cert_pem: read(CLIENT_CERTIFICATE)?,
            client_key_pem: read(CLIENT_KEY)?,
        })
    }

    /// The server's side of two-way TLS: client certificates are checked if shown, and not demanded.
    ///
    /// # Errors
    ///
    /// [`PkiError::Use`] if the PEM texts do not fit together.
    pub fn server_config(&self) -> Result<ServerConfig, PkiError> {
        let unusable = |error: &dyn fmt::Display| PkiError::Use(error.to_string());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()?), Arc::clone(&provider))
                .allow_unauthenticated()
                .build()
                .map_err(|error| unusable(&error))?;
        let chain = vec![certificate(&self.server_cert_pem)?];
        let key = PrivateKeyDer::from_pem_slice(self.server_key_pem.as_bytes())
            .map_err(|error| unusable(&error))?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&error))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(|error| unusable(&error))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    /// The authority as a store of roots, for a client.
    ///
    /// # Errors
    ///
    /// [`PkiError::Use`] if the PEM text is no certificate.
    pub fn roots(&self) -> Result<RootCertStore, PkiError> {
        let mut roots = RootCertStore::empty();
        roots.add(certificate(&self.ca_pem)?).map_err(|error| PkiError::Use(error.to_string()))?;
        Ok(roots)
    }
}

fn certificate(pem: &str) -> Result<CertificateDer<'static>, PkiError> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| PkiError::Use(error.to_string()))
}
