//! A strict reading of where HTTP/1.1 messages begin and end, in front of the HTTP library.
//!
//! The library is lenient where two readers may disagree: it lets `Transfer-Encoding` win over
//! `Content-Length`, takes bare line feeds and equal lengths twice. Behind a proxy each of these hides one
//! request in another. So every byte passes here first, and the first one that is not plain is not handed on.
//! Source: faults-and-invariants MI-13, MI-14.

use memchr::memchr;
use thiserror::Error;

/// Digits of a chunk's size: 256 MiB is far over every limit, and nothing overflows.
const CHUNK_DIGITS_MAX: usize = 7;
/// Digits of a `Content-Length`.
const LENGTH_DIGITS_MAX: usize = 10;
/// Bytes of the line that announces a chunk, extensions included.
const CHUNK_LINE_MAX: usize = 256;
/// Bytes of all trailers of a message.
const TRAILERS_MAX: usize = 1_024;

/// Why the bytes of a connection are no plain HTTP/1.1 requests.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum FramingError {
    /// A line feed without carriage return, or a carriage return without line feed.
    #[error("a line does not end in CR LF")]
    BareLineEnd,
    /// A NUL.
    #[error("a NUL in the head")]
    Nul,
    /// No method, target and version with one blank between.
    #[error("the request line is malformed")]
    RequestLine,
    /// A header line without name, with a name that is none, with control characters, or a continuation.
    #[error("a header line is malformed")]
    Header,
    /// `Content-Length` that is not plain digits.
    #[error("Content-Length is not plain digits")]
    Length,
    /// Two `Content-Length`, equal or not, or two `Transfer-Encoding`.
    #[error("the length of the body is given twice")]
    Twice,
    /// `Transfer-Encoding` and `Content-Length`.
    #[error("both Content-Length and Transfer-Encoding")]
    Both,
    /// Another coding than `chunked`, or a coding in HTTP/1.0.
    #[error("Transfer-Encoding is not chunked alone")]
    Coding,
    /// A body in a request whose method has none.
    #[error("a body where the method has none")]
    BodyOnGet,
    /// A chunk whose size is malformed or too large.
    #[error("a chunk is malformed")]
    Chunk,
    /// A head or trailer over its limit.
    #[error("the head is too long")]
    TooLong,
}

/// What a connection is in the middle of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing: between two requests.
    Idle,
    /// The head of a request.
    Head,
    /// The body of a request.
    Body,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Before the first byte of a request.
    Start,
    RequestLine,
    Headers,
    Sized(u64),
    ChunkLine,
    ChunkData(u64),
    /// The CR LF after a chunk's data.
    ChunkEnd,
    Trailers,
}

/// What the head says of the body.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    may_have_body: bool,
    is_http_10: bool,
    length: Option<u64>,
    chunked: bool,
}

/// Follows one connection's bytes. Feed it everything, in order; stop at its first error.
#[derive(Debug)]
pub struct Framing {
    at: At,
    head: Head,
    /// The line being read, without its end.
    line: Vec<u8>,
    /// Bytes of this head or these trailers so far.
    bytes: usize,
    head_bytes_max: usize,
    messages: u32,
    /// Where in the bytes fed last the newest request began, if it began there.
    began: Option<usize>,
}

impl Framing {
    /// A connection on which nothing was read yet; heads are at most `head_bytes_max` bytes long.
    #[must_use]
    pub const fn new(head_bytes_max: usize) -> Self {
        Self {
            at: At::Start,
            head: Head { may_have_body: false, is_http_10: false, length: None, chunked: false },
            line: Vec::new(),
            bytes: 0,
            head_bytes_max,
            messages: 0,
            began: None,
        }
    }

