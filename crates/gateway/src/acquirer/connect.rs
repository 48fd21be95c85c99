//! From a base URL to a live connection: name, address, TCP, TLS.
//!
//! Whatever fails here fails before the first byte of a request, so all of it is *proven unsent* (A1).

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use thiserror::Error;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::certificate::ClientCertificate;
use super::pool::Cause;
use super::wire::{Gate, Wire};
use crate::clock::Clock;

/// Why a provider's hosts or certificates cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SetupError {
    /// Not `http://` or `https://`, then a host, then perhaps a port and a path.
    #[error("base URL {0:?} is not http(s)://host[:port][/path]")]
    BaseUrl(String),
    /// A provider without a host.
    #[error("no host is configured")]
    NoHost,
    /// The extra CA file holds no certificate, or one that cannot be read.
    #[error("extra CA certificates cannot be read: {0}")]
    ExtraCa(String),
    /// The client certificate or its key cannot be read, or they do not belong together.
    #[error("client certificate cannot be used: {0}")]
    ClientCertificate(String),
    /// The TLS library refuses its own settings.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// A host of the wallet, taken apart from its base URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    tls: bool,
    /// Name or address, without brackets.
    host: String,
    port: u16,
    /// The value of the `Host` header.
    authority: String,
    /// What stands before every path; empty, or begins with `/` and does not end with it.
    prefix: String,
}

