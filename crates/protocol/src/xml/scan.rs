//! A strict scanner of the flat grammar.
//!
//! It takes less than XML allows: what is not needed by any known peer is refused, because two parsers that
//! disagree about a document disagree about its signature. quick-xml is its oracle in the tests. Source: wechatpay-v2 §1.2, §6 no. 1; faults-and-invariants MI-01 to MI-04, MI-12.

use memchr::{memchr, memchr_iter, memchr2, memmem};

use crate::xml::read::{BYTES_MAX, ELEMENTS_MAX, NAME_MAX, Pair, Span, XmlError};
use crate::xml::usual;

/// Checks what holds for every byte: size, charset, characters.
///
/// Also tells whether there is a CR, which most documents do without.
pub(super) fn check_text(document: &[u8]) -> Result<(&str, bool), XmlError> {
    if document.len() > BYTES_MAX {
        return Err(XmlError::TooLong);
    }
    if document.starts_with(b"\xEF\xBB\xBF") {
        return Err(XmlError::ByteOrderMark);
    }
    let text = std::str::from_utf8(document).map_err(|_| XmlError::NotUtf8)?;
    // One pass without branches, which the compiler does many bytes at a time; what it finds is rare enough
    // to be looked at again.
    let (mut lowest, mut highest) = (b' ', 0);
    for byte in document {
        lowest = lowest.min(if *byte == b'\n' { b' ' } else { *byte });
        highest = highest.max(*byte);
    }
    let is_control = |byte: &u8| *byte < b' ' && !matches!(byte, b'\n' | b'\t' | b'\r');
    if (lowest < b' ' && document.iter().any(is_control)) || (highest >= 0xEF && has_noncharacter(document)) {
        return Err(XmlError::Character);
    }
    Ok((text, lowest < b' ' && memchr(b'\r', document).is_some()))
}

/// Whether U+FFFE or U+FFFF occurs in UTF-8. What starts as they do is common: the wide forms of Chinese text.
fn has_noncharacter(text: &[u8]) -> bool {
    memchr_iter(0xEF, text).any(|at| matches!(text.get(at..), Some([_, 0xBF, 0xBE | 0xBF, ..])))
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// Whether a byte may stand in a name: one look for each.
#[expect(
    clippy::indexing_slicing,
    reason = "worked out by the compiler, which refuses what is out of bounds"
)]
const NAME_BYTES: [bool; 256] = {
    let mut allowed = [false; 256];
    let mut byte: u8 = 0;
    while byte < 128 {
        allowed[byte as usize] = byte.is_ascii_alphanumeric() || byte == b'_';
        byte += 1;
    }
    allowed
};

/// A value while it is put together.
enum Value {
    Empty,
    /// One run, as it stands in the document.
    Whole(Span),
    /// From here to the end of the scratch.
    Decoded(usize),
}

/// One document on its way into a reader's buffers.
pub(super) struct Scan<'r, 'm> {
    text: &'m str,
    at: usize,
    /// Whether a CR may occur, which must become LF.
    returns: bool,
    scratch: &'r mut String,
    pairs: &'r mut Vec<Pair>,
    /// A bit for each hash of a name seen: most names need no comparison.
    seen: [u64; 16],
}