    /// What the connection is in the middle of.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        match self.at {
            At::Start => Phase::Idle,
            At::RequestLine | At::Headers => Phase::Head,
            At::Sized(_) | At::ChunkLine | At::ChunkData(_) | At::ChunkEnd | At::Trailers => Phase::Body,
        }
    }

    /// How many requests have begun; wraps around.
    #[must_use]
    pub const fn messages(&self) -> u32 {
        self.messages
    }

    /// After a fault: how many of the bytes fed last stand before the request that holds it, if it lies in a head
    /// that began among them.
    #[must_use]
    pub const fn before_faulty_head(&self) -> Option<usize> {
        match self.at {
            At::RequestLine | At::Headers => self.began,
            At::Start | At::Sized(_) | At::ChunkLine | At::ChunkData(_) | At::ChunkEnd | At::Trailers => None,
        }
    }

    /// Reads the next bytes of the connection.
    ///
    /// # Errors
    ///
    /// The cause, and how many of `bytes` are plain: no more than those may be handed on. A fault in a head
    /// is found before its last byte.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), (usize, FramingError)> {
        let mut done = 0_usize;
        self.began = None;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            let step = match self.at {
                At::Sized(left) => self.skip(left, rest, At::Start, At::Sized),
                At::ChunkData(left) => self.skip(left, rest, At::ChunkEnd, At::ChunkData),
                At::Start => {
                    self.messages = self.messages.wrapping_add(1);
                    self.head = Head::default();
                    self.began = Some(done);
                    self.bytes = 0;
                    self.at = At::RequestLine;
                    0
                }
                At::RequestLine | At::Headers | At::ChunkLine | At::ChunkEnd | At::Trailers => {
                    self.line(rest).map_err(|(plain, err)| (done.saturating_add(plain), err))?
                }
            };
            done = done.saturating_add(step);
        }
        Ok(())
    }

    /// Passes over bytes of a body; returns how many.
    fn skip(&mut self, left: u64, rest: &[u8], then: At, still: impl Fn(u64) -> At) -> usize {
        let here = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
        let left = left.saturating_sub(here as u64);
        self.at = if left == 0 { then } else { still(left) };
        here
    }

    /// Reads up to the end of a line; returns how many bytes that were.
    fn line(&mut self, rest: &[u8]) -> Result<usize, (usize, FramingError)> {
        let end = memchr(b'\n', rest);
        let part = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        let max = match self.at {
            At::ChunkLine => CHUNK_LINE_MAX,
            At::ChunkEnd => "\r\n".len(),
            At::Trailers => TRAILERS_MAX,
            At::Start | At::RequestLine | At::Headers | At::Sized(_) | At::ChunkData(_) => {
                self.head_bytes_max
            }
        };
        self.bytes = self.bytes.saturating_add(part.len()).saturating_add(usize::from(end.is_some()));
        if self.bytes > max {
            let in_chunk = matches!(self.at, At::ChunkLine | At::ChunkEnd);
            return Err((0, if in_chunk { FramingError::Chunk } else { FramingError::TooLong }));
        }
        if memchr(0, part).is_some() {
            return Err((0, FramingError::Nul));
        }
        // A CR may only be the byte before LF: the last of this part, and then LF comes next.
        if self.line.last() == Some(&b'\r') && !part.is_empty() {
            return Err((0, FramingError::BareLineEnd));
        }
        if memchr(b'\r', part).is_some_and(|at| at.saturating_add(1) < part.len()) {
            return Err((0, FramingError::BareLineEnd));
        }
        self.line.extend_from_slice(part);
        let Some(end) = end else { return Ok(part.len()) };
        let mut line = std::mem::take(&mut self.line);
        let read =
            if line.pop() == Some(b'\r') { self.whole_line(&line) } else { Err(FramingError::BareLineEnd) };
        line.clear();
        self.line = line;
        read.map(|()| end.saturating_add(1)).map_err(|err| (end, err))
    }

    fn whole_line(&mut self, line: &[u8]) -> Result<(), FramingError> {
        match self.at {
            At::RequestLine => self.request_line(line),
            At::Headers if line.is_empty() => self.end_of_head(),
            At::Headers => self.header(line),
            At::ChunkLine => self.chunk_line(line),
            At::ChunkEnd if line.is_empty() => {
                self.begin(At::ChunkLine);
                Ok(())
            }
            At::ChunkEnd => Err(FramingError::Chunk),
            At::Trailers => {
                if line.is_empty() {
                    self.begin(At::Start);
                    return Ok(());
                }
                // Nothing in a trailer counts; a length there is somebody's second opinion.
                let before = (self.head.length, self.head.chunked);
                self.head.chunked = false;
                self.header(line)?;
                let changed = self.head.length.is_some() || self.head.chunked;
                (self.head.length, self.head.chunked) = before;
                if changed { Err(FramingError::Twice) } else { Ok(()) }
            }
            At::Start | At::Sized(_) | At::ChunkData(_) => Ok(()),
        }
    }

    fn begin(&mut self, at: At) {
        self.at = at;
        self.bytes = 0;
    }

    fn request_line(&mut self, line: &[u8]) -> Result<(), FramingError> {
        // A client of old may send an empty line after the body before; it is passed over.
        if line.is_empty() {
            return Ok(());
        }
        let mut parts = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(FramingError::RequestLine);
        };
        let plain = !method.is_empty()
            && method.iter().all(u8::is_ascii_uppercase)
            && !target.is_empty()
            && target.iter().all(|byte| byte.is_ascii_graphic());
        self.head.is_http_10 = version == b"HTTP/1.0";
        if !plain || method == b"CONNECT" || !(self.head.is_http_10 || version == b"HTTP/1.1") {
            return Err(FramingError::RequestLine);
        }
        self.head.may_have_body = matches!(method, b"POST" | b"PUT" | b"PATCH");
        self.at = At::Headers;
        Ok(())
    }

    fn header(&mut self, line: &[u8]) -> Result<(), FramingError> {
        let colon = memchr(b':', line).filter(|at| *at > 0).ok_or(FramingError::Header)?;
        let (name, value) = line.split_at(colon);
        // Source: RFC 9110, sections 5.1 and 5.5.
        let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        let is_control = |byte: &u8| (*byte < b' ' && *byte != b'\t') || *byte == 0x7F;
        if !name.iter().all(is_token) || value.iter().any(is_control) {
            return Err(FramingError::Header);
        }
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") {
            if self.head.length.is_some() {
                return Err(FramingError::Twice);
            }
            self.head.length = Some(digits(value, LENGTH_DIGITS_MAX, 10).ok_or(FramingError::Length)?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.head.chunked {
                return Err(FramingError::Twice);
            }
            if self.head.is_http_10 || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(FramingError::Coding);
            }
            self.head.chunked = true;
        }
        if self.head.chunked && self.head.length.is_some() { Err(FramingError::Both) } else { Ok(()) }
    }

    fn end_of_head(&mut self) -> Result<(), FramingError> {
        let length = self.head.length.unwrap_or(0);
        if !self.head.may_have_body && (self.head.chunked || length > 0) {
            return Err(FramingError::BodyOnGet);
        }
        self.begin(match (self.head.chunked, length) {
            (true, _) => At::ChunkLine,
            (false, 0) => At::Start,
            (false, length) => At::Sized(length),
        });
        Ok(())
    }

    fn chunk_line(&mut self, line: &[u8]) -> Result<(), FramingError> {
        let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
        let size = digits(size, CHUNK_DIGITS_MAX, 16).ok_or(FramingError::Chunk)?;
        self.begin(if size == 0 { At::Trailers } else { At::ChunkData(size) });
        Ok(())
    }
}

