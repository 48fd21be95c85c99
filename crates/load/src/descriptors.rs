//! Connections need descriptors.

use rustix::process::{Resource, getrlimit, setrlimit};

/// For the poll, the timer, standard streams and what libraries open for a moment.
const OWN: u64 = 64;

/// Raises the limit of open files as far as this process may, and says how many connections fit beside `connections`;
/// or how many files are needed and how many allowed, where not even those fit.
pub(crate) fn room(connections: usize) -> Result<usize, (u64, u64)> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some() && limit.current != limit.maximum && limit.maximum.is_some() {
        limit.current = limit.maximum;
        // Where the system refuses, what there was is what there is.
        let _ = setrlimit(Resource::Nofile, limit);
    }
    beside(connections, getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX))
}

fn beside(connections: usize, allowed: u64) -> Result<usize, (u64, u64)> {
    let needed = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(OWN);
    let room = allowed.checked_sub(needed).ok_or((needed, allowed))?;
    Ok(usize::try_from(room).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::beside;

    #[test]
    fn payments_come_first() {
        assert_eq!(beside(64, 1_024), Ok(896));
        assert_eq!(beside(960, 1_024), Ok(0));
        assert_eq!(beside(961, 1_024), Err((1_025, 1_024)));
    }
}
