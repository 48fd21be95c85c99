//! The wallet's own reader and writer of the flat XML. Source: wechatpay-v2 §1.2.

use quick_xml::XmlVersion;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesRef, Event};
use quick_xml::reader::Reader;
use thiserror::Error;

/// The longest document read, in bytes. Source: wechatpay-v2 §6.1.
const BYTES_MAX: usize = 64 * 1024;

/// Why a document was not read.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum XmlError {
    /// Longer than 64 KiB.
    #[error("longer than 64 KiB")]
    TooLong,
    /// Not UTF-8, or not well-formed.
    #[error("not well-formed XML in UTF-8")]
    Malformed,
    /// A document type: refused at first sight.
    #[error("holds a document type")]
    DocumentType,
    /// Not a root `<xml>` with flat children without attributes.
    #[error("not a flat <xml>")]
    Shape,
    /// An entity that is not one of the five of XML.
    #[error("holds an unknown entity")]
    Entity,
    /// The same element twice.
    #[error("holds an element twice")]
    Duplicate,
}

/// Reads names and decoded values in the order of the document; values are not trimmed.
///
/// # Errors
///
/// [`XmlError`], whatever is not the flat grammar of the channel.
pub fn read_xml(bytes: &[u8]) -> Result<Vec<(String, String)>, XmlError> {
    if bytes.len() > BYTES_MAX {
        return Err(XmlError::TooLong);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| XmlError::Malformed)?;
    let mut reader = Reader::from_str(text);
    let mut pairs: Vec<(String, String)> = Vec::with_capacity(24);
    let mut depth = 0_u8;
    let mut root_seen = false;
    loop {
        match reader.read_event().map_err(|_| XmlError::Malformed)? {
            Event::Start(start) => {
                if start.attributes().next().is_some() {
                    return Err(XmlError::Shape);
                }
                match depth {
                    0 if start.name().as_ref() == "xml" && !root_seen => root_seen = true,
                    1 => open(&mut pairs, start.name().as_ref())?,
                    _ => return Err(XmlError::Shape),
                }
                depth += 1;
            }
            Event::Empty(start) => {
                if depth != 1 || start.attributes().next().is_some() {
                    return Err(XmlError::Shape);
                }
                open(&mut pairs, start.name().as_ref())?;
            }
            Event::End(_) => depth = depth.checked_sub(1).ok_or(XmlError::Malformed)?,
            Event::Text(text) => add(&mut pairs, depth, &text.xml_content(XmlVersion::Implicit1_0))?,
            Event::CData(text) if depth == 2 => {
                add(&mut pairs, depth, &text.xml_content(XmlVersion::Implicit1_0))?;
            }
            Event::GeneralRef(reference) if depth == 2 => {
                let mut buffer = [0; 4];
                add(&mut pairs, depth, resolve(&reference, &mut buffer)?)?;
            }
            Event::DocType(_) => return Err(XmlError::DocumentType),
            Event::CData(_) | Event::GeneralRef(_) | Event::PI(_) => return Err(XmlError::Shape),
            Event::Decl(_) | Event::Comment(_) => {}
            Event::Eof if depth == 0 && root_seen => return Ok(pairs),
            Event::Eof => return Err(XmlError::Malformed),
        }
    }
}

fn open(pairs: &mut Vec<(String, String)>, name: &str) -> Result<(), XmlError> {
    if pairs.iter().any(|(seen, _)| seen == name) {
        return Err(XmlError::Duplicate);
    }
    pairs.push((name.to_owned(), String::new()));
    Ok(())
}

/// Adds text to the open element; between elements only white space may stand.
fn add(pairs: &mut [(String, String)], depth: u8, text: &str) -> Result<(), XmlError> {
    match pairs.last_mut() {
        Some((_, value)) if depth == 2 => value.push_str(text),
        Some(_) | None if text.chars().all(|c| matches!(c, ' ' | '\t' | '\r' | '\n')) => {}
        Some(_) | None => return Err(XmlError::Shape),
    }
    Ok(())
}

