//! How secrets and checksums are kept: AES-256-GCM for what nobody may read, HMAC-SHA256 for what nobody may
//! change unseen.
//!
//! One master key ([`SealKey`]) comes from a file or the environment; a key for sealing, one for checksums and a
//! value that tells a wrong master key are derived from it. A sealed value is bound to its purpose and owner, so
//! moving it to another row makes it unreadable (OP-09).

use std::fmt;

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Bytes of a row checksum.
pub(crate) const CHECKSUM_LEN: usize = 16;
/// The first byte of every sealed value: AES-256-GCM under the first master key.
const FORMAT: u8 = 1;
const NONCE_LEN: usize = 12;
const TAG_LEN: usize = 16;

/// The master key of a store: 32 bytes, wiped when dropped, never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SealKey([u8; 32]);

/// Why a text is not a master key. Never repeats the text.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error(
    "the master key of the store must be 64 hexadecimal digits (32 bytes); make one with `openssl rand -hex 32` \
     and keep a copy: without it the store cannot be opened again"
)]
pub struct SealKeyError;

impl SealKey {
    /// Takes 32 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Reads 64 hexadecimal digits, with white space around them as a file has it.
    ///
    /// # Errors
    ///
    /// [`SealKeyError`] for anything else.
    pub fn from_hex(text: &str) -> Result<Self, SealKeyError> {
        let digits = text.trim().as_bytes();
        if digits.len() != 64 {
            return Err(SealKeyError);
        }
        let mut key = Self([0; 32]);
        for (byte, pair) in key.0.iter_mut().zip(digits.chunks_exact(2)) {
            for digit in pair {
                let value = char::from(*digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
                *byte = (*byte << 4) | value.ok_or(SealKeyError)?;
            }
        }
        Ok(key)
    }

    /// A key for one use, derived from this one.
    fn derive(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        let mut mac = keyed(&self.0);
        mac.update(purpose.as_bytes());
        Zeroizing::new(mac.finalize().into_bytes().into())
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(…)")
    }
}

/// HMAC fills a short key up with zeros to the block of its digest.
fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    let mut block = Zeroizing::new([0_u8; 64]);
    for (to, from) in block.iter_mut().zip(key) {
        *to = *from;
    }
    <Hmac<Sha256> as KeyInit>::new((&*block).into())
}

/// What a sealed value is for; part of what it is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// `payments.paid_fields`.
    PaidFields,
    /// `merchants.signing_key`.
    SigningKey,
}

impl Purpose {
    const fn as_str(self) -> &'static str {
        match self {
            Self::PaidFields => "payments.paid_fields",
            Self::SigningKey => "merchants.signing_key",
        }
    }
}

/// The value does not open: wrong key, changed bytes, or sealed for another row.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a sealed value does not open")]
pub(crate) struct Unsealable;

/// The system gives no random bytes; without them nothing may be sealed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the system gives no random bytes")]
pub(crate) struct NoRandomness;

/// Seals, opens, and computes checksums under keys derived from one master key.
pub(crate) struct Sealer {
    cipher: Aes256Gcm,
    checksum: Hmac<Sha256>,
    check: [u8; 32],
}

impl Sealer {
    pub(crate) fn new(key: &SealKey) -> Self {
        let cipher_key = key.derive("hufu store 1: seal");
        let cipher = Aes256Gcm::new((&*cipher_key).into());
        let checksum = keyed(&key.derive("hufu store 1: row checksum"));
        let check = *key.derive("hufu store 1: key check");
        Self { cipher, checksum, check }
    }

    /// What a store remembers of its master key: tells another key, and nothing about this one.
    pub(crate) fn key_check(&self, store_id: &[u8]) -> [u8; 32] {
        let mut mac = keyed(&self.check);
        mac.update(store_id);
        mac.finalize().into_bytes().into()
    }

    /// Seals `secret` for `purpose` and `owner` into `out`, which is emptied first.
    pub(crate) fn seal(
        &self,
        nonces: &mut Nonces,
        purpose: Purpose,
        owner: &[u8],
        secret: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), NoRandomness> {
        let nonce = nonces.next()?;
        let bound = bound_to(purpose, owner);
        #[expect(
            clippy::expect_used,
            reason = "a few hundred bytes are not the 64 GiB that AES-GCM cannot seal"
        )]
        let sealed = self
            .cipher
            .encrypt(&Nonce::from(nonce), Payload { msg: secret, aad: &bound })
            .expect("a secret is far shorter than AES-GCM's 64 GiB");
        out.clear();
        out.push(FORMAT);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&sealed);
        Ok(())
    }

    /// Opens what [`Sealer::seal`] made for the same purpose and owner.
    pub(crate) fn open(
        &self,
        purpose: Purpose,
        owner: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Unsealable> {
        let Some((&FORMAT, rest)) = sealed.split_first() else { return Err(Unsealable) };
        let Some((nonce, rest)) = rest.split_first_chunk::<NONCE_LEN>() else { return Err(Unsealable) };
        if rest.len() < TAG_LEN {
            return Err(Unsealable);
        }
        let bound = bound_to(purpose, owner);
        self.cipher
            .decrypt(&Nonce::from(*nonce), Payload { msg: rest, aad: &bound })
            .map(Zeroizing::new)
            .map_err(|_| Unsealable)
    }

    /// The checksum of a row in its canonical form.
    pub(crate) fn checksum(&self, row: &[u8]) -> [u8; CHECKSUM_LEN] {
        let mut mac = self.checksum.clone();
        mac.update(row);
        let whole: [u8; 32] = mac.finalize().into_bytes().into();
        let mut cut = [0; CHECKSUM_LEN];
        cut.copy_from_slice(whole.get(..CHECKSUM_LEN).unwrap_or_default());
        cut
    }

    /// Whether `checksum` belongs to `row`; takes the same time either way.
    pub(crate) fn checks(&self, row: &[u8], checksum: &[u8]) -> bool {
        self.checksum(row).as_slice().ct_eq(checksum).into()
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(…)")
    }
}

