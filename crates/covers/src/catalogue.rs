//! The invariants and faults, and what is claimed of each.

/// The list as it stands in the project; one line an id.
const TEXT: &str = include_str!("../catalogue.tsv");

/// What the project says of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// A test that names it runs with the others.
    Covered,
    /// It does not apply yet, or is covered in part only; why.
    Later(&'static str),
}

/// One invariant or fault.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its id: `INV-07`, `NM-00`.
    pub id: &'static str,
    /// The ways to test it, as letters: M model, S simulation, K kills, P property, Z fuzz, C configuration, L load.
    pub ways: &'static str,
    /// What must hold, or what breaks.
    pub what: &'static str,
    /// What is claimed.
    pub claim: Claim,
}

/// Every entry, in the order of the list.
pub fn entries() -> impl Iterator<Item = Entry> {
    TEXT.lines().filter(|line| !line.starts_with('#')).filter_map(entry)
}

/// The entry of `id`.
#[must_use]
pub fn find(id: &str) -> Option<Entry> {
    entries().find(|entry| entry.id == id)
}

fn entry(line: &'static str) -> Option<Entry> {
    let mut columns = line.split('\t');
    let (id, ways, what) = (columns.next()?, columns.next()?, columns.next()?);
    let claim = match columns.next()?.split_once(": ") {
        Some(("later", why)) => Claim::Later(why),
        Some(_) | None => Claim::Covered,
    };
    Some(Entry { id, ways, what, claim })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Claim, TEXT, entries, find};

    #[test]
    fn every_line_is_an_entry_of_its_own() {
        let lines = TEXT.lines().filter(|line| !line.starts_with('#')).count();
        let ids: BTreeSet<&str> = entries().map(|entry| entry.id).collect();
        assert_eq!((lines, ids.len()), (179, 179));
        assert_eq!(entries().filter(|entry| entry.id.starts_with("INV-")).count(), 30);
    }

    #[test]
    fn a_claim_is_one_of_the_two_words() {
        for line in TEXT.lines().filter(|line| !line.starts_with('#')) {
            let claim = line.rsplit('\t').next().unwrap_or_default();
            assert!(claim == "covered" || claim.starts_with("later: "), "{line}");
        }
        assert!(matches!(find("INV-19").map(|entry| entry.claim), Some(Claim::Later(_))));
        assert!(find("INV-99").is_none());
    }
}