impl Target {
    /// Reads `http://host[:port][/prefix]` or the same with `https`.
    pub(crate) fn parse(url: &str) -> Result<Self, SetupError> {
        let bad = || SetupError::BaseUrl(url.to_owned());
        let uri: hyper::Uri = url.parse().map_err(|_| bad())?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) | None => return Err(bad()),
        };
        let authority = uri.authority().ok_or_else(bad)?;
        // A user name in it is a secret in the wrong place; a query would swallow the path that follows.
        if authority.as_str().contains('@') || uri.query().is_some() || authority.host().is_empty() {
            return Err(bad());
        }
        // A port that is no number is not shown as one.
        if authority.as_str() != authority.host() && authority.port_u16().is_none() {
            return Err(bad());
        }
        Ok(Self {
            tls,
            host: authority.host().trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            authority: authority.as_str().to_owned(),
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    /// The value of the `Host` header.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// What stands before the path of an endpoint such as `/pay/micropay`.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Whether connections are encrypted.
    pub(crate) const fn is_tls(&self) -> bool {
        self.tls
    }
}

/// Opens connections to one host, always with or always without the client certificate.
pub(crate) struct Connector {
    target: Target,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    certified: bool,
}

impl Connector {
    /// A connector that trusts the public roots and `extra_ca` (PEM), and presents `certificate` if given.
    pub(crate) fn new(
        target: Target,
        extra_ca: Option<&[u8]>,
        certificate: Option<&ClientCertificate>,
    ) -> Result<Self, SetupError> {
        let tls = if target.tls {
            let name = ServerName::try_from(target.host.clone())
                .map_err(|_| SetupError::BaseUrl(target.host.clone()))?;
            Some((TlsConnector::from(Arc::new(tls_config(extra_ca, certificate)?)), name))
        } else {
            None
        };
        Ok(Self { certified: tls.is_some() && certificate.is_some(), target, tls })
    }

    /// The host.
    pub(crate) const fn target(&self) -> &Target {
        &self.target
    }

    /// Whether it presents a client certificate.
    pub(crate) const fn is_certified(&self) -> bool {
        self.certified
    }

    /// A connection whose handshakes are done, or why there is none before `until`.
    pub(crate) async fn connect(&self, until: Instant) -> Result<(Stream, Arc<Gate>), Cause> {
        timeout_at(until, self.connect_at_leisure(until)).await.unwrap_or(Err(Cause::ConnectTimeout))
    }

    async fn connect_at_leisure(&self, until: Instant) -> Result<(Stream, Arc<Gate>), Cause> {
        let tcp = self.tcp(until).await?;
        // Requests are written whole: waiting for more to send only delays them.
        tcp.set_nodelay(true).map_err(|_| Cause::Connect)?;
        let gate = Gate::new(tcp);
        let wire = Wire(Arc::clone(&gate));
        let Some((connector, name)) = &self.tls else { return Ok((Stream::Plain(wire), gate)) };
        match connector.connect(name.clone(), wire).await {
            Ok(stream) => Ok((Stream::Tls(Box::new(stream)), gate)),
            Err(error) if self.certified && certificate_refused(&error) => Err(Cause::CertificateRefused),
            Err(error) => {
                // Fails closed, and is worth an alarm: an expired or wrong certificate of the wallet's, or
                // somebody in between (NU-13).
                tracing::warn!(host = self.target.authority, %error, "TLS handshake failed");
                Err(Cause::Tls)
            }
        }
    }

    /// Tries the addresses in turn; none may use up the time of those after it.
    async fn tcp(&self, until: Instant) -> Result<TcpStream, Cause> {
        let addresses: Vec<_> = lookup_host((self.target.host.as_str(), self.target.port))
            .await
            .map_err(|_| Cause::Unresolved)?
            .collect();
        let mut left = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
        let mut cause = Cause::Unresolved;
        for address in addresses {
            let time = until.saturating_duration_since(Instant::now());
            let share = time.checked_div(left.max(1)).unwrap_or(time);
            left = left.saturating_sub(1);
            match timeout_at(Clock::after(share), TcpStream::connect(address)).await {
                Ok(Ok(tcp)) => return Ok(tcp),
                Ok(Err(_)) => cause = Cause::Connect,
                Err(_) => cause = Cause::ConnectTimeout,
            }
        }
        Err(cause)
    }
}

/// Roots: Mozilla's set, which holds DigiCert Global Root G2; older chains need `extra_ca`.
fn tls_config(
    extra_ca: Option<&[u8]>,
    certificate: Option<&ClientCertificate>,
) -> Result<ClientConfig, SetupError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(pem) = extra_ca {
        let before = roots.len();
        for root in CertificateDer::pem_slice_iter(pem) {
            let root = root.map_err(|error| SetupError::ExtraCa(error.to_string()))?;
            roots.add(root).map_err(|error| SetupError::ExtraCa(error.to_string()))?;
        }
        if roots.len() == before {
            return Err(SetupError::ExtraCa("no certificate in it".to_owned()));
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let Some(certificate) = certificate else {
        // 0-RTT stays off, as is the library's default: early data may be delivered twice (G3).
        return Ok(builder.with_no_client_auth());
    };
    let unusable = |error: &dyn fmt::Display| SetupError::ClientCertificate(error.to_string());
    let chain = CertificateDer::pem_slice_iter(&certificate.chain_pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable(&error))?;
    let key = PrivateKeyDer::from_pem_slice(&certificate.key_pem).map_err(|error| unusable(&error))?;
    let mut config = builder.with_client_auth_cert(chain, key).map_err(|error| unusable(&error))?;
    // A resumed session carries the certificate of the day it began.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Whether `error` is the peer's alert that it does not take our certificate.
pub(crate) fn certificate_refused(error: &io::Error) -> bool {
    use rustls::AlertDescription as Alert;
    let Some(rustls::Error::AlertReceived(alert)) =
        error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>())
    else {
        return false;
    };
    [
        Alert::CertificateRequired,
        Alert::NoCertificate,
        Alert::BadCertificate,
        Alert::UnsupportedCertificate,
        Alert::CertificateRevoked,
        Alert::CertificateExpired,
        Alert::CertificateUnknown,
        Alert::UnknownCA,
        Alert::AccessDenied,
        // Signed by another authority of the same name, or not by the key in our certificate.
        Alert::DecryptError,
    ]
    .contains(alert)
}

/// A connection, encrypted or not.
pub(crate) enum Stream {
    Plain(Wire),
    Tls(Box<TlsStream<Wire>>),
}

/// Hands every call to whichever stream it is.
macro_rules! either {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Stream::Plain($stream) => $call,
            Stream::Tls($stream) => $call,
        }
    };
}

mod io_traits {
    use std::io::{self, IoSlice};
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::Stream;

    impl AsyncRead for Stream {
        fn poll_read(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            either!(self, stream => Pin::new(stream).poll_read(cx, buf))
        }
    }

    impl AsyncWrite for Stream {
        fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            either!(self, stream => Pin::new(stream).poll_write(cx, buf))
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            either!(self, stream => Pin::new(stream).poll_write_vectored(cx, bufs))
        }

        fn is_write_vectored(&self) -> bool {
            match self {
                Self::Plain(stream) => stream.is_write_vectored(),
                Self::Tls(stream) => stream.is_write_vectored(),
            }
        }

        fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            either!(self, stream => Pin::new(stream).poll_flush(cx))
        }

        fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            either!(self, stream => Pin::new(stream).poll_shutdown(cx))
        }
    }
}
