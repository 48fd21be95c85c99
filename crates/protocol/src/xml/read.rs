//! The reader: a flat message whose values are borrowed from the document, or from a scratch if they had to
//! be decoded. Nothing is allocated once the buffers are warm.

use std::fmt;

use thiserror::Error;

use crate::xml::scan::{Scan, check_text};

/// The longest document taken, in bytes. Source: wechatpay-v2 §6 no. 1.
pub const BYTES_MAX: usize = 64 * 1024;
/// The largest number of elements below the root; the longest known answer has about 100.
pub const ELEMENTS_MAX: usize = 256;
/// The longest element name, in bytes.
pub const NAME_MAX: usize = 64;

/// Why a document is refused. None of these repeats anything of it.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum XmlError {
    /// Over [`BYTES_MAX`].
    #[error("document is longer than {BYTES_MAX} bytes")]
    TooLong,
    /// Starts with a byte order mark.
    #[error("byte order mark")]
    ByteOrderMark,
    /// Not UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
    /// A character that XML 1.0 does not allow, such as NUL.
    #[error("character that XML does not allow")]
    Character,
    /// An XML declaration that is ill-formed, or of another version than 1.0.
    #[error("ill-formed XML declaration")]
    Declaration,
    /// An XML declaration that claims another charset than UTF-8.
    #[error("declared encoding is not UTF-8")]
    Encoding,
    /// A document type declaration.
    #[error("document type declaration")]
    Doctype,
    /// A reference to an entity other than the five of XML, or a `&` that starts no reference.
    #[error("reference to an unknown entity")]
    Entity,
    /// A character reference that is ill-formed or names a character that XML does not allow.
    #[error("bad character reference")]
    CharacterReference,
    /// An element inside an element below the root.
    #[error("elements are nested too deep")]
    TooDeep,
    /// An element name that occurred before, in whatever case.
    #[error("element occurs twice")]
    Duplicate,
    /// Text, or CDATA, that stands in no element below the root.
    #[error("text between elements")]
    StrayText,
    /// `]]>` in plain text.
    #[error("end of CDATA in plain text")]
    CdataEnd,
    /// An attribute or a namespace declaration.
    #[error("attribute")]
    Attribute,
    /// An element name that is not an ASCII letter or `_` and then letters, digits and `_`, or over [`NAME_MAX`].
    #[error("bad element name")]
    Name,
    /// A comment.
    #[error("comment")]
    Comment,
    /// A processing instruction.
    #[error("processing instruction")]
    Instruction,
    /// `<!` that starts none of the above.
    #[error("unknown markup")]
    Markup,
    /// Something after the root.
    #[error("content after the root element")]
    Trailing,
    /// Another root element than the one expected.
    #[error("wrong root element")]
    Root,
    /// An end tag that ends another element, or none.
    #[error("end tag does not match")]
    EndTag,
    /// The document ends too early, or has no root.
    #[error("document ends too early")]
    Truncated,
    /// Over [`ELEMENTS_MAX`] elements.
    #[error("more than {ELEMENTS_MAX} elements")]
    TooManyElements,
}

/// Where a text lies in the document, or behind its end in the scratch if it had to be decoded.
#[derive(Clone, Copy)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
}

#[derive(Clone, Copy)]
pub(super) struct Pair {
    pub(super) name: Span,
    pub(super) value: Span,
}

/// Reads one message after another into the same buffers.
#[derive(Default)]
pub struct Reader {
    scratch: String,
    pairs: Vec<Pair>,
}

/// A parsed message: names and decoded values in the order of the wire.
#[derive(Clone, Copy)]
pub struct Message<'m> {
    document: &'m str,
    scratch: &'m str,
    pairs: &'m [Pair],
}

impl Reader {
    /// Empty buffers.
    #[must_use]
    pub const fn new() -> Self {
        Self { scratch: String::new(), pairs: Vec::new() }
    }

    /// Reads a document whose root is `xml`.
    ///
    /// White space inside an element belongs to its value; CR LF and CR become LF, as XML wants it; several
    /// runs of text and CDATA in one element are joined.
    ///
    /// # Errors
    ///
    /// One [`XmlError`] for each thing that is refused.
    pub fn read<'m>(&'m mut self, document: &'m [u8]) -> Result<Message<'m>, XmlError> {
        self.read_root(document, "xml")
    }

    /// As [`Reader::read`], for a root called `root`: the plain text of a refund notification has `root`.
    ///
    /// # Errors
    ///
    /// As [`Reader::read`].
    pub fn read_root<'m>(&'m mut self, document: &'m [u8], root: &str) -> Result<Message<'m>, XmlError> {
        self.scratch.clear();
        self.pairs.clear();
        let checked = check_text(document)?;
        Scan::new(checked, &mut self.scratch, &mut self.pairs).document(root)?;
        let (document, _) = checked;
        Ok(Message { document, scratch: &self.scratch, pairs: &self.pairs })
    }
}

impl Reader {
    /// A message out of names and values that came without bytes: from a simulated peer, say. What [`Reader::read`]
    /// refuses is not looked for.
    pub fn collect<'m, 'p>(&'m mut self, pairs: impl IntoIterator<Item = (&'p str, &'p str)>) -> Message<'m> {
        self.scratch.clear();
        self.pairs.clear();
        for (name, value) in pairs {
            let [name, value] = [name, value].map(|text| {
                let start = self.scratch.len();
                self.scratch.push_str(text);
                Span { start, end: self.scratch.len() }
            });
            self.pairs.push(Pair { name, value });
        }
        Message { document: "", scratch: &self.scratch, pairs: &self.pairs }
    }
}

impl fmt::Debug for Reader {
    /// Shows no text: it may hold codes and `openid`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reader")
    }
}

impl<'m> Message<'m> {
    /// The value of `name`; `None` if it is absent or empty, which the protocol does not tell apart.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'m str> {
        let pair = self.pair(name)?;
        Some(pair.value.of(self.document, self.scratch)).filter(|value| !value.is_empty())
    }

    /// Whether there is an element `name`, empty or not.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.pair(name).is_some()
    }

    /// Fields are looked up by the dozen, and most names differ in their length already.
    fn pair(&self, name: &str) -> Option<&'m Pair> {
        let is_it = |span: Span| span.len() == name.len() && span.of(self.document, self.scratch) == name;
        self.pairs.iter().find(|pair| is_it(pair.name))
    }

    /// Every name and decoded value, empty ones too, in the order of the wire.
    pub fn iter(&self) -> impl Iterator<Item = (&'m str, &'m str)> + Clone + use<'m> {
        let Self { document, scratch, pairs } = *self;
        pairs.iter().map(move |pair| (pair.name.of(document, scratch), pair.value.of(document, scratch)))
    }

    /// The number of elements below the root.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether the root has no element.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }
}

impl fmt::Debug for Message<'_> {
    /// Names only: values may hold codes and `openid`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

impl Span {
    const fn len(self) -> usize {
        self.end.saturating_sub(self.start)
    }

    fn of<'m>(self, document: &'m str, scratch: &'m str) -> &'m str {
        match self.start.checked_sub(document.len()) {
            None => document.get(self.start..self.end),
            Some(start) => scratch.get(start..self.end.saturating_sub(document.len())),
        }
        .unwrap_or_default()
    }
}
