//! Who is sent on which connection, and whose fault it is when that is late. Pure: time is an argument.
//!
//! A request is due at a moment that its schedule has fixed, whatever the server does. It leaves at that moment if a
//! connection is free, or else as soon as one is: it is never left out and never moved, so that a server that stops
//! for a second shows in every request that was due in that second (no coordinated omission). What is between due
//! and sent is parted into *wait*, when all connections were busy, and *lag*, when one was free and we were late.

use std::collections::VecDeque;

/// Requests in the order in which they are due, and connections that are free.
#[derive(Debug)]
pub(crate) struct Pacer<J> {
    queue: VecDeque<(u64, J)>,
    /// With the moment since which each is free; the first is that of the longest.
    free: Vec<(usize, u64)>,
}

/// A request that leaves now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Departure<J> {
    /// On which connection.
    pub(crate) connection: usize,
    /// When it was due.
    pub(crate) due_ns: u64,
    /// How long all connections were busy after it was due.
    pub(crate) wait_ns: u64,
    /// How long it could have left and did not.
    pub(crate) lag_ns: u64,
    /// The request.
    pub(crate) job: J,
}

impl<J> Pacer<J> {
    pub(crate) const fn new() -> Self {
        Self { queue: VecDeque::new(), free: Vec::new() }
    }

    /// Adds a request that is due no sooner than those before it.
    pub(crate) fn push(&mut self, due_ns: u64, job: J) {
        self.queue.push_back((due_ns, job));
    }

    /// `connection` can take a request from `now` on.
    pub(crate) fn freed(&mut self, connection: usize, now: u64) {
        self.free.push((connection, now));
    }

    /// `connection` is gone; whether it was free.
    pub(crate) fn gone(&mut self, connection: usize) -> bool {
        let before = self.free.len();
        self.free.retain(|(free, _)| *free != connection);
        self.free.len() < before
    }

    /// The next request that is due, if a connection is free for it: the one that was used last, which keeps the
    /// others idle and their state out of the cache.
    pub(crate) fn next(&mut self, now: u64) -> Option<Departure<J>> {
        let (due_ns, _) = self.queue.front().filter(|(due_ns, _)| *due_ns <= now)?;
        let free_since = self.free.first().map(|(_, since)| *since)?;
        let wait_ns = free_since.saturating_sub(*due_ns);
        let lag_ns = now.saturating_sub(free_since.max(*due_ns));
        let (connection, _) = self.free.pop()?;
        let (due_ns, job) = self.queue.pop_front()?;
        Some(Departure { connection, due_ns, wait_ns, lag_ns, job })
    }

    /// When something is to be done: `None` while nothing is queued or no connection is free.
    pub(crate) fn wake_at(&self) -> Option<u64> {
        if self.free.is_empty() { None } else { self.queue.front().map(|(due_ns, _)| *due_ns) }
    }

    /// Requests that have not left.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Requests that are due and have not left.
    pub(crate) fn due(&self, now: u64) -> usize {
        self.queue.partition_point(|(due_ns, _)| *due_ns <= now)
    }

    /// Connections that are free.
    pub(crate) fn idle(&self) -> usize {
        self.free.len()
    }

    /// Takes back what has not left.
    pub(crate) fn clear(&mut self) -> impl Iterator<Item = (u64, J)> + '_ {
        self.queue.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::Pacer;
    use crate::arrivals::{Arrivals, Process};
    use crate::clock::SECOND_NS;

    const MS: u64 = 1_000_000;

    /// What a payment went through.
    struct Seen {
        latency_ns: u64,
        service_ns: u64,
        wait_ns: u64,
        lag_ns: u64,
    }

    /// Drives `connections` at 1,000 payments a second for four seconds, under a clock of our own. The server takes
    /// 1 ms, and answers nothing in the second second if it `freezes`; we look up every `look_ns`.
    fn drive(connections: usize, freezes: bool, look_ns: u64) -> Vec<Seen> {
        let mut pacer = Pacer::new();
        for due_ns in Arrivals::new(Process::Constant, 1_000, 4 * SECOND_NS, 1) {
            pacer.push(due_ns, ());
        }
        (0..connections).for_each(|connection| pacer.freed(connection, 0));
        let (mut seen, mut answers, mut now) = (Vec::new(), BTreeSet::new(), 0);
        while pacer.len() > 0 || !answers.is_empty() {
            while let Some((at, connection)) = answers.first().copied().filter(|(at, _)| *at <= now) {
                answers.remove(&(at, connection));
                pacer.freed(connection, now);
            }
            while let Some(gone) = pacer.next(now) {
                let frozen = freezes && (SECOND_NS..2 * SECOND_NS).contains(&(now + MS));
                let at = if frozen { 2 * SECOND_NS } else { now + MS };
                answers.insert((at, gone.connection));
                let (wait_ns, lag_ns) = (gone.wait_ns, gone.lag_ns);
                assert_eq!(gone.due_ns + wait_ns + lag_ns, now, "nothing between due and sent is left out");
                seen.push(Seen { latency_ns: at - gone.due_ns, service_ns: at - now, wait_ns, lag_ns });
            }
            now += look_ns;
        }
        assert_eq!(seen.len(), 4_000, "every payment leaves");
        seen
    }

    fn over(seen: &[Seen], ms: u64, of: impl Fn(&Seen) -> u64) -> usize {
        seen.iter().filter(|one| of(one) >= ms * MS).count()
    }

    #[test]
    fn a_server_that_freezes_shows_in_everybody_who_was_due_meanwhile() {
        let seen = drive(4, true, MS / 10);
        // Due i ms into the freeze, and then sent at four in a millisecond: 1000 - 3/4 i ms, for each of them.
        let half = over(&seen, 500, |one| one.latency_ns);
        assert!((660..=670).contains(&half), "{half}");
        // Whoever waits for answers before the next request sees four of them, the connections.
        assert_eq!(over(&seen, 500, |one| one.service_ns), 4);
        let waited = over(&seen, 1, |one| one.wait_ns);
        assert!(waited >= 990, "{waited} waited for a connection");
        assert_eq!(over(&seen, 1, |one| one.lag_ns), 0, "and none for us");
    }

    #[test]
    fn a_generator_that_looks_up_late_is_late_itself() {
        let seen = drive(64, false, 20 * MS);
        assert!(over(&seen, 10, |one| one.lag_ns) > 700);
        let seen = drive(64, false, MS / 10);
        assert_eq!((over(&seen, 1, |one| one.wait_ns), over(&seen, 1, |one| one.lag_ns)), (0, 0));
        assert_eq!(over(&seen, 2, |one| one.latency_ns), 0);
    }

    #[test]
    fn a_connection_that_breaks_is_not_used() {
        let mut pacer = Pacer::new();
        pacer.freed(7, 0);
        pacer.freed(8, 0);
        assert!(pacer.gone(8) && !pacer.gone(8));
        pacer.push(5, 'a');
        pacer.push(6, 'b');
        assert_eq!((pacer.wake_at(), pacer.due(5), pacer.idle()), (Some(5), 1, 1));
        assert!(pacer.next(4).is_none());
        assert_eq!(pacer.next(9).map(|gone| (gone.connection, gone.lag_ns, gone.job)), Some((7, 4, 'a')));
        assert_eq!((pacer.next(9), pacer.wake_at()), (None, None));
        assert_eq!(pacer.clear().count(), 1);
    }
}
