//! Where HTTP/2 frames begin and end, in front of the HTTP library: what a connection is in the middle of, and how many
//! frames asked for nothing.
//!
//! The library reads frames strictly; what it does not know is time, and that a peer may keep it busy for ever with
//! frames that cost the peer nothing. Source: RFC 9113, sections 4.1, 6 and 10.5; CVE-2023-44487, CVE-2019-9512 to 9518,
//! CVE-2024-27316.

use thiserror::Error;

use super::framing::Phase;

/// What every connection begins with. Source: RFC 9113, section 3.4.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD_BYTES: usize = 9;

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const CONTINUATION: u8 = 0x9;

const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// So many frames that ask for nothing come with each request: windows, settings, acknowledgements.
const IDLE_FRAMES_EACH: u32 = 4;
/// As many of them as may be saved up.
const SAVED_MAX: u32 = 1_000;

/// Why the bytes of a connection are not handed on.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// Another beginning than that of HTTP/2.
    #[error("not the preface of HTTP/2")]
    Preface,
    /// A header block over its limit, all of its frames together.
    #[error("a header block is too long")]
    TooLong,
}

/// Follows one connection's frames. Feed it everything, in order; stop at its first error.
#[derive(Debug)]
pub struct Frames {
    preface: usize,
    head: [u8; HEAD_BYTES],
    /// Bytes of the next frame's head so far.
    have: usize,
    /// Bytes of this frame that are still to come.
    left: usize,
    in_data: bool,
    /// Whether a header block is open: no other frame may come before its end.
    in_block: bool,
    block_bytes: usize,
    block_bytes_max: usize,
    newest: u32,
    saved: u32,
    excess: u32,
}

impl Frames {
    /// A connection on which nothing was read yet; header blocks are at most `block_bytes_max` bytes long.
    #[must_use]
    pub const fn new(block_bytes_max: usize) -> Self {
        Self {
            preface: 0,
            head: [0; HEAD_BYTES],
            have: 0,
            left: 0,
            in_data: false,
            in_block: false,
            block_bytes: 0,
            block_bytes_max,
            newest: 0,
            saved: 0,
            excess: 0,
        }
    }

