//! The keys of one merchant or provider while one is being changed for another.

use std::hint::black_box;

use crate::canonical::Scratch;
use crate::key::{Case, Key, Sign};
use crate::kind::Kind;

/// The key in use and, during a change, the one before it.
///
/// A refused signature costs two hashes, whether or not there is a previous key.
#[derive(Clone, Debug)]
pub struct KeyRing {
    current: Key,
    previous: Option<Key>,
}

impl KeyRing {
    /// A ring of `current` and, while a change lasts, `previous`.
    #[must_use]
    pub const fn new(current: Key, previous: Option<Key>) -> Self {
        Self { current, previous }
    }

    /// Signs with the current key.
    pub fn sign<'a>(
        &self,
        kind: Kind,
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
        scratch: &mut Scratch,
    ) -> Sign {
        self.current.sign(kind, pairs, scratch)
    }

    /// Whether `claimed` is the signature of `pairs` under either key.
    ///
    /// Source: faults-and-invariants UB-24, CF-05.
    pub fn verify<'a>(
        &self,
        kind: Kind,
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
        claimed: &str,
        case: Case,
        scratch: &mut Scratch,
    ) -> bool {
        let text = scratch.canonical(pairs);
        if self.current.sign_text(kind, text).matches(claimed, case) {
            return true;
        }
        // Without a previous key the current one is tried twice, so that a refusal always costs the same.
        self.previous.as_ref().unwrap_or(&self.current).sign_text(kind, text).matches(claimed, case)
    }
}

/// Stands in where there is no merchant, so that an unknown one is refused in the time of a wrong signature.
///
/// Source: faults-and-invariants MI-08.
#[derive(Clone, Debug)]
pub struct Decoy(KeyRing);

impl Decoy {
    /// A decoy; its key is public and opens nothing.
    #[must_use]
    pub fn new() -> Self {
        Self(KeyRing::new(Key::decoy(), None))
    }

    /// Does the work of [`KeyRing::verify`] and answers `false`, whatever is claimed.
    pub fn verify<'a>(
        &self,
        kind: Kind,
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
        claimed: &str,
        case: Case,
        scratch: &mut Scratch,
    ) -> bool {
        // The work must happen although nobody looks at its result.
        black_box(self.0.verify(kind, pairs, claimed, case, scratch));
        false
    }
}

impl Default for Decoy {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::{Case, Decoy, Key, KeyRing, Kind, Scratch};

    const PAIRS: [(&str, &str); 2] = [("mch_id", "1900000109"), ("nonce_str", "n")];

    fn key(letter: &str) -> Key {
        Key::new(&letter.repeat(32)).expect("well-formed")
    }

    #[test]
    fn both_keys_hold_during_a_change_and_only_the_new_one_after_it() {
        let _covers = covers::covers(&["CF-05", "UB-24"]);
        let mut scratch = Scratch::new();
        let (old, new, other) = (key("a"), key("b"), key("c"));
        let changing = KeyRing::new(new.clone(), Some(old.clone()));
        let changed = KeyRing::new(new.clone(), None);
        for kind in [Kind::Md5, Kind::HmacSha256] {
            for (signed_by, during, after) in
                [(&old, true, false), (&new, true, true), (&other, false, false)]
            {
                let sign = signed_by.sign(kind, PAIRS, &mut scratch);
                assert_eq!(changing.verify(kind, PAIRS, sign.as_str(), Case::Exact, &mut scratch), during);
                assert_eq!(changed.verify(kind, PAIRS, sign.as_str(), Case::Exact, &mut scratch), after);
            }
            let own = changing.sign(kind, PAIRS, &mut scratch);
            assert_eq!(own.as_str(), new.sign(kind, PAIRS, &mut scratch).as_str());
        }
    }

    #[test]
    fn decoy_refuses_even_its_own_signature() {
        let _covers = covers::covers(&["MI-08"]);
        let mut scratch = Scratch::new();
        let decoy = Decoy::new();
        let sign = decoy.0.sign(Kind::Md5, PAIRS, &mut scratch);
        assert!(decoy.0.verify(Kind::Md5, PAIRS, sign.as_str(), Case::Any, &mut scratch));
        assert!(!decoy.verify(Kind::Md5, PAIRS, sign.as_str(), Case::Any, &mut scratch));
    }
}
