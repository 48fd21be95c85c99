//! Who waits for what: a till's request from the moment it is taken until it is answered, and what is to be sent
//! for it until it is sent.

use std::fmt;

use crate::map::Map;
use crate::sync::{AtomicU64, Ordering};

#[derive(Debug)]
struct Entry<K, T, O> {
    key: K,
    till: Option<T>,
    outgoing: Option<O>,
}

/// The requests under way by ticket: their key `K`, the till `T` that waits, and what is to be sent, `O`. Any thread
/// may do anything at any time: a till and what is to be sent are each taken once.
pub struct Waiting<K, T, O> {
    next: AtomicU64,
    entries: Map<Entry<K, T, O>>,
}

impl<K: Copy, T, O> Waiting<K, T, O> {
    /// Nobody waits.
    #[must_use]
    pub fn new() -> Self {
        Self { next: AtomicU64::new(0), entries: Map::new() }
    }

    /// Takes a request; returns its ticket, which no other ever has.
    pub fn open(&self, key: K, till: T, outgoing: Option<O>) -> u64 {
        let ticket = self.next.fetch_add(1, Ordering::Relaxed);
        self.entries.insert(ticket, Entry { key, till: Some(till), outgoing });
        ticket
    }

    /// Takes the till that waits, to be told: once.
    pub fn take_till(&self, ticket: u64) -> Option<T> {
        let till = self.entries.with(ticket, |entry| entry.till.take()).flatten();
        self.forget_if_done(ticket);
        till
    }

    /// Looks at the till that waits, if it does.
    pub fn with_till<R>(&self, ticket: u64, look: impl FnOnce(&T) -> R) -> Option<R> {
        self.entries.with(ticket, |entry| entry.till.as_ref().map(look)).flatten()
    }

    /// Takes what is to be sent: once.
    pub fn take_outgoing(&self, ticket: u64) -> Option<O> {
        let outgoing = self.entries.with(ticket, |entry| entry.outgoing.take()).flatten();
        self.forget_if_done(ticket);
        outgoing
    }

    /// What a request is about.
    pub fn key(&self, ticket: u64) -> Option<K> {
        self.entries.with(ticket, |entry| entry.key)
    }

    /// Drops a request, and with it the till that waits.
    pub fn close(&self, ticket: u64) {
        self.entries.remove_if(ticket, |_| true);
    }

    /// Requests under way.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn forget_if_done(&self, ticket: u64) {
        // Looked at again under the entry's lock: another thread may have taken the other half meanwhile.
        self.entries.remove_if(ticket, |entry| entry.till.is_none() && entry.outgoing.is_none());
    }
}

impl<K: Copy, T, O> Default for Waiting<K, T, O> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, T, O> fmt::Debug for Waiting<K, T, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").finish_non_exhaustive()
    }
}
