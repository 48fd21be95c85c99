//! The report, for people and as JSON.

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, LineStyle, Table};
use model::Rule;
use model::check::{Outcome, unreached};
use serde_json::json;

fn totals(runs: &[(&str, Outcome)]) -> (usize, usize, u64) {
    runs.iter().fold((0, 0, 0), |(states, generated, took), (_, outcome)| {
        (states + outcome.states, generated + outcome.generated, took + outcome.took_ms)
    })
}

/// What no run reached.
pub(crate) fn unreached_of(runs: &[(&str, Outcome)]) -> Vec<&'static str> {
    unreached(&runs.iter().map(|(_, outcome)| outcome).collect::<Vec<_>>())
}

/// Milliseconds as seconds, with a tenth.
fn seconds(ms: u64) -> String {
    format!("{}.{}", ms / 1_000, ms % 1_000 / 100)
}

/// A table a person can read, and the counterexample if there is one.
pub(crate) fn text(runs: &[(&str, Outcome)]) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none()));
    table.set_header(["configuration", "at most", "found", "states", "generated", "depth", "seconds"]);
    for (name, outcome) in runs {
        let bounds = outcome.bounds.named().into_iter().filter(|(_, count)| *count > 0);
        let bounds = bounds.map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>();
        let found = match (&outcome.counterexample, outcome.complete) {
            (Some(_), _) => "BROKEN",
            (None, true) => "all held",
            (None, false) => "not complete",
        };
        table.add_row([
            (*name).to_owned(),
            bounds.join(", "),
            found.to_owned(),
            outcome.states.to_string(),
            outcome.generated.to_string(),
            outcome.depth.to_string(),
            seconds(outcome.took_ms),
        ]);
    }
    for column in table.column_iter_mut().skip(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let (states, generated, took_ms) = totals(runs);
    let rules: Vec<_> = Rule::ALL.iter().map(|rule| rule.as_str()).collect();
    let mut text = format!(
        "{table}\n{states} states, {generated} generated, {} s; in every one of them held: {}",
        seconds(took_ms),
        rules.join(" ")
    );
    let unreached = unreached_of(runs);
    if unreached.is_empty() {
        text.push_str("\nEvery end that was to be reached was.");
    } else {
        text.push_str(&format!("\nNever reached: {}", unreached.join("; ")));
    }
    for (name, outcome) in runs {
        if let Some(path) = &outcome.counterexample {
            text = format!(
                "{table}\nCOUNTEREXAMPLE in \"{name}\", {} steps and what followed\n",
                path.steps.len()
            );
            for step in &path.steps {
                text.push_str(step);
                text.push('\n');
            }
            for (rule, what) in &path.rules {
                text.push_str(&format!("BROKEN {rule}: {what}\n"));
            }
        }
    }
    text
}

/// One object.
pub(crate) fn json(runs: &[(&str, Outcome)]) -> String {
    let (states, generated, took_ms) = totals(runs);
    let configurations: Vec<_> =
        runs.iter().map(|(name, outcome)| json!({ "name": name, "outcome": outcome })).collect();
    let rules: Vec<_> = Rule::ALL.iter().map(|rule| rule.as_str()).collect();
    json!({
        "states": states,
        "generated": generated,
        "took_ms": took_ms,
        "rules": rules,
        "unreached": unreached_of(runs),
        "complete": runs.iter().all(|(_, outcome)| outcome.complete),
        "configurations": configurations,
    })
    .to_string()
}
