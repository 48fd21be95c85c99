//! What does it cost to read one signed answer of the wallet and to check it?
//!
//! The floor is what nobody can avoid: one pass of quick-xml's events over the same bytes, and one bare hash
//! of the same text. `read_and_verify_*` must stay within 2.2 × the sum of the two, and `read` alone must be 4 times as
//! fast as the pass. quick-xml with serde and a tree of roxmltree read the same bytes, as a client library would. All run
//! in one group, so that only ratios within a run are compared. Run: `cargo bench -p hufu-benches --bench codec`.

mod answer;

use std::collections::HashMap;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use protocol::xml;
use quick_xml::events::Event;
use sha2::Sha256;
use signer::{Case, Kind, Scratch};

/// Counts events, so that none is optimised away.
fn events(document: &str) -> usize {
    let mut reader = quick_xml::Reader::from_str(document);
    let mut count = 0;
    loop {
        match reader.read_event() {
            Ok(Event::Eof) | Err(_) => return count,
            Ok(event) => count += event.len(),
        }
    }
}

/// A document as serde gives it: what most clients do.
type Pairs = HashMap<String, String>;

/// The texts of a tree's elements.
fn tree(document: &str) -> usize {
    let tree = roxmltree::Document::parse(document).expect("well-formed");
    tree.root_element().children().filter_map(|element| element.text()).map(str::len).sum()
}

/// The answer, signed by `kind`.
fn document(kind: Kind) -> Vec<u8> {
    let mut document = Vec::new();
    let mut writer = xml::Writer::new(&mut document);
    for (name, value) in answer::PAIRS {
        writer.text(name, value);
    }
    writer.text("sign", answer::key().sign(kind, answer::PAIRS, &mut Scratch::new()).as_str());
    writer.finish();
    document
}

fn codec(criterion: &mut Criterion) {
    let text = answer::signed_text();
    let key = answer::key();
    let mac: Hmac<Sha256> = Hmac::new_from_slice(answer::KEY.as_bytes()).expect("any length");
    let md5_document = document(Kind::Md5);
    let hmac_document = document(Kind::HmacSha256);
    let document = std::str::from_utf8(&hmac_document).expect("UTF-8");

    let mut group = criterion.benchmark_group("answer");
    group.throughput(Throughput::Bytes(hmac_document.len() as u64));
    group.bench_function("floor_quick_xml_events", |b| b.iter(|| events(black_box(document))));
    group.bench_function("peer_quick_xml_serde", |b| {
        b.iter(|| quick_xml::de::from_str::<Pairs>(black_box(document)).expect("well-formed").len());
    });
    group.bench_function("peer_roxmltree", |b| b.iter(|| tree(black_box(document))));
    group.bench_function("floor_md5", |b| b.iter(|| Md5::digest(black_box(&text))));
    group.bench_function("floor_hmac_sha256", |b| {
        b.iter(|| {
            let mut mac = mac.clone();
            mac.update(black_box(&text));
            mac.finalize()
        });
    });

    let mut reader = xml::Reader::new();
    let mut scratch = Scratch::new();
    group.bench_function("read", |b| {
        b.iter(|| reader.read(black_box(&hmac_document)).map(|message| message.len()));
    });
    for (name, kind, document) in [
        ("read_and_verify_md5", Kind::Md5, &md5_document),
        ("read_and_verify_hmac_sha256", Kind::HmacSha256, &hmac_document),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| {
                let message = reader.read(black_box(document)).expect("well-formed");
                let sign = message.get("sign").unwrap_or_default();
                assert!(key.verify(kind, message.iter(), sign, Case::Exact, &mut scratch));
            });
        });
    }
    let mut buffer = Vec::new();
    group.bench_function("write", |b| {
        b.iter(|| {
            buffer.clear();
            let mut writer = xml::Writer::new(&mut buffer);
            for (name, value) in black_box(answer::PAIRS) {
                writer.text(name, value);
            }
            writer.finish();
            buffer.len()
        });
    });
    group.finish();
}

criterion_group!(benches, codec);
criterion_main!(benches);
