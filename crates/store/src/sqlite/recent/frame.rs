//! How a commit lies in a file of recent records, and how such files are read.
//!
//! A frame is a stamp, the rows, a digest over the stamp and the rows' checksums, and a stamp again. A row is what
//! its own checksum covers ([`super::super::row`]): so it goes into the database as it lies here, and nothing that
//! names a payer is readable here either. Frames of one file follow each other without a gap, each commit one
//! higher than the one before; what stands behind the last one that does is of an earlier use of the file, or of a
//! commit that never became durable.

use rusqlite::types::ValueRef;

use super::super::row::{self, LEN};
use super::stamp::{self, End, Stamp};
use crate::seal::{CHECKSUM_LEN, Sealer};

/// A frame in the making; one buffer for all commits.
#[derive(Default)]
pub(in super::super) struct Frame {
    bytes: Vec<u8>,
    /// What the digest is taken over.
    digested: Vec<u8>,
    rows: u32,
}

impl Frame {
    pub(in super::super) fn begin(&mut self) {
        self.bytes.clear();
        self.bytes.resize(stamp::LEN, 0);
        self.digested.clear();
        self.digested.resize(stamp::LEN, 0);
        self.rows = 0;
    }

    pub(in super::super) fn push(&mut self, row: &row::Row<'_>) {
        let length = u32::try_from(row.canonical.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(row.canonical);
        self.bytes.extend_from_slice(&row.checksum);
        self.digested.extend_from_slice(&row.checksum);
        self.rows = self.rows.saturating_add(1);
    }

    /// The whole frame, and the stamp that tells of it.
    pub(in super::super) fn finish(&mut self, stamp: Stamp, sealer: &Sealer) -> (&[u8], [u8; stamp::LEN]) {
        let bytes = u32::try_from(self.bytes.len().saturating_sub(stamp::LEN)).unwrap_or(u32::MAX);
        let stamp = Stamp { rows: self.rows, bytes, ..stamp };
        let head = stamp.encode(End::Head, sealer);
        for buffer in [&mut self.bytes, &mut self.digested] {
            if let Some(to) = buffer.get_mut(..stamp::LEN) {
                to.copy_from_slice(&head);
            }
        }
        self.bytes.extend_from_slice(&sealer.checksum(&self.digested));
        self.bytes.extend_from_slice(&stamp.encode(End::Tail, sealer));
        (&self.bytes, head)
    }
}

/// A commit that was read.
pub(in super::super) struct Commit<'a> {
    pub(in super::super) stamp: Stamp,
    pub(in super::super) rows: Vec<Sound<'a>>,
}

/// A row as it lies in the file, its checksum found right: there may be hundreds of thousands, so its values are read when
/// they are wanted.
#[derive(Clone, Copy)]
pub(in super::super) struct Sound<'a> {
    canonical: &'a [u8],
    checksum: &'a [u8; CHECKSUM_LEN],
}

impl<'a> Sound<'a> {
    /// Whose payment it is: the merchant, and the number.
    pub(in super::super) fn key(&self) -> (i64, &'a [u8]) {
        let Some(([merchant, number], _)) = row::first_values(self.canonical) else { return (0, &[]) };
        (merchant.as_i64().unwrap_or_default(), number.as_bytes().unwrap_or_default())
    }

    /// Its values; never `None` for what was read from a file, which was looked at before.
    pub(in super::super) fn row(&self) -> Option<Row<'a>> {
        Some(Row { values: row::values_of(self.canonical)?, checksum: *self.checksum })
    }
}

/// The values of a row.
pub(in super::super) struct Row<'a> {
    pub(in super::super) values: [ValueRef<'a>; LEN],
    pub(in super::super) checksum: [u8; CHECKSUM_LEN],
}

/// What a file holds.
pub(in super::super) struct Contents<'a> {
    /// Whole commits from its beginning.
    pub(in super::super) commits: Vec<Commit<'a>>,
    /// Where they end.
    pub(in super::super) end: usize,
}

/// Reads whole commits from the beginning of a file.
pub(in super::super) fn read<'a>(file: &'a [u8], sealer: &Sealer) -> Contents<'a> {
    let mut contents = Contents { commits: Vec::new(), end: 0 };
    let mut last: Option<u64> = None;
    while let Some((commit, length)) = file.get(contents.end..).and_then(|rest| take(rest, last, sealer)) {
        last = Some(commit.stamp.commit);
        contents.end = contents.end.saturating_add(length);
        contents.commits.push(commit);
    }
    contents
}

/// The commit that `bytes` begin with, if it is whole and the one behind `last`; and its length.
fn take<'a>(bytes: &'a [u8], last: Option<u64>, sealer: &Sealer) -> Option<(Commit<'a>, usize)> {
    let stamp = Stamp::head(bytes, sealer)?;
    if last.is_some_and(|last| stamp.commit != last.saturating_add(1)) {
        return None;
    }
    let size = usize::try_from(stamp.bytes).ok()?;
    let (head, rest) = bytes.split_at_checked(stamp::LEN)?;
    let (mut payload, rest) = rest.split_at_checked(size)?;
    let (digest, rest) = rest.split_first_chunk::<CHECKSUM_LEN>()?;
    if Stamp::decode(rest, sealer)? != (stamp, End::Tail) {
        return None;
    }
    let mut digested = head.to_vec();
    let mut rows = Vec::with_capacity(usize::try_from(stamp.rows).ok()?.min(size));
    while let Some((length, behind)) = payload.split_first_chunk() {
        let (canonical, behind) =
            behind.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        let (checksum, behind) = behind.split_first_chunk::<CHECKSUM_LEN>()?;
        if !sealer.checks(canonical, checksum) {
            return None;
        }
        digested.extend_from_slice(checksum);
        let row = Sound { canonical, checksum };
        row.row()?;
        rows.push(row);
        payload = behind;
    }
    if !payload.is_empty() || !sealer.checks(&digested, digest) {
        return None;
    }
    let length = size.saturating_add(2 * stamp::LEN).saturating_add(CHECKSUM_LEN);
    Some((Commit { stamp, rows }, length))
}
