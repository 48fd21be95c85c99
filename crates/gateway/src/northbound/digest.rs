//! Whether two requests say the same. Source: DESIGN §4, *same content*; MI-26.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroize as _;

/// What content digests are keyed with: without it nobody can try out what a payment was for.
#[derive(Clone)]
pub struct DigestKey(Hmac<Sha256>);

impl DigestKey {
    /// Takes 32 bytes; they must stay the same as long as the store does.
    #[must_use]
    pub fn new(bytes: &[u8; 32]) -> Self {
        let mut block = hmac::digest::common::Key::<Hmac<Sha256>>::default();
        for (slot, byte) in block.iter_mut().zip(bytes) {
            *slot = *byte;
        }
        let mac = Hmac::new(&block);
        block.as_mut_slice().zeroize();
        Self(mac)
    }

    /// Derives the key from a secret of the store.
    #[must_use]
    pub fn derive(secret: &[u8]) -> Self {
        let mut mac = Self::new(&[0; 32]).0;
        mac.update(b"hufu content digest v1\0");
        mac.update(secret);
        Self::new(&mac.finalize().into_bytes().into())
    }

    /// The first 16 bytes of HMAC-SHA256 over `pairs`, sorted by name; lengths go in too, so that no two
    /// contents read alike.
    #[must_use]
    pub fn content<'a>(&self, pairs: impl Iterator<Item = (&'a str, &'a str)>) -> [u8; 16] {
        let mut sorted: Vec<_> = pairs.collect();
        sorted.sort_unstable();
        let mut mac = self.0.clone();
        for text in sorted.into_iter().flat_map(|(name, value)| [name, value]) {
            mac.update(&(text.len() as u64).to_le_bytes());
            mac.update(text.as_bytes());
        }
        let whole: [u8; 32] = mac.finalize().into_bytes().into();
        let mut half = [0; 16];
        half.copy_from_slice(whole.split_at(16).0);
        half
    }

    /// Which till, never 0: the first 8 bytes of HMAC-SHA256 over what names it.
    #[must_use]
    pub fn till(&self, name: &str) -> u64 {
        let mut mac = self.0.clone();
        mac.update(b"till\0");
        mac.update(name.as_bytes());
        let whole: [u8; 32] = mac.finalize().into_bytes().into();
        let [a, b, c, d, e, f, g, h, ..] = whole;
        u64::from_le_bytes([a, b, c, d, e, f, g, h]).max(1)
    }
}

impl fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DigestKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::DigestKey;

    #[test]
    fn order_does_not_count_and_everything_else_does() {
        let _covers = covers::covers(&["INV-16"]);
        let key = DigestKey::new(&[7; 32]);
        let digest = |pairs: &[(&'static str, &'static str)]| key.content(pairs.iter().copied());
        let base = digest(&[("body", "test"), ("total_fee", "1")]);
        assert_eq!(digest(&[("total_fee", "1"), ("body", "test")]), base);
        for other in [
            &[("body", "test"), ("total_fee", "2")][..],
            &[("body", "test")],
            &[("body", "test"), ("total_fee", "1"), ("attach", "a")],
            &[("body", "tes"), ("ttotal_fee", "1")],
            &[("bodyt", "est"), ("total_fee", "1")],
            &[],
        ] {
            assert_ne!(digest(other), base, "{other:?}");
        }
        assert_ne!(
            DigestKey::new(&[8; 32]).content([("body", "test"), ("total_fee", "1")].into_iter()),
            base
        );
        assert_eq!(key.till("07"), key.till("07"));
        assert_ne!(key.till("07"), key.till("08"));
        assert_ne!(
            DigestKey::derive(b"a").content([].into_iter()),
            DigestKey::derive(b"b").content([].into_iter())
        );
    }
}
