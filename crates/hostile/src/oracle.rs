//! Second opinions: two XML parsers that nobody here wrote, and the signed text and amounts written down again
//! as plainly as they can be.

use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::{Digest as _, Md5};
use quick_xml::events::Event;
use sha2::Sha256;

/// Names and values in the order of the document.
pub type Pairs = Vec<(String, String)>;

/// What our reader makes of a document.
///
/// # Errors
///
/// The reader's cause.
pub fn ours(document: &[u8]) -> Result<Pairs, protocol::xml::XmlError> {
    let mut reader = protocol::xml::Reader::new();
    let message = reader.read(document)?;
    Ok(message.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

/// What quick-xml makes of a document: the children of its root with all the text below them.
///
/// # Errors
///
/// Whatever quick-xml finds wrong, and what is not flat.
pub fn quick_xml(document: &[u8]) -> Result<Pairs, String> {
    let text = std::str::from_utf8(document).map_err(|err| err.to_string())?;
    let mut reader = quick_xml::Reader::from_str(text);
    let mut pairs = Pairs::new();
    let (mut depth, mut roots) = (0_u32, 0_u32);
    loop {
        let event = reader.read_event().map_err(|err| err.to_string())?;
        match event {
            Event::Start(tag) | Event::Empty(tag) if depth > 1 => {
                return Err(format!("nested: {:?}", tag.name().as_ref()));
            }
            Event::Start(tag) => {
                if depth == 1 {
                    pairs.push((tag.name().as_ref().to_owned(), String::new()));
                }
                roots += u32::from(depth == 0);
                depth += 1;
            }
            Event::Empty(tag) => {
                if depth == 1 {
                    pairs.push((tag.name().as_ref().to_owned(), String::new()));
                }
                roots += u32::from(depth == 0);
            }
            Event::End(_) => depth -= 1,
            Event::Text(text) => append(depth, &mut pairs, &text.xml10_content())?,
            Event::CData(text) => append(depth, &mut pairs, &text.xml10_content())?,
            Event::GeneralRef(reference) => {
                let resolved = match &*reference {
                    "lt" => Some('<'),
                    "gt" => Some('>'),
                    "amp" => Some('&'),
                    "quot" => Some('"'),
                    "apos" => Some('\''),
                    _ => reference.resolve_char_ref().map_err(|err| err.to_string())?,
                };
                let char = resolved.ok_or("unknown entity")?;
                append(depth, &mut pairs, char.encode_utf8(&mut [0; 4]))?;
            }
            Event::Eof => {
                return if depth == 0 && roots == 1 { Ok(pairs) } else { Err("not one root".to_owned()) };
            }
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
}

/// Text counts inside the children of the root; elsewhere there may be only white space.
fn append(depth: u32, pairs: &mut Pairs, text: &str) -> Result<(), String> {
    if depth == 2 {
        pairs.last_mut().ok_or("text before the first element")?.1.push_str(text);
        return Ok(());
    }
    let blank = text.chars().all(|char| " \t\r\n".contains(char));
    if blank { Ok(()) } else { Err("text between elements".to_owned()) }
}

/// What roxmltree makes of a document, which must have the root `xml`.
///
/// It is given line ends as the standard has them before parsing: on its own it keeps a CR that stands right
/// before a character reference. Source: XML 1.0, section 2.11.
///
/// # Errors
///
/// Whatever roxmltree finds wrong, and what is not flat.
pub fn roxmltree(document: &[u8]) -> Result<Pairs, String> {
    let text = std::str::from_utf8(document).map_err(|err| err.to_string())?;
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let tree = roxmltree::Document::parse(&text).map_err(|err| err.to_string())?;
    let root = tree.root_element();
    if root.tag_name().name() != "xml" {
        return Err("another root".to_owned());
    }
    let mut pairs = Pairs::new();
    for child in root.children() {
        if child.is_element() {
            if child.children().any(|inner| inner.is_element()) {
                return Err("nested".to_owned());
            }
            let value = child.children().filter(roxmltree::Node::is_text).filter_map(|node| node.text());
            pairs.push((child.tag_name().name().to_owned(), value.collect()));
        } else if child.is_text()
            && !child.text().unwrap_or_default().chars().all(|char| " \t\r\n".contains(char))
        {
            return Err("text between elements".to_owned());
        }
    }
    Ok(pairs)
}

/// The text that is signed, without the key. Source: wechatpay-v2 §2.1, steps 1 to 4.
#[must_use]
pub fn canonical(pairs: &[(String, String)]) -> String {
    let mut kept: Vec<&(String, String)> =
        pairs.iter().filter(|(name, value)| name != "sign" && !value.is_empty()).collect();
    kept.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
    kept.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// The MD5 signature, upper case. Source: wechatpay-v2 §2.1.
#[must_use]
pub fn md5_sign(pairs: &[(String, String)], key: &str) -> String {
    hex::encode_upper(Md5::digest(format!("{}&key={key}", canonical(pairs))))
}

/// The HMAC-SHA256 signature, upper case. Source: wechatpay-v2 §2.1.
///
/// # Panics
///
/// Never: HMAC takes a key of any length.
#[must_use]
pub fn hmac_sign(pairs: &[(String, String)], key: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("a key of any length");
    mac.update(format!("{}&key={key}", canonical(pairs)).as_bytes());
    hex::encode_upper(mac.finalize().into_bytes())
}

/// An amount as the wallet writes it, 1 to 2³¹−1; read digit by digit. Source: MI-10.
#[must_use]
pub fn amount(text: &str) -> Option<u64> {
    if text.is_empty() || text.len() > 10 || text.starts_with('0') {
        return None;
    }
    let mut fen = 0_u64;
    for byte in text.bytes() {
        if !byte.is_ascii_digit() {
            return None;
        }
        fen = fen * 10 + u64::from(byte - b'0');
    }
    (fen <= 2_147_483_647).then_some(fen)
}

/// The value of a field, empty if there is none.
#[must_use]
pub fn field<'p>(pairs: &'p [(String, String)], name: &str) -> &'p str {
    pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str()).unwrap_or_default()
}

/// Writes pairs as XML in the plainest way.
#[must_use]
pub fn write(pairs: &[(String, String)]) -> String {
    let escaped = |text: &str| {
        text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\r', "&#13;")
    };
    let inner: String =
        pairs.iter().map(|(name, value)| format!("<{name}>{}</{name}>", escaped(value))).collect();
    format!("<xml>{inner}</xml>")
}