impl<'r, 'm> Scan<'r, 'm> {
    /// Starts at the beginning of `text`; the buffers are empty.
    pub(super) fn new(
        (text, returns): (&'m str, bool),
        scratch: &'r mut String,
        pairs: &'r mut Vec<Pair>,
    ) -> Self {
        Self { text, at: 0, returns, scratch, pairs, seen: [0; 16] }
    }

    /// Reads the whole document.
    pub(super) fn document(&mut self, root: &str) -> Result<(), XmlError> {
        self.declaration()?;
        self.skip_space();
        if self.rest().is_empty() {
            return Err(XmlError::Truncated);
        }
        self.expect_tag()?;
        let (name, closed) = self.start_tag()?;
        if self.slice(name) != root {
            return Err(XmlError::Root);
        }
        if !closed {
            self.children(root)?;
        }
        self.skip_space();
        if self.rest().is_empty() { Ok(()) } else { Err(self.trailing()) }
    }

    fn children(&mut self, root: &str) -> Result<(), XmlError> {
        loop {
            if !self.returns {
                self.usual_elements()?;
            }
            if !self.element_or_end(root)? {
                return Ok(());
            }
        }
    }

    /// Reads elements as long as they are of the usual kind.
    fn usual_elements(&mut self) -> Result<(), XmlError> {
        let document = self.text.as_bytes();
        while let Some(element) = usual::element(document, self.at) {
            self.note(element.pair.name, element.hash)?;
            self.pairs.push(element.pair);
            self.at = element.end;
            if document.get(self.at) != Some(&b'<') {
                self.skip_space();
            }
        }
        Ok(())
    }

    /// Reads an element of any kind, or the end of the root, which is false.
    #[inline(never)]
    fn element_or_end(&mut self, root: &str) -> Result<bool, XmlError> {
        self.skip_space();
        if self.rest().starts_with(b"</") {
            self.end_tag(root)?;
            return Ok(false);
        }
        self.expect_tag()?;
        let (name, closed) = self.start_tag()?;
        self.note(name, usual::hash(self.slice(name).as_bytes()))?;
        let value = if closed { Span { start: 0, end: 0 } } else { self.value(self.slice(name))? };
        self.pairs.push(Pair { name, value });
        Ok(true)
    }

    fn rest(&self) -> &'m [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    fn slice(&self, span: Span) -> &'m str {
        self.text.get(span.start..span.end).unwrap_or_default()
    }

    /// Goes on by `bytes`; what is behind the end is the end for [`Self::rest`].
    const fn advance(&mut self, bytes: usize) {
        self.at = self.at.saturating_add(bytes);
    }

    #[inline(never)]
    fn skip_space(&mut self) {
        self.advance(self.rest().iter().take_while(|byte| is_space(**byte)).count());
    }

    /// Makes sure that a start tag comes next, or says what else does.
    fn expect_tag(&self) -> Result<(), XmlError> {
        match self.rest() {
            [] => Err(XmlError::Truncated),
            [b'<', b'/', ..] => Err(XmlError::EndTag),
            [b'<', b'!' | b'?', ..] if !self.rest().starts_with(CDATA) => Err(self.markup()),
            [b'<'] => Err(XmlError::Truncated),
            [b'<', next, ..] if *next != b'!' => Ok(()),
            _ => Err(XmlError::StrayText),
        }
    }

    /// What the `<!` or `<?` that comes next is refused as.
    fn markup(&self) -> XmlError {
        let rest = self.rest();
        let starts = |word: &[u8]| rest.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word));
        match rest {
            [b'<', b'?', ..] => XmlError::Instruction,
            _ if starts(b"<!--") => XmlError::Comment,
            _ if starts(b"<!DOCTYPE") || starts(b"<!ENTITY") => XmlError::Doctype,
            _ => XmlError::Markup,
        }
    }

    /// What comes after the root is refused as.
    fn trailing(&self) -> XmlError {
        match self.rest() {
            [b'<', b'!' | b'?', ..] if !self.rest().starts_with(CDATA) => self.markup(),
            _ => XmlError::Trailing,
        }
    }

    /// Reads `<?xml … ?>`, if there is one at the very start.
    fn declaration(&mut self) -> Result<(), XmlError> {
        let Some(rest) = self.text.strip_prefix("<?xml") else { return Ok(()) };
        if !rest.starts_with(|c: char| c.is_ascii_whitespace()) {
            // `<?xml-stylesheet …`, or `<?xml?>` without a version.
            return Err(if rest.starts_with('?') { XmlError::Declaration } else { XmlError::Instruction });
        }
        let (inside, _) = rest.split_once("?>").ok_or(XmlError::Truncated)?;
        self.at = "<?xml?>".len().saturating_add(inside.len());
        let (version, rest) = attribute(inside, "version").ok_or(XmlError::Declaration)?;
        let (encoding, rest) =
            attribute(rest, "encoding").map_or((None, rest), |(word, rest)| (Some(word), rest));
        let (standalone, rest) =
            attribute(rest, "standalone").map_or((None, rest), |(word, rest)| (Some(word), rest));
        if version != "1.0" || !matches!(standalone, None | Some("yes" | "no")) || !trim(rest).is_empty() {
            return Err(XmlError::Declaration);
        }
        match encoding {
            Some(encoding) if !encoding.eq_ignore_ascii_case("UTF-8") => Err(XmlError::Encoding),
            _ => Ok(()),
        }
    }

    /// Reads `<name>` or `<name/>`; the `<` is known to be there. Returns the name and whether it was closed.
    fn start_tag(&mut self) -> Result<(Span, bool), XmlError> {
        let start = self.at.saturating_add(1);
        let bytes = self.text.as_bytes();
        let len = bytes
            .get(start..)
            .unwrap_or_default()
            .iter()
            .take_while(|byte| NAME_BYTES.get(usize::from(**byte)) == Some(&true))
            .count();
        let end = start.saturating_add(len);
        self.at = end;
        let spaced = self.rest().first().is_some_and(|byte| is_space(*byte));
        self.skip_space();
        let closed = match self.rest() {
            [b'>', ..] => false,
            [b'/', b'>', ..] => true,
            [] | [b'/'] => return Err(XmlError::Truncated),
            [b'/', ..] => return Err(XmlError::Name),
            _ if spaced && len > 0 => return Err(XmlError::Attribute),
            _ => return Err(XmlError::Name),
        };
        if len == 0 || len > NAME_MAX || bytes.get(start).is_some_and(u8::is_ascii_digit) {
            return Err(XmlError::Name);
        }
        self.advance(if closed { 2 } else { 1 });
        Ok((Span { start, end }, closed))
    }

    /// Reads `</name>`; the `</` is known to be there.
    fn end_tag(&mut self, name: &str) -> Result<(), XmlError> {
        self.advance(2);
        let Some(after) = self.rest().strip_prefix(name.as_bytes()) else {
            // A document that was cut inside the right name is cut, not wrong.
            let cut = name.as_bytes().starts_with(self.rest());
            return Err(if cut { XmlError::Truncated } else { XmlError::EndTag });
        };
        self.advance(name.len());
        if after.first() != Some(&b'>') {
            self.skip_space();
        }
        match self.rest().first() {
            Some(b'>') => self.advance(1),
            Some(_) => return Err(XmlError::EndTag),
            None => return Err(XmlError::Truncated),
        }
        Ok(())
    }

    /// Notes an element's name and its hash; refuses the second of one name, in whatever case.
    #[inline]
    fn note(&mut self, name: Span, hash: u16) -> Result<(), XmlError> {
        if self.pairs.len() >= ELEMENTS_MAX {
            return Err(XmlError::TooManyElements);
        }
        let bit = 1 << (hash & 63);
        let word = self.seen.get_mut(usize::from(hash >> 6));
        // A name without a place would be compared: there is none.
        let seen = word.is_none_or(|word| std::mem::replace(word, *word | bit) & bit != 0);
        if seen && self.has(name) { Err(XmlError::Duplicate) } else { Ok(()) }
    }

    /// Whether a name occurred before, in whatever case.
    #[cold]
    fn has(&self, name: Span) -> bool {
        let name = self.slice(name);
        self.pairs.iter().any(|pair| self.slice(pair.name).eq_ignore_ascii_case(name))
    }

    /// Reads everything up to and with `</name>`.
    fn value(&mut self, name: &str) -> Result<Span, XmlError> {
        let mut value = Value::Empty;
        loop {
            let run = memchr2(b'<', b'&', self.rest()).ok_or(XmlError::Truncated)?;
            if run > 0 {
                let text = Span { start: self.at, end: self.at.saturating_add(run) };
                // `>` is rare in plain text; only where one stands, brackets before it matter.
                let bytes = self.slice(text);
                if memchr(b'>', bytes.as_bytes()).is_some() && bytes.contains("]]>") {
                    return Err(XmlError::CdataEnd);
                }
                self.append(&mut value, text);
                self.advance(run);
            }
            match self.rest() {
                [b'&', ..] => {
                    let decoded = self.reference()?;
                    self.decode(&mut value).push(decoded);
                }
                [b'<', b'/', ..] => {
                    self.end_tag(name)?;
                    return Ok(match value {
                        Value::Empty => Span { start: 0, end: 0 },
                        Value::Whole(span) => span,
                        Value::Decoded(start) => {
                            let behind = self.text.len();
                            Span {
                                start: behind.saturating_add(start),
                                end: behind.saturating_add(self.scratch.len()),
                            }
                        }
                    });
                }
                rest if rest.starts_with(CDATA) => {
                    let start = self.at.saturating_add(CDATA.len());
                    let inside = rest.get(CDATA.len()..).unwrap_or_default();
                    let len = cdata_end(inside).ok_or(XmlError::Truncated)?;
                    let end = start.saturating_add(len);
                    self.append(&mut value, Span { start, end });
                    self.at = end.saturating_add(CDATA_END.len());
                }
                [b'<'] => return Err(XmlError::Truncated),
                [b'<', b'!' | b'?', ..] => return Err(self.markup()),
                _ => return Err(XmlError::TooDeep),
            }
        }
    }

    /// Adds a run of the document to a value.
    fn append(&mut self, value: &mut Value, run: Span) {
        let text = self.slice(run);
        if text.is_empty() {
            return;
        }
        let plain = !self.returns || memchr(b'\r', text.as_bytes()).is_none();
        if plain && matches!(value, Value::Empty) {
            *value = Value::Whole(run);
            return;
        }
        let scratch = self.decode(value);
        if plain {
            scratch.push_str(text);
            return;
        }
        let mut chars = text.chars().peekable();
        while let Some(char) = chars.next() {
            match char {
                '\r' if chars.peek() == Some(&'\n') => {}
                '\r' => scratch.push('\n'),
                _ => scratch.push(char),
            }
        }
    }

    /// Moves a value to the scratch, where more can be added to it.
    fn decode(&mut self, value: &mut Value) -> &mut String {
        match *value {
            Value::Decoded(_) => {}
            Value::Empty => *value = Value::Decoded(self.scratch.len()),
            Value::Whole(span) => {
                *value = Value::Decoded(self.scratch.len());
                let text = self.slice(span);
                self.scratch.push_str(text);
            }
        }
        self.scratch
    }

    /// Reads `&name;`, `&#10;` or `&#xA;`; the `&` is known to be there.
    fn reference(&mut self) -> Result<char, XmlError> {
        let rest = self.rest();
        // The longest is `&#x0010FFFF;`; zeros may lead, but nobody writes more than a few.
        let end = rest.iter().take(16).position(|byte| *byte == b';').ok_or_else(|| {
            if rest.len() < 16 && memchr(b'<', rest).is_none() {
                XmlError::Truncated
            } else if rest.starts_with(b"&#") {
                XmlError::CharacterReference
            } else {
                XmlError::Entity
            }
        })?;
        self.advance(end.saturating_add(1));
        match rest.get(1..end).unwrap_or_default() {
            b"lt" => Ok('<'),
            b"gt" => Ok('>'),
            b"amp" => Ok('&'),
            b"quot" => Ok('"'),
            b"apos" => Ok('\''),
            [b'#', b'x', digits @ ..] => character(digits, 16),
            [b'#', digits @ ..] => character(digits, 10),
            _ => Err(XmlError::Entity),
        }
    }
}

