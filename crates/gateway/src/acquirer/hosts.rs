//! Primary and backup host of a provider, and when to change.
//!
//! Source: wechatpay-v2 §1.4, the official SDK's rule condensed: two failures in a row move the traffic to
//! the backup for at most three minutes, then the primary is tried again.

use std::sync::{Arc, Mutex, PoisonError};

use state_machine::Tick;

use super::certificate::ClientCertificate;
use super::connect::{Connector, SetupError, Target};
use super::pool::{Cause, Pool, PoolLimits, Sent, Terms};
use crate::clock::Clock;

/// Failures in a row after which a host is left.
const FAILURES_MAX: u32 = 2;
/// How long the primary is left alone, in milliseconds.
const AWAY_MS: u64 = 3 * 60 * 1000;

/// One endpoint of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Its path.
    pub(crate) path: &'static str,
    /// Whether it asks for the client certificate.
    pub(crate) certified: bool,
}

/// The hosts of a provider, the primary first.
pub(crate) struct Hosts {
    hosts: Vec<Host>,
    switch: Mutex<Switch>,
}

/// Connections with and without the client certificate never mix: a bad certificate fails the calls that
/// need none as well, and a resumed session may lack it. Source: wechatpay-v2 §1.3, §6 no. 10.
struct Host {
    name: String,
    open: Arc<Pool>,
    certified: Arc<Pool>,
}

impl Hosts {
    pub(crate) fn new(
        base_urls: &[String],
        extra_ca: Option<&[u8]>,
        certificate: Option<&ClientCertificate>,
        limits: PoolLimits,
    ) -> Result<Self, SetupError> {
        let hosts = base_urls
            .iter()
            .map(|url| {
                let target = Target::parse(url)?;
                Ok(Host {
                    name: target.authority().to_owned(),
                    open: Pool::new(Connector::new(target.clone(), extra_ca, None)?, limits),
                    certified: Pool::new(Connector::new(target, extra_ca, certificate)?, limits),
                })
            })
            .collect::<Result<Vec<_>, SetupError>>()?;
        if hosts.is_empty() {
            return Err(SetupError::NoHost);
        }
        Ok(Self { switch: Mutex::new(Switch::new(hosts.len())), hosts })
    }

    /// Sends a request to the host of the moment, or the one after it with `other_host`. If it is proven
    /// unsent there, the same message goes to the next host, once (A1).
    pub(crate) async fn send(
        &self,
        endpoint: Endpoint,
        other_host: bool,
        body: &[u8],
        terms: Terms,
        left: &mut (dyn FnMut(Tick) + Send),
    ) -> Sent {
        let first = self.with_switch(|switch, now| switch.choose(other_host, now));
        let sent = self.send_to(first, endpoint, body, terms, left).await;
        if !matches!(sent, Sent::Unsent(_)) || health(&sent) != Some(false) || self.hosts.len() < 2 {
            return sent;
        }
        self.send_to(after(first, self.hosts.len()), endpoint, body, terms, left).await
    }

    async fn send_to(
        &self,
        index: usize,
        endpoint: Endpoint,
        body: &[u8],
        terms: Terms,
        left: &mut (dyn FnMut(Tick) + Send),
    ) -> Sent {
        // `Switch` names only hosts that there are.
        let Some(host) = self.hosts.get(index) else { return Sent::Unsent(Cause::Unresolved) };
        let pool = if endpoint.certified { &host.certified } else { &host.open };
        let sent = pool.send(endpoint.path, body, terms, left).await;
        if let Sent::Unsent(cause) | Sent::Lost { cause, .. } = &sent {
            tracing::debug!(host = host.name, path = endpoint.path, cause = cause.as_str(), "no answer");
        }
        if let Some(healthy) = health(&sent)
            && let Some(moved) = self.with_switch(|switch, now| switch.report(index, healthy, now))
        {
            let to = self.hosts.get(moved).map(|host| host.name.as_str());
            tracing::warn!(from = host.name, to, "host switched");
        }
        sent
    }

    fn with_switch<T>(&self, act: impl FnOnce(&mut Switch, Tick) -> T) -> T {
        act(&mut self.switch.lock().unwrap_or_else(PoisonError::into_inner), Clock::tick())
    }

    /// Whether any host is reached by TLS.
    pub(crate) fn uses_tls(&self) -> bool {
        self.hosts.iter().any(|host| host.open.is_tls())
    }

