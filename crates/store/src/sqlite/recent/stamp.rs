//! The two ends of a frame of recent records, each a proof by itself: which store, which commit, how much of it.

use memchr::memmem;

use super::super::tally::StoreId;
use crate::seal::{CHECKSUM_LEN, Sealer};

/// Bytes of a stamp: mark, store, two numbers, two sizes, checksum.
pub(in super::super) const LEN: usize = 8 + 16 + 2 * 8 + 2 * 4 + CHECKSUM_LEN;
/// What both marks begin with: a file is searched for it.
const MAGIC: [u8; 7] = *b"hufuREC";

/// Which end of a frame a stamp stands at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum End {
    /// In front of the rows; also how the store and the mark remember a commit.
    Head,
    /// Behind them.
    Tail,
}

/// One durable commit of payments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Stamp {
    /// Of which store.
    pub(in super::super) store: StoreId,
    /// Commits of payments since the creation of the store, this one included.
    pub(in super::super) commit: u64,
    /// Who wrote it.
    pub(in super::super) fence: u64,
    /// Rows in it.
    pub(in super::super) rows: u32,
    /// Bytes of them.
    pub(in super::super) bytes: u32,
}

impl Stamp {
    pub(in super::super) fn encode(&self, end: End, sealer: &Sealer) -> [u8; LEN] {
        let mut out = [0; LEN];
        let mut rest = out.as_mut_slice();
        let mut put = |bytes: &[u8]| {
            if let Some((to, behind)) = std::mem::take(&mut rest).split_at_mut_checked(bytes.len()) {
                to.copy_from_slice(bytes);
                rest = behind;
            }
        };
        put(&MAGIC);
        put(&[end as u8]);
        put(&self.store);
        put(&self.commit.to_le_bytes());
        put(&self.fence.to_le_bytes());
        put(&self.rows.to_le_bytes());
        put(&self.bytes.to_le_bytes());
        let (covered, checksum) = out.split_at_mut(LEN - CHECKSUM_LEN);
        checksum.copy_from_slice(&sealer.checksum(covered));
        out
    }

    /// The stamp that `bytes` begin with, and its end; `None` unless it was written under this key and nothing has
    /// changed.
    pub(in super::super) fn decode(bytes: &[u8], sealer: &Sealer) -> Option<(Self, End)> {
        let (covered, rest) = bytes.split_first_chunk::<{ LEN - CHECKSUM_LEN }>()?;
        let rest_of_magic = covered.strip_prefix(&MAGIC)?;
        if !sealer.checks(covered, rest.first_chunk::<CHECKSUM_LEN>()?) {
            return None;
        }
        let (&end, rest) = rest_of_magic.split_first()?;
        let end = if end == End::Head as u8 { End::Head } else { End::Tail };
        let (store, rest) = rest.split_first_chunk()?;
        let (commit, rest) = rest.split_first_chunk()?;
        let (fence, rest) = rest.split_first_chunk()?;
        let (rows, rest) = rest.split_first_chunk()?;
        let (bytes, _) = rest.split_first_chunk()?;
        let stamp = Self {
            store: *store,
            commit: u64::from_le_bytes(*commit),
            fence: u64::from_le_bytes(*fence),
            rows: u32::from_le_bytes(*rows),
            bytes: u32::from_le_bytes(*bytes),
        };
        Some((stamp, end))
    }

    /// The same, of a head.
    pub(in super::super) fn head(bytes: &[u8], sealer: &Sealer) -> Option<Self> {
        Self::decode(bytes, sealer).filter(|(_, end)| *end == End::Head).map(|(stamp, _)| stamp)
    }

    /// Whether `bytes` are the beginning of a stamp, and all that is left of it.
    pub(in super::super) fn is_cut(bytes: &[u8]) -> bool {
        (1..LEN).contains(&bytes.len()) && MAGIC.iter().zip(bytes).all(|(magic, byte)| magic == byte)
    }

    /// The stamp of the newest commit anywhere in `bytes`.
    pub(in super::super) fn newest_in(bytes: &[u8], sealer: &Sealer) -> Option<Self> {
        memmem::find_iter(bytes, &MAGIC)
            .filter_map(|at| Self::decode(bytes.get(at..)?, sealer))
            .map(|(stamp, _)| stamp)
            .max_by_key(|stamp| stamp.commit)
    }
}

#[cfg(test)]
mod tests {
    use super::{End, LEN, Stamp};
    use crate::seal::{SealKey, Sealer};

    #[test]
    fn a_stamp_is_read_back_and_no_bit_of_it_may_change() {
        let sealer = |byte| Sealer::new(&SealKey::from_bytes([byte; 32]));
        let stamp = Stamp { store: [9; 16], commit: 1, fence: 2, rows: 3, bytes: u32::MAX };
        for end in [End::Head, End::Tail] {
            let bytes = stamp.encode(end, &sealer(1));
            assert_eq!(Stamp::decode(&bytes, &sealer(1)), Some((stamp, end)));
            assert_eq!(Stamp::decode(&bytes, &sealer(2)), None);
            for at in 0..LEN * 8 {
                let mut flipped = bytes;
                flipped[at / 8] ^= 1 << (at % 8);
                assert_eq!(Stamp::decode(&flipped, &sealer(1)), None, "bit {at}");
            }
            assert_eq!(Stamp::decode(&bytes[..LEN - 1], &sealer(1)), None);
        }
    }
}
