//! What keeps the core pure and the dependencies pointing one way. Source: DESIGN §1, STYLE §1.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Crates that decide: no runtime, no socket, no file, no clock, no thread.
const PURE: &[&str] = &["protocol", "signer", "timer-wheel", "state-machine"];

/// Which of our crates each may use.
const MAY_USE: &[(&str, &[&str])] = &[
    ("covers", &[]),
    ("planted", &[]),
    ("protocol", &["planted"]),
    ("signer", &[]),
    ("timer-wheel", &[]),
    ("state-table", &[]),
    ("handover", &[]),
    ("unacked", &[]),
    ("state-machine", &["protocol", "timer-wheel", "planted"]),
    ("store", &["state-machine", "protocol", "planted", "handover"]),
    ("simulator", &["protocol", "signer", "state-machine", "timer-wheel", "store", "covers"]),
    ("model", &["protocol", "state-machine", "timer-wheel", "store", "covers"]),
    ("hostile", &["protocol", "signer", "state-machine", "store", "gateway"]),
    ("gateway", &["protocol", "signer", "state-table", "state-machine", "store", "handover", "unacked"]),
    ("till", &["protocol", "signer", "state-machine", "store", "simulator"]),
    ("checker", &["covers", "load", "protocol", "signer", "state-machine", "store", "simulator", "till"]),
    ("load", &["protocol", "signer", "simulator", "till"]),
    ("mutants", &["planted", "protocol", "state-machine", "store", "simulator", "model"]),
    (
        "hufu",
        &[
            "planted",
            "protocol",
            "signer",
            "timer-wheel",
            "state-table",
            "state-machine",
            "store",
            "simulator",
            "gateway",
            "till",
            "load",
        ],
    ),
];

/// What a pure crate may take from outside: nothing that does I/O.
const PURE_MAY_TAKE: &[&str] =
    &["quick-xml", "memchr", "hashbrown", "thiserror", "zeroize", "sha2", "hmac", "md-5", "subtle"];

/// What a pure crate's source never names.
const IMPURE_WORDS: &[&str] = &[
    "tokio",
    "std::net",
    "std::fs",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "Instant::now",
    "SystemTime::now",
    "thread_local!",
    "static mut",
];

/// Crates that a payment goes through: the compiler checks their sums, clippy that nothing in them can panic.
const PAYMENT_PATH: &[&str] =
    &["protocol", "signer", "timer-wheel", "state-table", "state-machine", "store", "gateway", "hufu"];

/// What clippy denies in those, tests apart.
const NO_PANIC_LINTS: &[&str] = &[
    "clippy::arithmetic_side_effects",
    "clippy::expect_used",
    "clippy::get_unwrap",
    "clippy::indexing_slicing",
    "clippy::panic",
    "clippy::string_slice",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are a folder of the project").to_owned()
}

