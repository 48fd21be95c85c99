//! Reads answers of HTTP/1.1 as they come.

use std::ops::Range;

use thiserror::Error;

/// The longest answer taken, head and body, in bytes.
const BYTES_MAX: usize = 1 << 20;
/// Headers taken.
const HEADERS_MAX: usize = 64;

/// Bytes of a connection, and what of them is known.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    bytes: Vec<u8>,
    filled: usize,
    head: Option<Head>,
    /// A chunked body, put together.
    joined: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Head {
    len: usize,
    status: u16,
    body: Length,
    keep: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Bytes(usize),
    Chunked,
    UntilEnd,
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answered {
    /// The HTTP status.
    pub(crate) status: u16,
    /// Whether the connection can take another request.
    pub(crate) keep: bool,
    body: Option<Range<usize>>,
}

/// An answer that is not HTTP/1.1, ends too early, or is too long.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[error("not a whole answer of HTTP/1.1")]
pub(crate) struct NotHttp;

impl Incoming {
    /// Where the next bytes go; never empty.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        if self.bytes.len() < self.filled + 1_024 {
            self.bytes.resize((self.bytes.len() * 2).max(4_096), 0);
        }
        &mut self.bytes[self.filled..]
    }

    /// `count` bytes have come.
    pub(crate) const fn came(&mut self, count: usize) {
        self.filled += count;
    }

    /// Whether anything of an answer has come.
    pub(crate) const fn begun(&self) -> bool {
        self.filled > 0
    }

    /// Looks whether an answer is whole. `ended` says that no more bytes will come.
    pub(crate) fn look(&mut self, ended: bool) -> Result<Option<Answered>, NotHttp> {
        let Some(head) = self.head()? else {
            return if ended { Err(NotHttp) } else { Ok(None) };
        };
        let come = &self.bytes[head.len..self.filled];
        let (body, rest) = match head.body {
            Length::Bytes(len) if come.len() >= len => (Some(head.len..head.len + len), come.len() - len),
            Length::Chunked => match join(come, &mut self.joined)? {
                Some(used) => (None, come.len() - used),
                None if ended => return Err(NotHttp),
                None => return Ok(None),
            },
            Length::UntilEnd if ended => (Some(head.len..self.filled), 0),
            Length::Bytes(_) if ended => return Err(NotHttp),
            Length::Bytes(_) | Length::UntilEnd => return Ok(None),
        };
        // What nobody asked for has come: such a connection is of no use any more.
        Ok(Some(Answered { status: head.status, keep: head.keep && rest == 0 && !ended, body }))
    }

    /// The body of an answer that is whole.
    pub(crate) fn body(&self, answered: &Answered) -> &[u8] {
        match &answered.body {
            Some(range) => &self.bytes[range.clone()],
            None => &self.joined,
        }
    }

    /// Forgets what has come.
    pub(crate) fn clear(&mut self) {
        (self.filled, self.head) = (0, None);
    }

    fn head(&mut self) -> Result<Option<Head>, NotHttp> {
        if self.filled > BYTES_MAX {
            return Err(NotHttp);
        }
        while self.head.is_none_or(|head| head.status < 200) {
            // An answer before the answer (100 Continue) is passed over.
            let from = self.head.map_or(0, |head| head.len);
            match read_head(&self.bytes[from..self.filled])? {
                Some(head) => self.head = Some(Head { len: from + head.len, ..head }),
                None => return Ok(None),
            }
        }
        Ok(self.head)
    }
}

