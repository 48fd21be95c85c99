//! The reader against two parsers that nobody here wrote: whatever it takes, they read the same.

use std::collections::BTreeMap;

use hostile::draw::Rng;
use hostile::generate::document;
use hostile::targets::xml::compare;

/// Documents of one run.
const DOCUMENTS: u64 = 50_000;
/// The variable with another number, for a long run by hand.
const DOCUMENTS_VARIABLE: &str = "HOSTILE_DOCUMENTS";

/// Every cause for which a document is refused, as its `Debug` says.
const CAUSES: [&str; 23] = [
    "Attribute",
    "ByteOrderMark",
    "CdataEnd",
    "Character",
    "CharacterReference",
    "Comment",
    "Declaration",
    "Doctype",
    "Duplicate",
    "Encoding",
    "EndTag",
    "Entity",
    "Instruction",
    "Markup",
    "Name",
    "NotUtf8",
    "Root",
    "StrayText",
    "TooDeep",
    "TooLong",
    "TooManyElements",
    "Trailing",
    "Truncated",
];

#[test]
fn whatever_is_taken_reads_the_same_in_two_other_parsers() {
    let _covers = covers::covers(&["MI-01", "MI-02", "MI-03", "MI-04", "MI-12", "INV-24", "INV-25"]);
    let (mut taken, mut fields) = (0_u64, 0);
    let mut refused: BTreeMap<String, u64> = BTreeMap::new();
    let documents =
        std::env::var(DOCUMENTS_VARIABLE).map_or(DOCUMENTS, |count| count.parse().expect("a number"));
    for seed in 0..documents {
        let document = document(&mut Rng::new(seed));
        match compare(&document) {
            Ok(pairs) => {
                taken += 1;
                fields += pairs.len();
            }
            Err(cause) => *refused.entry(format!("{cause:?}")).or_default() += 1,
        }
    }
    println!("{taken} of {documents} taken with {fields} fields; refused: {refused:?}");
    // Neither a reader that refuses all nor a generator of nothing but good documents can pass.
    assert!((documents * 3 / 10..documents * 7 / 10).contains(&taken), "{taken} taken");
    assert!(fields > usize::try_from(taken).unwrap(), "{fields} fields");
    let reached: Vec<&str> = refused.keys().map(String::as_str).collect();
    assert_eq!(reached, CAUSES, "every cause is reached");
}
