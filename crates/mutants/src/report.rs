//! The table: which bug, what it does, who found it, how fast.

use std::fmt::Write as _;

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::json;

use crate::plan::{Fate, Look, Run};

/// A line of the table.
struct Line {
    bug: &'static str,
    what: &'static str,
    by: String,
    rule: String,
    ms: u128,
}

fn line(fate: &Fate) -> Line {
    let (by, rule, ms) = match (fate.found(), fate.looks.last()) {
        (Some((look, finding)), _) => {
            let by = format!("{}, {}, {}", look.checker.name(), finding.place, finding.effort);
            (by, finding.rule.clone(), look.ms)
        }
        (None, Some(Look { checker, finding: Some(finding), ms })) => {
            (format!("SURVIVES, but {}: {}", checker.name(), finding.what), finding.rule.clone(), *ms)
        }
        (None, look) => ("SURVIVES".to_owned(), String::new(), look.map_or(0, |look| look.ms)),
    };
    Line { bug: fate.mutant.name(), what: fate.mutant.what(), by, rule, ms }
}

/// What the product as it is came to.
fn unspoiled(run: &Run) -> String {
    let mut text = String::new();
    for look in &run.unspoiled {
        let came = look.finding.as_ref().map_or_else(
            || "every rule holds".to_owned(),
            |finding| format!("{} DOES NOT HOLD: {} ({})", finding.rule, finding.what, finding.place),
        );
        let _ = writeln!(text, "the product as it is, {}: {came} ({} ms)", look.checker.name(), look.ms);
    }
    text
}

fn sum(run: &Run) -> String {
    let found = run.fates.iter().filter(|fate| fate.found().is_some()).count();
    let ms: u128 =
        run.fates.iter().flat_map(|fate| &fate.looks).chain(&run.unspoiled).map(|look| look.ms).sum();
    format!("{found} of {} bugs found, in {ms} ms", run.fates.len())
}

/// For a terminal.
pub(crate) fn table(run: &Run) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["bug", "what it does", "found by", "rule", "ms"]);
    for line in run.fates.iter().map(line) {
        table.add_row([line.bug, line.what, &line.by, &line.rule, &line.ms.to_string()]);
    }
    format!("{table}\n{}{}", unspoiled(run), sum(run))
}

/// For `tests/README.md`.
pub(crate) fn markdown(run: &Run) -> String {
    let mut text = "| bug | what it does | found by | rule | ms |\n|---|---|---|---|---|\n".to_owned();
    for line in run.fates.iter().map(line) {
        let Line { bug, what, by, rule, ms } = line;
        let _ = writeln!(text, "| `{bug}` | {what} | {by} | {rule} | {ms} |");
    }
    format!("{text}\n{}{}", unspoiled(run), sum(run))
}

/// One object a bug, for `tests/data`.
pub(crate) fn json(run: &Run) -> String {
    let lines: Vec<String> = run
        .fates
        .iter()
        .map(|fate| {
            let looks: Vec<_> = fate
                .looks
                .iter()
                .map(|look| {
                    let finding = look.finding.as_ref();
                    json!({
                        "checker": look.checker.name(),
                        "ms": u64::try_from(look.ms).unwrap_or(u64::MAX),
                        "place": finding.map(|finding| &finding.place),
                        "effort": finding.map(|finding| &finding.effort),
                        "rule": finding.map(|finding| &finding.rule),
                        "what": finding.map(|finding| &finding.what),
                    })
                })
                .collect();
            json!({
                "bug": fate.mutant.name(),
                "does": fate.mutant.what(),
                "found": fate.found().is_some(),
                "looks": looks,
            })
            .to_string()
        })
        .collect();
    lines.join("\n")
}
