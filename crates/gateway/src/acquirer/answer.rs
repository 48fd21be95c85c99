//! Where an HTTP/1.1 answer ends, what its body is, and whether its connection may carry another request.
//!
//! Whatever two readers could read in two ways makes an answer none, or ends its connection: the payment is asked about
//! then. Source: RFC 9112 §6, §9.3; faults-and-invariants NU-12.

use httparse::{EMPTY_HEADER, Header, Response, Status, parse_chunk_size};

/// Longest head of an answer, and with it the read buffer of a connection, in bytes.
pub(super) const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most header lines of an answer.
const HEADERS_MAX: usize = 64;
/// Longest line that announces a chunk, and longest line of a trailer, in bytes.
const LINE_BYTES_MAX: usize = 1_024;
/// Most lines of a trailer.
const TRAILERS_MAX: usize = 64;
/// Room for a body whose length nobody has said.
const BODY_BYTES: usize = 2 * 1024;

/// Why bytes are no answer that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// They are no HTTP/1.1.
    NotHttp,
    /// The body is longer than allowed.
    TooLarge,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Head,
    Sized(usize),
    ChunkLine,
    ChunkData(usize),
    /// The CR LF after a chunk's data.
    ChunkEnd,
    /// So many lines of the trailer were read.
    Trailer(usize),
    /// The body ends with the connection.
    UntilEnd,
    Done,
}

/// Reads one answer, from bytes as they come.
#[derive(Debug)]
pub(super) struct Answer {
    at: At,
    status: u16,
    keeps: bool,
    body: Vec<u8>,
    body_bytes_max: usize,
}

impl Answer {
    /// Nothing was read yet; the body is at most `body_bytes_max` bytes long.
    pub(super) const fn new(body_bytes_max: usize) -> Self {
        Self { at: At::Head, status: 0, keeps: false, body: Vec::new(), body_bytes_max }
    }

    /// Whether all of it is there.
    pub(super) fn is_whole(&self) -> bool {
        self.at == At::Done
    }

    /// Whether its head is not there yet.
    pub(super) fn is_at_head(&self) -> bool {
        self.at == At::Head
    }

    /// Whether its connection may be used again, once it is whole.
    pub(super) const fn keeps(&self) -> bool {
        self.keeps
    }

    /// Status and body.
    pub(super) fn into_parts(self) -> (u16, Vec<u8>) {
        (self.status, self.body)
    }

