//! The element as nearly all peers write it: `<name><![CDATA[value]]></name>` or `<name>123</name>`, with nothing to
//! decode.
//!
//! What is not just so is left to the scanner, which also says what is wrong with it. So this may refuse anything,
//! but must take nothing that the scanner would not.

use memchr::memchr;

use crate::xml::read::{NAME_MAX, Pair, Span};
use crate::xml::word::Word;

/// Words of CDATA that are looked through one by one before a searcher is called.
const WORDS_MAX: usize = 8;

/// An element that was read.
pub(super) struct Element {
    pub(super) pair: Pair,
    /// As [`hash`] gives it.
    pub(super) hash: u16,
    /// Behind its end tag.
    pub(super) end: usize,
}

/// Reads the element that starts at `at`, in a document of characters that XML allows without CR.
///
/// Where a word would reach behind the document, there is no answer: the shortest end of a root is `</xml>`.
#[inline(always)]
pub(super) fn element(document: &[u8], at: usize) -> Option<Element> {
    if *document.get(at)? != b'<' {
        return None;
    }
    let start = at.wrapping_add(1);
    let mut last = start;
    let mut hash = 0;
    let (word, marks, rest) = loop {
        let word = Word::at(document, last)?;
        let (marks, others) = (word.marks(b'>'), word.not_of_name());
        if let Some(rest) = marks.first() {
            if !others.start_with(marks) {
                return None;
            }
            break (word, marks, rest);
        }
        if others.first().is_some() {
            return None;
        }
        hash = mixed(hash, word);
        last = last.wrapping_add(Word::BYTES);
    };
    hash = mixed(hash, word.before(marks));
    let end = last.wrapping_add(rest);
    let len = end.wrapping_sub(start);
    if len == 0 || len > NAME_MAX || document.get(start)?.is_ascii_digit() {
        return None;
    }
    let (value, mut close) = value(document, end.wrapping_add(1))?;
    let mut open = start;
    while open < last {
        if Word::at(document, open)? != Word::at(document, close)? {
            return None;
        }
        open = open.wrapping_add(Word::BYTES);
        close = close.wrapping_add(Word::BYTES);
    }
    // The end tag ends as the start tag does.
    if !Word::at(document, close)?.same_through(word, marks) {
        return None;
    }
    let end_of_element = close.wrapping_add(rest).wrapping_add(1);
    Some(Element { pair: Pair { name: Span { start, end }, value }, hash: folded(hash), end: end_of_element })
}

/// Reads a value and the `</` behind it: where the value lies, and where the name of the end tag should start.
#[inline(always)]
fn value(document: &[u8], start: usize) -> Option<(Span, usize)> {
    if Word::at(document, start)? != Word::new(*b"<![CDATA") {
        let end = plain_end(document, start)?;
        let [b'<', b'/', ..] = document.get(end..)? else { return None };
        return Some((Span { start, end }, end.wrapping_add(2)));
    }
    let start = start.wrapping_add(Word::BYTES).wrapping_add(1);
    let [b'[', inside @ ..] = document.get(start.wrapping_sub(1)..)? else { return None };
    let end = start.wrapping_add(bracket(inside)?);
    let [b']', b']', b'>', b'<', b'/', ..] = document.get(end..)? else { return None };
    Some((Span { start, end }, end.wrapping_add(5)))
}

/// Where `]` stands first.
#[inline(always)]
fn bracket(inside: &[u8]) -> Option<usize> {
    let mut at = 0;
    for _ in 0..WORDS_MAX {
        if let Some(found) = Word::at(inside, at)?.marks(b']').first() {
            return Some(at.wrapping_add(found));
        }
        at = at.wrapping_add(Word::BYTES);
    }
    memchr(b']', inside.get(at..)?)?.checked_add(at)
}

/// Where text ends that may hold anything but `<`, `>` and `&`.
#[inline(always)]
fn plain_end(document: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        if let Some(found) = Word::at(document, at)?.specials().first() {
            return Some(at.wrapping_add(found));
        }
        at = at.wrapping_add(Word::BYTES);
    }
}

/// Ten bits of a name, the same in either case.
pub(super) fn hash(name: &[u8]) -> u16 {
    let words = (0..=name.len()).step_by(Word::BYTES);
    folded(words.fold(0, |hash, at| mixed(hash, Word::padded(name, at))))
}

#[inline]
const fn mixed(hash: u64, word: Word) -> u64 {
    (hash.rotate_left(29) ^ word.caseless()).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[inline]
const fn folded(hash: u64) -> u16 {
    let [.., low, high] = hash.to_le_bytes();
    u16::from_le_bytes([low, high]) >> 6
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::{Reader, XmlError};

    /// What a document gives.
    fn read(document: &str) -> Result<Vec<(String, String)>, XmlError> {
        let mut reader = Reader::new();
        let message = reader.read(document.as_bytes())?;
        Ok(message.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    #[test]
    fn names_and_values_of_every_length_are_read_as_the_scanner_reads_them() {
        for len in 1..=NAME_MAX {
            let name = &"Name_of_64_bytes_".repeat(4)[..len];
            let other = name.to_ascii_uppercase();
            for value_len in [0_usize, 1, 2, 6, 7, 8, 9, 15, 16, 17, 63, 64, 65, 100] {
                let text = "<&x>y".repeat(20)[..value_len].to_owned();
                let plain = "12345".repeat(20)[..value_len].to_owned();
                for (inner, value) in [(format!("<![CDATA[{text}]]>"), text), (plain.clone(), plain)] {
                    let expected = Ok(vec![(name.to_owned(), value)]);
                    assert_eq!(read(&format!("<xml><{name}>{inner}</{name}></xml>")), expected);
                    assert_eq!(read(&format!("<xml><{name}>{inner}</{name} ></xml>")), expected);
                }
            }
            // Whichever of the two reads a name, the other knows it again.
            for (first, second) in [("", ""), ("", " "), (" ", ""), (" ", " ")] {
                let twice = format!("<xml><{name}>1</{name}{first}><{other}>2</{other}{second}></xml>");
                assert_eq!(read(&twice), Err(XmlError::Duplicate), "{twice}");
            }
            for at in 0..len {
                let mut wrong = name.to_owned().into_bytes();
                wrong[at] ^= 1;
                let wrong = String::from_utf8_lossy(&wrong);
                let document = format!("<xml><{name}>1</{wrong}></xml>");
                assert_eq!(read(&document), Err(XmlError::EndTag), "{document}");
            }
        }
    }

    #[test]
    fn what_is_usual_is_read_here() {
        for (document, end) in [
            ("<fee>12</fee></xml>", Some(13)),
            ("<a></a></xml>", Some(7)),
            ("<sub_mch_id><![CDATA[1900000110]]></sub_mch_id></xml>", Some(47)),
            ("<a>1</a >", None),
            ("<a>&lt;</a></xml>", None),
            ("<a><![CDATA[x]y]]></a></xml>", None),
            ("<1>1</1></xml>", None),
            ("<a-b>1</a-b></xml>", None),
            ("<a><b></a></xml>", None),
        ] {
            assert_eq!(element(document.as_bytes(), 0).map(|element| element.end), end, "{document}");
        }
    }
}
