//! A provider account: who we are to the wallet.

use std::net::IpAddr;
use std::path::PathBuf;

use protocol::{AppId, MchId};
use signer::{Key, KeyRing, Kind};
use state_machine::planner::Quota;

use super::Mode;
use super::reader::{Reader, Section};
use super::secret;

/// Where production lives. Source: wechatpay-v2 §1.1.
const WALLET_HOSTS: [&str; 2] = ["api.mch.weixin.qq.com", "api2.mch.weixin.qq.com"];
/// What the paths of the wallet's own sandboxes begin with. Source: wechatpay-v2 §1.5.
const SANDBOX_PATHS: [&str; 2] = ["/sandboxnew", "/xdc/apiv2sandbox"];
/// Hosts of one provider.
const HOSTS_MAX: usize = 4;

/// One host of the wallet's API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Whether it is reached by TLS; always in production.
    pub tls: bool,
    /// Its name or address, without brackets.
    pub name: String,
    /// Its port.
    pub port: u16,
    /// What stands before every path: empty, or a sandbox's path without a slash at its end.
    pub base: String,
}

/// One provider account (服务商).
#[derive(Clone, Debug)]
pub struct Provider {
    /// Its number.
    pub mch_id: MchId,
    /// Its appid.
    pub appid: AppId,
    /// Its API keys.
    pub keys: KeyRing,
    /// How its requests are signed.
    pub kind: Kind,
    /// Main host, then spares.
    pub hosts: Vec<Host>,
    /// Client certificate, PEM; reversals and refunds need it.
    pub client_cert_file: Option<PathBuf>,
    /// Its private key, PEM.
    pub client_key_file: Option<PathBuf>,
    /// Certificates of issuers to trust, PEM; `None` for the well-known ones.
    pub ca_file: Option<PathBuf>,
    /// Calls allowed in a second.
    pub quota: Quota,
}

/// Reads one `[[provider]]`; `None` leaves at least one problem with the reader.
pub(super) fn read(mut section: Section, mode: Option<Mode>, reader: &mut Reader) -> Option<Provider> {
    let mch_id = section.required::<MchId>("mch_id", reader);
    let appid = section.required::<AppId>("appid", reader);
    let key = key(&mut section, "key", "key_file", true, reader);
    let previous = key_if_any(&mut section, reader);
    let kind = kind(&mut section, mode, reader);
    let hosts = hosts(&mut section, mode, reader);
    let client_cert_file = readable(&mut section, "client_cert_file", reader);
    let client_key_file = readable(&mut section, "client_key_file", reader);
    let ca_file = readable(&mut section, "ca_file", reader);
    if client_cert_file.is_some() != client_key_file.is_some() {
        let lacking = if client_cert_file.is_some() { "client_key_file" } else { "client_cert_file" };
        reader.problem(section.setting(lacking), "is missing: certificate and key come together");
    } else if client_cert_file.is_none() && mode == Some(Mode::Production) {
        reader.problem(
            section.setting("client_cert_file"),
            "is missing: without it nothing can be reversed, and then nothing may be accepted",
        );
    }
    let absent = Quota::default();
    let mut quota = section.section("quota", reader);
    let read = Quota {
        pay: quota.count("pay_per_second", absent.pay, 1..=100_000, reader),
        query: quota.count("query_per_second", absent.query, 1..=100_000, reader),
        reverse: quota.count("reverse_per_second", absent.reverse, 1..=100_000, reader),
        calls_max: quota.count("calls_max", absent.calls_max, 1..=100_000, reader),
    };
    quota.finish(reader);
    section.finish(reader);
    Some(Provider {
        mch_id: mch_id?,
        appid: appid?,
        keys: KeyRing::new(key?, previous),
        kind: kind?,
        hosts: hosts?,
        client_cert_file,
        client_key_file,
        ca_file,
        quota: read,
    })
}

fn key(
    section: &mut Section,
    name: &'static str,
    file: &'static str,
    required: bool,
    reader: &mut Reader,
) -> Option<Key> {
    let text = secret::read(section, name, file, required, reader)?;
    Key::new(&text).map_err(|err| reader.problem(section.setting(name), err.to_string())).ok()
}

/// The key before the one in use, while it is being changed (CF-05).
fn key_if_any(section: &mut Section, reader: &mut Reader) -> Option<Key> {
    key(section, "previous_key", "previous_key_file", false, reader)
}

