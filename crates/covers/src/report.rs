//! From the record to a table: id, claim, the tests that name it and ran.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context as _;

use crate::catalogue::{Claim, Entry};

/// The tests that ran, by the id that they name.
pub type Ran = BTreeMap<String, BTreeSet<String>>;

/// Reads every file of the record in `folder`.
///
/// # Errors
/// When the folder or a file cannot be read, or a line is not `id`, tab, name.
pub fn read(folder: &Path) -> anyhow::Result<Ran> {
    let mut ran = Ran::new();
    let files = std::fs::read_dir(folder)
        .with_context(|| format!("{}: no record here; run tests/run first", folder.display()))?;
    for file in files {
        let path = file?.path();
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        for line in text.lines() {
            let (id, name) = line
                .split_once('\t')
                .with_context(|| format!("{}: not a record: {line:?}", path.display()))?;
            ran.entry(id.to_owned()).or_default().insert(name.to_owned());
        }
    }
    Ok(ran)
}

/// The entries that are claimed covered and that no test that ran names.
#[must_use]
pub fn missing(entries: impl Iterator<Item = Entry>, ran: &Ran) -> Vec<Entry> {
    entries.filter(|entry| entry.claim == Claim::Covered && !ran.contains_key(entry.id)).collect()
}

/// The tests that name an entry and ran, or why there are none.
#[must_use]
pub fn tests_of(entry: &Entry, ran: &Ran) -> Vec<String> {
    match (entry.claim, ran.get(entry.id)) {
        (Claim::Covered, Some(names)) => names.iter().cloned().collect(),
        (Claim::Later(why), _) => vec![format!("not yet: {why}")],
        (Claim::Covered, None) => vec!["NONE".to_owned()],
    }
}

/// A table for a document: a line an id.
#[must_use]
pub fn markdown(entries: impl Iterator<Item = Entry>, ran: &Ran) -> String {
    let lines = entries.map(|entry| {
        // A test's name in code, a reason in words.
        let tests = tests_of(&entry, ran).into_iter();
        let tests = tests.map(|test| {
            if ran.contains_key(entry.id) && !matches!(entry.claim, Claim::Later(_)) {
                format!("`{test}`")
            } else {
                test
            }
        });
        format!("| {} | {} | {} |\n", entry.id, entry.what, tests.collect::<Vec<_>>().join("<br>"))
    });
    std::iter::once("| id | what | tests that name it and ran |\n|---|---|---|\n".to_owned())
        .chain(lines)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{markdown, missing, read};
    use crate::catalogue::entries;

    #[test]
    fn an_id_that_no_test_names_is_missing_until_one_ran() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let all = missing(entries(), &read(folder.path())?);
        assert!(all.iter().any(|entry| entry.id == "INV-01"));
        assert!(all.iter().all(|entry| entry.id != "INV-19"), "what is claimed for later is not missing");
        std::fs::write(folder.path().join("1.tsv"), "INV-01\tmodel\nINV-01\tworld\n")?;
        let ran = read(folder.path())?;
        assert_eq!(ran.get("INV-01").map(|names| names.len()), Some(2));
        assert_eq!(missing(entries(), &ran).len(), all.len() - 1);
        Ok(())
    }

    #[test]
    fn a_document_has_a_line_for_each_id() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("1.tsv"), "INV-01\tmodel\nINV-01\tworld\n")?;
        let text = markdown(entries(), &read(folder.path())?);
        assert_eq!(text.lines().count(), 2 + entries().count());
        assert!(text.contains("| INV-01 | ") && text.contains(" | `model`<br>`world` |"), "{text}");
        assert!(text.contains(" | not yet: notifications are not built |"), "{text}");
        Ok(())
    }

    #[test]
    fn a_damaged_record_is_an_error() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("1.tsv"), "INV-01 model")?;
        assert!(read(folder.path()).is_err());
        assert!(read(&folder.path().join("none")).is_err());
        Ok(())
    }
}