/// `purpose`, a separator that no purpose holds, and the owner.
fn bound_to(purpose: Purpose, owner: &[u8]) -> Vec<u8> {
    let mut bound = Vec::with_capacity(64);
    bound.extend_from_slice(purpose.as_str().as_bytes());
    bound.push(0);
    bound.extend_from_slice(owner);
    bound
}

/// Random nonces, fetched from the system many at a time: a call for each would cost more than the sealing.
pub(crate) struct Nonces {
    bytes: [u8; NONCE_LEN * 128],
    used: usize,
}

impl Nonces {
    pub(crate) const fn new() -> Self {
        Self { bytes: [0; NONCE_LEN * 128], used: NONCE_LEN * 128 }
    }

    fn next(&mut self) -> Result<[u8; NONCE_LEN], NoRandomness> {
        if self.used == self.bytes.len() {
            getrandom::fill(&mut self.bytes).map_err(|_| NoRandomness)?;
            self.used = 0;
        }
        let nonce = self.bytes.get(self.used..).and_then(|rest| rest.first_chunk::<NONCE_LEN>());
        self.used = self.used.saturating_add(NONCE_LEN);
        nonce.copied().ok_or(NoRandomness)
    }
}

#[cfg(test)]
mod tests {
    use super::{Nonces, Purpose, SealKey, Sealer};

    fn sealer(byte: u8) -> Sealer {
        Sealer::new(&SealKey::from_bytes([byte; 32]))
    }

    fn sealed(by: &Sealer, nonces: &mut Nonces) -> Vec<u8> {
        let mut out = Vec::new();
        by.seal(nonces, Purpose::PaidFields, b"owner", b"secret openid", &mut out).expect("randomness");
        out
    }

    #[test]
    fn keys_are_sixty_four_hexadecimal_digits() {
        let good = "00ff".repeat(16);
        assert!(SealKey::from_hex(&format!(" {good}\n")).is_ok());
        for bad in ["", "00", &good[1..], &format!("{good}00"), &good.replace('f', "g"), &"é".repeat(32)] {
            assert!(SealKey::from_hex(bad).is_err(), "{bad:?}");
        }
        assert_eq!(format!("{:?}", SealKey::from_bytes([7; 32])), "SealKey(…)");
    }

    #[test]
    fn a_sealed_value_opens_only_where_it_belongs() {
        let _covers = covers::covers(&["OP-09"]);
        let (ours, mut nonces) = (sealer(1), Nonces::new());
        let value = sealed(&ours, &mut nonces);
        let open = |by: &Sealer, purpose, owner: &[u8], value: &[u8]| {
            by.open(purpose, owner, value).map(|plain| plain.to_vec()).ok()
        };
        assert_eq!(open(&ours, Purpose::PaidFields, b"owner", &value), Some(b"secret openid".to_vec()));
        assert_eq!(open(&ours, Purpose::PaidFields, b"other", &value), None);
        assert_eq!(open(&ours, Purpose::SigningKey, b"owner", &value), None);
        assert_eq!(open(&sealer(2), Purpose::PaidFields, b"owner", &value), None);
        for at in 0..value.len() {
            let mut flipped = value.clone();
            flipped[at] ^= 1;
            assert_eq!(open(&ours, Purpose::PaidFields, b"owner", &flipped), None, "byte {at}");
            assert_eq!(open(&ours, Purpose::PaidFields, b"owner", &value[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn no_nonce_comes_twice() {
        let (ours, mut nonces) = (sealer(1), Nonces::new());
        let all: std::collections::BTreeSet<_> =
            (0..1_000).map(|_| sealed(&ours, &mut nonces)[1..13].to_vec()).collect();
        assert_eq!(all.len(), 1_000);
    }

    #[test]
    fn checksums_and_key_checks_depend_on_the_key() {
        let (ours, other) = (sealer(1), sealer(2));
        assert!(ours.checks(b"row", &ours.checksum(b"row")));
        assert!(!ours.checks(b"raw", &ours.checksum(b"row")));
        assert!(!other.checks(b"row", &ours.checksum(b"row")));
        assert!(!ours.checks(b"row", &ours.checksum(b"row")[..15]));
        assert_ne!(ours.key_check(b"id"), other.key_check(b"id"));
        assert_ne!(ours.key_check(b"id"), ours.key_check(b"di"));
    }
}
