//! Reads settings out of a TOML table and the environment over it, and keeps every problem it meets.
//!
//! Not serde: that stops at the first problem, and an operator wants them all at once (CF-01).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use toml::{Table, Value};
use zeroize::Zeroizing;

/// What every variable of ours begins with.
const PREFIX: &str = "HUFU_";
/// Variables of the command line, which are no settings.
const NOT_SETTINGS: [&str; 2] = ["HUFU_CONFIG", "HUFU_JSON"];

/// One thing that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Which setting, as in the file: `provider.1900000109.key_file`.
    pub setting: String,
    /// What is wrong. Never repeats a secret.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.setting, self.what)
    }
}

/// The environment, what has been read of it, and what is wrong so far.
#[derive(Debug, Default)]
pub(super) struct Reader {
    environment: BTreeMap<String, String>,
    used: BTreeSet<String>,
    problems: Vec<Problem>,
}

/// One table of the file. What nobody asked for by the end is misspelt.
#[derive(Debug)]
pub(super) struct Section {
    path: String,
    table: Table,
    known: BTreeSet<&'static str>,
}

impl Reader {
    pub(super) fn new(environment: impl IntoIterator<Item = (String, String)>) -> Self {
        let environment =
            environment.into_iter().filter(|(name, _)| name.starts_with(PREFIX)).collect::<BTreeMap<_, _>>();
        Self { environment, ..Self::default() }
    }

    /// Notes a problem.
    pub(super) fn problem(&mut self, setting: impl Into<String>, what: impl Into<String>) {
        self.problems.push(Problem { setting: setting.into(), what: what.into() });
    }

    /// Ends the reading: variables that nobody asked for are misspelt.
    pub(super) fn finish(mut self) -> Vec<Problem> {
        let unused: Vec<_> = self
            .environment
            .keys()
            .filter(|name| !self.used.contains(*name) && !NOT_SETTINGS.contains(&name.as_str()))
            .cloned()
            .collect();
        for name in unused {
            self.problem(name, "no setting has this variable");
        }
        self.problems
    }

    fn variable(&mut self, setting: &str) -> Option<String> {
        let name = variable_of(setting);
        let value = self.environment.get(&name).cloned()?;
        self.used.insert(name);
        Some(value)
    }
}

/// The variable that overrides a setting: `store.path` → `HUFU_STORE__PATH`.
pub(super) fn variable_of(setting: &str) -> String {
    format!("{PREFIX}{}", setting.to_ascii_uppercase().replace('.', "__"))
}

impl Section {
    /// The whole file.
    pub(super) const fn root(table: Table) -> Self {
        Self { path: String::new(), table, known: BTreeSet::new() }
    }

    /// A table inside this one; empty if it is absent.
    pub(super) fn section(&mut self, name: &'static str, reader: &mut Reader) -> Self {
        self.known.insert(name);
        let path = self.setting(name);
        let table = match self.table.remove(name) {
            None => Table::new(),
            Some(Value::Table(table)) => table,
            Some(_) => {
                reader.problem(path.clone(), "is not a section");
                Table::new()
            }
        };
        Self { path, table, known: BTreeSet::new() }
    }

    /// The tables of an array (`[[name]]`), each called after its field `key`.
    pub(super) fn sections(&mut self, name: &'static str, key: &str, reader: &mut Reader) -> Vec<Self> {
        self.known.insert(name);
        let setting = self.setting(name);
        let values = match self.table.remove(name) {
            None => Vec::new(),
            Some(Value::Array(values)) => values,
            Some(_) => {
                reader.problem(setting.clone(), format!("is not a list of sections: write [[{name}]]"));
                Vec::new()
            }
        };
        let mut sections = Vec::new();
        for (at, value) in values.into_iter().enumerate() {
            let Value::Table(table) = value else {
                reader.problem(format!("{setting}[{at}]"), "is not a section");
                continue;
            };
            let called =
                table.get(key).and_then(Value::as_str).map_or_else(|| format!("{at}"), str::to_owned);
            sections.push(Self { path: format!("{setting}.{called}"), table, known: BTreeSet::new() });
        }
        sections
    }

