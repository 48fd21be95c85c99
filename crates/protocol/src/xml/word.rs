//! Eight bytes at a time: values and names are so short that a call of a searcher costs more than the search.

/// The lowest bit of each byte.
const ONES: u64 = u64::from_le_bytes([0x01; 8]);
/// The highest bit of each byte.
const TOPS: u64 = u64::from_le_bytes([0x80; 8]);
/// What tells a small letter from a capital one.
const SMALL: u64 = u64::from_le_bytes([0x20; 8]);

/// Eight bytes, the first of them lowest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Word(u64);

/// Some of the bytes of a word, as their highest bits. Only the first of them may be relied on.
#[derive(Clone, Copy)]
pub(super) struct Marks(u64);

impl Word {
    pub(super) const BYTES: usize = 8;

    pub(super) const fn new(bytes: [u8; 8]) -> Self {
        Self(u64::from_le_bytes(bytes))
    }

    /// The eight bytes from `at` on, if there are as many.
    #[inline]
    pub(super) fn at(bytes: &[u8], at: usize) -> Option<Self> {
        Some(Self::new(*bytes.get(at..)?.first_chunk()?))
    }

    /// As many of the bytes from `at` on as there are, and 0 for the others.
    pub(super) fn padded(bytes: &[u8], at: usize) -> Self {
        let mut padded = [0; 8];
        for (to, from) in padded.iter_mut().zip(bytes.get(at..).unwrap_or_default()) {
            *to = *from;
        }
        Self::new(padded)
    }

    /// The bytes before the first mark, and 0 for the others.
    #[inline]
    pub(super) const fn before(self, Marks(marks): Marks) -> Self {
        Self(self.0 & ((marks & marks.wrapping_neg()) >> 7).wrapping_sub(1))
    }

    /// Whether both are the same up to and with the first mark.
    #[inline]
    pub(super) const fn same_through(self, other: Self, Marks(marks): Marks) -> bool {
        (self.0 ^ other.0) & ((marks & marks.wrapping_neg()) << 1).wrapping_sub(1) == 0
    }

    /// The bits of this word, the same for a letter in either case.
    #[inline]
    pub(super) const fn caseless(self) -> u64 {
        self.0 | SMALL
    }

    /// Where `byte` stands.
    #[inline]
    pub(super) fn marks(self, byte: u8) -> Marks {
        zeros(self.0 ^ ONES.wrapping_mul(u64::from(byte)))
    }

    /// Where `<`, `>` or `&` stands.
    #[inline]
    pub(super) fn specials(self) -> Marks {
        // `<` and `>` differ in one bit.
        let Marks(angles) = Self(self.0 | ONES << 1).marks(b'>');
        let Marks(ampersands) = self.marks(b'&');
        Marks(angles | ampersands)
    }

    /// Where something else stands than an ASCII letter, a digit or `_`. What it is told of control characters is not
    /// right: the document has none but white space.
    #[inline]
    pub(super) fn not_of_name(self) -> Marks {
        // Sums of two numbers of seven bits: nothing is carried to the next byte.
        let from = |bits: u64, first: u8| {
            bits.wrapping_add(ONES.wrapping_mul(u64::from(0x80_u8.wrapping_sub(first))))
        };
        let (bits, small) = (self.0 & !TOPS, (self.0 | SMALL) & !TOPS);
        let letters = from(small, b'a') & !from(small, b'z' + 1);
        let digits = from(bits, b'0') & !from(bits, b'9' + 1);
        let lines = !from(bits ^ ONES.wrapping_mul(u64::from(b'_')), 1);
        Marks(((letters | digits | lines) & !self.0 & TOPS) ^ TOPS)
    }
}

impl Marks {
    /// The first of them; `None` if there is none.
    #[inline]
    pub(super) const fn first(self) -> Option<usize> {
        // Seven bits are below the mark of the first byte.
        if self.0 == 0 { None } else { Some((self.0.trailing_zeros() >> 3) as usize) }
    }

    /// Whether the first of them is also the first of others, which there are.
    #[inline]
    pub(super) const fn start_with(self, Self(others): Self) -> bool {
        (self.0 ^ others) & (others ^ others.wrapping_sub(1)) == 0
    }
}

/// Which bytes are 0: exact up to the first.
#[inline]
const fn zeros(bits: u64) -> Marks {
    Marks(bits.wrapping_sub(ONES) & !bits & TOPS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_is_marked_as_what_it_is() {
        for byte in (b' '..=u8::MAX).chain(*b"\t\n\r") {
            for at in 0..8 {
                for other in *b"a]\xE9" {
                    let mut bytes = [other; 8];
                    bytes[at] = byte;
                    let word = Word::new(bytes);
                    let first = |find: &dyn Fn(u8) -> bool| bytes.iter().position(|byte| find(*byte));
                    assert_eq!(word.marks(b']').first(), first(&|byte| byte == b']'), "{bytes:?}");
                    assert_eq!(word.specials().first(), first(&|byte| b"<>&".contains(&byte)), "{bytes:?}");
                    let is_other = |byte: u8| !(byte.is_ascii_alphanumeric() || byte == b'_');
                    assert_eq!(word.not_of_name().first(), first(&is_other), "{bytes:?}");
                }
            }
        }
    }

    #[test]
    fn a_part_of_a_word_is_filled_with_zeros() {
        for end in 0..8 {
            let mut bytes = *b"sub_mch_";
            bytes[end] = b'>';
            let word = Word::new(bytes);
            let marks = word.not_of_name();
            assert!(word.before(marks) == Word::padded(&bytes[..end], 0), "{end}");
            for other in 0..8 {
                let mut bytes = bytes;
                bytes[other] = b'-';
                assert_eq!(word.same_through(Word::new(bytes), marks), other > end, "{end} {other}");
            }
        }
        let whole = Word::new(*b"sub_mch_");
        assert!(whole.before(whole.not_of_name()) == whole);
        assert!(whole.same_through(whole, whole.not_of_name()));
        assert!(Word::at(b"1234567", 0).is_none() && Word::at(b"12345678", 1).is_none());
        assert!(Word::at(b"x12345678", 1) == Some(Word::new(*b"12345678")));
    }
}
