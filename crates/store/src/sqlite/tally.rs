//! What the store says of itself in every commit: how many there were, how many rows, and keyed sums over them.
//!
//! One row of one page, written with each commit. It makes damage speak that no row's own checksum can show: a row
//! that vanished, one that came back as it was earlier, and, since the number of the commit lies in the log with
//! each of them, commits that the log holds and SQLite does not reach any more. A sum adds up the checksums of
//! rows, which are keyed and cover the order's number and version; so it changes with any row that comes, goes or
//! changes, and nobody without the master key can make a row that fits.

use memchr::memmem;
use rusqlite::{Connection, params};

use crate::contract::Fence;
use crate::seal::{CHECKSUM_LEN, Sealer};

/// Marks the place: the log is searched for it.
const MAGIC: [u8; 8] = *b"hufuTLY1";
/// Bytes of a tally: mark, store, five numbers, two sums, checksum.
pub(super) const LEN: usize = 8 + 16 + 4 * 8 + 2 * 16 + CHECKSUM_LEN;

/// Which store a tally belongs to: random, from its creation.
pub(super) type StoreId = [u8; 16];

/// The checksum of a row, as it is added up.
pub(super) type Share = u128;

/// The share of a row with this checksum; `None` if it has none.
pub(super) fn share(checksum: &[u8]) -> Option<Share> {
    checksum.try_into().ok().map(u128::from_le_bytes)
}

/// The state of a store after a commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Of which store.
    pub(super) store: StoreId,
    /// Commits since its creation, this one included.
    pub(super) commits: u64,
    /// The fence of the last opening.
    pub(super) fence: u64,
    /// Rows of payments that were ever written, those that only an archive has included.
    pub(super) rows: u64,
    /// Those that are open.
    pub(super) open: u64,
    /// Sum over all rows that are there, and over all events and archives.
    pub(super) sum: Share,
    /// Sum over the open rows.
    pub(super) open_sum: Share,
}

impl Tally {
    pub(super) fn encode(&self, sealer: &Sealer) -> [u8; LEN] {
        let mut bytes = Vec::with_capacity(LEN);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&self.store);
        for number in [self.commits, self.fence, self.rows, self.open] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for sum in [self.sum, self.open_sum] {
            bytes.extend_from_slice(&sum.to_le_bytes());
        }
        let checksum = sealer.checksum(&bytes);
        bytes.extend_from_slice(&checksum);
        bytes.try_into().unwrap_or([0; LEN])
    }

    /// The tally that `bytes` begin with; `None` unless it was written under this key and nothing has changed.
    pub(super) fn decode(bytes: &[u8], sealer: &Sealer) -> Option<Self> {
        let (tally, rest) = bytes.split_first_chunk::<{ LEN - CHECKSUM_LEN }>()?;
        let checksum = rest.first_chunk::<CHECKSUM_LEN>()?;
        if !tally.starts_with(&MAGIC) || !sealer.checks(tally, checksum) {
            return None;
        }
        let (store, rest) = tally.get(MAGIC.len()..)?.split_first_chunk()?;
        let mut rest = rest;
        let mut number = || {
            let (number, behind) = rest.split_first_chunk()?;
            rest = behind;
            Some(u64::from_le_bytes(*number))
        };
        let (commits, fence, rows, open) = (number()?, number()?, number()?, number()?);
        let (sum, rest) = rest.split_first_chunk()?;
        Some(Self {
            store: *store,
            commits,
            fence,
            rows,
            open,
            sum: u128::from_le_bytes(*sum),
            open_sum: u128::from_le_bytes(*rest.first_chunk()?),
        })
    }

    /// The newest tally anywhere in `bytes`.
    pub(super) fn newest_in(bytes: &[u8], sealer: &Sealer) -> Option<Self> {
        memmem::find_iter(bytes, &MAGIC)
            .filter_map(|at| Self::decode(bytes.get(at..)?, sealer))
            .max_by_key(|tally| tally.commits)
    }

    /// The tally that the connection sees, and the newest fence: another writer's, should there be one.
    pub(super) fn load(
        conn: &Connection,
        sealer: &Sealer,
    ) -> rusqlite::Result<(Fence, Result<Self, Unsound>)> {
        let mut statement = conn.prepare_cached("SELECT fence, tally FROM store WHERE id = 1")?;
        statement.query_row([], |row| {
            let fence = row.get::<_, i64>(0)?.cast_unsigned();
            let bytes = row.get_ref(1)?.as_blob().unwrap_or_default();
            let tally = Self::decode(bytes, sealer).filter(|tally| tally.fence == fence).ok_or(Unsound);
            Ok((Fence(fence), tally))
        })
    }

    /// Counts one more commit and stores the tally, in the transaction under way. Returns what was stored.
    pub(super) fn store(&mut self, conn: &Connection, sealer: &Sealer) -> rusqlite::Result<[u8; LEN]> {
        self.commits = self.commits.saturating_add(1);
        let bytes = self.encode(sealer);
        conn.prepare_cached("UPDATE store SET fence = ?1, tally = ?2 WHERE id = 1")?
            .execute(params![self.fence.cast_signed(), bytes])?;
        Ok(bytes)
    }

    /// A row of another table was added: an event, an archive.
    pub(super) const fn add(&mut self, row: Share) {
        self.sum = self.sum.wrapping_add(row);
    }

    /// A row was taken away, and its number is not given again: one of another table, or a closed payment that an archive
    /// has.
    pub(super) const fn take(&mut self, row: Share) {
        self.sum = self.sum.wrapping_sub(row);
    }

    /// A payment is in the database again, under the number that it had.
    pub(super) const fn bring_back(&mut self, (share, open): (Share, bool)) {
        self.sum = self.sum.wrapping_add(share);
        if open {
            self.open = self.open.saturating_add(1);
            self.open_sum = self.open_sum.wrapping_add(share);
        }
    }

    /// A row of the table changed from `before` to `after`, each with whether it is open; `None`: there was none.
    pub(super) const fn change(&mut self, before: Option<(Share, bool)>, after: (Share, bool)) {
        match before {
            None => self.rows = self.rows.saturating_add(1),
            Some((share, open)) => {
                self.sum = self.sum.wrapping_sub(share);
                if open {
                    self.open = self.open.saturating_sub(1);
                    self.open_sum = self.open_sum.wrapping_sub(share);
                }
            }
        }
        let (share, open) = after;
        self.sum = self.sum.wrapping_add(share);
        if open {
            self.open = self.open.saturating_add(1);
            self.open_sum = self.open_sum.wrapping_add(share);
        }
    }
}

