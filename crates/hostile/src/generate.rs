//! Documents by grammar: about half of them are ones that the reader should take, the others differ from such a
//! one in a single respect or are bent anywhere.

use crate::draw::{Rng, mutate};

/// What is put into documents besides plain text: everything that two parsers could read in two ways.
pub const DICTIONARY: &[&str] = &[
    "<![CDATA[",
    "]]>",
    "]]",
    "]",
    ">",
    "<",
    "&",
    "&amp;",
    "&lt;",
    "&gt;",
    "&quot;",
    "&apos;",
    "&#13;",
    "&#10;",
    "&#x41;",
    "&#x4E2D;",
    "&#0;",
    "&#xD800;",
    "&#x110000;",
    "&#xFFFE;",
    "&nbsp;",
    "&amp",
    "&#;",
    "&#x;",
    "<!--",
    "-->",
    "<!-- -->",
    "<?pi x?>",
    "<?xml version=\"1.0\"?>",
    "<!DOCTYPE xml>",
    "<!DOCTYPE xml [<!ENTITY e \"1\">]>",
    "&e;",
    "<!ELEMENT a>",
    "<![INCLUDE[",
    "<xml>",
    "</xml>",
    "<xml/>",
    "<a>",
    "</a>",
    "<a/>",
    "<A>1</A>",
    "<total_fee>1</total_fee>",
    "<total_fee/>",
    "<out_trade_no>",
    "</out_trade_no>",
    "<b:a>",
    " xmlns=\"u\"",
    " a='1'",
    "\r\n",
    "\r",
    "\n",
    "\t",
    "\0",
    "\u{FEFF}",
    "\u{FFFE}",
    "\u{FFFF}",
    "\u{85}",
    "\u{2028}",
    "\u{A0}",
    "\u{1}",
    "\u{7F}",
    "中",
    "é",
    "\u{1F600}",
    "encoding=\"GBK\"",
    "standalone='yes'",
    "%",
    "\"",
    "'",
];

const NAMES: &[&str] = &[
    "total_fee",
    "out_trade_no",
    "auth_code",
    "body",
    "sign",
    "attach",
    "a",
    "b",
    "_x",
    "coupon_id_0",
    "detail",
    "nonce_str",
    "xml",
    "mch_id",
];

const DECLARATIONS: &[&str] = &[
    "<?xml version=\"1.0\"?>",
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n",
    "<?xml version='1.0' encoding='utf-8' standalone='yes' ?>",
    "<?xml version = \"1.0\" encoding = \"Utf-8\"?>\r\n",
];

/// One thing that makes a document one to be refused, or that is at the edge.
const TWISTS: &[&str] = &[
    "<!DOCTYPE xml>",
    "<!DOCTYPE xml [<!ENTITY a \"b\">]>",
    "<!ENTITY a \"b\">",
    "<!-- c -->",
    "<?pi?>",
    "<?xml-stylesheet href='x'?>",
    "<![CDATA[stray]]>",
    "stray",
    "&amp;",
    "<a b=\"c\">1</a>",
    "<a xmlns=\"u\">1</a>",
    "<p:a>1</p:a>",
    "<a-b>1</a-b>",
    "<1a>1</1a>",
    "<é>1</é>",
    "<total_fee>1<total_fee>2</total_fee></total_fee>",
    "<z>]]></z>",
    "<z>&nbsp;</z>",
    "<z>&</z>",
    "<z>&#0;</z>",
    "<z>&#xD800;</z>",
    "<z>1<!-- -->2</z>",
    "<z>1<?x?>2</z>",
    "<z>1</y>",
    "</z>",
    "</xml>",
    "<>1</>",
    "< z>1</z>",
    "<z",
    "<z>",
    "<z><![CDATA[",
    "<![IGNORE[x]]>",
    "\u{1}",
    "\u{FFFF}",
    "<z/ >",
    "<z>1</z >",
    "<z >1</z>",
];

