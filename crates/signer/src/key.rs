//! One API key: it signs and it verifies.

use std::fmt;
use std::str::FromStr;

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq};
use thiserror::Error;
use zeroize::Zeroize;

use crate::canonical::Scratch;
use crate::kind::Kind;

/// Length of an API key. Source: wechatpay-v2 §2.1, step 5.
const KEY_LEN: usize = 32;
/// What stands between the pairs and the key.
const KEY_FIELD: &[u8; 5] = b"&key=";
/// Hexadecimal digits of the longer method.
const SIGN_MAX: usize = 64;

/// Why a text is not an API key. It does not repeat the text.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[error("an API key is exactly 32 characters of 0-9, A-Z, a-z")]
pub struct KeyError;

/// An API v2 key: 32 characters of `0-9 A-Z a-z`, never printed, wiped when dropped.
#[derive(Clone)]
pub struct Key {
    /// `&key=` and the key: the end of every signed text.
    suffix: [u8; KEY_FIELD.len() + KEY_LEN],
    /// HMAC with the key already absorbed; cloned for each signature.
    mac: Hmac<Sha256>,
}

/// How a claimed signature is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// Upper-case digits only: answers of the wallet.
    Exact,
    /// Either case: requests of tills.
    Any,
}

/// A signature: 32 or 64 upper-case hexadecimal digits, inline.
#[derive(Clone, Copy)]
pub struct Sign {
    digits: [u8; SIGN_MAX],
    len: usize,
}

impl Key {
    /// Takes the key as it is configured.
    ///
    /// # Errors
    ///
    /// [`KeyError`] unless it is exactly 32 ASCII letters and digits: a trailing newline is the common fault.
    ///
    /// Source: wechatpay-v2 §2.1, rules and traps.
    pub fn new(text: &str) -> Result<Self, KeyError> {
        let key: &[u8; KEY_LEN] = text.as_bytes().try_into().map_err(|_| KeyError)?;
        if !key.iter().all(u8::is_ascii_alphanumeric) {
            return Err(KeyError);
        }
        Ok(Self::from_array(key))
    }

    /// A key that is public and opens nothing: 32 times the digit 0.
    #[must_use]
    pub fn decoy() -> Self {
        Self::from_array(&[b'0'; KEY_LEN])
    }

    /// Takes characters that are known to be letters and digits.
    fn from_array(key: &[u8; KEY_LEN]) -> Self {
        let mut suffix = [0; KEY_FIELD.len() + KEY_LEN];
        let (field, rest) = suffix.split_at_mut(KEY_FIELD.len());
        field.copy_from_slice(KEY_FIELD);
        rest.copy_from_slice(key);
        // HMAC fills a short key up with zeros to the block of its hash; so do we, as that cannot fail.
        let mut block = hmac::digest::common::Key::<Hmac<Sha256>>::default();
        for (slot, byte) in block.iter_mut().zip(key) {
            *slot = *byte;
        }
        let mac = Hmac::new(&block);
        block.as_mut_slice().zeroize();
        Self { suffix, mac }
    }

    /// Signs `pairs`; `sign` and empty values among them are passed over.
    ///
    /// Source: wechatpay-v2 §2.1.
    pub fn sign<'a>(
        &self,
        kind: Kind,
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
        scratch: &mut Scratch,
    ) -> Sign {
        self.sign_text(kind, scratch.canonical(pairs))
    }

    /// Whether `claimed` is the signature of `pairs`. The time it takes tells nothing about the right one.
    pub fn verify<'a>(
        &self,
        kind: Kind,
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
        claimed: &str,
        case: Case,
        scratch: &mut Scratch,
    ) -> bool {
        self.sign(kind, pairs, scratch).matches(claimed, case)
    }

    /// Signs a canonical text.
    pub(crate) fn sign_text(&self, kind: Kind, canonical: &[u8]) -> Sign {
        match kind {
            Kind::Md5 => {
                let mut hash = Md5::new();
                hash.update(canonical);
                hash.update(self.suffix);
                Sign::new(&hash.finalize())
            }
            Kind::HmacSha256 => {
                let mut mac = self.mac.clone();
                mac.update(canonical);
                mac.update(&self.suffix);
                Sign::new(&mac.finalize().into_bytes())
            }
        }
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.suffix.zeroize();
    }
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        Self::new(text)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Sign {
    /// Writes `digest` in upper-case hexadecimal.
    fn new(digest: &[u8]) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
        let mut digits = [0; SIGN_MAX];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(digest) {
            let halves = [byte >> 4, byte & 15];
            for (to, half) in pair.iter_mut().zip(halves) {
                // Half a byte is always a place in the table.
                *to = DIGITS.get(usize::from(half)).copied().unwrap_or_default();
            }
        }
        Self { digits, len: digest.len().saturating_mul(2) }
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.digits.get(..self.len).and_then(|digits| std::str::from_utf8(digits).ok()).unwrap_or_default()
    }

    /// Compares with a claimed signature in a time that depends on the claim's length alone.
    #[must_use]
    pub fn matches(&self, claimed: &str, case: Case) -> bool {
        let mut digits = [0; SIGN_MAX];
        for (slot, byte) in digits.iter_mut().zip(claimed.bytes()) {
            *slot = match case {
                Case::Exact => byte,
                Case::Any => byte.to_ascii_uppercase(),
            };
        }
        let length = Choice::from(u8::from(claimed.len() == self.len));
        bool::from(digits.ct_eq(&self.digits) & length)
    }
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl AsRef<str> for Sign {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::{Case, Key, KeyError, Kind, Scratch};

    const KEY: &str = "192006250b4c09247ec02edce69f6a2d";

    #[test]
    fn key_is_thirty_two_letters_and_digits() {
        for bad in [
            "",
            "192006250b4c09247ec02edce69f6a2",
            "192006250b4c09247ec02edce69f6a2d\n",
            "192006250b4c09247ec02edce69f6a2-",
            "192006250b4c09247ec02edce69f6aé",
        ] {
            assert_eq!(Key::new(bad).err(), Some(KeyError), "{bad:?}");
        }
        let key = Key::new(KEY).expect("well-formed");
        assert_eq!(format!("{key:?}"), "Key(..)");
    }

    #[test]
    fn every_wrong_claim_is_refused() {
        let _covers = covers::covers(&["MI-05"]);
        let key = Key::new(KEY).expect("well-formed");
        let mut scratch = Scratch::new();
        for kind in [Kind::Md5, Kind::HmacSha256] {
            let sign = key.sign(kind, [("a", "1")], &mut scratch);
            let good = sign.as_str();
            let lower = good.to_ascii_lowercase();
            assert!(sign.matches(good, Case::Exact) && sign.matches(good, Case::Any));
            assert!(!sign.matches(&lower, Case::Exact));
            assert!(sign.matches(&lower, Case::Any));
            for at in 0..good.len() {
                let mut claim = good.to_owned().into_bytes();
                claim[at] ^= 1;
                let claim = String::from_utf8(claim).expect("ASCII");
                assert!(!sign.matches(&claim, Case::Any), "{claim}");
                assert!(!sign.matches(&good[..at], Case::Any), "{at}");
            }
            for claim in ["", " ", &format!("{good} "), &format!("{good}\0"), &format!("{good}{good}{good}")]
            {
                assert!(!sign.matches(claim, Case::Any), "{claim:?}");
            }
        }
        let md5 = key.sign(Kind::Md5, [("a", "1")], &mut scratch);
        assert!(!md5.matches(&format!("{md5}{}", "\0".repeat(32)), Case::Exact));
    }
}