fn kind(section: &mut Section, mode: Option<Mode>, reader: &mut Reader) -> Option<Kind> {
    // HMAC-SHA256 wherever it is supported: everywhere but in the wallet's own sandbox.
    let text = section.text("sign_type", reader);
    let kind = text.as_deref().map_or(Ok(Kind::HmacSha256), |text| Kind::parse(Some(text)));
    if matches!(text.as_deref(), Some("")) && mode.is_some() {
        reader.problem(section.setting("sign_type"), "is empty");
    }
    kind.map_err(|err| reader.problem(section.setting("sign_type"), err.to_string())).ok()
}

/// A file that must be there and be readable.
fn readable(section: &mut Section, name: &'static str, reader: &mut Reader) -> Option<PathBuf> {
    let path = section.path(name, reader)?;
    if let Err(err) = std::fs::File::open(&path) {
        reader.problem(section.setting(name), format!("{}: {err}", path.display()));
    }
    Some(path)
}

fn hosts(section: &mut Section, mode: Option<Mode>, reader: &mut Reader) -> Option<Vec<Host>> {
    let setting = section.setting("hosts");
    let texts = section.texts("hosts", reader).unwrap_or_else(|| {
        if mode == Some(Mode::Sandbox) {
            Vec::new()
        } else {
            WALLET_HOSTS.iter().map(|name| format!("https://{name}")).collect()
        }
    });
    if texts.is_empty() {
        reader.problem(setting, "is missing: sandbox mode has no host of its own");
        return None;
    }
    if texts.len() > HOSTS_MAX {
        reader.problem(setting.clone(), format!("has more than {HOSTS_MAX} entries"));
    }
    let mut hosts = Vec::with_capacity(texts.len());
    for text in &texts {
        match Host::parse(text).and_then(|host| host.check(mode).map(|()| host)) {
            Ok(host) => hosts.push(host),
            Err(what) => reader.problem(setting.clone(), format!("{text:?} {what}")),
        }
    }
    (hosts.len() == texts.len()).then_some(hosts)
}

impl Host {
    /// Reads `https://name[:port][/base]`.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (tls, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err("begins with neither https:// nor http://".to_owned()),
        };
        let (authority, base) = rest.split_once('/').map_or((rest, String::new()), |(authority, path)| {
            (authority, format!("/{}", path.trim_end_matches('/')))
        });
        let base = if base == "/" { String::new() } else { base };
        if !base.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'-' | b'_' | b'.')) {
            return Err("has a path with a character that is not allowed".to_owned());
        }
        let authority: hyper::http::uri::Authority =
            authority.parse().map_err(|_| "names no host".to_owned())?;
        if authority.as_str().contains('@') {
            return Err("holds a user name".to_owned());
        }
        let name = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        if name.is_empty() {
            return Err("names no host".to_owned());
        }
        // Not `authority.port()`: that takes a port out of range for none.
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") if tls => 443,
            Some("") => 80,
            rest => rest
                .and_then(|rest| rest.strip_prefix(':'))
                .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
                .and_then(|digits| digits.parse().ok())
                .filter(|port| *port > 0)
                .ok_or("has a bad port")?,
        };
        Ok(Self { tls, name, port, base })
    }

    /// Mode and address must agree (CF-08).
    fn check(&self, mode: Option<Mode>) -> Result<(), String> {
        let sandbox_path = SANDBOX_PATHS.iter().any(|path| self.base.starts_with(path));
        let real = self.name.ends_with(".weixin.qq.com") || self.name.ends_with(".wechatpay.cn");
        match mode {
            None => Ok(()),
            Some(Mode::Production) if !self.tls => Err("is not https, which production demands".to_owned()),
            Some(Mode::Production) if self.is_inner() => {
                Err("is an address of this machine or network: no wallet is there in production".to_owned())
            }
            Some(Mode::Production) if sandbox_path => {
                Err("is the wallet's sandbox, in production mode".to_owned())
            }
            Some(Mode::Sandbox) if real && !sandbox_path => {
                Err("is the wallet itself, in sandbox mode".to_owned())
            }
            Some(Mode::Production | Mode::Sandbox) => Ok(()),
        }
    }

    /// Whether it names this machine or an inner network.
    fn is_inner(&self) -> bool {
        let name = self.name.trim_end_matches('.');
        if name == "localhost" || name.ends_with(".localhost") || !name.contains(['.', ':']) {
            return true;
        }
        match name.parse::<IpAddr>() {
            Ok(IpAddr::V4(ip)) => {
                ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_unspecified()
            }
            Ok(IpAddr::V6(ip)) => {
                ip.is_loopback()
                    || ip.is_unspecified()
                    || ip.is_unique_local()
                    || ip.is_unicast_link_local()
                    || ip.to_ipv4_mapped().is_some()
            }
            Err(_) => false,
        }
    }
}
