//! Seeded randomness, frozen for ever: splitmix64. Its numbers are part of every recorded seed.

use compact_str::CompactString;

/// The longest text that [`Rng::alphanumeric`] makes: no field of the wallet is longer.
const ALPHANUMERIC_MAX: usize = 32;

/// A seeded generator (splitmix64).
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Starts from `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Starts from `seed` and a text, so that two texts draw independently of each other's order.
    #[must_use]
    pub fn keyed(seed: u64, text: &str) -> Self {
        Self::keyed_by(seed, text.bytes())
    }

    /// As [`Rng::keyed`], for a text in pieces.
    pub(crate) fn keyed_by(seed: u64, text: impl Iterator<Item = u8>) -> Self {
        Self(text.fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        }))
    }

    /// The next 64 bits.
    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 if `bound` is 0. The bias of the remainder is below 2⁻³² for what is asked here.
    pub const fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next_u64() % bound }
    }

    /// `len` characters of `0-9 a-z A-Z`, at most [`ALPHANUMERIC_MAX`].
    pub(crate) fn alphanumeric(&mut self, len: usize) -> CompactString {
        const SET: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        let mut text = [b'0'; ALPHANUMERIC_MAX];
        let text = text.get_mut(..len).unwrap_or_default();
        for place in text.iter_mut() {
            let index = usize::try_from(self.below(62)).unwrap_or_default();
            *place = SET.get(index).copied().unwrap_or(b'0');
        }
        CompactString::from_utf8_lossy(text)
    }
}

#[cfg(test)]
mod tests {
    use super::Rng;

    #[test]
    fn the_numbers_of_a_seed_never_change() {
        let mut rng = Rng::new(0);
        let drawn: Vec<u64> = (0..3).map(|_| rng.next_u64()).collect();
        // The published first outputs of splitmix64 from 0.
        assert_eq!(drawn, [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f]);
        assert_ne!(Rng::keyed(1, "a").next_u64(), Rng::keyed(1, "b").next_u64());
        assert_eq!(Rng::new(7).below(0), 0);
    }
}
