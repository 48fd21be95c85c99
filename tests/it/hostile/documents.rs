//! XML that is not the flat XML of the protocol. Source: wechatpay-v2 §6 no. 1; MI-01 to MI-04, MI-12.

use super::class::{Class, NUMBER, PAY, QUERY, REVERSE, Want, payment, post, signed};

pub(super) fn classes() -> Vec<Class> {
    let good = signed(&payment());
    let put = |what: &str| good.replacen("<xml>", &format!("<xml>{what}"), 1);
    let before = |what: &str| format!("{what}{good}");
    let after = |what: &str| format!("{good}{what}");
    let fee = |value: &str| good.replace("<total_fee>1288<", &format!("<total_fee>{value}<"));
    let many: String = (0..300).map(|at| format!("<f{at}>1</f{at}>")).collect();
    let bomb: String = (0..9).map(|at| format!("<!ENTITY e{} \"&e{at};&e{at};\">", at + 1)).collect();
    let deep = format!("{}{}", "<a>".repeat(5_000), "</a>".repeat(5_000));
    let doctype = "document type declaration";
    let cases: Vec<(&str, String, &str)> = vec![
        ("doctype", before("<!DOCTYPE xml>"), doctype),
        ("external entity", before("<!DOCTYPE xml [<!ENTITY e SYSTEM \"file:///etc/passwd\">]>"), doctype),
        ("external subset", before("<!DOCTYPE xml SYSTEM \"http://10.0.0.1/x.dtd\">"), doctype),
        ("parameter entity", before("<!DOCTYPE xml [<!ENTITY % p \"x\"> %p;]>"), doctype),
        ("entity bomb", before(&format!("<!DOCTYPE xml [<!ENTITY e0 \"x\">{bomb}]>")), doctype),
        ("doctype in small letters", before("<!doctype xml>"), doctype),
        ("doctype inside the root", put("<!DOCTYPE x>"), doctype),
        ("doctype behind the root", after("<!DOCTYPE x>"), doctype),
        ("doctype in a value", fee("12<!DOCTYPE x>88"), doctype),
        ("entity declared without doctype", put("<!ENTITY e \"1\">"), doctype),
        ("unknown entity", fee("&fee;"), "reference to an unknown entity"),
        ("entity of HTML", fee("1288&nbsp;"), "reference to an unknown entity"),
        ("entity without end", fee("1288&amp"), "reference to an unknown entity"),
        ("bare ampersand", fee("12&88"), "reference to an unknown entity"),
        ("reference to NUL", fee("1288&#0;"), "bad character reference"),
        ("reference to a surrogate", fee("&#xD800;"), "bad character reference"),
        ("reference over Unicode", fee("&#x110000;"), "bad character reference"),
        ("signed reference", fee("&#+49;"), "bad character reference"),
        ("endless reference", fee(&format!("&#{}49;", "0".repeat(5_000))), "bad character reference"),
        ("attribute", good.replace("<total_fee>", "<total_fee type=\"int\">"), "attribute"),
        ("attribute of the root", good.replacen("<xml>", "<xml lang='zh'>", 1), "attribute"),
        ("namespace", good.replacen("<xml>", "<xml xmlns=\"urn:x\">", 1), "attribute"),
        ("namespace bomb", put(&format!("<a {}/>", "xmlns:a='u' ".repeat(3_000))), "attribute"),
        ("inclusion", put("<xi:include href=\"file:///etc/passwd\"/>"), "bad element name"),
        ("prefixed name", put("<w:a>1</w:a>"), "bad element name"),
        ("hyphen in a name", put("<a-b>1</a-b>"), "bad element name"),
        ("digit before a name", put("<1a>1</1a>"), "bad element name"),
        ("name in other script", put("<tоtal_fee>1</tоtal_fee>"), "bad element name"),
        ("name too long", put(&format!("<{0}>1</{0}>", "n".repeat(65))), "bad element name"),
        ("no name", put("<>1</>"), "bad element name"),
        ("blank before a name", put("< a>1</a>"), "bad element name"),
        ("instruction", before("<?php system('x'); ?>"), "processing instruction"),
        ("style sheet", before("<?xml-stylesheet href='x'?>"), "processing instruction"),
        ("instruction in a value", fee("12<?x?>88"), "processing instruction"),
        ("declaration inside", put("<?xml version=\"1.0\"?>"), "processing instruction"),
        ("comment", put("<!-- -->"), "comment"),
        ("comment in a value", fee("12<!-- -->88"), "comment"),
        ("comment behind the root", after("<!-- -->"), "comment"),
        ("CDATA between elements", put("<![CDATA[x]]>"), "text between elements"),
        ("CDATA without end", fee("<![CDATA[1288"), "document ends too early"),
        ("end of CDATA in text", fee("12]]>88"), "end of CDATA in plain text"),
        ("conditional section", put("<![INCLUDE[<a>1</a>]]>"), "unknown markup"),
        ("element declaration", put("<!ELEMENT a ANY>"), "unknown markup"),
        ("nested", put("<a><b>1</b></a>"), "elements are nested too deep"),
        ("element in a value", fee("<b>1288</b>"), "elements are nested too deep"),
        ("depth bomb", put(&deep), "elements are nested too deep"),
        ("twice", put("<total_fee>1</total_fee>"), "element occurs twice"),
        ("twice, once empty", put("<total_fee></total_fee>"), "element occurs twice"),
        ("twice, once closed at once", put("<total_fee/>"), "element occurs twice"),
        ("twice, in other case", put("<Total_Fee>1</Total_Fee>"), "element occurs twice"),
        ("signature twice", put("<sign>0</sign>"), "element occurs twice"),
        ("signature twice, in other case", put("<SIGN>0</SIGN>"), "element occurs twice"),
        ("byte order mark", before("\u{feff}"), "byte order mark"),
        ("GBK claimed", before("<?xml version=\"1.0\" encoding=\"GBK\"?>"), "declared encoding is not UTF-8"),
        (
            "UTF-16 claimed",
            before("<?xml version=\"1.0\" encoding=\"UTF-16\"?>"),
            "declared encoding is not UTF-8",
        ),
        (
            "UTF-7 claimed",
            before("<?xml version=\"1.0\" encoding='utf-7'?>"),
            "declared encoding is not UTF-8",
        ),
        ("XML 1.1", before("<?xml version=\"1.1\"?>"), "ill-formed XML declaration"),
        ("declaration without version", before("<?xml encoding=\"UTF-8\"?>"), "ill-formed XML declaration"),
        ("declaration with more", before("<?xml version=\"1.0\" x=\"y\"?>"), "ill-formed XML declaration"),
        ("NUL", fee("1288\0"), "character that XML does not allow"),
        ("control character", fee("1288\u{8}"), "character that XML does not allow"),
        ("not a character", fee("1288\u{ffff}"), "character that XML does not allow"),
        ("no root", "   \n".into(), "document ends too early"),
        ("other root", good.replace("xml>", "html>"), "wrong root element"),
        ("root in capitals", good.replace("xml>", "XML>"), "wrong root element"),
        ("two roots", after(&good), "content after the root element"),
        ("text behind the root", after("x"), "content after the root element"),
        ("text before the root", before("x"), "text between elements"),
        ("text between elements", put("x"), "text between elements"),
        ("end tag of another", fee("1288</fee>"), "end tag does not match"),
        ("end tag too many", put("</a>"), "end tag does not match"),
        ("cut in a value", good[..good.len() / 2].to_owned(), "document ends too early"),
        ("cut before its end", good[..good.len() - 3].to_owned(), "document ends too early"),
        ("too many elements", put(&many), "more than 256 elements"),
        ("JSON", format!("{{\"out_trade_no\":\"{NUMBER}\"}}"), "text between elements"),
        ("a form", format!("out_trade_no={NUMBER}&total_fee=1"), "text between elements"),
    ];
    let mut all: Vec<Class> = cases
        .into_iter()
        .map(|(name, body, cause)| class(name, body.into_bytes(), &format!("XML格式错误：{cause}")))
        .collect();
    let not_utf_8 = "XML格式错误：not UTF-8";
    let bytes = |text: &str, bytes: &[u8]| -> Vec<u8> {
        let (before, after) = text.split_once('#').expect("a place");
        [before.as_bytes(), bytes, after.as_bytes()].concat()
    };
    let hole = good.replace("便利店购物", "#");
    let utf_16: Vec<u8> = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let utf_16_be: Vec<u8> = good.encode_utf16().flat_map(u16::to_be_bytes).collect();
    all.push(class("UTF-16", [&[0xFF, 0xFE], utf_16.as_slice()].concat(), not_utf_8));
    all.push(class("UTF-16, the other way", [&[0xFE, 0xFF], utf_16_be.as_slice()].concat(), not_utf_8));
    all.push(class("GBK", bytes(&hole, b"\xb1\xe3\xc0\xfb\xb5\xea"), not_utf_8));
    all.push(class("Latin-1", bytes(&hole, b"caf\xe9"), not_utf_8));
    all.push(class("overlong", bytes(&hole, b"\xc0\xbc"), not_utf_8));
    all.push(class("surrogate in UTF-8", bytes(&hole, b"\xed\xa0\x80"), not_utf_8));
    all.push(class("over Unicode in UTF-8", bytes(&hole, b"\xf4\x90\x80\x80"), not_utf_8));
    all.push(class("half a character", bytes(&hole, b"\xe4\xbe"), not_utf_8));
    // Two readings of one value are one value, and then it is not what was signed (MI-04).
    let split = "签名错误";
    all.push(class("CDATA splits a value", fee("1<![CDATA[2]]>89").into_bytes(), split));
    all.push(class("reference in a value", fee("128&#57;").into_bytes(), split));
    all.push(class("line end in a value", fee("1288\r\n").into_bytes(), split));
    for path in [PAY, QUERY, REVERSE] {
        let want = Want::Unsigned("post数据为空".into());
        all.push(Class::new(format!("nothing for {path}"), post(path, ""), want));
    }
    all
}

fn class(name: &str, body: Vec<u8>, says: &str) -> Class {
    Class::new(format!("XML: {name}"), post(PAY, body), Want::Unsigned(says.to_owned()))
}
