//! What the write-ahead log holds, read before SQLite reads it.
//!
//! SQLite takes a log up to the first frame that does not fit and stays silent about the rest: after a power cut
//! that is a commit which was never acknowledged, after a flipped bit it may be all that the day has brought. Two
//! things tell them apart. A commit is synced before the next one begins, so the log can end in at most *one*
//! commit that is not whole; and each commit brings its number into the log ([`super::tally`]). A number in the log
//! that is two or more above what SQLite reaches is therefore proof of damage. One above it, the log alone
//! does not say: it is a commit that the power cut, or the last one, damaged. [`super::mark`] knows most of these.
//!
//! Source: SQLite, "WAL-mode File Format", and faults-and-invariants DB-10.

use std::io::{self, Read};

use super::tally::{self, Tally};
use crate::seal::Sealer;

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// Assumed where the header does not say.
const PAGE: usize = 4_096;

/// What is in a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Log {
    /// Frames of whole commits: what SQLite takes.
    pub(super) frames: u64,
    /// Frames of this round of the log behind them, damaged or of a commit that is not whole.
    pub(super) dropped: u64,
    /// The newest tally anywhere in the file.
    pub(super) newest: Option<Tally>,
}

/// Reads a log to its end.
pub(super) fn scan(mut file: impl Read, sealer: &Sealer) -> io::Result<Log> {
    let mut log = Log::default();
    let mut header = Vec::new();
    file.by_ref().take(HEADER as u64).read_to_end(&mut header)?;
    let mut chain = Chain::begin(&header);
    let size = FRAME_HEADER.saturating_add(chain.as_ref().map_or(PAGE, |chain| chain.page));
    // The end of the chunk before stays in front: a tally may lie across.
    let mut window = Vec::new();
    let mut since_commit = 0_u64;
    loop {
        let kept = window.len().min(tally::LEN);
        window.drain(..window.len().saturating_sub(kept));
        let read = file.by_ref().take(u64::try_from(size).unwrap_or(u64::MAX)).read_to_end(&mut window)?;
        if read == 0 {
            break;
        }
        let newest = Tally::newest_in(&window, sealer);
        log.newest = log.newest.into_iter().chain(newest).max_by_key(|tally| tally.commits);
        let (Some(chain), Some(frame)) = (&mut chain, window.get(kept..)) else { continue };
        match chain.take(frame) {
            Fit::Commit => {
                log.frames = log.frames.saturating_add(since_commit).saturating_add(1);
                since_commit = 0;
            }
            Fit::Within => since_commit = since_commit.saturating_add(1),
            Fit::Broken => log.dropped = log.dropped.saturating_add(1),
            Fit::Old => {}
        }
    }
    log.dropped = log.dropped.saturating_add(since_commit);
    Ok(log)
}

/// How a frame fits behind those before it.
enum Fit {
    /// It does, and ends a commit.
    Commit,
    /// It does.
    Within,
    /// It is of this round, and does not; or stands behind such a one.
    Broken,
    /// It is of an earlier round.
    Old,
}

/// The running checksum of a log.
struct Chain {
    page: usize,
    salts: [u8; 8],
    big_endian: bool,
    sum: (u32, u32),
    whole: bool,
}

impl Chain {
    /// `None` if the header is none.
    fn begin(header: &[u8]) -> Option<Self> {
        let word = |at: usize| header.get(at..)?.first_chunk().map(|word| u32::from_be_bytes(*word));
        let magic = word(0)?;
        let page = usize::try_from(word(8)?).ok()?;
        if !(512..=65_536).contains(&page) || !page.is_power_of_two() || magic & 0xffff_fffe != 0x377f_0682 {
            return None;
        }
        let big_endian = magic & 1 == 1;
        let sum = checksum((0, 0), header.get(..24)?, big_endian);
        let salts = *header.get(16..)?.first_chunk()?;
        Some(Self { page, salts, big_endian, sum, whole: (word(24)?, word(28)?) == sum })
    }

    fn take(&mut self, frame: &[u8]) -> Fit {
        let word = |at: usize| {
            frame.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |word| u32::from_be_bytes(*word))
        };
        if frame.get(8..16) != Some(self.salts.as_slice()) {
            // Either of an earlier round, all of which is in the database; or its salt is what was hurt.
            self.whole = false;
            return Fit::Old;
        }
        if self.whole
            && let (Some(head), Some(page)) = (frame.get(..8), frame.get(FRAME_HEADER..))
            && page.len() == self.page
        {
            let sum = checksum(checksum(self.sum, head, self.big_endian), page, self.big_endian);
            if sum == (word(16), word(20)) && word(0) != 0 {
                self.sum = sum;
                return if word(4) != 0 { Fit::Commit } else { Fit::Within };
            }
        }
        self.whole = false;
        Fit::Broken
    }
}

/// SQLite's checksum over pairs of words, going on from `sum`.
fn checksum(sum: (u32, u32), bytes: &[u8], big_endian: bool) -> (u32, u32) {
    let word =
        |bytes: [u8; 4]| if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
    bytes.as_chunks::<8>().0.iter().fold(sum, |(first, second), &[a, b, c, d, e, f, g, h]| {
        let first = first.wrapping_add(word([a, b, c, d])).wrapping_add(second);
        let second = second.wrapping_add(word([e, f, g, h])).wrapping_add(first);
        (first, second)
    })
}