/// One document.
#[must_use]
pub fn document(rng: &mut Rng) -> Vec<u8> {
    let mut text = String::new();
    if rng.once_in(4) {
        text.push_str(rng.pick(DECLARATIONS));
    }
    blank(&mut text, rng);
    text.push_str(if rng.once_in(60) { "<html>" } else { "<xml>" });
    let twisted = rng.once_in(4);
    let count = if rng.once_in(100) { 250 + rng.below(12) } else { rng.below(8) };
    let place = rng.below(count + 1);
    for at in 0..count {
        if twisted && at == place {
            text.push_str(rng.pick(TWISTS));
        }
        element(&mut text, at, rng);
        blank(&mut text, rng);
    }
    if twisted && place == count {
        text.push_str(rng.pick(TWISTS));
    }
    text.push_str("</xml>");
    blank(&mut text, rng);
    if rng.once_in(60) {
        text.push_str(rng.pick(TWISTS));
    }
    let mut bytes = text.into_bytes();
    match rng.below(200) {
        0 => bytes.splice(0..0, *b"\xEF\xBB\xBF").for_each(drop),
        1 => bytes = String::from_utf8_lossy(&bytes).encode_utf16().flat_map(u16::to_le_bytes).collect(),
        2 => bytes.splice(0..0, *b"<?xml version=\"1.0\" encoding=\"GBK\"?>").for_each(drop),
        3 => bytes.splice(0..0, *b"<?xml version=\"1.1\"?>").for_each(drop),
        4 => bytes.truncate(rng.below(bytes.len())),
        5 => bytes = format!("<xml><a>{}</a></xml>", "x".repeat(65_520 + rng.below(40))).into_bytes(),
        6 => bytes = format!("<xml><{0}>1</{0}></xml>", "n".repeat(60 + rng.below(9))).into_bytes(),
        7 => bytes.clear(),
        8..50 => mutate(&mut bytes, b"", DICTIONARY, rng),
        _ => {}
    }
    bytes
}

fn blank(text: &mut String, rng: &mut Rng) {
    if rng.once_in(3) {
        text.push_str(rng.pick(&["\n", " ", "\r\n", "\t", "\r", "  \n"]));
    }
}

fn element(text: &mut String, at: usize, rng: &mut Rng) {
    // Each name once; now and then another one in capitals, which may be there already in other case.
    let name = if at < NAMES.len() && rng.once_in(30) {
        rng.pick(NAMES).to_ascii_uppercase()
    } else {
        match NAMES.get(at) {
            Some(name) => (*name).to_owned(),
            None => format!("f{at}"),
        }
    };
    if rng.once_in(12) {
        text.push_str(&format!("<{name}/>"));
        return;
    }
    text.push_str(&format!("<{name}>"));
    for _ in 0..rng.below(4) {
        value(text, rng);
    }
    text.push_str(&format!("</{name}>"));
}

fn value(text: &mut String, rng: &mut Rng) {
    match rng.below(8) {
        0 => text.push_str(&rng.next_u64().to_string()),
        1 => text.push_str("深圳店-便利店购物"),
        2 => {
            let inside = rng.pick(&["", "x<y>&z", "]", "]]", "a]]b]", "\r\n", "&amp;", "<!-- -->", "]] >"]);
            text.push_str(&format!("<![CDATA[{inside}]]>"));
        }
        3 => text.push_str(rng.pick(&["&amp;", "&lt;", "&gt;", "&quot;", "&apos;"])),
        4 => {
            text.push_str(rng.pick(&["&#65;", "&#x4e2d;", "&#10;", "&#13;", "&#9;", "&#x10FFFF;", "&#0065;"]))
        }
        5 => text.push_str(rng.pick(&["\r\n", "\r", "\n", " ", "\t", "\r\r\n", "\n\r"])),
        6 => text.push_str(rng.pick(&[
            "a>b",
            "]]",
            "]",
            "'",
            "\"",
            "a=1&amp;key=2",
            "\u{85}",
            "\u{2028}",
            "é",
        ])),
        _ => text.push_str("plain text"),
    }
}