const CDATA: &[u8] = b"<![CDATA[";
const CDATA_END: &[u8] = b"]]>";

/// Where CDATA ends. Values are short: looking for one bracket after the other beats a searcher's start-up.
fn cdata_end(bytes: &[u8]) -> Option<usize> {
    let mut from = 0_usize;
    for _ in 0..4 {
        from = from.checked_add(memchr(b']', bytes.get(from..)?)?)?;
        if bytes.get(from..)?.starts_with(CDATA_END) {
            return Some(from);
        }
        from = from.checked_add(1)?;
    }
    memmem::find(bytes.get(from..)?, CDATA_END)?.checked_add(from)
}

/// The character of a reference's digits.
fn character(digits: &[u8], radix: u32) -> Result<char, XmlError> {
    let code = digits.iter().try_fold(0u32, |code, digit| {
        char::from(*digit).to_digit(radix).and_then(|digit| code.checked_mul(radix)?.checked_add(digit))
    });
    match code.filter(|_| !digits.is_empty()).and_then(char::from_u32) {
        Some(char @ ('\t' | '\n' | '\r' | ' '..='\u{FFFD}' | '\u{10000}'..)) => Ok(char),
        _ => Err(XmlError::CharacterReference),
    }
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t', '\r', '\n'])
}

/// Takes ` name="value"` off the front of a declaration: the value and what follows it.
fn attribute<'t>(text: &'t str, name: &str) -> Option<(&'t str, &'t str)> {
    let after = text.trim_start_matches([' ', '\t', '\r', '\n']);
    if after.len() == text.len() {
        return None;
    }
    let quoted = trim(trim(after.strip_prefix(name)?).strip_prefix('=')?);
    let quote = quoted.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    quoted.get(1..)?.split_once(quote)
}
