//! How many connections fit into the descriptors that the system gives this process.
//!
//! Tills must not take those that calls to the wallet need: a reversal that cannot connect leaves money where it is.

use rustix::process::{Resource, getrlimit, setrlimit};

/// For listeners, the store, lookups, logs and what libraries open for a moment.
const OWN: u64 = 128;

/// Raises the limit as far as this process may, and returns how many of the `wanted` connections of tills fit beside
/// `calls` to wallets; at least one. Says so where they do not.
#[must_use]
pub fn connections(wanted: u32, calls: u32) -> u32 {
    let limit = raised();
    let fit = fitting(wanted, calls, limit);
    if fit < wanted {
        let needed = u64::from(wanted).saturating_add(u64::from(calls)).saturating_add(OWN);
        tracing::warn!(
            connections_max = wanted,
            taken = fit,
            descriptors = limit,
            needed,
            "the limit of open files is too low: fewer connections are taken; raise LimitNOFILE of the service (or \
             ulimit -n), or lower northbound.connections_max"
        );
    }
    fit
}

/// The limit of open files, as high as it may be.
fn raised() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum || limit.maximum.is_none() {
        let before = limit.current;
        limit.current = limit.maximum;
        // Where the system refuses, what there was is what there is.
        if limit.maximum.is_none() || setrlimit(Resource::Nofile, limit).is_err() {
            limit.current = before;
        }
    }
    limit.current.unwrap_or(u64::MAX)
}

fn fitting(wanted: u32, calls: u32, limit: u64) -> u32 {
    // Half of them at least are for tills: calls that find no descriptor wait, and say that nothing was sent.
    let others = u64::from(calls).saturating_add(OWN).min(limit / 2);
    let free = limit.saturating_sub(others).max(1);
    u32::try_from(free).unwrap_or(u32::MAX).min(wanted)
}

#[cfg(test)]
mod tests {
    use super::{connections, fitting};

    #[test]
    fn tills_leave_room_for_calls() {
        let _covers = covers::covers(&["INV-24"]);
        for (wanted, calls, limit, fit) in [
            (10_000, 2_048, 65_536, 10_000),
            (10_000, 2_048, 12_176, 10_000),
            (10_000, 2_048, 12_175, 9_999),
            (10_000, 2_048, 1_024, 512),
            (10_000, 0, u64::MAX, 10_000),
            (10, 10, 0, 1),
        ] {
            assert_eq!(fitting(wanted, calls, limit), fit, "{wanted} {calls} {limit}");
        }
        assert_eq!(connections(4, 4), 4);
    }
}
