//! XML in: whatever our reader takes, two parsers that nobody here wrote read the same.

use protocol::xml::{BYTES_MAX, ELEMENTS_MAX, NAME_MAX, Reader, Writer, XmlError};

use crate::draw::Source;
use crate::oracle::{self, Pairs};

/// Reads `data` as a document.
///
/// # Panics
///
/// When the reader takes what another parser refuses or reads otherwise, breaks a limit, or reads a document
/// otherwise into buffers that are warm.
pub fn read(data: &[u8]) {
    let ours = compare(data);
    let mut warm = Reader::new();
    let _ = warm.read(b"<xml><before>a&amp;b</before></xml>");
    let again = warm.read(data).map(|message| {
        message.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect::<Pairs>()
    });
    assert_eq!(again, ours, "warm buffers read otherwise");
    let Ok(pairs) = ours else { return };
    assert!(data.len() <= BYTES_MAX && pairs.len() <= ELEMENTS_MAX, "a limit does not hold");
    for (at, (name, _)) in pairs.iter().enumerate() {
        assert!(!name.is_empty() && name.len() <= NAME_MAX, "{name:?}");
        assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{name:?}");
        let twice = pairs[..at].iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
        assert!(!twice, "{name:?} twice");
    }
}

/// What our reader makes of `data`, compared with what the two others make of it.
///
/// # Errors
///
/// The reader's cause, when it refuses the document.
///
/// # Panics
///
/// When it takes what another parser refuses, or reads it otherwise.
pub fn compare(data: &[u8]) -> Result<Pairs, XmlError> {
    let ours = oracle::ours(data)?;
    let shown = String::from_utf8_lossy(data);
    assert_eq!(oracle::quick_xml(data).as_ref(), Ok(&ours), "quick-xml reads {shown:?} otherwise");
    assert_eq!(oracle::roxmltree(data).as_ref(), Ok(&ours), "roxmltree reads {shown:?} otherwise");
    Ok(ours)
}

/// Writes names and values and reads them back.
///
/// # Panics
///
/// When anything is read back otherwise than it was written, by us or by the two others.
pub fn round_trip(data: &[u8]) {
    let mut source = Source::new(data);
    let mut pairs = Pairs::new();
    while !source.rest().is_empty() && pairs.len() < ELEMENTS_MAX {
        // The writer takes our own names and such values as XML can hold; a CR would become LF.
        let name = format!("n{}", pairs.len());
        let exact = source.byte() & 1 == 0;
        let text = String::from_utf8_lossy(source.bytes());
        let is_char = |char: &char| matches!(char, '\t' | '\n' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..);
        let value: String = text.chars().filter(is_char).collect();
        let value = if exact { value } else { protocol::xml::clean(&value).into_owned() };
        pairs.push((name, value));
    }
    let mut document = Vec::new();
    let mut writer = Writer::new(&mut document);
    for (name, value) in &pairs {
        writer.exact(name, value);
        assert_eq!(protocol::xml::clean(value).trim(), value.trim(), "clean changes {value:?}");
    }
    writer.finish();
    if document.len() <= BYTES_MAX {
        assert_eq!(compare(&document), Ok(pairs));
    } else {
        assert_eq!(oracle::ours(&document), Err(XmlError::TooLong));
    }
}