fn manifest(name: &str) -> toml::Table {
    let path = root().join("crates").join(name).join("Cargo.toml");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names under `[dependencies]`, without those of tests.
fn dependencies(name: &str) -> BTreeSet<String> {
    let manifest = manifest(name);
    manifest
        .get("dependencies")
        .and_then(toml::Value::as_table)
        .into_iter()
        .flat_map(|t| t.keys().cloned())
        .collect()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a source folder can be read") {
        let path = entry.expect("an entry can be read").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_crate_is_on_the_list() {
    let mut crates: Vec<String> = fs::read_dir(root().join("crates"))
        .expect("the crates are there")
        .map(|entry| entry.expect("an entry can be read").file_name().to_string_lossy().into_owned())
        .collect();
    crates.sort();
    let mut listed: Vec<&str> = MAY_USE.iter().map(|(name, _)| *name).collect();
    listed.sort_unstable();
    assert_eq!(crates, listed);
}

#[test]
fn dependencies_point_one_way() {
    let ours: BTreeSet<&str> = MAY_USE.iter().map(|(name, _)| *name).collect();
    for (name, may) in MAY_USE {
        for dependency in dependencies(name).iter().filter(|dependency| ours.contains(dependency.as_str())) {
            assert!(may.contains(&dependency.as_str()), "{name} must not depend on {dependency}");
        }
    }
}

#[test]
fn every_build_for_users_checks_its_arithmetic() {
    let _covers = covers::covers(&["INV-03"]);
    let text = fs::read_to_string(root().join("Cargo.toml")).expect("the workspace has a manifest");
    let manifest: toml::Table = text.parse().expect("it is TOML");
    let release = manifest.get("profile").and_then(|profiles| profiles.get("release"));
    let release = release.and_then(toml::Value::as_table).expect("the release profile is written out");
    assert_eq!(release.get("overflow-checks"), Some(&toml::Value::Boolean(true)));
    // Neither a package nor a profile that inherits may turn it off again.
    assert!(!text.contains("overflow-checks = false"));
}

#[test]
fn nothing_on_the_payment_path_may_panic_by_oversight() {
    for name in PAYMENT_PATH {
        let source = root().join("crates").join(name).join("src");
        let roots =
            ["lib.rs", "main.rs"].map(|file| fs::read_to_string(source.join(file)).unwrap_or_default());
        let text = roots.concat();
        let denied =
            text.split_once("deny(").and_then(|(_, rest)| rest.split_once(")]")).map(|(lints, _)| lints);
        for lint in NO_PANIC_LINTS {
            assert!(denied.is_some_and(|denied| denied.contains(lint)), "{name} must deny {lint}");
        }
    }
}

#[test]
fn the_wallet_is_judged_by_strangers() {
    // The model reads, checks and signs by itself: only the world that surrounds it meets our reader and signer.
    let mut files = Vec::new();
    sources(&root().join("crates/simulator/src"), &mut files);
    let world = root().join("crates/simulator/src/world");
    for file in files.iter().filter(|file| !file.starts_with(&world) && !is_test(file) && !is_program(file)) {
        let text = fs::read_to_string(file).expect("a source can be read");
        for word in ["use protocol", "protocol::", "use signer", "signer::", "state_machine::"] {
            assert!(!text.contains(word), "{} must not use {word}", file.display());
        }
    }
}

fn is_test(file: &Path) -> bool {
    file.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs")
}

fn is_program(file: &Path) -> bool {
    file.components().any(|part| part.as_os_str() == "bin" || part.as_os_str() == "main.rs")
}

#[test]
fn pure_crates_take_nothing_that_does_io() {
    let ours: BTreeSet<&str> = MAY_USE.iter().map(|(name, _)| *name).collect();
    for name in PURE {
        for dependency in dependencies(name) {
            let known = ours.contains(dependency.as_str()) || PURE_MAY_TAKE.contains(&dependency.as_str());
            assert!(known, "{name} must stay pure: it now takes {dependency}");
        }
        let mut files = Vec::new();
        sources(&root().join("crates").join(name).join("src"), &mut files);
        assert!(!files.is_empty());
        let lib =
            fs::read_to_string(root().join("crates").join(name).join("src/lib.rs")).expect("lib.rs is there");
        assert!(lib.contains("#![forbid(unsafe_code)]"), "{name} forbids unsafe code");
        for file in files.iter().filter(|file| !is_test(file)) {
            let text = fs::read_to_string(file).expect("a source can be read");
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for word in IMPURE_WORDS {
                assert!(!code.contains(word), "{} must not name {word}", file.display());
            }
        }
    }
}

#[test]
fn no_planted_bug_is_in_the_product() {
    // Who compiles them in: the runner's manifest, and no other.
    for (name, _) in MAY_USE.iter().filter(|(name, _)| *name != "mutants") {
        for table in ["dependencies", "dev-dependencies"] {
            let asks =
                manifest(name).get(table).and_then(|table| table.get("planted")?.get("features").cloned());
            assert_eq!(asks, None, "{name}, {table}: only mutants asks planted for features");
        }
    }
    // What cargo makes of the manifests.
    let tree = std::process::Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--edges", "normal,build,features", "--package", "hufu"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let tree = String::from_utf8_lossy(&tree.stdout).into_owned();
    assert!(tree.contains("planted v"), "the product knows the word: {tree}");
    assert!(!tree.contains("planted feature \"bugs\""), "the product carries the bugs");
    // Who plants them.
    for (name, _) in MAY_USE.iter().filter(|(name, _)| !["mutants", "planted"].contains(name)) {
        let mut files = Vec::new();
        sources(&root().join("crates").join(name).join("src"), &mut files);
        for file in files {
            let text = fs::read_to_string(&file).expect("a source can be read");
            for word in ["planted::plant(", "planted::{", "planted::Bug"] {
                assert!(!text.contains(word), "{} must not plant a bug", file.display());
            }
        }
    }
}

#[test]
fn the_release_keeps_its_checks() {
    let text = fs::read_to_string(root().join("Cargo.toml")).expect("the manifest is there");
    let manifest: toml::Table = text.parse().expect("the manifest is TOML");
    let release = &manifest["profile"]["release"];
    assert_eq!(release.get("overflow-checks").and_then(toml::Value::as_bool), Some(true), "INV-03");
    assert_eq!(release.get("lto").and_then(toml::Value::as_str), Some("thin"));
    assert!(release.get("panic").is_none(), "a panic in one request must not end the process (PR-10)");
}