    /// Takes what it can use from the front of `bytes`, which are all that has not been taken before; returns how many
    /// that are. What an answer does not take when it is whole is not its own.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<usize, Unusable> {
        let mut taken = 0_usize;
        while self.at != At::Done {
            let rest = bytes.get(taken..).unwrap_or_default();
            let Some(step) = self.step(rest)? else { break };
            taken = taken.saturating_add(step);
        }
        Ok(taken)
    }

    /// The peer has ended the connection in good order: whether that is the end of the body.
    pub(super) fn end(&mut self) -> bool {
        if self.at == At::UntilEnd {
            self.at = At::Done;
        }
        self.at == At::Done
    }

    /// One step; `None` if it needs more bytes.
    fn step(&mut self, rest: &[u8]) -> Result<Option<usize>, Unusable> {
        match self.at {
            At::Head => self.head(rest),
            At::Sized(left) => self.data(rest, left, At::Done, At::Sized),
            At::ChunkData(left) => self.data(rest, left, At::ChunkEnd, At::ChunkData),
            At::UntilEnd => self.data(rest, usize::MAX, At::Done, |_| At::UntilEnd),
            At::ChunkEnd => match rest.first_chunk::<2>() {
                Some(b"\r\n") => {
                    self.at = At::ChunkLine;
                    Ok(Some(2))
                }
                Some(_) => Err(Unusable::NotHttp),
                None => Ok(None),
            },
            At::ChunkLine => match parse_chunk_size(rest) {
                Ok(Status::Complete((line, size))) => {
                    let size = usize::try_from(size).map_err(|_| Unusable::TooLarge)?;
                    self.allow(size)?;
                    self.at = if size == 0 { At::Trailer(0) } else { At::ChunkData(size) };
                    Ok(Some(line))
                }
                Ok(Status::Partial) if rest.len() <= LINE_BYTES_MAX => Ok(None),
                Ok(Status::Partial) | Err(_) => Err(Unusable::NotHttp),
            },
            At::Trailer(lines) => self.trailer(rest, lines),
            At::Done => Ok(None),
        }
    }

    /// Nothing in a trailer counts; an empty line ends it.
    fn trailer(&mut self, rest: &[u8], lines: usize) -> Result<Option<usize>, Unusable> {
        let Some(end) = memchr::memchr(b'\n', rest) else {
            return if rest.len() <= LINE_BYTES_MAX { Ok(None) } else { Err(Unusable::NotHttp) };
        };
        if lines >= TRAILERS_MAX || end > LINE_BYTES_MAX {
            return Err(Unusable::NotHttp);
        }
        let is_last = rest.get(..end).is_some_and(|line| matches!(line, b"" | b"\r"));
        self.at = if is_last { At::Done } else { At::Trailer(lines.saturating_add(1)) };
        Ok(Some(end.saturating_add(1)))
    }

    /// Takes up to `left` bytes of the body.
    fn data(
        &mut self,
        rest: &[u8],
        left: usize,
        then: At,
        still: impl Fn(usize) -> At,
    ) -> Result<Option<usize>, Unusable> {
        let here = rest.len().min(left);
        if here == 0 && left > 0 {
            return Ok(None);
        }
        self.allow(here)?;
        self.body.extend_from_slice(rest.get(..here).unwrap_or_default());
        let left = left.saturating_sub(here);
        self.at = if left == 0 { then } else { still(left) };
        Ok(Some(here))
    }

    /// Whether the body may grow by so many bytes.
    fn allow(&self, bytes: usize) -> Result<(), Unusable> {
        let fits = self.body.len().saturating_add(bytes) <= self.body_bytes_max;
        if fits { Ok(()) } else { Err(Unusable::TooLarge) }
    }

    fn head(&mut self, rest: &[u8]) -> Result<Option<usize>, Unusable> {
        let mut headers = [EMPTY_HEADER; HEADERS_MAX];
        let mut response = Response::new(&mut headers);
        let length = match response.parse(rest) {
            Ok(Status::Complete(length)) => length,
            Ok(Status::Partial) if rest.len() < HEAD_BYTES_MAX => return Ok(None),
            Ok(Status::Partial) | Err(_) => return Err(Unusable::NotHttp),
        };
        let (Some(status), Some(minor)) = (response.code, response.version) else {
            return Err(Unusable::NotHttp);
        };
        // An interim answer, and then comes the answer itself. Nobody asked for another protocol.
        if (100..200).contains(&status) {
            return if status == 101 { Err(Unusable::NotHttp) } else { Ok(Some(length)) };
        }
        let framing = Framing::of(response.headers).ok_or(Unusable::NotHttp)?;
        self.status = status;
        self.keeps = minor == 1 && !framing.closes;
        self.at = match (framing.coded, framing.length) {
            _ if status == 204 || status == 304 => At::Done,
            (Some(Coding::Chunked), said) => {
                // One of the two is somebody's second opinion.
                self.keeps &= said.is_none();
                self.body.reserve(BODY_BYTES);
                At::ChunkLine
            }
            (Some(Coding::Other), _) => return Err(Unusable::NotHttp),
            (None, Some(length)) => {
                self.allow(length)?;
                self.body.reserve_exact(length);
                if length == 0 { At::Done } else { At::Sized(length) }
            }
            (None, None) => {
                self.keeps = false;
                self.body.reserve(BODY_BYTES);
                At::UntilEnd
            }
        };
        Ok(Some(length))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Chunked,
    Other,
}

/// What a head says of its body and of the connection.
#[derive(Clone, Copy, Debug, Default)]
struct Framing {
    length: Option<usize>,
    coded: Option<Coding>,
    closes: bool,
}

