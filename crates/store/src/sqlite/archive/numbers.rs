//! Which payments an archive certainly does not have: a Bloom filter, made with the archive and kept in it, so that a
//! new number costs one look at memory for each archive and none at a disk.
//!
//! Twelve bits a payment, all probes of a payment in one cache line; wrong for fewer than one number in a hundred. It
//! never decides alone: a number that it knows is looked up.

use state_machine::OrderKey;

use crate::seal::Sealer;

const BITS_PER_PAYMENT: u64 = 12;
/// Words of a block: one cache line.
const BLOCK: usize = 8;
const BLOCK_BITS: u64 = 512;
const PROBES: u32 = 6;

/// What stands for a number here; keyed, so that nobody can make numbers that are all taken for known.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Print {
    block: u64,
    probes: u64,
}

impl Print {
    pub(in super::super) fn of(key: &OrderKey, sealer: &Sealer) -> Self {
        let mut bytes = [0_u8; 64];
        let merchant = key.merchant.0.to_le_bytes();
        let number = key.number.as_str().as_bytes();
        let parts = b"number".iter().chain(&merchant).chain(number);
        let mut length = 0_usize;
        for (to, from) in bytes.iter_mut().zip(parts) {
            *to = *from;
            length = length.saturating_add(1);
        }
        let sum = sealer.checksum(bytes.get(..length).unwrap_or_default());
        let half = |bytes: Option<&[u8; 8]>| bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes));
        Self { block: half(sum.first_chunk()), probes: half(sum.last_chunk()) }
    }
}

#[derive(Debug)]
pub(in super::super) struct Numbers {
    words: Box<[u64]>,
}

impl Numbers {
    /// Of so many payments.
    pub(super) fn of(prints: &[Print]) -> Self {
        let payments = u64::try_from(prints.len()).unwrap_or(u64::MAX);
        let blocks = payments.saturating_mul(BITS_PER_PAYMENT).div_ceil(BLOCK_BITS).max(1);
        let words = usize::try_from(blocks).unwrap_or(1).saturating_mul(BLOCK);
        let mut numbers = Self { words: vec![0; words].into_boxed_slice() };
        for print in prints {
            let at = numbers.block(*print);
            let Some(block) = numbers.words.get_mut(at..).and_then(<[u64]>::first_chunk_mut::<BLOCK>) else {
                continue;
            };
            for (word, bit) in probes(*print) {
                if let Some(word) = block.get_mut(word) {
                    *word |= bit;
                }
            }
        }
        numbers
    }

    /// Where the block of a payment begins.
    fn block(&self, print: Print) -> usize {
        let blocks = self.words.len() / BLOCK;
        let high = u128::from(print.block).saturating_mul(u128::try_from(blocks).unwrap_or(1)) >> 64;
        usize::try_from(high).unwrap_or(0).saturating_mul(BLOCK)
    }

    /// Whether the payment may be there.
    pub(in super::super) fn may_have(&self, print: Print) -> bool {
        let block = self.words.get(self.block(print)..).and_then(<[u64]>::first_chunk::<BLOCK>);
        block.is_none_or(|block| {
            probes(print).all(|(word, bit)| block.get(word).is_none_or(|word| word & bit != 0))
        })
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// What [`Numbers::to_bytes`] gave.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<8>();
        let words: Box<[u64]> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        (rest.is_empty() && !words.is_empty() && words.len().is_multiple_of(BLOCK)).then_some(Self { words })
    }
}

/// The bits of a payment in its block.
fn probes(print: Print) -> impl Iterator<Item = (usize, u64)> {
    (0..PROBES).map(move |probe| {
        let bit = (print.probes >> probe.saturating_mul(9)) & (BLOCK_BITS - 1);
        (usize::try_from(bit / 64).unwrap_or(0), 1_u64.rotate_left(u32::try_from(bit % 64).unwrap_or(0)))
    })
}

#[cfg(test)]
mod tests {
    use state_machine::{MerchantId, OrderKey};

    use super::{Numbers, Print};
    use crate::seal::{SealKey, Sealer};

    #[test]
    fn what_is_there_is_never_denied_and_little_else_is_looked_up() {
        let sealer = Sealer::new(&SealKey::from_bytes([7; 32]));
        let print = |at: u32| {
            let key = OrderKey {
                merchant: MerchantId(at % 5),
                number: format!("order-{at:08}").parse().expect("a number"),
            };
            Print::of(&key, &sealer)
        };
        let prints: Vec<Print> = (0..20_000).map(print).collect();
        let made = Numbers::of(&prints);
        let read = Numbers::from_bytes(&made.to_bytes()).expect("whole");
        assert!(prints.iter().all(|print| made.may_have(*print) && read.may_have(*print)));
        let doubtful = (20_000..60_000).filter(|at| read.may_have(print(*at))).count();
        assert!(doubtful < 400, "{doubtful} of 40000");
        assert!(!Numbers::of(&[]).may_have(print(1)));
        assert!(Numbers::from_bytes(&made.to_bytes()[..made.to_bytes().len() - 8]).is_none());
        assert!(Numbers::from_bytes(&[]).is_none());
    }
}