/// Reads a number of at most `max` digits and nothing else.
fn digits(text: &[u8], max: usize, radix: u32) -> Option<u64> {
    if text.is_empty() || text.len() > max {
        return None;
    }
    text.iter().try_fold(0_u64, |sum, digit| {
        let digit = char::from(*digit).to_digit(radix)?;
        sum.checked_mul(u64::from(radix))?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::{Framing, FramingError, Phase};

    const MAX: usize = 512;

    /// Feeds `text` whole and byte by byte; both must say the same.
    fn check(text: &str) -> Result<u32, FramingError> {
        let mut whole = Framing::new(MAX);
        let at_once = whole.feed(text.as_bytes()).map(|()| whole.messages());
        let mut slow = Framing::new(MAX);
        let mut bytewise = Ok(());
        for (at, byte) in text.bytes().enumerate() {
            bytewise = slow.feed(&[byte]).map_err(|(plain, err)| (at + plain, err));
            if bytewise.is_err() {
                break;
            }
        }
        let bytewise = bytewise.map(|()| slow.messages());
        assert_eq!(at_once.map_err(|(_, err)| err), bytewise.map_err(|(_, err)| err), "{text:?}");
        // The head that holds a fault is never handed on whole.
        if let Err((plain, _)) = at_once {
            assert!(plain < text.len(), "{text:?}");
        }
        at_once.map_err(|(_, err)| err)
    }

    #[test]
    fn plain_requests_pass() {
        for (text, messages) in [
            ("POST /pay/micropay HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n<xml>", 1),
            ("GET /v1/payments/P20 HTTP/1.1\r\nHost: h\r\n\r\n", 1),
            ("GET / HTTP/1.0\r\nContent-Length: 0\r\n\r\n", 1),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n1a;x=y\r\n0123456789abcdefghijklmnop\r\n0\r\n\r\n",
                1,
            ),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n\r\nGET / HTTP/1.1\r\n\r\n",
                2,
            ),
            ("POST / HTTP/1.1\r\ncontent-length:\t2 \r\n\r\nab\r\nPOST / HTTP/1.1\r\n\r\n", 2),
        ] {
            assert_eq!(check(text), Ok(messages), "{text:?}");
        }
    }

    #[test]
    fn whatever_two_readers_could_read_in_two_ways_is_refused() {
        let _covers = covers::covers(&["MI-13", "MI-14"]);
        use FramingError as E;
        let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(MAX));
        let long_extension =
            format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;{}", "x".repeat(300));
        for (text, cause) in [
            ("POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", E::Both),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", E::Both),
            ("POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", E::Twice),
            ("POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc", E::Twice),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", E::Twice),
            ("POST / HTTP/1.1\r\nContent-Length: +5\r\n\r\nabcde", E::Length),
            ("POST / HTTP/1.1\r\nContent-Length: 5,5\r\n\r\nabcde", E::Length),
            ("POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", E::Length),
            ("POST / HTTP/1.1\r\nContent-Length:\r\n\r\n", E::Length),
            ("POST / HTTP/1.1\r\nContent-Length: 0x5\r\n\r\nabcde", E::Length),
            ("POST / HTTP/1.1\r\nContent-Length: 18446744073709551617\r\n\r\n", E::Length),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", E::Coding),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", E::Coding),
            ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", E::Coding),
            ("POST / HTTP/1.1\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", E::Header),
            ("POST / HTTP/1.1\r\nX: a\r\n Content-Length: 3\r\n\r\nabc", E::Header),
            ("POST / HTTP/1.1\r\n: a\r\n\r\n", E::Header),
            ("POST / HTTP/1.1\r\nno colon\r\n\r\n", E::Header),
            ("POST / HTTP/1.1\r\n(X): a\r\n\r\n", E::Header),
            ("POST / HTTP/1.1\r\nX: a\x1b[2J\r\n\r\n", E::Header),
            ("POST / HTTP/1.1\r\nX: a\x7f\r\n\r\n", E::Header),
            ("POST / HTTP/1.1\nContent-Length: 3\r\n\r\nabc", E::BareLineEnd),
            ("POST / HTTP/1.1\r\nContent-Length: 3\n\r\nabc", E::BareLineEnd),
            ("POST / HTTP/1.1\r\nX: a\rContent-Length: 3\r\n\r\nabc", E::BareLineEnd),
            ("POST / HTTP/1.1\r\nX: a\r\n\n", E::BareLineEnd),
            ("POST / HTTP/1.1\r\nX: a\0\r\n\r\n", E::Nul),
            ("GET / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", E::BodyOnGet),
            ("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", E::BodyOnGet),
            ("CONNECT h:80 HTTP/1.1\r\n\r\n", E::RequestLine),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", E::RequestLine),
            ("get / HTTP/1.1\r\n\r\n", E::RequestLine),
            ("GET  / HTTP/1.1\r\n\r\n", E::RequestLine),
            ("GET /a b HTTP/1.1\r\n\r\n", E::RequestLine),
            ("GET /\r\n\r\n", E::RequestLine),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n", E::BareLineEnd),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n", E::Chunk),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n", E::Chunk),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n", E::Chunk),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n 3\r\nabc\r\n0\r\n\r\n", E::Chunk),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n", E::Chunk),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 3\r\n\r\n", E::Twice),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcdefghijklmnop", E::Chunk),
            (long_extension.as_str(), E::Chunk),
            (long.as_str(), E::TooLong),
        ] {
            assert_eq!(check(text), Err(cause), "{text:?}");
        }
    }

    #[test]
    fn phases_follow_the_bytes() {
        let mut framing = Framing::new(MAX);
        for (bytes, phase) in [
            ("", Phase::Idle),
            ("P", Phase::Head),
            ("OST / HTTP/1.1\r\nContent-Length: 2\r\n\r", Phase::Head),
            ("\n", Phase::Body),
            ("a", Phase::Body),
            ("b", Phase::Idle),
            ("G", Phase::Head),
        ] {
            framing.feed(bytes.as_bytes()).expect("plain");
            assert_eq!(framing.phase(), phase, "{bytes:?}");
        }
        assert_eq!(framing.messages(), 2);
    }

    #[test]
    fn a_faulty_head_is_found_where_it_began() {
        let good = "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nab";
        let behind = format!("{good}GET / HTTP/1.1\r\nX\r\n");
        for (fed, before) in [
            (&["GET /\r\n"][..], Some(0)),
            (&[behind.as_str()], Some(good.len())),
            (&[good, "GET / HTTP/1.1\r\nX\r\n"], Some(0)),
            (&[&good[..good.len() - 1], "bGET / HTTP/1.1\r\nX\r\n"], Some(1)),
            // What was handed on already cannot be taken back.
            (&["GET / HT", "TP/1.1\r\nX\r\n"], None),
            (&["POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n"], None),
        ] {
            let mut framing = Framing::new(MAX);
            let (last, first) = fed.split_last().expect("something is fed");
            for part in first {
                framing.feed(part.as_bytes()).expect("plain so far");
            }
            framing.feed(last.as_bytes()).expect_err("a fault");
            assert_eq!(framing.before_faulty_head(), before, "{fed:?}");
        }
    }

    #[test]
    fn random_bytes_never_panic_and_never_hold_more_than_the_limit() {
        let _covers = covers::covers(&["INV-24", "MI-25"]);
        // A small generator of its own: xorshift, so that a failing seed can be named.
        for seed in 1..2_000_u64 {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut framing = Framing::new(MAX);
            for _ in 0..64 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let pieces: [&[u8]; 8] =
                    [b"\r\n", b"POST / HTTP/1.1\r\n", b"Content-Length: 9", b"3", b"\n", b":", b"\0", b"a b"];
                let piece = pieces[usize::try_from(state % 8).expect("small")];
                if framing.feed(piece).is_err() {
                    break;
                }
                assert!(framing.line.len() <= MAX, "seed {seed}");
            }
        }
    }
}
