//! Seeded randomness and a mutator: the same seed bends the same bytes for ever.

/// A seeded generator (splitmix64).
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Starts from `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 if `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX);
        if bound == 0 { 0 } else { usize::try_from(self.next_u64() % bound).unwrap_or(0) }
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of `choices`, which is not empty.
    ///
    /// # Panics
    ///
    /// If there is nothing to choose from.
    pub fn pick<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len())]
    }

    /// Eight random bits.
    pub fn byte(&mut self) -> u8 {
        self.next_u64().to_le_bytes()[0]
    }
}

/// Bends `bytes` in one to eight places: bits, bytes, pieces taken out, doubled or moved, words of `dictionary`
/// put in or written over, and parts of `other`, a second input.
pub fn mutate(bytes: &mut Vec<u8>, other: &[u8], dictionary: &[&str], rng: &mut Rng) {
    for _ in 0..=rng.below(8) {
        let at = rng.below(bytes.len() + 1);
        let len = rng.below((bytes.len() - at + 1).min(32));
        match rng.below(9) {
            0 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << rng.below(8);
                }
            }
            1 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = rng.byte();
                }
            }
            2 => {
                bytes.drain(at..at + len);
            }
            3 => {
                let piece = bytes[at..at + len].to_vec();
                let to = rng.below(bytes.len() + 1);
                bytes.splice(to..to, piece);
            }
            4 => bytes.insert(at, rng.byte()),
            5 if !dictionary.is_empty() => {
                let word = rng.pick(dictionary);
                bytes.splice(at..at, word.bytes());
            }
            6 if !dictionary.is_empty() => {
                let word = rng.pick(dictionary);
                let end = (at + word.len()).min(bytes.len());
                bytes.splice(at..end, word.bytes());
            }
            7 => {
                let from = rng.below(other.len() + 1);
                let to = from + rng.below((other.len() - from + 1).min(64));
                bytes.splice(at..at + len, other[from..to].iter().copied());
            }
            _ => bytes.truncate(if rng.once_in(8) { at } else { bytes.len() }),
        }
    }
}

/// Takes structured values off the front of a fuzzer's bytes; what is not there counts as zero.
#[derive(Clone, Debug)]
pub struct Source<'b>(&'b [u8]);

impl<'b> Source<'b> {
    /// Reads from the front of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'b [u8]) -> Self {
        Self(bytes)
    }

    /// One byte.
    pub fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *byte
    }

    /// Eight bytes, little endian.
    pub fn u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        for slot in &mut bytes {
            *slot = self.byte();
        }
        u64::from_le_bytes(bytes)
    }

    /// Up to 255 bytes, by their length.
    pub fn bytes(&mut self) -> &'b [u8] {
        let len = usize::from(self.byte()).min(self.0.len());
        let (head, rest) = self.0.split_at(len);
        self.0 = rest;
        head
    }

    /// What is left.
    #[must_use]
    pub const fn rest(&self) -> &'b [u8] {
        self.0
    }
}