fn resolve<'a>(reference: &BytesRef<'_>, buffer: &'a mut [u8; 4]) -> Result<&'a str, XmlError> {
    match reference.resolve_char_ref() {
        Ok(Some(c)) => Ok(c.encode_utf8(buffer)),
        Ok(None) => resolve_predefined_entity(reference).ok_or(XmlError::Entity),
        Err(_) => Err(XmlError::Entity),
    }
}

/// Writes pairs as the channel does: CDATA, but amounts and counts plain; `sign` comes last.
#[must_use]
pub fn write_xml<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>, sign: Option<&'a str>) -> Vec<u8> {
    let mut xml = String::with_capacity(1536);
    xml.push_str("<xml>\n");
    for (name, value) in pairs.into_iter().chain(sign.map(|sign| ("sign", sign))) {
        let counts = name.contains("_fee") || name.contains("_count");
        if counts && !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
            xml.extend(["<", name, ">", value, "</", name, ">\n"]);
        } else {
            // The end mark of CDATA inside a value is split over two sections.
            let safe = value.replace("]]>", "]]]]><![CDATA[>");
            xml.extend(["<", name, "><![CDATA[", &safe, "]]></", name, ">\n"]);
        }
    }
    xml.push_str("</xml>");
    xml.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::{XmlError, read_xml, write_xml};

    fn check(document: &str, expected: Result<&[(&str, &str)], XmlError>) {
        let read = read_xml(document.as_bytes());
        let read: Result<Vec<(&str, &str)>, XmlError> = match &read {
            Ok(pairs) => Ok(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()),
            Err(error) => Err(*error),
        };
        assert_eq!(read, expected.map(<[(&str, &str)]>::to_vec), "{document}");
    }

    #[test]
    fn the_flat_grammar_is_read_and_nothing_else() {
        check(
            "<?xml version=\"1.0\"?>\r\n<xml>\n <a>1</a><b/>\n<c></c></xml>\n",
            Ok(&[("a", "1"), ("b", ""), ("c", "")]),
        );
        check("<xml><a> x &lt;&amp;&#20013; <![CDATA[<y>]]></a></xml>", Ok(&[("a", " x <&中 <y>")]));
        check("<xml><a>1</a><a>1</a></xml>", Err(XmlError::Duplicate));
        check("<!DOCTYPE xml [<!ENTITY e \"x\">]><xml><a>&e;</a></xml>", Err(XmlError::DocumentType));
        check("<xml><a>&e;</a></xml>", Err(XmlError::Entity));
        check("<xml><a><b>1</b></a></xml>", Err(XmlError::Shape));
        check("<xml><a x=\"1\">1</a></xml>", Err(XmlError::Shape));
        check("<xml>stray<a>1</a></xml>", Err(XmlError::Shape));
        check("<root><a>1</a></root>", Err(XmlError::Shape));
        check("<xml><a>1</a>", Err(XmlError::Malformed));
        check("<xml><a>1</b></xml>", Err(XmlError::Malformed));
        check("", Err(XmlError::Malformed));
        assert_eq!(read_xml(b"<xml><a>\xff</a></xml>"), Err(XmlError::Malformed));
        assert_eq!(read_xml(&vec![b' '; 64 * 1024 + 1]), Err(XmlError::TooLong));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let pairs = [("attach", "a]]>b<&"), ("total_fee", "1288"), ("fee_type", "CNY"), ("empty", "")];
        let xml = write_xml(pairs, Some("S"));
        let read = read_xml(&xml).expect("our own document");
        let expected: Vec<(String, String)> = pairs
            .iter()
            .chain(&[("sign", "S")])
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        assert_eq!(read, expected);
        let text = String::from_utf8(xml).expect("UTF-8");
        assert!(text.contains("<total_fee>1288</total_fee>"), "{text}");
    }
}
