//! Connections: what two readers could read in two ways, what is over a limit, what goes elsewhere.

use super::class::{Class, NUMBER, PAY, QUERY, Want, about, payment, post, request, signed};

pub(super) fn classes() -> Vec<Class> {
    let mut all = framing();
    all.extend(chunks());
    all.extend(limits());
    all.extend(routes());
    all.extend(ignored());
    all
}

/// A query whose head is `head`, with a payment behind it that must never be seen.
fn smuggled(head: &str) -> String {
    let hidden = String::from_utf8(post(PAY, signed(&payment()))).expect("text");
    format!("{head}\r\n{}{hidden}", signed(&about()))
}

/// Heads that are no plain heads. Source: MI-13, MI-14.
fn framing() -> Vec<Class> {
    let length = signed(&about()).len();
    let query = format!("POST {QUERY} HTTP/1.1\r\nHost: till\r\n");
    let both = "both Content-Length and Transfer-Encoding";
    let twice = "the length of the body is given twice";
    let digits = "Content-Length is not plain digits";
    let coding = "Transfer-Encoding is not chunked alone";
    let header = "a header line is malformed";
    let line_end = "a line does not end in CR LF";
    let line = "the request line is malformed";
    let get_body = "a body where the method has none";
    let mut all = Vec::new();
    for (name, lines, cause) in [
        ("length and chunks", format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n"), both),
        ("chunks and length", format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n"), both),
        ("equal lengths", format!("Content-Length: {length}\r\nContent-Length: {length}\r\n"), twice),
        ("two lengths", format!("Content-Length: {length}\r\nContent-Length: 0\r\n"), twice),
        ("chunks twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n".into(), twice),
        ("signed length", format!("Content-Length: +{length}\r\n"), digits),
        ("negative length", format!("Content-Length: -{length}\r\n"), digits),
        ("list of lengths", format!("Content-Length: {length}, {length}\r\n"), digits),
        ("hexadecimal length", format!("Content-Length: 0x{length:x}\r\n"), digits),
        ("empty length", "Content-Length:\r\n".into(), digits),
        ("blank in a length", "Content-Length: 1 2\r\n".into(), digits),
        ("length over 64 bits", "Content-Length: 18446744073709551617\r\n".into(), digits),
        ("length over 4 GiB written long", "Content-Length: 00000004294967297\r\n".into(), digits),
        ("decimal length", format!("Content-Length: {length}.0\r\n"), digits),
        ("wide digits", "Content-Length: ４２\r\n".into(), digits),
        ("gzip before chunks", "Transfer-Encoding: gzip, chunked\r\n".into(), coding),
        ("look-alike coding", "Transfer-Encoding: xchunked\r\n".into(), coding),
        ("chunks in a list", "Transfer-Encoding: chunked, chunked\r\n".into(), coding),
        ("identity coding", "Transfer-Encoding: identity\r\n".into(), coding),
        ("blank before a colon", "Transfer-Encoding : chunked\r\n".into(), header),
        ("continued line", format!("X: a\r\n Content-Length: {length}\r\n"), header),
        ("continued by a tab", "X: a\r\n\tTransfer-Encoding: chunked\r\n".into(), header),
        ("no colon", "X\r\n".into(), header),
        ("no name", ": a\r\n".into(), header),
        ("blank in a name", "X Y: a\r\n".into(), header),
        ("name that is no token", "(X): a\r\n".into(), header),
        ("name in other script", "Сontent-Length: 5\r\n".into(), header),
        ("terminal escape", "X: a\x1b[2J\r\n".into(), header),
        ("delete character", "X: a\x7f\r\n".into(), header),
        ("NUL in a value", "X: a\0b\r\n".into(), "a NUL in the head"),
        ("NUL in a name", "X\0: a\r\n".into(), "a NUL in the head"),
        ("bare line feed", format!("X: a\nContent-Length: {length}\r\n"), line_end),
        ("bare carriage return", format!("X: a\rContent-Length: {length}\r\n"), line_end),
    ] {
        all.push(Class::new(name, smuggled(&format!("{query}{lines}")), Want::Head(cause)));
    }
    for (name, text, cause) in [
        ("chunks in HTTP/1.0", format!("POST {QUERY} HTTP/1.0\r\nTransfer-Encoding: chunked\r\n"), coding),
        ("nothing but line feeds", format!("POST {QUERY} HTTP/1.1\nContent-Length: {length}\n"), line_end),
        ("body on GET", format!("GET {QUERY} HTTP/1.1\r\nContent-Length: {length}\r\n"), get_body),
        ("chunks on GET", format!("GET {QUERY} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"), get_body),
        ("body on HEAD", format!("HEAD {QUERY} HTTP/1.1\r\nContent-Length: {length}\r\n"), get_body),
        ("body on DELETE", format!("DELETE {QUERY} HTTP/1.1\r\nContent-Length: {length}\r\n"), get_body),
        ("CONNECT", "CONNECT 10.0.0.1:22 HTTP/1.1\r\n".into(), line),
        ("HTTP/0.9", format!("GET {QUERY}\r\n"), line),
        ("HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n".into(), line),
        ("HTTP/1.2", format!("POST {QUERY} HTTP/1.2\r\nContent-Length: {length}\r\n"), line),
        ("another protocol", format!("POST {QUERY} RTSP/1.1\r\n"), line),
        ("method in small letters", format!("post {QUERY} HTTP/1.1\r\nContent-Length: {length}\r\n"), line),
        ("two blanks", format!("POST  {QUERY} HTTP/1.1\r\nContent-Length: {length}\r\n"), line),
        ("tabs for blanks", format!("POST\t{QUERY}\tHTTP/1.1\r\nContent-Length: {length}\r\n"), line),
        ("blank before all", format!(" POST {QUERY} HTTP/1.1\r\nContent-Length: {length}\r\n"), line),
        ("blank in the target", format!("POST {QUERY} /x HTTP/1.1\r\nContent-Length: {length}\r\n"), line),
        ("target in other script", "POST /pay/оrderquery HTTP/1.1\r\n".into(), line),
        ("control character in the target", "POST /pay/\x01 HTTP/1.1\r\n".into(), line),
        ("TLS on a plain port", "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03\r\n".into(), "a NUL in the head"),
        ("text that is no HTTP", "hello\r\n".into(), line),
    ] {
        all.push(Class::new(name, smuggled(&text), Want::Head(cause)));
    }
    all
}

/// Chunked bodies. Source: MI-13.
fn chunks() -> Vec<Class> {
    let body = signed(&payment());
    let whole = format!("{:x}\r\n{body}\r\n", body.len());
    let chunk = "a chunk is malformed";
    [
        ("chunk size over 64 bits", format!("FFFFFFFFFFFFFFFFF\r\n{body}\r\n0\r\n\r\n"), chunk),
        ("negative chunk", format!("-5\r\n{body}\r\n0\r\n\r\n"), chunk),
        ("chunk size with 0x", format!("0x5\r\n{body}\r\n0\r\n\r\n"), chunk),
        ("blank before a chunk size", format!(" {whole}0\r\n\r\n"), chunk),
        ("empty chunk size", format!("\r\n{body}\r\n0\r\n\r\n"), chunk),
        ("chunk longer than said", format!("5\r\n{body}\r\n0\r\n\r\n"), chunk),
        ("bare line feed in a chunk line", whole.replacen("\r\n", "\n", 1), "a line does not end in CR LF"),
        ("endless chunk extension", format!("5;{}\r\n", "x".repeat(300)), chunk),
        (
            "length in a trailer",
            format!("{whole}0\r\nContent-Length: 3\r\n\r\n"),
            "the length of the body is given twice",
        ),
        ("endless trailers", format!("{whole}0\r\n{}\r\n", "X: y\r\n".repeat(300)), "the head is too long"),
        ("NUL in a trailer", format!("{whole}0\r\nX: \0\r\n\r\n"), "a NUL in the head"),
    ]
    .into_iter()
    .map(|(name, chunks, cause)| {
        let text = format!("POST {PAY} HTTP/1.1\r\nHost: till\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        Class::new(name, text, Want::Bytes(cause))
    })
    .collect()
}

/// Whatever is longer, or shorter, than it may be. Source: NM-04, MI-15, MI-24, INV-24.
fn limits() -> Vec<Class> {
    let many = "X: y\r\n".repeat(80);
    let long = format!("X: {}\r\n", "y".repeat(17_000));
    let target = format!("/{}", "x".repeat(17_000));
    let over = vec![b'x'; 64 * 1024 + 1];
    let chunk = format!("2000\r\n{}\r\n", "x".repeat(8_192)).repeat(9);
    let chunked = format!("POST {PAY} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}0\r\n\r\n");
    let payment = signed(&payment());
    let coded = |coding: &str| request("POST", PAY, &format!("Content-Encoding: {coding}\r\n"), &payment);
    let announced =
        |length: &str| format!("POST {PAY} HTTP/1.1\r\nHost: till\r\nContent-Length: {length}\r\n\r\n");
    let mut all = vec![
        Class::new(
            "too many headers",
            request("POST", PAY, &many, &payment),
            Want::Bytes("message head is too large"),
        ),
        Class::new(
            "a header too long",
            request("POST", PAY, &long, &payment),
            Want::Bytes("message head is too large"),
        ),
        Class::new("a target too long", post(&target, &payment), Want::Bytes("message head is too large")),
        Class::new("a body too long", post(PAY, over), Want::Plain(413, "the body is too long")),
        Class::new("chunks too long", chunked, Want::Plain(413, "the body is too long")),
        Class::new("4 GiB announced", announced("4294967297"), Want::Plain(413, "the body is too long")),
        Class::new("the longest length", announced("9999999999"), Want::Plain(413, "the body is too long")),
    ];
    for coding in ["gzip", "deflate", "br", "zstd", "identity, gzip", "GZIP"] {
        let name = format!("body coded as {coding}");
        all.push(Class::new(name, coded(coding), Want::Plain(415, "the body is compressed")));
    }
    let whole = post(PAY, &payment);
    let cut = |name: &str, bytes: &[u8], want| Class { cut: true, ..Class::new(name, bytes, want) };
    all.push(cut("body cut", &whole[..whole.len() - 9], Want::Plain(400, "the body was cut")));
    all.push(cut("head cut", &whole[..40], Want::Silence));
    all.push(cut("nothing at all", b"", Want::Silence));
    all
}

/// Routes and methods that there are none of.
fn routes() -> Vec<Class> {
    let body = signed(&payment());
    let mut all = Vec::new();
    for path in [
        "/pay/micropay/",
        "//pay/micropay",
        "/PAY/MICROPAY",
        "/pay/%6dicropay",
        "/pay/micropay%00",
        "/pay/../pay/micropay",
        "/./pay/micropay",
        "/pay/micropay;v=1",
        "/pay/micropay.",
        "/secapi/pay/refund",
        "/pay/unifiedorder",
        "/metrics",
        "/admin",
        "*",
    ] {
        all.push(Class::new(format!("route {path}"), post(path, &body), Want::Plain(404, "no such route")));
    }
    for method in ["GET", "OPTIONS", "TRACE", "DELETE"] {
        let bytes = request(method, PAY, "", "");
        all.push(Class::new(format!("{method} to pay"), bytes, Want::Unsigned("请使用post方法".into())));
    }
    for method in ["PUT", "PATCH"] {
        let bytes = request(method, PAY, "", &body);
        all.push(Class::new(format!("{method} to pay"), bytes, Want::Unsigned("请使用post方法".into())));
    }
    all
}

/// What is meant to have an effect and has none: exactly one answer, as to a plain query. Source: MI-14, MI-22.
fn ignored() -> Vec<Class> {
    let body = signed(&about());
    let hidden = String::from_utf8(post(PAY, signed(&payment()))).expect("text");
    let headers = |lines: &str| request("POST", QUERY, lines, &body);
    vec![
        Class::new(
            "absolute target of another host",
            post("http://10.0.0.1/pay/orderquery", &body),
            Want::Ignored,
        ),
        Class::new(
            "fields in the query string",
            post("/pay/orderquery?out_trade_no=1&key=1", &body),
            Want::Ignored,
        ),
        Class::new("continue is asked for", headers("Expect: 100-continue\r\n"), Want::Ignored),
        Class::new("something else is expected", headers("Expect: 42\r\n"), Want::Ignored),
        Class::new(
            "HTTP/2 is asked for",
            headers("Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"),
            Want::Ignored,
        ),
        Class::new("a web socket is asked for", headers("Upgrade: websocket\r\n"), Want::Ignored),
        Class::new("other method by header", headers("X-HTTP-Method-Override: DELETE\r\n"), Want::Ignored),
        Class::new(
            "other address by header",
            headers("X-Forwarded-For: 127.0.0.1\r\nX-Real-IP: ::1\r\n"),
            Want::Ignored,
        ),
        Class::new("other route by header", headers("X-Original-URL: /pay/micropay\r\n"), Want::Ignored),
        Class::new("second host", headers("Host: other\r\n"), Want::Ignored),
        Class::new("length taken out by header", headers("Connection: content-length\r\n"), Want::Ignored),
        // Behind the last request of a connection nobody reads.
        Class::new(
            "payment behind a close",
            [post(QUERY, &body), hidden.into_bytes()].concat(),
            Want::Ignored,
        ),
        Class::new(
            "bytes behind the body",
            [post(QUERY, &body), format!("GET /v1/payments/{NUMBER} HTTP/1.1\r\n\r\n").into_bytes()].concat(),
            Want::Ignored,
        ),
    ]
}
