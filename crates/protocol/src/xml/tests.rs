//! Reader and writer at their boundary; quick-xml, with our refusals added, is the oracle.

use proptest::prelude::{
    Just, ProptestConfig, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest,
};
use quick_xml::events::{BytesStart, Event};

use super::{BYTES_MAX, ELEMENTS_MAX, NAME_MAX, Reader, Writer, XmlError, clean};

type Pairs = Vec<(String, String)>;

/// What our reader makes of a document.
fn ours(document: &[u8]) -> Result<Pairs, XmlError> {
    let mut reader = Reader::new();
    let message = reader.read(document)?;
    Ok(message.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

/// What quick-xml makes of it, refused where we refuse by rule.
fn oracle(document: &[u8]) -> Option<Pairs> {
    let text = std::str::from_utf8(document).ok()?;
    if document.len() > BYTES_MAX || text.starts_with('\u{FEFF}') || !text.chars().all(is_char) {
        return None;
    }
    let mut reader = quick_xml::Reader::from_str(text);
    let mut pairs: Pairs = Vec::new();
    let (mut depth, mut roots) = (0, 0);
    loop {
        let start = reader.buffer_position();
        let event = reader.read_event().ok()?;
        if depth == 0 && roots == 1 && !matches!(event, Event::Eof | Event::Text(_)) {
            return None;
        }
        match event {
            Event::Decl(decl) if start == 0 => {
                let encoding = decl.encoding().transpose().ok()?;
                if decl.version().ok()? != "1.0"
                    || !encoding.is_none_or(|name| name.eq_ignore_ascii_case("utf-8"))
                {
                    return None;
                }
            }
            Event::Start(tag) => {
                start_tag(&tag, depth, &mut pairs)?;
                roots += i32::from(depth == 0);
                depth += 1;
            }
            Event::Empty(tag) => {
                start_tag(&tag, depth, &mut pairs)?;
                roots += i32::from(depth == 0);
            }
            Event::End(_) => depth -= 1,
            Event::Text(text) if depth == 2 && !text.contains("]]>") => {
                pairs.last_mut()?.1.push_str(&text.xml10_content());
            }
            Event::Text(text) if depth < 2 && text.chars().all(|c| " \t\r\n".contains(c)) => {}
            Event::CData(text) if depth == 2 => pairs.last_mut()?.1.push_str(&text.xml10_content()),
            Event::GeneralRef(reference) if depth == 2 && reference.len() <= 14 => {
                let char = match &*reference {
                    "lt" => '<',
                    "gt" => '>',
                    "amp" => '&',
                    "quot" => '"',
                    "apos" => '\'',
                    number => {
                        let digits = number.trim_start_matches(['#', 'x']);
                        let plain = digits.chars().all(|digit| digit.is_ascii_hexdigit());
                        reference.resolve_char_ref().ok()?.filter(|char| plain && is_char(*char))?
                    }
                };
                pairs.last_mut()?.1.push(char);
            }
            Event::Eof => return (depth == 0 && roots == 1).then_some(pairs),
            Event::Decl(_)
            | Event::Text(_)
            | Event::CData(_)
            | Event::GeneralRef(_)
            | Event::Comment(_)
            | Event::PI(_)
            | Event::DocType(_) => return None,
        }
    }
}

fn start_tag(tag: &BytesStart<'_>, depth: i32, pairs: &mut Pairs) -> Option<()> {
    let name = tag.name().as_ref().to_owned();
    let valid = name.len() <= NAME_MAX
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && tag.attributes_raw().trim().is_empty();
    match depth {
        0 => (valid && name == "xml").then_some(()),
        1 => {
            let twice = pairs.iter().any(|(known, _)| known.eq_ignore_ascii_case(&name));
            (valid && !twice && pairs.len() < ELEMENTS_MAX).then(|| pairs.push((name, String::new())))
        }
        _ => None,
    }
}

/// Production `Char` of XML 1.0.
fn is_char(char: char) -> bool {
    matches!(u32::from(char), 9 | 10 | 13 | 0x20..=0xD7FF | 0xE000..=0xFFFD | 0x10000..)
}

#[test]
fn what_is_taken() {
    for (document, expected) in [
        ("<xml></xml>", &[][..]),
        ("<xml/>", &[]),
        ("  <xml >\n</xml >\n", &[]),
        ("<?xml version=\"1.0\"?><xml><a>1</a></xml>", &[("a", "1")]),
        ("<?xml version='1.0' encoding='utf-8' standalone='yes' ?>\r\n<xml><a>1</a></xml>", &[("a", "1")]),
        ("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<xml>\n\t<a>1</a>\n</xml>", &[("a", "1")]),
        ("<xml><b/><a></a><c /></xml>", &[("b", ""), ("a", ""), ("c", "")]),
        ("<xml><a><![CDATA[x<y>&z]]></a></xml>", &[("a", "x<y>&z")]),
        ("<xml><a><![CDATA[]]></a></xml>", &[("a", "")]),
        ("<xml><a><![CDATA[a]]b]c]]]></a></xml>", &[("a", "a]]b]c]")]),
        ("<xml><a>1<![CDATA[2]]>3<![CDATA[]]><![CDATA[4]]></a></xml>", &[("a", "1234")]),
        ("<xml><a>x]]<![CDATA[]]]]><![CDATA[>]]></a></xml>", &[("a", "x]]]]>")]),
        ("<xml><a>&lt;&gt;&amp;&quot;&apos;</a></xml>", &[("a", "<>&\"'")]),
        ("<xml><a>a&#65;&#x4e2D;&#00010;b</a></xml>", &[("a", "aA中\nb")]),
        ("<xml><a>&amp;lt;</a></xml>", &[("a", "&lt;")]),
        ("<xml><a> x </a><b>\n</b></xml>", &[("a", " x "), ("b", "\n")]),
        ("<xml><a>1\r\n2\r3\n4\r</a><b><![CDATA[\r\n]]></b></xml>", &[("a", "1\n2\n3\n4\n"), ("b", "\n")]),
        ("<xml><a>1&#13;&#10;2</a></xml>", &[("a", "1\r\n2")]),
        ("<xml><_a_1>é虎\u{10FFFF}</_a_1 ></xml>", &[("_a_1", "é虎\u{10FFFF}")]),
        ("<xml><xml>1</xml></xml>", &[("xml", "1")]),
    ] {
        let found = ours(document.as_bytes());
        let expected: Pairs = expected.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        assert_eq!(found.as_ref(), Ok(&expected), "{document}");
        assert_eq!(oracle(document.as_bytes()), Some(expected), "{document}");
    }
}

#[test]
fn what_is_refused() {
    let _covers = covers::covers(&["MI-01", "MI-02", "MI-03", "MI-04", "MI-12"]);
    for (document, expected) in [
        ("", XmlError::Truncated),
        (" \n", XmlError::Truncated),
        ("<xml", XmlError::Truncated),
        ("<", XmlError::Truncated),
        ("<xml>", XmlError::Truncated),
        ("<xml><a>1</a>", XmlError::Truncated),
        ("<xml><a>1</a></xm", XmlError::Truncated),
        ("<xml><a>1", XmlError::Truncated),
        ("<xml><a>1<", XmlError::Truncated),
        ("<xml><a><![CDATA[1]]</a></xml>", XmlError::Truncated),
        ("<xml><a>&am", XmlError::Truncated),
        ("\u{FEFF}<xml/>", XmlError::ByteOrderMark),
        ("<xml><a>\0</a></xml>", XmlError::Character),
        ("<xml><a>\u{1b}[31m</a></xml>", XmlError::Character),
        ("<xml><a>\u{FFFE}</a></xml>", XmlError::Character),
        ("<?xml?><xml/>", XmlError::Declaration),
        ("<?xml version=\"1.1\"?><xml/>", XmlError::Declaration),
        ("<?xml encoding=\"utf-8\"?><xml/>", XmlError::Declaration),
        ("<?xml version=\"1.0\" standalone=\"maybe\"?><xml/>", XmlError::Declaration),
        ("<?xml version=\"1.0\"encoding=\"utf-8\"?><xml/>", XmlError::Declaration),
        ("<?xml version=\"1.0\" x=\"y\"?><xml/>", XmlError::Declaration),
        ("<?xml version=\"1.0\" encoding=\"GBK\"?><xml/>", XmlError::Encoding),
        ("<?xml version=\"1.0\" encoding=\"UTF-16\"?><xml/>", XmlError::Encoding),
        (" <?xml version=\"1.0\"?><xml/>", XmlError::Instruction),
        ("<!DOCTYPE xml><xml/>", XmlError::Doctype),
        ("<!doctype xml [<!ENTITY", XmlError::Doctype),
        ("<xml><!ENTITY x \"y\"></xml>", XmlError::Doctype),
        ("<xml><a>&x;</a></xml>", XmlError::Entity),
        ("<xml><a>&LT;</a></xml>", XmlError::Entity),
        ("<xml><a>a & b</a></xml>", XmlError::Entity),
        ("<xml><a>&;</a></xml>", XmlError::Entity),
        ("<xml><a>&nosuchentityhere;</a></xml>", XmlError::Entity),
        ("<xml><a>&#0;</a></xml>", XmlError::CharacterReference),
        ("<xml><a>&#x1F;</a></xml>", XmlError::CharacterReference),
        ("<xml><a>&#xD800;</a></xml>", XmlError::CharacterReference),
        ("<xml><a>&#xFFFF;</a></xml>", XmlError::CharacterReference),
        ("<xml><a>&#x110000;</a></xml>", XmlError::CharacterReference),
        ("<xml><a>&#4294967361;</a></xml>", XmlError::CharacterReference),
        ("<xml><a>&#;</a></xml>", XmlError::CharacterReference),
        ("<xml><a>&#X41;</a></xml>", XmlError::CharacterReference),
        ("<xml><a>&#+65;</a></xml>", XmlError::CharacterReference),
        ("<xml><a>&#0000000000000065;</a></xml>", XmlError::CharacterReference),
        ("<xml><a><b>1</b></a></xml>", XmlError::TooDeep),
        ("<xml><a><b/></a></xml>", XmlError::TooDeep),
        ("<xml><a>1</a><a>1</a></xml>", XmlError::Duplicate),
        ("<xml><a>1</a><a/></xml>", XmlError::Duplicate),
        ("<xml><total_fee>1</total_fee><Total_Fee>2</Total_Fee></xml>", XmlError::Duplicate),
        ("x<xml/>", XmlError::StrayText),
        ("<xml>x</xml>", XmlError::StrayText),
        ("<xml>&#32;</xml>", XmlError::StrayText),
        ("<xml><![CDATA[ ]]></xml>", XmlError::StrayText),
        ("<xml><a>]]></a></xml>", XmlError::CdataEnd),
        ("<xml a=\"1\"/>", XmlError::Attribute),
        ("<xml><a b='1'>1</a></xml>", XmlError::Attribute),
        ("<xml xmlns=\"u\"></xml>", XmlError::Attribute),
        ("<xml><a:b>1</a:b></xml>", XmlError::Name),
        ("<xml><1>1</1></xml>", XmlError::Name),
        ("<xml><>1</></xml>", XmlError::Name),
        ("<xml>< a>1</a></xml>", XmlError::Name),
        ("<xml><a-b>1</a-b></xml>", XmlError::Name),
        ("<xml><é>1</é></xml>", XmlError::Name),
        ("<xml><a/ ></xml>", XmlError::Name),
        ("<!-- --><xml/>", XmlError::Comment),
        ("<xml><!-- --></xml>", XmlError::Comment),
        ("<xml><a>1<!-- -->2</a></xml>", XmlError::Comment),
        ("<xml/><!-- -->", XmlError::Comment),
        ("<?php ?><xml/>", XmlError::Instruction),
        ("<?xml-stylesheet href=\"x\"?><xml/>", XmlError::Instruction),
        ("<xml><a>1<?x?></a></xml>", XmlError::Instruction),
        ("<xml/><?x?>", XmlError::Instruction),
        ("<xml><!x></xml>", XmlError::Markup),
        ("<xml><a><![cdata[1]]></a></xml>", XmlError::Markup),
        ("<xml/><xml/>", XmlError::Trailing),
        ("<xml></xml>x", XmlError::Trailing),
        ("<xml></xml></xml>", XmlError::Trailing),
        ("<root/>", XmlError::Root),
        ("<XML></XML>", XmlError::Root),
        ("<html><body>502</body></html>", XmlError::Root),
        ("</xml>", XmlError::EndTag),
        ("<xml></a></xml>", XmlError::EndTag),
        ("<xml><a>1</b></xml>", XmlError::EndTag),
        ("<xml><a>1</ a></xml>", XmlError::EndTag),
        ("<xml><a>1</a b></xml>", XmlError::EndTag),
        ("<xml><a>1</A></xml>", XmlError::EndTag),
    ] {
        assert_eq!(ours(document.as_bytes()), Err(expected), "{document}");
        // quick-xml looks at fewer things in a declaration.
        if expected != XmlError::Declaration {
            assert_eq!(oracle(document.as_bytes()), None, "{document}");
        }
    }
    for bytes in
        [&b"<xml><a>\xFF</a></xml>"[..], b"\xFF\xFE<\0x\0m\0l\0/\0>\0", b"<xml><a>\xC0\xBC</a></xml>"]
    {
        assert_eq!(ours(bytes), Err(XmlError::NotUtf8), "{bytes:?}");
    }
}

#[test]
fn every_limit_is_reached() {
    let _covers = covers::covers(&["INV-24", "MI-02"]);
    let elements = |count: usize| {
        let elements: String = (0..count).map(|n| format!("<e{n}>{n}</e{n}>")).collect();
        format!("<xml>{elements}</xml>")
    };
    assert_eq!(ours(elements(ELEMENTS_MAX).as_bytes()).map(|pairs| pairs.len()), Ok(ELEMENTS_MAX));
    assert_eq!(ours(elements(ELEMENTS_MAX + 1).as_bytes()), Err(XmlError::TooManyElements));

    let named = |len: usize| format!("<xml><{0}>1</{0}></xml>", "n".repeat(len));
    assert_eq!(ours(named(NAME_MAX).as_bytes()).map(|pairs| pairs[0].0.len()), Ok(NAME_MAX));
    assert_eq!(ours(named(NAME_MAX + 1).as_bytes()), Err(XmlError::Name));

    let sized = |len: usize| format!("<xml><a>{}</a></xml>", "v".repeat(len - "<xml><a></a></xml>".len()));
    assert_eq!(sized(BYTES_MAX).len(), BYTES_MAX);
    assert_eq!(ours(sized(BYTES_MAX).as_bytes()).map(|pairs| pairs.len()), Ok(1));
    assert_eq!(ours(sized(BYTES_MAX + 1).as_bytes()), Err(XmlError::TooLong));
}

#[test]
fn one_reader_reads_one_message_after_another() {
    let mut reader = Reader::new();
    let first = reader.read(b"<xml><a>1&amp;2</a><b>3</b></xml>").expect("well-formed");
    assert_eq!((first.get("a"), first.get("b"), first.len()), (Some("1&2"), Some("3"), 2));
    let second = reader.read(b"<xml><b></b><c>&lt;</c></xml>").expect("well-formed");
    assert_eq!((second.get("a"), second.get("b"), second.get("c")), (None, None, Some("<")));
    assert!(second.has("b") && !second.has("a") && !second.is_empty());
    assert_eq!(format!("{second:?}"), r#"["b", "c"]"#);
    assert!(reader.read(b"<xml><b>").is_err());
    let root = reader.read_root(b"<root><refund_fee>1288</refund_fee></root>", "root").expect("well-formed");
    assert_eq!(root.get("refund_fee"), Some("1288"));
}

/// The stored examples: requests and answers.
fn examples() -> Vec<(String, Vec<u8>)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors");
    let mut examples: Vec<_> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "xml"))
        .map(|path| {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, std::fs::read(path).expect("a file"))
        })
        .collect();
    examples.sort();
    examples
}