    /// Whether calls that need the client certificate can be made on every host.
    pub(crate) fn can_certify(&self) -> bool {
        self.hosts.iter().all(|host| host.certified.is_certified() || !host.certified.is_tls())
    }
}

/// The host after `host` of so many; the first after the last.
const fn after(host: usize, hosts: usize) -> usize {
    let next = host.saturating_add(1);
    if next < hosts { next } else { 0 }
}

/// What an outcome says about its host; `None` if nothing.
fn health(sent: &Sent) -> Option<bool> {
    match sent {
        Sent::Answer { status, .. } => Some(*status < 500),
        Sent::Unsent(cause) | Sent::Lost { cause, .. } => match cause {
            Cause::Unresolved
            | Cause::Connect
            | Cause::ConnectTimeout
            | Cause::Tls
            | Cause::Broken
            | Cause::Eof { reused: false }
            | Cause::ReadTimeout
            | Cause::NotHttp
            | Cause::TooLarge => Some(false),
            // Our own limits, our own certificate, or a connection that had just idled too long.
            Cause::Unwritable
            | Cause::Busy
            | Cause::TooLate
            | Cause::CertificateRefused
            | Cause::Closed
            | Cause::Eof { reused: true } => None,
        },
    }
}

/// Which host is used, as a rule of its own.
#[derive(Debug)]
struct Switch {
    hosts: usize,
    current: usize,
    failures: u32,
    away_until: Tick,
}

impl Switch {
    const fn new(hosts: usize) -> Self {
        Self { hosts, current: 0, failures: 0, away_until: Tick::ZERO }
    }

    fn choose(&mut self, other: bool, now: Tick) -> usize {
        if self.current != 0 && now >= self.away_until {
            self.current = 0;
            self.failures = 0;
        }
        if other { after(self.current, self.hosts) } else { self.current }
    }

    /// Counts an outcome; the new host if this one was left. Outcomes of another than the current host are
    /// late, or were asked for: they count for nothing.
    fn report(&mut self, host: usize, healthy: bool, now: Tick) -> Option<usize> {
        if host != self.current || self.hosts < 2 {
            return None;
        }
        if healthy {
            self.failures = 0;
            return None;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures < FAILURES_MAX {
            return None;
        }
        if self.current == 0 {
            self.away_until = now.saturating_add(AWAY_MS);
        }
        self.current = after(self.current, self.hosts);
        self.failures = 0;
        Some(self.current)
    }
}

#[cfg(test)]
mod tests {
    use super::{AWAY_MS, Switch};
    use state_machine::Tick;

    /// Plays `0-` (host 0 failed) and `1+` (host 1 answered) a millisecond apart and checks the host used then.
    fn check(hosts: usize, script: &str, at_ms: u64, expected: usize) {
        let mut switch = Switch::new(hosts);
        for (ms, outcome) in script.split_whitespace().enumerate() {
            let (host, sign) = outcome.split_at(1);
            let now = Tick::from_ms(u64::try_from(ms).expect("short"));
            switch.report(host.parse().expect("digit"), sign == "+", now);
        }
        assert_eq!(switch.choose(false, Tick::from_ms(at_ms)), expected, "{script}");
        assert_eq!(switch.choose(true, Tick::from_ms(at_ms)), (expected + 1) % hosts, "{script}");
    }

    #[test]
    fn two_failures_in_a_row_move_to_the_backup() {
        let _covers = covers::covers(&["NU-10"]);
        check(2, "", 9, 0);
        check(2, "0-", 9, 0);
        check(2, "0- 0+ 0-", 9, 0);
        check(2, "0- 0-", 9, 1);
        check(2, "0- 0- 0- 0- 0-", 9, 1);
        check(1, "0- 0- 0-", 9, 0);
    }

    #[test]
    fn a_bad_backup_moves_on_and_late_outcomes_count_for_nothing() {
        check(2, "0- 0- 1- 1-", 9, 0);
        check(2, "0- 0- 1- 0+ 1-", 9, 0);
        check(2, "0- 0- 1- 1+ 1-", 9, 1);
        check(2, "1- 1- 1-", 9, 0);
        check(3, "0- 0- 1- 1-", 9, 2);
        check(3, "0- 0- 1- 1- 2- 2-", 9, 0);
    }

    #[test]
    fn the_primary_is_tried_again_after_three_minutes() {
        check(2, "0- 0-", AWAY_MS, 1);
        check(2, "0- 0-", AWAY_MS + 1, 0);
        check(2, "0- 0- 1+ 1+", AWAY_MS + 1, 0);
    }
}
