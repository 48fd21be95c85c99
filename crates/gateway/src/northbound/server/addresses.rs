//! How many connections each address has.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

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

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, PoisonError};

    use super::Addresses;

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
