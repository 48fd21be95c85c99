//! Where payments are sent.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::str::FromStr;

use thiserror::Error;

/// An endpoint that speaks the V2 API: `http://host[:port][/prefix]`, or `https`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Whether it speaks TLS.
    pub tls: bool,
    /// Its name or address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// What stands before `/pay/micropay`; empty, or begins with `/` and does not end with it.
    pub prefix: String,
}

/// Why a text is no endpoint.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum TargetError {
    /// Neither `http://` nor `https://`.
    #[error("an endpoint begins with http:// or https://")]
    Scheme,
    /// No host.
    #[error("there is no host in it")]
    Host,
    /// A port that is none.
    #[error("its port is not a number from 1 to 65535")]
    Port,
    /// A user, a query, a fragment or a blank.
    #[error("an endpoint is a host, a port and a path, and nothing else")]
    Extra,
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let (tls, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
            (Some(rest), _) => (false, rest),
            (None, Some(rest)) => (true, rest),
            (None, None) => return Err(TargetError::Scheme),
        };
        if rest.contains(['@', '?', '#', ' ', '\r', '\n']) {
            return Err(TargetError::Extra);
        }
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or(TargetError::Port)?)),
            None => authority.rsplit_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
        };
        if host.is_empty() {
            return Err(TargetError::Host);
        }
        let port = match port {
            Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or(TargetError::Port)?,
            None => [80, 443][usize::from(tls)],
        };
        Ok(Self { tls, host: host.to_owned(), port, prefix: path.trim_end_matches('/').to_owned() })
    }
}

impl Target {
    /// Its first address.
    ///
    /// # Errors
    ///
    /// When the name cannot be resolved.
    pub fn resolve(&self) -> std::io::Result<SocketAddr> {
        let none = || std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
        (self.host.as_str(), self.port).to_socket_addrs()?.next().ok_or_else(none)
    }

    /// What stands in the header `Host`.
    pub(crate) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", if self.tls { "https" } else { "http" }, self.authority(), self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::{Target, TargetError};

    #[test]
    fn an_endpoint_is_scheme_host_port_and_path() {
        for (text, shown) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://wallet/", "http://wallet:80"),
            ("https://wallet/sandbox/", "https://wallet:443/sandbox"),
            ("http://[::1]:81", "http://[::1]:81"),
            ("http://[::1]", "http://[::1]:80"),
        ] {
            assert_eq!(
                text.parse::<Target>().map(|target| target.to_string()),
                Ok(shown.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn anything_else_is_refused_with_its_reason() {
        for (text, why) in [
            ("127.0.0.1:8080", TargetError::Scheme),
            ("ftp://a", TargetError::Scheme),
            ("http://", TargetError::Host),
            ("http://:80", TargetError::Host),
            ("http://a:0", TargetError::Port),
            ("http://a:70000", TargetError::Port),
            ("http://[::1]x", TargetError::Port),
            ("http://user@a", TargetError::Extra),
            ("http://a/?q", TargetError::Extra),
        ] {
            assert_eq!(text.parse::<Target>(), Err(why), "{text}");
        }
    }
}