#[test]
fn examples_are_read_as_quick_xml_reads_them() {
    let examples = examples();
    assert!(examples.len() > 50);
    for (name, document) in examples {
        let expected = match name.as_str() {
            "96_neg_xxe.xml" => Some(XmlError::Doctype),
            "97_neg_duplicate_element.xml" => Some(XmlError::Duplicate),
            "70_refund_notify.plain.xml" => Some(XmlError::Root),
            _ => None,
        };
        let found = ours(&document);
        assert_eq!(found.as_ref().err().copied(), expected, "{name}");
        assert_eq!(found.ok(), oracle(&document), "{name}");
    }
}

#[test]
fn no_cut_or_bent_example_is_read_otherwise_than_by_quick_xml() {
    for (name, document) in examples().iter().filter(|(name, _)| name.starts_with(['0', '9'])) {
        let whole = document.trim_ascii_end().len();
        for end in 0..whole {
            assert!(ours(&document[..end]).is_err(), "{name} cut at {end}");
        }
        let mut bent = document.clone();
        for at in 0..bent.len() {
            for bit in 0..8 {
                bent[at] ^= 1 << bit;
                assert_eq!(ours(&bent).ok(), oracle(&bent), "{name}, bit {bit} of byte {at}");
                bent[at] ^= 1 << bit;
            }
        }
    }
}

