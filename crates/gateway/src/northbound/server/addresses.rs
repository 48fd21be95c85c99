//! How many connections each address has, and from which addresses tills have come.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use crate::metrics;

/// Addresses of tills that are remembered at once, in each of two halves; the older half is forgotten when one more
/// comes, so that between as many and twice as many are known.
const KNOWN_MAX: usize = 65_536;
/// After so long the older half is forgotten in any case: a till's address is known for 12 to 24 hours.
const KNOWN_FOR_MS: u64 = 12 * 3_600 * 1_000;

/// Counts connections by address; by network of 64 bits in IPv6, where one machine has all of it.
#[derive(Debug, Default)]
pub(super) struct Addresses(Mutex<HashMap<IpAddr, u32>>);

/// One connection of an address.
#[derive(Debug)]
pub(super) struct Counted {
    all: Arc<Addresses>,
    address: IpAddr,
}

impl Addresses {
    /// Counts a connection; `None` if its address has `max` already. 0 counts nothing and refuses nobody.
    pub(super) fn enter(self: &Arc<Self>, peer: SocketAddr, max: u32) -> Option<Option<Counted>> {
        if max == 0 {
            return Some(None);
        }
        let address = network(peer.ip());
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(address).or_default();
        if *count >= max {
            return None;
        }
        *count = count.saturating_add(1);
        drop(all);
        Some(Some(Counted { all: Arc::clone(self), address }))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut all = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = all.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                all.remove(&self.address);
            }
        }
    }
}

/// Addresses from which a request has come lately that passed every check of who asks.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<Halves>);

#[derive(Debug, Default)]
struct Halves {
    recent: HashSet<IpAddr>,
    before: HashSet<IpAddr>,
    since_ms: u64,
}

impl Known {
    /// A till has come from there.
    pub(super) fn note(&self, address: IpAddr, now_ms: u64) {
        let address = network(address);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_old = now_ms.saturating_sub(all.since_ms) >= KNOWN_FOR_MS;
        if is_old || (all.recent.len() >= KNOWN_MAX && !all.recent.contains(&address)) {
            all.before = std::mem::take(&mut all.recent);
            all.since_ms = now_ms;
        }
        all.before.remove(&address);
        all.recent.insert(address);
        metrics::known_addresses(all.recent.len().saturating_add(all.before.len()));
    }

    /// Whether tills have come from there lately.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        let address = network(address);
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.recent.contains(&address) || all.before.contains(&address)
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::{Arc, PoisonError};

    use super::{Addresses, KNOWN_FOR_MS, KNOWN_MAX, Known};

    #[test]
    fn as_many_addresses_are_known_as_may_be_and_the_oldest_are_forgotten() {
        let _covers = covers::covers(&["INV-24"]);
        let known = Known::default();
        let address = |n: usize| IpAddr::from(u32::try_from(n).expect("few").to_be_bytes());
        let size = || {
            let all = known.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.recent.len() + all.before.len()
        };
        for n in 0..KNOWN_MAX {
            known.note(address(n), 0);
        }
        assert!(known.has(address(0)) && known.has(address(KNOWN_MAX - 1)) && !known.has(address(KNOWN_MAX)));
        // One more, and what there was is the older half; whoever comes again is of the newer.
        known.note(address(KNOWN_MAX), 0);
        known.note(address(0), 0);
        assert_eq!(size(), KNOWN_MAX + 1);
        assert!(known.has(address(1)));
        for n in 0..KNOWN_MAX {
            known.note(address(2 * KNOWN_MAX + n), 0);
            assert!(size() <= 2 * KNOWN_MAX);
        }
        assert!(known.has(address(0)) && !known.has(address(1)), "who has not come since is forgotten");
        // By time as well.
        known.note(address(5), KNOWN_FOR_MS);
        known.note(address(6), 2 * KNOWN_FOR_MS);
        assert!(known.has(address(5)) && !known.has(address(0)));
        assert_eq!(size(), 2);
    }

    #[test]
    fn an_address_is_known_as_its_network() {
        let known = Known::default();
        known.note("2001:db8::1".parse().expect("an address"), 0);
        known.note("::ffff:192.0.2.1".parse().expect("an address"), 0);
        for (address, is_known) in
            [("2001:db8::2", true), ("2001:db8:0:1::1", false), ("192.0.2.1", true), ("192.0.2.2", false)]
        {
            assert_eq!(known.has(address.parse().expect("an address")), is_known, "{address}");
        }
    }

    #[test]
    fn each_address_has_its_own_count_and_leaves_nothing_behind() {
        let _covers = covers::covers(&["INV-24"]);
        let all = Arc::<Addresses>::default();
        let enter = |peer: &str| all.enter(peer.parse().expect("an address"), 2);
        let (first, second) = (enter("192.0.2.1:1"), enter("192.0.2.1:2"));
        assert!(first.is_some() && second.is_some());
        assert!(enter("192.0.2.1:3").is_none());
        assert!(enter("[::ffff:192.0.2.1]:3").is_none(), "the same machine");
        assert!(enter("192.0.2.2:1").is_some());
        drop(first);
        assert!(enter("192.0.2.1:4").is_some());
        drop(second);
        let kept = (enter("[2001:db8::1]:1"), enter("[2001:db8::2]:1"));
        assert!(enter("[2001:db8::3]:1").is_none(), "one network");
        assert!(enter("[2001:db8:0:1::3]:1").is_some());
        drop(kept);
        assert!(all.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty());
        assert!(matches!(all.enter("192.0.2.1:1".parse().expect("an address"), 0), Some(None)));
    }
}