impl Framing {
    /// `None` if the length is malformed or said in two ways.
    fn of(headers: &[Header<'_>]) -> Option<Self> {
        let mut framing = Self::default();
        for Header { name, value } in headers {
            let value = value.trim_ascii();
            if name.eq_ignore_ascii_case("content-length") {
                let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
                let text = std::str::from_utf8(value).ok().filter(|_| is_number)?;
                // More than any number holds is more than is allowed.
                let length = text.parse().unwrap_or(usize::MAX);
                if framing.length.is_some_and(|before| before != length) {
                    return None;
                }
                framing.length = Some(length);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                let alone = framing.coded.is_none() && value.eq_ignore_ascii_case(b"chunked");
                framing.coded = Some(if alone { Coding::Chunked } else { Coding::Other });
            } else if name.eq_ignore_ascii_case("connection") {
                let mut options = value.split(|byte| *byte == b',');
                framing.closes |= options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"));
            }
        }
        Some(framing)
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, HEAD_BYTES_MAX, Unusable};

    const MAX: usize = 64;

    /// Reads `bytes` whole and byte by byte, then the end of the connection: both must say the same. Status and body,
    /// then `+` if the connection may be kept, and how many bytes were left over.
    fn check(bytes: &[u8], expected: Result<&str, Unusable>) {
        for piece in [bytes.len().max(1), 7, 1] {
            let read = read(bytes, piece);
            assert_eq!(
                read.as_deref().map_err(|why| *why),
                expected,
                "{piece}: {:?}",
                String::from_utf8_lossy(bytes)
            );
        }
    }

    fn read(bytes: &[u8], piece: usize) -> Result<String, Unusable> {
        let (mut answer, mut buffer) = (Answer::new(MAX), Vec::new());
        let mut over = 0;
        for piece in bytes.chunks(piece) {
            if answer.is_whole() {
                over += piece.len();
                continue;
            }
            buffer.extend_from_slice(piece);
            let taken = answer.take(&buffer)?;
            buffer.drain(..taken);
        }
        over += buffer.len();
        let keeps = answer.is_whole() && answer.keeps();
        if !answer.end() {
            return Ok("cut".to_owned());
        }
        let (status, body) = answer.into_parts();
        let body = String::from_utf8(body).expect("text");
        Ok(format!("{status} {body}{} {over}", if keeps { "+" } else { "-" }))
    }

    #[test]
    fn answers_end_where_they_say() {
        for (bytes, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", "200 abc+ 0"),
            ("HTTP/1.1 200 OK\r\ncontent-length:\t3 \r\nConnection: keep-alive\r\n\r\nabc", "200 abc+ 0"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", "200 abc+ 0"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP", "200 abc+ 4"),
            ("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", "502 + 0"),
            ("HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 1\r\n\r\na", "200 a- 0"),
            ("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", "200 a- 0"),
            ("HTTP/1.1 200 OK\r\n\r\nuntil the end", "200 until the end- 0"),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", "200 a+ 0"),
            ("HTTP/1.1 204 No Content\r\n\r\n", "204 + 0"),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\na;x=y\r\n0123456789\r\n0\r\n\r\n",
                "200 abc0123456789+ 0",
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: y\r\nZ: z\r\n\r\nrest",
                "200 a+ 4",
            ),
            // Readers differ in which of the two they go by: nothing more is sent there.
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
                "200 a- 0",
            ),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", "cut"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n", "cut"),
            ("HTTP/1.1 200 OK\r\nContent-Le", "cut"),
            ("", "cut"),
        ] {
            check(bytes.as_bytes(), Ok(expected));
        }
    }

    #[test]
    fn what_is_no_answer_is_none() {
        use Unusable::{NotHttp, TooLarge};
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(100));
        let long = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(HEAD_BYTES_MAX));
        let body = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(MAX + 1));
        let chunks = format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}",
            "20\r\n0123456789abcdef0123456789abcdef\r\n".repeat(3)
        );
        for (bytes, why) in [
            ("SSH-2.0-OpenSSH_9.6\r\n", NotHttp),
            ("HTTP/1.1 101 Switching\r\n\r\n", NotHttp),
            ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", NotHttp),
            ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", NotHttp),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", NotHttp),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                NotHttp,
            ),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", NotHttp),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc", NotHttp),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\n", TooLarge),
            ("HTTP/1.1 200 OK\r\nContent-Length: 65\r\n\r\n", TooLarge),
            ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999999\r\n\r\n", TooLarge),
            (many.as_str(), NotHttp),
            (long.as_str(), NotHttp),
            (body.as_str(), TooLarge),
            (chunks.as_str(), TooLarge),
        ] {
            check(bytes.as_bytes(), Err(why));
        }
    }

    #[test]
    fn random_bytes_never_panic_and_never_grow_beyond_the_limit() {
        let pieces: [&[u8]; 10] = [
            b"HTTP/1.1 200 OK\r\n",
            b"Content-Length: 9\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"\r\n",
            b"3\r\nabc\r\n",
            b"0\r\n",
            b"x",
            b"\0",
            b"HTTP/1.1 100 C\r\n\r\n",
            b"ffffffff\r\n",
        ];
        for seed in 1..5_000_u64 {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let (mut answer, mut buffer) = (Answer::new(MAX), pieces[0].to_vec());
            for _ in 0..32 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                buffer.extend_from_slice(pieces[usize::try_from(state % 10).expect("small")]);
                let Ok(taken) = answer.take(&buffer) else { break };
                buffer.drain(..taken);
                assert!(answer.body.len() <= MAX, "seed {seed}");
                if answer.is_whole() {
                    break;
                }
            }
        }
    }
}