/// Pieces of documents, good and bad.
fn piece() -> impl Strategy<Value = String> {
    const PIECES: &[&str] = &[
        "<a>",
        "</a>",
        "<b>",
        "</b>",
        "<B>",
        "<a/>",
        "<c />",
        "</a >",
        "<a b=\"1\">",
        "<a:b>",
        "<xml>",
        "</xml>",
        "<![CDATA[",
        "]]>",
        "]]",
        "]",
        ">",
        "<",
        "&",
        ";",
        "&amp;",
        "&lt;",
        "&#65;",
        "&#x41;",
        "&#13;",
        "&#0;",
        "&#xFFFE;",
        "&x;",
        "\r\n",
        "\r",
        "\n",
        " ",
        "x",
        "é",
        "虎",
        "\u{FFFE}",
        "\u{FFFD}",
        "<!--",
        "-->",
        "<?x?>",
        "<!DOCTYPE x>",
        "=",
        "\"",
        "/",
        "\0",
        "\u{7f}",
    ];
    prop::sample::select(PIECES).prop_map(str::to_owned)
}

/// An element that is well-formed but for what its text holds.
fn element() -> impl Strategy<Value = String> {
    const TEXTS: &[&str] = &[
        "x",
        " ",
        "\r\n",
        "\r",
        "]]",
        ">",
        "&amp;",
        "&#x41;",
        "<![CDATA[a]]>",
        "<![CDATA[]]]]>",
        "<![CDATA[\r]]>",
        "é",
        "",
        "&#13;",
    ];
    let text = prop::collection::vec(prop::sample::select(TEXTS), 0..5).prop_map(|texts| texts.concat());
    ("[a-d_]{1,2}", text).prop_map(|(name, text)| format!("<{name}>{text}</{name}>"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn any_document_is_read_as_quick_xml_reads_it(
        head in prop_oneof![Just(""), Just("<?xml version=\"1.0\"?>"), Just("\n")],
        parts in prop::collection::vec(prop_oneof![4 => element(), 1 => piece()], 0..6),
        tail in prop_oneof![4 => Just("</xml>"), 1 => Just("</xml>\n"), 1 => Just("")],
    ) {
        let document = format!("{head}<xml>{}{tail}", parts.concat());
        prop_assert_eq!(ours(document.as_bytes()).ok(), oracle(document.as_bytes()), "{}", document);
    }

    #[test]
    fn any_pieces_are_read_as_quick_xml_reads_them(parts in prop::collection::vec(piece(), 0..12)) {
        let document = parts.concat();
        prop_assert_eq!(ours(document.as_bytes()).ok(), oracle(document.as_bytes()), "{}", document);
    }

    #[test]
    fn no_bytes_make_it_panic(document in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(ours(&document).ok(), oracle(&document));
    }

    #[test]
    fn what_is_written_is_read_back(values in prop::collection::vec("(\\PC|[\r\n\t \\]>&<\u{1}\u{FFFF}]){0,8}", 0..8), number: u64) {
        let cleaned: Vec<_> = values.iter().map(|value| clean(value)).collect();
        let mut buffer = b"before".to_vec();
        let mut writer = Writer::new(&mut buffer);
        for (at, value) in cleaned.iter().enumerate() {
            prop_assert_eq!(clean(value), &**value, "cleaning twice changes nothing");
            writer.text(&format!("e{at}"), value);
        }
        writer.number("n", number);
        writer.finish();
        let document = buffer.strip_prefix(b"before").expect("what was there stays");
        let mut expected: Pairs =
            cleaned.iter().enumerate().map(|(at, value)| (format!("e{at}"), value.to_string())).collect();
        expected.push(("n".to_owned(), number.to_string()));
        prop_assert_eq!(ours(document), Ok(expected.clone()));
        prop_assert_eq!(oracle(document), Some(expected));
        prop_assert!(!document.contains(&b'\r'));
    }

    #[test]
    fn blanks_are_written_exactly(value in "[ \n\t]{0,3}[a-z\\]>&]{0,6}[ \n\t]{0,3}") {
        let mut buffer = Vec::new();
        let mut writer = Writer::new(&mut buffer);
        writer.exact("attach", &value);
        writer.finish();
        prop_assert_eq!(ours(&buffer), Ok(vec![("attach".to_owned(), value)]));
    }
}

#[test]
fn cleaning_is_what_it_says() {
    for (value, expected) in [
        ("", ""),
        ("a b", "a b"),
        (" \r\n a\t", "a"),
        ("a\r\nb\rc\nd", "a\nb\nc\nd"),
        ("\u{1}a\u{1b}[31m\u{FFFE}", "a[31m"),
        (" \u{1} a", "a"),
        ("]]>", "]]>"),
        ("\u{3000}全角\u{a0}", "全角"),
    ] {
        assert_eq!(clean(value), expected, "{value:?}");
    }
    let mut buffer = Vec::new();
    let mut writer = Writer::new(&mut buffer);
    writer.text("a", "x<y").text("b", "]]>&<").text("c", "").number("d", 0);
    writer.finish();
    assert_eq!(
        String::from_utf8(buffer).expect("UTF-8"),
        "<xml><a><![CDATA[x<y]]></a><b>]]&gt;&amp;&lt;</b><c><![CDATA[]]></c><d>0</d></xml>"
    );
}
