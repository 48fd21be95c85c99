//! What a run is to do.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use signer::Kind;
use simulator::{Code, Rng};

use crate::account::Account;
use crate::arrivals::{Arrivals, Process};
use crate::mix::Mix;
use crate::target::Target;

/// A run, decided before it begins.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where payments are sent.
    pub target: Target,
    /// How the server is verified; without it `https` cannot be spoken.
    pub tls: Option<Arc<ClientConfig>>,
    /// For whom payments are made, in turn; at least one.
    pub accounts: Vec<Account>,
    /// Which customers come.
    pub customers: Mix,
    /// How payments are spread over time.
    pub arrivals: Process,
    /// Payments a second, at least 1.
    pub per_second: u32,
    /// What is sent and not measured, before.
    pub warmup: Duration,
    /// What is measured.
    pub duration: Duration,
    /// How long answers and outcomes are waited for, after.
    pub drain: Duration,
    /// Connections for pay requests, kept open.
    pub connections: usize,
    /// Connections for queries at most, opened as they are needed; fewer if the system allows fewer open files.
    pub poll_connections: usize,
    /// From an answer that is not definite to the next query; `None` asks for no outcome.
    pub poll: Option<Duration>,
    /// How long an answer is waited for.
    pub timeout: Duration,
    /// How requests are signed.
    pub sign: Kind,
    /// What each payment asks for, in fen.
    pub amount_fen: u64,
    /// Chooses arrivals and customers.
    pub seed: u64,
    /// Keeps numbers and codes apart from those of other runs.
    pub run: u32,
}

impl Plan {
    /// The longest warm-up, duration and drain, in seconds.
    pub const SECONDS_MAX: u64 = 86_400;

    /// When the last payment is due, in nanoseconds after the first.
    pub(crate) fn end_ns(&self) -> u64 {
        ns(self.warmup).saturating_add(ns(self.duration))
    }

    /// When payments are due.
    pub(crate) fn schedule(&self) -> Arrivals {
        Arrivals::new(self.arrivals, self.per_second, self.end_ns(), self.seed)
    }

    /// What every number of this run begins with.
    pub(crate) fn number_prefix(&self) -> String {
        format!("L{:08X}", self.run)
    }

    /// The `n`-th payment's number.
    pub(crate) fn number(&self, n: u64) -> String {
        format!("{}{n:010}", self.number_prefix())
    }

    /// The first of this run's codes: runs against one wallet must not use each other's.
    pub(crate) fn first_code(&self) -> u64 {
        Rng::keyed(u64::from(self.run), "codes").below(Code::SERIALS)
    }

    /// The merchant of the `n`-th payment.
    pub(crate) fn account(&self, n: u64) -> &Account {
        let count = u64::try_from(self.accounts.len()).unwrap_or(1).max(1);
        &self.accounts[usize::try_from(n % count).unwrap_or(0)]
    }

    /// The name that the server's certificate must be for.
    pub(crate) fn server_name(&self) -> Option<ServerName<'static>> {
        ServerName::try_from(self.target.host.clone()).ok()
    }
}

/// How a server is verified: by the certificates in `pem`, or by those of the public authorities.
///
/// # Errors
///
/// Says why `pem` holds no certificate that can be used.
pub fn trust(pem: Option<&[u8]>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    match pem {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|err| err.to_string())?;
                roots.add(certificate).map_err(|err| err.to_string())?;
            }
            if roots.is_empty() {
                return Err("there is no certificate in it".to_owned());
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|err| err.to_string())?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

pub(crate) fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
impl Plan {
    /// Ten payments a second for ten seconds, to nowhere.
    pub(crate) fn small() -> Arc<Self> {
        let account = "1900000201:SandboxSigningKeyOfMerchant00001:wx0000000000000001";
        Arc::new(Self {
            target: "http://127.0.0.1:9".parse().expect("an endpoint"),
            tls: None,
            accounts: vec![account.parse().expect("a merchant")],
            customers: "00".parse().expect("a customer"),
            arrivals: Process::Constant,
            per_second: 10,
            warmup: Duration::from_secs(1),
            duration: Duration::from_secs(10),
            drain: Duration::from_secs(1),
            connections: 4,
            poll_connections: 4,
            poll: Some(Duration::from_secs(5)),
            timeout: Duration::from_secs(20),
            sign: Kind::Md5,
            amount_fen: 100,
            seed: 1,
            run: 0xABCD,
        })
    }
}
