//! What does a signature cost beside the bare hash of the same text?
//!
//! The rest is collecting the pairs, putting them in order and joining them; 2 × the hash is the aim. Run:
//! `cargo bench -p hufu-benches --bench signing`.

mod answer;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha2::Sha256;
use signer::{Case, Decoy, KeyRing, Kind, Scratch};

fn signing(criterion: &mut Criterion) {
    let text = answer::signed_text();
    let key = answer::key();
    let mac: Hmac<Sha256> = Hmac::new_from_slice(answer::KEY.as_bytes()).expect("any length");
    let mut scratch = Scratch::new();

    let mut group = criterion.benchmark_group("sign");
    group.bench_function("floor_md5", |b| b.iter(|| Md5::digest(black_box(&text))));
    group.bench_function("floor_hmac_sha256", |b| {
        b.iter(|| {
            let mut mac = mac.clone();
            mac.update(black_box(&text));
            mac.finalize()
        });
    });
    group.bench_function("canonical", |b| b.iter(|| scratch.canonical(black_box(answer::PAIRS)).len()));
    for (name, kind) in [("md5", Kind::Md5), ("hmac_sha256", Kind::HmacSha256)] {
        group.bench_function(name, |b| b.iter(|| key.sign(kind, black_box(answer::PAIRS), &mut scratch)));
    }

    // A wrong signature, a merchant in the middle of a key change, and an unknown merchant cost the same.
    let wrong = "0".repeat(64);
    let rings = [
        ("refuse_one_key", KeyRing::new(key.clone(), None)),
        ("refuse_two_keys", KeyRing::new(key.clone(), Some(key))),
    ];
    for (name, ring) in rings {
        group.bench_function(name, |b| {
            b.iter(|| {
                ring.verify(Kind::HmacSha256, black_box(answer::PAIRS), &wrong, Case::Any, &mut scratch)
            });
        });
    }
    let decoy = Decoy::new();
    group.bench_function("refuse_unknown", |b| {
        b.iter(|| decoy.verify(Kind::HmacSha256, black_box(answer::PAIRS), &wrong, Case::Any, &mut scratch));
    });
    group.finish();
}

criterion_group!(benches, signing);
criterion_main!(benches);
