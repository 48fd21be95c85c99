//! Input that means harm: bodies of the fuzz targets, the mutator that bends their seeds, and second opinions.
//!
//! The folder `fuzz` runs these bodies under libFuzzer; the tests of this crate run them over every kept seed and
//! thousands of bent ones, so that a stable compiler finds on every check-in what was once found. Source:
//! faults-and-invariants INV-10, INV-24, INV-25, MI-01 to MI-14, MI-25.
#![forbid(unsafe_code)]

pub mod draw;
pub mod generate;
pub mod oracle;
pub mod order;
pub mod rig;
pub mod targets;

/// The API key of the vectors: it signs what must be taken, in tests and nowhere else.
pub const KEY: &str = "192006250b4c09247ec02edce69f6a2d";

/// One fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and its seeds' folder below `fuzz/seeds`.
    pub name: &'static str,
    /// Its body; panics when something is wrong.
    pub run: fn(&[u8]),
    /// Words that its input is likely to be bent with.
    pub dictionary: &'static [&'static str],
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "xml_read", run: targets::xml::read, dictionary: generate::DICTIONARY },
    Target { name: "xml_round_trip", run: targets::xml::round_trip, dictionary: generate::DICTIONARY },
    Target { name: "canonical", run: targets::canonical::sign, dictionary: targets::WORDS },
    Target { name: "answer", run: targets::answer::judge, dictionary: targets::WORDS },
    Target { name: "record", run: targets::record::store, dictionary: &[] },
    Target { name: "config", run: targets::config::parse, dictionary: targets::SETTINGS },
    Target { name: "json", run: targets::tills::json, dictionary: targets::JSON },
    Target { name: "request", run: targets::tills::xml, dictionary: targets::WORDS },
    Target { name: "http", run: targets::tills::http, dictionary: targets::HTTP },
];

/// Runs the target called `name`.
///
/// # Panics
///
/// When there is no such target, and when its body finds something wrong.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target of this name");
    (target.run)(data);
}

/// Reads lines `name=value`; later ones of one name are left out, as are names that are none.
#[must_use]
pub fn lines(text: &str) -> oracle::Pairs {
    let mut pairs = oracle::Pairs::new();
    for (name, value) in text.split('\n').filter_map(|line| line.split_once('=')) {
        let is_name = !name.is_empty()
            && name.len() <= 64
            && name.starts_with(|char: char| char.is_ascii_alphabetic() || char == '_')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let new = !pairs.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
        if is_name && new && pairs.len() < protocol::xml::ELEMENTS_MAX {
            pairs.push((name.to_owned(), value.to_owned()));
        }
    }
    pairs
}