/// The row that holds the tally was changed, or was written under another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store's row about itself is damaged")]
pub(super) struct Unsound;

/// Counts a commit that changes no payment, in the transaction under way.
pub(super) fn count(conn: &Connection, sealer: &Sealer) -> rusqlite::Result<[u8; LEN]> {
    let mut tally = Tally::load(conn, sealer)?
        .1
        .map_err(|unsound| rusqlite::Error::ToSqlConversionFailure(Box::new(unsound)))?;
    tally.store(conn, sealer)
}

#[cfg(test)]
mod tests {
    use super::{LEN, Tally};
    use crate::seal::{SealKey, Sealer};

    fn sealer(byte: u8) -> Sealer {
        Sealer::new(&SealKey::from_bytes([byte; 32]))
    }

    #[test]
    fn a_tally_is_read_back_and_no_bit_of_it_may_change() {
        let tally =
            Tally { store: [9; 16], commits: 1, fence: 2, rows: 3, open: 4, sum: 5, open_sum: u128::MAX };
        let bytes = tally.encode(&sealer(1));
        assert_eq!(Tally::decode(&bytes, &sealer(1)), Some(tally));
        assert_eq!(Tally::decode(&bytes, &sealer(2)), None);
        for at in 0..LEN * 8 {
            let mut flipped = bytes;
            flipped[at / 8] ^= 1 << (at % 8);
            assert_eq!(Tally::decode(&flipped, &sealer(1)), None, "bit {at}");
        }
        assert_eq!(Tally::decode(&bytes[..LEN - 1], &sealer(1)), None);
    }

    #[test]
    fn the_newest_of_a_log_is_found_wherever_it_is() {
        let mut log = vec![7_u8; 1_000];
        for commits in [3_u64, 9, 4] {
            log.extend_from_slice(&Tally { commits, ..Tally::default() }.encode(&sealer(1)));
            log.extend_from_slice(b"hufuTLY1 and something else");
        }
        assert_eq!(Tally::newest_in(&log, &sealer(1)).map(|tally| tally.commits), Some(9));
        assert_eq!(Tally::newest_in(&log, &sealer(2)), None);
    }

    #[test]
    fn sums_follow_what_changes() {
        let mut tally = Tally::default();
        tally.change(None, (10, true));
        tally.change(None, (20, true));
        tally.change(Some((10, true)), (11, false));
        assert_eq!((tally.rows, tally.open, tally.sum, tally.open_sum), (2, 1, 31, 20));
        tally.change(Some((20, true)), (u128::MAX, true));
        assert_eq!((tally.rows, tally.open, tally.sum, tally.open_sum), (2, 1, 10, u128::MAX));
    }
}