fn read_head(bytes: &[u8]) -> Result<Option<Head>, NotHttp> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(len) = response.parse(bytes).map_err(|_| NotHttp)? else {
        return Ok(None);
    };
    let status = response.code.ok_or(NotHttp)?;
    let mut body = Length::UntilEnd;
    let mut keep = response.version == Some(1);
    for header in response.headers.iter() {
        let value = std::str::from_utf8(header.value).unwrap_or_default().trim();
        if header.name.eq_ignore_ascii_case("content-length") && body != Length::Chunked {
            body = Length::Bytes(value.parse().ok().filter(|len| *len <= BYTES_MAX).ok_or(NotHttp)?);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            body = Length::Chunked;
        } else if header.name.eq_ignore_ascii_case("connection") {
            keep = value.eq_ignore_ascii_case("keep-alive") || (keep && !value.eq_ignore_ascii_case("close"));
        }
    }
    if matches!(status, 204 | 304) || status < 200 {
        body = Length::Bytes(0);
    }
    Ok(Some(Head { len, status, body, keep: keep && body != Length::UntilEnd }))
}

/// Puts the chunks of a body together; how many bytes they take, or `None` if some are missing.
fn join(bytes: &[u8], joined: &mut Vec<u8>) -> Result<Option<usize>, NotHttp> {
    joined.clear();
    let mut at = 0;
    loop {
        let httparse::Status::Complete((size_len, size)) =
            httparse::parse_chunk_size(&bytes[at..]).map_err(|_| NotHttp)?
        else {
            return Ok(None);
        };
        let size = usize::try_from(size).ok().filter(|size| *size <= BYTES_MAX).ok_or(NotHttp)?;
        let (begin, end) = (at + size_len, at + size_len + size);
        if bytes.len() < end + 2 {
            return Ok(None);
        }
        joined.extend_from_slice(&bytes[begin..end]);
        // Trailers after the last chunk are not read: none of our servers sends them.
        if &bytes[end..end + 2] != b"\r\n" {
            return Err(NotHttp);
        }
        at = end + 2;
        if size == 0 {
            return Ok(Some(at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Incoming, NotHttp};

    /// Feeds `text` a byte at a time and whole: both must tell the same.
    fn read(text: &str, ended: bool) -> Result<Option<(u16, bool, String)>, NotHttp> {
        let feed = |size: usize| {
            let mut incoming = Incoming::default();
            let mut told = Ok(None);
            for (at, part) in text.as_bytes().chunks(size).enumerate() {
                incoming.room()[..part.len()].copy_from_slice(part);
                incoming.came(part.len());
                told = incoming.look(ended && at + 1 == text.len().div_ceil(size));
                if told != Ok(None) {
                    break;
                }
            }
            told.map(|told| {
                told.map(|told| {
                    (told.status, told.keep, String::from_utf8_lossy(incoming.body(&told)).into_owned())
                })
            })
        };
        let whole = feed(text.len());
        assert_eq!(feed(1), whole, "{text:?}");
        whole
    }

    #[test]
    fn answers_are_read_however_they_end() {
        let whole = |status, keep, body: &str| Ok(Some((status, keep, body.to_owned())));
        for (text, ended, told) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n<xml>", false, whole(200, true, "<xml>")),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n<xm", false, Ok(None)),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n<xm", true, Err(NotHttp)),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n<x\r\n3;a\r\nml>\r\n0\r\n\r\n",
                false,
                whole(200, true, "<xml>"),
            ),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n<x\r\n", false, Ok(None)),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZ\r\n", false, Err(NotHttp)),
            (
                "HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
                false,
                whole(502, false, ""),
            ),
            ("HTTP/1.1 200 OK\r\n\r\nuntil the end", false, Ok(None)),
            ("HTTP/1.1 200 OK\r\n\r\nuntil the end", true, whole(200, false, "until the end")),
            ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", false, whole(200, false, "ok")),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                false,
                whole(200, true, "ok"),
            ),
            ("SSH-2.0\r\n\r\n", false, Err(NotHttp)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", false, Err(NotHttp)),
        ] {
            assert_eq!(read(text, ended), told, "{text:?} {ended}");
        }
    }

    #[test]
    fn bytes_that_nobody_asked_for_end_the_connection() {
        let mut incoming = Incoming::default();
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1";
        incoming.room()[..text.len()].copy_from_slice(text);
        incoming.came(text.len());
        assert!(!incoming.look(false).unwrap().unwrap().keep);
        incoming.clear();
        assert!(!incoming.begun());
    }
}
