//! What tills sign with, also while it is being changed.

use signer::{Case, Key, Kind, Scratch};
use state_machine::UnixMs;

use crate::clock::Clock;

/// The keys that a merchant's tills sign with: the one in use and, while it is being changed, the one before.
///
/// Unlike [`signer::KeyRing`] it says which of them signed: a till that has not changed over yet can only
/// verify an answer that is signed with the key it knows.
#[derive(Clone, Debug)]
pub struct Keys {
    current: Key,
    previous: Option<Box<Key>>,
    /// The previous one is taken before this moment; `None`: as long as it is here.
    until: Option<UnixMs>,
}

impl Keys {
    /// Takes the key in use and, while a change lasts, the one before.
    #[must_use]
    pub fn new(current: Key, previous: Option<Key>) -> Self {
        Self { current, previous: previous.map(Box::new), until: None }
    }

    /// Takes the previous key before this moment only. That is the wall clock's: it lasts longer than a process.
    #[must_use]
    pub fn until(self, until: Option<UnixMs>) -> Self {
        Self { until, ..self }
    }

    /// The key under which `claimed` is the signature of `pairs`. A refusal costs two signatures, whether or
    /// not there is a previous key (MI-08).
    pub fn verify<'a, P>(&self, kind: Kind, pairs: P, claimed: &str, scratch: &mut Scratch) -> Option<&Key>
    where
        P: Iterator<Item = (&'a str, &'a str)> + Clone,
    {
        if self.current.verify(kind, pairs.clone(), claimed, Case::Any, scratch) {
            return Some(&self.current);
        }
        let other = self.previous.as_deref().unwrap_or(&self.current);
        let verified = other.verify(kind, pairs, claimed, Case::Any, scratch);
        (verified && still(self.until)).then_some(other)
    }
}

/// Whether what ends at `until` has not ended.
pub(super) fn still(until: Option<UnixMs>) -> bool {
    until.is_none_or(|until| Clock::wall() < until)
}
