//! Long runs in parts: what is finished counts, also if the rest is not.

use std::fmt::Write as _;
use std::io::Write as _;
use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use simulator::world::{Plan, Storage, Summary};

use super::args::Args;
use super::seeds::run_all;

/// Runs what was asked for, in parts if it was asked for in parts.
///
/// # Errors
///
/// Where the file of results cannot be read or written.
pub(crate) fn run(args: &Args) -> Result<Summary, String> {
    let commit = commit();
    let mut whole = Summary::default();
    for part in parts(&args.seeds, args.part) {
        let head = head(args, &part, &commit);
        if let Some(file) = &args.append
            && stands_in(file, &head)?
        {
            continue;
        }
        let summary = run_all(&args.setup, part.clone(), args.jobs, args.json);
        if let Some(file) = &args.append {
            let line = line(&head, &summary);
            append(file, &line)?;
            println!("{line}");
        }
        whole.merge(&summary);
    }
    Ok(whole)
}

fn parts(seeds: &Range<u64>, part: Option<u64>) -> Vec<Range<u64>> {
    let step = part.unwrap_or(u64::MAX).max(1);
    let mut parts = Vec::new();
    let mut from = seeds.start;
    while from < seeds.end {
        let to = from.saturating_add(step).min(seeds.end);
        parts.push(from..to);
        from = to;
    }
    parts
}

/// What names a part: the beginning of its line, but for the date.
fn head(args: &Args, part: &Range<u64>, commit: &str) -> String {
    let profile = match (&args.setup.storage, args.setup.bytes, args.setup.plan) {
        (_, _, Plan::Crowd) => "crowd",
        (Storage::Sqlite(_), _, Plan::Drawn) => "sqlite",
        (Storage::Model, true, Plan::Drawn) => "bytes",
        (Storage::Model, false, Plan::Drawn) => "typed",
    };
    format!(
        "{{\"commit\":\"{commit}\",\"profile\":\"{profile}\",\"intensity\":{},\"seeds\":\"{}..{}\",\"orders_each\":{}",
        args.setup.intensity, part.start, part.end, args.setup.orders
    )
}

fn line(head: &str, summary: &Summary) -> String {
    let mut line = head.to_owned();
    let _ = write!(line, ",\"date\":\"{}\",\"jobs_real_ms\":{}", date(), summary.real_ms);
    for (name, value) in [
        ("orders", summary.orders),
        ("events", summary.events),
        ("steps", summary.steps),
        ("virtual_s", summary.virtual_ms / 1_000),
        ("events_per_s", summary.events_per_s()),
        ("peak_pending", summary.peak_pending),
        ("peak_open", summary.peak_open),
        ("faults", summary.probes.faults.sorted().into_values().sum()),
        ("violations", summary.violations),
    ] {
        let _ = write!(line, ",\"{name}\":{value}");
    }
    line.push('}');
    line
}

fn stands_in(file: &Path, head: &str) -> Result<bool, String> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(text.lines().any(|line| line.starts_with(head))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(format!("cannot read {}: {error}", file.display())),
    }
}

fn append(file: &Path, line: &str) -> Result<(), String> {
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(file)
        .and_then(|mut file| writeln!(file, "{line}"))
        .map_err(|error| format!("cannot write {}: {error}", file.display()))
}

/// The commit that is run, as far as git knows.
fn commit() -> String {
    let said = Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=9"]).output();
    let text =
        said.ok().filter(|said| said.status.success()).and_then(|said| String::from_utf8(said.stdout).ok());
    text.map_or_else(|| "unknown".to_owned(), |text| text.trim().to_owned())
}

/// Today in UTC, `2026-11-23`.
#[expect(clippy::disallowed_methods, reason = "the date of a result, nothing is decided by it")]
fn date() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Civil from days: years begin in March, so that the leap day is the last of a year.
    let days = since.as_secs() / 86_400 + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}