    /// What the connection is in the middle of. A body that pauses between two frames stops nobody else: it is no
    /// phase of the connection.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        if self.left > 0 && self.in_data {
            Phase::Body
        } else if self.preface < PREFACE.len() || self.have > 0 || self.left > 0 || self.in_block {
            Phase::Head
        } else {
            Phase::Idle
        }
    }

    /// How many frames have come since this was asked last that asked for nothing, or took back what was asked, over
    /// those that requests bring with them.
    pub const fn take_excess(&mut self) -> u32 {
        std::mem::replace(&mut self.excess, 0)
    }

    /// Reads the next bytes of the connection.
    ///
    /// # Errors
    ///
    /// [`FrameError`].
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), FrameError> {
        let mut rest = bytes;
        while let Some((first, behind)) = rest.split_first() {
            if let Some(expected) = PREFACE.get(self.preface) {
                if first != expected {
                    return Err(FrameError::Preface);
                }
                self.preface = self.preface.saturating_add(1);
                rest = behind;
            } else if self.left > 0 {
                let (skipped, behind) = rest.split_at(self.left.min(rest.len()));
                self.left = self.left.saturating_sub(skipped.len());
                rest = behind;
            } else {
                if let Some(place) = self.head.get_mut(self.have) {
                    *place = *first;
                }
                self.have = self.have.saturating_add(1);
                rest = behind;
                if self.have == HEAD_BYTES {
                    self.have = 0;
                    self.begin()?;
                }
            }
        }
        Ok(())
    }

    /// A frame's head is whole. Source: RFC 9113, section 4.1.
    fn begin(&mut self) -> Result<(), FrameError> {
        let [a, b, c, kind, flags, stream @ ..] = self.head;
        let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX);
        let stream = u32::from_be_bytes(stream) & 0x7FFF_FFFF;
        self.left = length;
        self.in_data = kind == DATA;
        let is_request = kind == HEADERS && stream > self.newest;
        if kind == HEADERS || kind == CONTINUATION {
            self.block_bytes = if kind == HEADERS { length } else { self.block_bytes.saturating_add(length) };
            self.in_block = flags & END_HEADERS == 0;
            if self.block_bytes > self.block_bytes_max {
                return Err(FrameError::TooLong);
            }
        }
        if is_request {
            self.newest = stream;
            self.saved = self.saved.saturating_add(IDLE_FRAMES_EACH).min(SAVED_MAX);
            return Ok(());
        }
        let is_useful = match kind {
            DATA => length > 0 || flags & END_STREAM != 0,
            // The end of a body, or the rest of a head; one without content is neither.
            HEADERS => true,
            CONTINUATION => length > 0,
            _ => false,
        };
        if is_useful {
            return Ok(());
        }
        // A request that is taken back costs nothing to ask and something to begin.
        if self.saved == 0 || kind == RST_STREAM {
            self.excess = self.excess.saturating_add(1);
        } else {
            self.saved = self.saved.saturating_sub(1);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{FrameError, Frames, PREFACE, Phase};

    const MAX: usize = 512;

    fn frame(kind: u8, flags: u8, stream: u8, length: usize) -> Vec<u8> {
        let [.., a, b, c] = u32::try_from(length).unwrap().to_be_bytes();
        let mut bytes = vec![a, b, c, kind, flags, 0, 0, 0, stream];
        bytes.resize(9 + length, 0);
        bytes
    }

    /// Feeds `frames` behind a preface, whole and byte by byte; both must say the same.
    fn check(frames: &[Vec<u8>]) -> Result<(Phase, u32), FrameError> {
        let bytes = [PREFACE.to_vec(), frames.concat()].concat();
        let mut whole = Frames::new(MAX);
        let at_once = whole.feed(&bytes).map(|()| (whole.phase(), whole.take_excess()));
        let mut slow = Frames::new(MAX);
        let bytewise = bytes.iter().try_for_each(|byte| slow.feed(&[*byte]));
        assert_eq!(at_once, bytewise.map(|()| (slow.phase(), slow.take_excess())));
        at_once
    }

    #[test]
    fn phases_follow_the_frames() {
        let cut = |mut bytes: Vec<u8>| {
            bytes.pop();
            bytes
        };
        for (frames, phase) in [
            (vec![], Phase::Idle),
            (vec![frame(4, 0, 0, 6)], Phase::Idle),
            (vec![vec![0, 0]], Phase::Head),
            (vec![cut(frame(1, 4, 1, 30))], Phase::Head),
            (vec![frame(1, 4, 1, 30)], Phase::Idle),
            (vec![frame(1, 0, 1, 30)], Phase::Head),
            (vec![frame(1, 0, 1, 30), frame(9, 0, 1, 30)], Phase::Head),
            (vec![frame(1, 0, 1, 30), frame(9, 4, 1, 30)], Phase::Idle),
            (vec![frame(1, 4, 1, 30), cut(frame(0, 0, 1, 30))], Phase::Body),
            (vec![frame(1, 4, 1, 30), frame(0, 0, 1, 30)], Phase::Idle),
        ] {
            assert_eq!(check(&frames).map(|(phase, _)| phase), Ok(phase), "{frames:?}");
        }
        let mut nothing = Frames::new(MAX);
        assert_eq!(nothing.phase(), Phase::Head, "the preface is waited for as a head is");
        assert_eq!(nothing.feed(b"GET / HTTP/1.1\r\n"), Err(FrameError::Preface));
    }

    #[test]
    fn frames_that_ask_for_nothing_are_counted() {
        let _covers = covers::covers(&["INV-24"]);
        let many = |frame: Vec<u8>| vec![frame; 50];
        for (what, frames, excess) in [
            ("pings", many(frame(6, 0, 0, 8)), 50),
            ("settings", many(frame(4, 0, 0, 0)), 50),
            ("windows", many(frame(8, 0, 0, 4)), 50),
            ("priorities", many(frame(2, 0, 3, 5)), 50),
            ("frames that nobody knows", many(frame(0xAA, 0, 0, 3)), 50),
            ("empty data", many(frame(0, 0, 1, 0)), 50),
            ("data", many(frame(0, 0, 1, 1)), 0),
            ("resets", many(frame(3, 0, 1, 4)), 50),
        ] {
            assert_eq!(check(&frames), Ok((Phase::Idle, excess)), "{what}");
        }
        let requests =
            (0..50_u8).flat_map(|n| [frame(1, 5, 2 * n + 1, 30), frame(8, 0, 0, 4), frame(6, 1, 0, 8)]);
        assert_eq!(check(&requests.collect::<Vec<_>>()), Ok((Phase::Idle, 0)));
        let taken_back = (0..50_u8).flat_map(|n| [frame(1, 4, 2 * n + 1, 30), frame(3, 0, 2 * n + 1, 4)]);
        assert_eq!(check(&taken_back.collect::<Vec<_>>()), Ok((Phase::Idle, 50)), "rapid reset");
    }

    #[test]
    fn header_blocks_are_bounded() {
        let _covers = covers::covers(&["INV-24"]);
        assert_eq!(check(&[frame(1, 4, 1, MAX)]).map(|(phase, _)| phase), Ok(Phase::Idle));
        assert_eq!(check(&[frame(1, 4, 1, MAX + 1)]), Err(FrameError::TooLong));
        let mut flood = vec![frame(1, 0, 1, 10)];
        flood.extend(vec![frame(9, 0, 1, 10); 51]);
        assert_eq!(check(&flood), Err(FrameError::TooLong));
        assert_eq!(
            check(&vec![frame(9, 0, 1, 0); 9]).map(|(_, excess)| excess),
            Ok(9),
            "empty ones are counted"
        );
    }
}
