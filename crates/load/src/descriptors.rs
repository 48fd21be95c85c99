//! Connections need descriptors.

use rustix::process::{Resource, getrlimit, setrlimit};

/// For the poll, the timer, standard streams and what libraries open for a moment.
const OWN: u64 = 64;

/// Raises the limit of open files as far as this process may; says how many are needed and allowed where that is not
/// enough for `connections`.
pub(crate) fn enough(connections: usize) -> Result<(), (u64, u64)> {
    let needed = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(OWN);
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < needed) {
        limit.current = limit.maximum;
        // Where the system refuses, what there was is what there is.
        let _ = setrlimit(Resource::Nofile, limit);
    }
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if allowed < needed { Err((needed, allowed)) } else { Ok(()) }
}