    /// The full name of a setting of this table.
    pub(super) fn setting(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Reads any text that `T` can be made of; environment first. `None` if it is absent or wrong.
    pub(super) fn parsed<T>(&mut self, name: &'static str, reader: &mut Reader) -> Option<T>
    where
        T: FromStr<Err: fmt::Display>,
    {
        let text = self.text(name, reader)?;
        text.parse().map_err(|err| reader.problem(self.setting(name), format!("{err}"))).ok()
    }

    /// As [`Section::parsed`], with what it is if it is absent.
    pub(super) fn parsed_or<T>(&mut self, name: &'static str, absent: T, reader: &mut Reader) -> T
    where
        T: FromStr<Err: fmt::Display>,
    {
        if self.is_set(name, reader) { self.parsed(name, reader).unwrap_or(absent) } else { absent }
    }

    /// As [`Section::parsed`], for what must be there.
    pub(super) fn required<T>(&mut self, name: &'static str, reader: &mut Reader) -> Option<T>
    where
        T: FromStr<Err: fmt::Display>,
    {
        if !self.is_set(name, reader) {
            let setting = self.setting(name);
            let variable = variable_of(&setting);
            reader.problem(setting, format!("is missing (here or in {variable})"));
        }
        self.parsed(name, reader)
    }

    /// Reads a text.
    pub(super) fn text(&mut self, name: &'static str, reader: &mut Reader) -> Option<String> {
        self.known.insert(name);
        let setting = self.setting(name);
        let value = self.table.remove(name);
        if let Some(text) = reader.variable(&setting) {
            return Some(text);
        }
        let text = value?.as_str().map(str::to_owned);
        if text.is_none() {
            reader.problem(setting, "is not a text: put it in quotes");
        }
        text
    }

    /// Reads a list of texts; in the environment separated by commas.
    pub(super) fn texts(&mut self, name: &'static str, reader: &mut Reader) -> Option<Vec<String>> {
        self.known.insert(name);
        let setting = self.setting(name);
        let value = self.table.remove(name);
        if let Some(text) = reader.variable(&setting) {
            return Some(text.split(',').map(|one| one.trim().to_owned()).collect());
        }
        let texts = value?
            .as_array()
            .and_then(|values| values.iter().map(|value| value.as_str().map(str::to_owned)).collect());
        if texts.is_none() {
            reader.problem(setting, "is not a list of texts");
        }
        texts
    }

    /// Reads a whole number in `range`; `absent` if it is not set.
    pub(super) fn number(
        &mut self,
        name: &'static str,
        absent: u64,
        range: RangeInclusive<u64>,
        reader: &mut Reader,
    ) -> u64 {
        self.known.insert(name);
        let setting = self.setting(name);
        let value = self.table.remove(name);
        let number = match (reader.variable(&setting), value) {
            (Some(text), _) => text.trim().parse().ok(),
            (None, Some(Value::Integer(number))) => u64::try_from(number).ok(),
            (None, Some(_)) => None,
            (None, None) => Some(absent),
        };
        match number {
            Some(number) if range.contains(&number) => number,
            _ => {
                let (least, most) = range.into_inner();
                reader.problem(setting, format!("is not a whole number from {least} to {most}"));
                absent
            }
        }
    }

    /// As [`Section::number`], for what is counted in memory.
    pub(super) fn count(
        &mut self,
        name: &'static str,
        absent: u32,
        range: RangeInclusive<u32>,
        reader: &mut Reader,
    ) -> u32 {
        let (least, most) = range.into_inner();
        let number = self.number(name, u64::from(absent), u64::from(least)..=u64::from(most), reader);
        u32::try_from(number).unwrap_or(absent)
    }

    /// Reads `true` or `false`; `absent` if it is not set.
    pub(super) fn flag(&mut self, name: &'static str, absent: bool, reader: &mut Reader) -> bool {
        self.known.insert(name);
        let setting = self.setting(name);
        let value = self.table.remove(name);
        let flag = match (reader.variable(&setting), value) {
            (Some(text), _) => text.trim().parse().ok(),
            (None, Some(Value::Boolean(flag))) => Some(flag),
            (None, Some(_)) => None,
            (None, None) => Some(absent),
        };
        flag.unwrap_or_else(|| {
            reader.problem(setting, "is neither true nor false");
            absent
        })
    }

    /// Reads the path of a file or directory.
    pub(super) fn path(&mut self, name: &'static str, reader: &mut Reader) -> Option<PathBuf> {
        self.text(name, reader).map(PathBuf::from)
    }

    /// Whether a setting is there, in the file or the environment.
    pub(super) fn is_set(&self, name: &str, reader: &Reader) -> bool {
        self.table.contains_key(name) || reader.environment.contains_key(&variable_of(&self.setting(name)))
    }

    /// Whether a setting stands in the file; it is then not reported again.
    pub(super) fn in_table(&mut self, name: &'static str) -> bool {
        self.known.insert(name);
        self.table.remove(name).is_some()
    }

    /// A secret from the environment.
    pub(super) fn secret_variable(
        &mut self,
        name: &'static str,
        reader: &mut Reader,
    ) -> Option<Zeroizing<String>> {
        self.known.insert(name);
        reader.variable(&self.setting(name)).map(Zeroizing::new)
    }

    /// Ends the section: what nobody asked for is misspelt.
    pub(super) fn finish(self, reader: &mut Reader) {
        for name in self.table.keys() {
            let nearest = self.known.iter().map(|known| (distance(name, known), known)).min();
            let hint = match nearest {
                Some((far, known)) if far <= 3 => format!(": did you mean {known}?"),
                _ => String::new(),
            };
            reader.problem(self.setting(name), format!("no such setting{hint}"));
        }
    }
}

/// How many single-byte edits turn one name into the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    // The edits between what was read of `a` and each beginning of `b`, the empty one aside.
    let mut row: Vec<usize> = (1..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let (mut diagonal, mut left) = (i, i.saturating_add(1));
        for (above, y) in row.iter_mut().zip(b.bytes()) {
            let changed = diagonal.saturating_add(usize::from(x != y));
            let best = changed.min(left.saturating_add(1)).min(above.saturating_add(1));
            diagonal = std::mem::replace(above, best);
            left = best;
        }
    }
    row.last().copied().unwrap_or(a.len())
}

#[cfg(test)]
mod tests {
    use super::distance;

    #[test]
    fn distance_counts_edits() {
        for (a, b, expected) in [
            ("", "", 0),
            ("a", "", 1),
            ("", "abc", 3),
            ("path", "paht", 2),
            ("kitten", "sitting", 3),
            ("x", "x", 0),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }
}
