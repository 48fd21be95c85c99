//! A writer whose output every strict client can verify.

use std::borrow::Cow;
use std::io::Write as _;

/// Writes one message into a caller's buffer: `<xml>`, elements, `</xml>`, nothing between them.
///
/// Only CDATA and the five named entities occur. Signatures cover the decoded text, so write exactly what
/// was signed. Source: wechatpay-v2 §1.2, §6 no. 5.
#[derive(Debug)]
pub struct Writer<'b> {
    buffer: &'b mut Vec<u8>,
}

impl<'b> Writer<'b> {
    /// Starts a message at the end of `buffer`.
    pub fn new(buffer: &'b mut Vec<u8>) -> Self {
        buffer.extend_from_slice(b"<xml>");
        Self { buffer }
    }

    /// Adds a text for a till: `value` must be [`clean`], and be so before it is signed.
    pub fn text(&mut self, name: &str, value: &str) -> &mut Self {
        debug_assert!(
            matches!(clean(value), Cow::Borrowed(same) if same.len() == value.len()),
            "{name} is not clean"
        );
        self.exact(name, value)
    }

    /// Adds a text for the wallet as it is, blanks at its ends included. It must hold only characters that
    /// XML allows, and no CR, which a reader would turn into LF.
    pub fn exact(&mut self, name: &str, value: &str) -> &mut Self {
        debug_assert!(!value.chars().any(|c| c == '\r' || !is_allowed(c)), "{name} is not writable");
        self.open(name);
        if value.contains("]]>") {
            for byte in value.bytes() {
                match byte {
                    b'<' => self.buffer.extend_from_slice(b"&lt;"),
                    b'>' => self.buffer.extend_from_slice(b"&gt;"),
                    b'&' => self.buffer.extend_from_slice(b"&amp;"),
                    _ => self.buffer.push(byte),
                }
            }
        } else {
            self.buffer.extend_from_slice(b"<![CDATA[");
            self.buffer.extend_from_slice(value.as_bytes());
            self.buffer.extend_from_slice(b"]]>");
        }
        self.close(name)
    }

    /// Adds a number as plain digits.
    pub fn number(&mut self, name: &str, value: u64) -> &mut Self {
        self.open(name);
        // Writing to a vector cannot fail.
        let _ = write!(self.buffer, "{value}");
        self.close(name)
    }

    /// Ends the message.
    pub fn finish(self) {
        self.buffer.extend_from_slice(b"</xml>");
    }

    fn open(&mut self, name: &str) {
        self.buffer.push(b'<');
        self.buffer.extend_from_slice(name.as_bytes());
        self.buffer.push(b'>');
    }

    fn close(&mut self, name: &str) -> &mut Self {
        self.buffer.extend_from_slice(b"</");
        self.buffer.extend_from_slice(name.as_bytes());
        self.buffer.push(b'>');
        self
    }
}

/// Makes a text fit for an answer to a till, before it is signed: no blanks at its ends, LF for CR LF and CR,
/// no character that XML does not allow.
///
/// Clients that trim, or whose XML library turns CR into LF, could not verify it otherwise.
#[must_use]
pub fn clean(value: &str) -> Cow<'_, str> {
    let trimmed = value.trim();
    if !trimmed.chars().any(|c| c == '\r' || !is_allowed(c)) {
        return Cow::Borrowed(trimmed);
    }
    let text: String =
        trimmed.replace("\r\n", "\n").replace('\r', "\n").chars().filter(|c| is_allowed(*c)).collect();
    // What was taken out may have stood before a blank.
    Cow::Owned(text.trim().to_owned())
}

/// Whether XML 1.0 allows a character.
const fn is_allowed(char: char) -> bool {
    matches!(char, '\t' | '\n' | '\r' | ' '..='\u{FFFD}' | '\u{10000}'..)
}
