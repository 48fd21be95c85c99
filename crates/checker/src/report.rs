//! What a campaign came to: a table for people, a line of JSON for programs and for the record.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, LineStyle, Table};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::judge::Verdict;

/// The outcome of one campaign.
#[derive(Debug, Default)]
pub struct Report {
    /// Its name.
    pub campaign: &'static str,
    /// What is measured, in the order in which it is shown: name and value.
    pub figures: Vec<(&'static str, Value)>,
    /// What became of the payments.
    pub verdict: Verdict,
    /// What else went wrong, in words.
    pub failures: Vec<String>,
}

impl Report {
    /// A report without figures yet.
    #[must_use]
    pub fn new(campaign: &'static str) -> Self {
        Self { campaign, ..Self::default() }
    }

    /// Adds a figure.
    pub fn figure(&mut self, name: &'static str, value: impl Serialize) {
        self.figures.push((name, json!(value)));
    }

    /// Adds half and maximum of durations, in milliseconds.
    pub fn spread(&mut self, name: &'static str, durations: &[Duration]) {
        let mut ms: Vec<u64> = durations.iter().map(|one| millis(*one)).collect();
        ms.sort_unstable();
        let half = ms.get(ms.len() / 2).copied().unwrap_or(0);
        self.figure(name, json!({ "p50": half, "max": ms.last().copied().unwrap_or(0) }));
    }

    /// Notes what must not be.
    pub fn check(&mut self, holds: bool, failure: impl FnOnce() -> String) {
        if !holds {
            self.failures.push(failure());
        }
    }

    /// Whether everything that was promised was kept.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.failures.is_empty() && self.verdict.is_clean()
    }

    /// One object: name, result, figures, what became of the payments.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut fields = Map::new();
        fields.insert("campaign".to_owned(), json!(self.campaign));
        fields.insert("passed".to_owned(), json!(self.passed()));
        fields.extend(self.figures.iter().map(|(name, value)| (key(name), value.clone())));
        if let Ok(Value::Object(verdict)) = serde_json::to_value(&self.verdict) {
            fields.extend(verdict);
        }
        fields.insert("failures".to_owned(), json!(self.failures));
        Value::Object(fields)
    }

    /// The same for people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none()));
        table.set_header([self.campaign, if self.passed() { "passed" } else { "FAILED" }]);
        if let Some(column) = table.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let Verdict { payments, paid, failed, reversed, not_taken, .. } = &self.verdict;
        let Verdict { lost, charged_twice, contradicted, rules_broken, nobodys, .. } = &self.verdict;
        for (name, value) in &self.figures {
            table.add_row([(*name).to_owned(), words(value)]);
        }
        for (name, value) in [
            ("payments", payments.to_string()),
            ("paid, failed, reversed", format!("{paid}, {failed}, {reversed}")),
            ("not taken", not_taken.to_string()),
            ("lost", lost.to_string()),
            ("charged twice", charged_twice.to_string()),
            ("contradicted", contradicted.to_string()),
            ("rules of the wallet broken", rules_broken.values().sum::<u64>().to_string()),
            ("payments that nobody began", nobodys.to_string()),
            ("fen told, fen held", format!("{}, {}", self.verdict.told_fen, self.verdict.held_fen)),
        ] {
            table.add_row([name.to_owned(), value]);
        }
        let mut text = format!("{table}\n");
        for failure in &self.failures {
            text.push_str(&format!("FAILED: {failure}\n"));
        }
        for one in &self.verdict.violations {
            text.push_str(&format!(
                "{} of merchant {}: {}\n  till:   {}\n  wallet: {}\n  record: {}\n",
                one.out_trade_no,
                one.mch_id,
                one.faults.join("; "),
                one.notebook.join("\n          "),
                one.ledger,
                one.record
            ));
            for line in &one.log {
                text.push_str(&format!("  log:    {line}\n"));
            }
        }
        text
    }
}

/// A figure's name as a key: words joined by underscores.
fn key(name: &str) -> String {
    let words: Vec<&str> =
        name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    words.join("_")
}

/// A figure in words.
fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(fields) => {
            let parts: Vec<String> =
                fields.iter().map(|(name, value)| format!("{name} {}", words(value))).collect();
            parts.join(", ")
        }
        Value::Array(all) => all.iter().map(words).collect::<Vec<_>>().join(" "),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// Whole milliseconds.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// So many in a second.
#[must_use]
pub fn per_second(count: u64, span: Duration) -> u64 {
    count.saturating_mul(1_000) / millis(span).max(1)
}

/// Appends `report` with date and commit to the file of record.
///
/// # Errors
///
/// When it cannot be written.
pub fn record(file: &Path, report: &Report) -> anyhow::Result<()> {
    let mut line = report.to_json();
    if let Some(fields) = line.as_object_mut() {
        fields.insert("date".to_owned(), json!(jiff::Zoned::now().date().to_string()));
        fields.insert("commit".to_owned(), json!(commit()));
        // Histories are for who looks now.
        fields.remove("violations");
    }
    let open = OpenOptions::new().create(true).append(true).open(file);
    let mut open = open.with_context(|| file.display().to_string())?;
    writeln!(open, "{line}")?;
    Ok(())
}

/// The commit of the working tree, with a mark if it has been changed since.
fn commit() -> String {
    let git = |args: &[&str]| {
        let done = std::process::Command::new("git").args(args).output().ok()?;
        done.status.success().then(|| String::from_utf8_lossy(&done.stdout).trim().to_owned())
    };
    let Some(head) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown".to_owned() };
    let changed = git(&["status", "--porcelain", "--untracked-files=no", "--", "crates"]);
    if changed.is_some_and(|files| !files.is_empty()) { format!("{head}+") } else { head }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Report, per_second, record};

    #[test]
    fn a_failure_is_seen_in_every_form() {
        let mut report = Report::new("kill");
        report.spread("ready ms", &[3, 1, 2].map(Duration::from_millis));
        report.check(true, || unreachable!("it holds"));
        assert!(report.passed());
        report.check(false, || "too slow".to_owned());
        let json = report.to_json();
        assert_eq!((json["passed"].as_bool(), json["failures"][0].as_str()), (Some(false), Some("too slow")));
        assert_eq!((json["ready_ms"]["p50"].as_u64(), json["ready_ms"]["max"].as_u64()), (Some(2), Some(3)));
        assert!(report.table().contains("FAILED: too slow"), "{}", report.table());
    }

    #[test]
    fn the_record_grows_by_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("checker.jsonl");
        for _ in 0..2 {
            record(&file, &Report::new("kill")).unwrap();
        }
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(text.lines().count(), 2);
        assert!(text.contains("\"commit\":\"") && text.contains("\"campaign\":\"kill\""), "{text}");
        assert_eq!(per_second(1_500, Duration::from_millis(3_000)), 500);
    }
}
