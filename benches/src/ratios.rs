//! Prints the table of ratios that the README shows, from what the benches measured last, with the bar of each.
//!
//!     cargo bench -p hufu-benches --bench codec --bench signing --bench timers --bench table --bench store
//!     cargo run --release -p hufu-benches --bin ratios
//!
//! Reads medians from `target/criterion`, and of the store what its own bench wrote beside them. Ends with 1 if a bar is
//! not met, with 2 if something was not measured.

#![expect(clippy::float_arithmetic, reason = "ratios for people")]
#![expect(clippy::print_stdout, reason = "its output is the table")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::Value;

/// What a ratio must be.
#[derive(Clone, Copy)]
enum Bar {
    /// Ours divided by the other, at most so much.
    AtMost(f64),
    /// So many times as fast as the other, at least.
    Faster(f64),
    /// Only shown.
    None,
}

/// One line: ours against the sum of others, all of one run.
struct Line {
    what: &'static str,
    ours: &'static str,
    others: &'static [&'static str],
    bar: Bar,
}

const fn line(what: &'static str, ours: &'static str, others: &'static [&'static str], bar: Bar) -> Line {
    Line { what, ours, others, bar }
}

/// What is compared, and what it should come to.
const LINES: &[Line] = &[
    line(
        "read a signed answer, against quick-xml's bare events",
        "answer/read",
        &["answer/floor_quick_xml_events"],
        Bar::Faster(4.0),
    ),
    line("… quick-xml and serde", "answer/read", &["answer/peer_quick_xml_serde"], Bar::None),
    line("… a tree of roxmltree", "answer/read", &["answer/peer_roxmltree"], Bar::None),
    line(
        "read and verify, HMAC-SHA256, against bare events and a bare hash",
        "answer/read_and_verify_hmac_sha256",
        &["answer/floor_quick_xml_events", "answer/floor_hmac_sha256"],
        Bar::AtMost(2.2),
    ),
    line(
        "… MD5",
        "answer/read_and_verify_md5",
        &["answer/floor_quick_xml_events", "answer/floor_md5"],
        Bar::AtMost(2.2),
    ),
    line(
        "sign, HMAC-SHA256, against the bare hash",
        "sign/hmac_sha256",
        &["sign/floor_hmac_sha256"],
        Bar::AtMost(2.2),
    ),
    line("… MD5", "sign/md5", &["sign/floor_md5"], Bar::AtMost(1.45)),
    line(
        "1,000,000 timers, against DelayQueue",
        "timers/wheel/1000000",
        &["timers/delay_queue/1000000"],
        Bar::Faster(6.0),
    ),
    line(
        "… a task that sleeps for each",
        "timers/wheel/1000000",
        &["timers/sleep_each/1000000"],
        Bar::Faster(15.0),
    ),
    line("… a binary heap", "timers/wheel/1000000", &["timers/binary_heap/1000000"], Bar::None),
    line(
        "100,000 timers, against DelayQueue",
        "timers/wheel/100000",
        &["timers/delay_queue/100000"],
        Bar::None,
    ),
    line("… a task that sleeps for each", "timers/wheel/100000", &["timers/sleep_each/100000"], Bar::None),
    line("10,000 timers, against DelayQueue", "timers/wheel/10000", &["timers/delay_queue/10000"], Bar::None),
    line("… a task that sleeps for each", "timers/wheel/10000", &["timers/sleep_each/10000"], Bar::None),
    line(
        "lives of orders from two threads, against DashMap of Arcs",
        "table/two_table",
        &["table/two_dashmap_replaced"],
        Bar::Faster(1.6),
    ),
    line("… by key", "table/two_table_by_key", &["table/two_dashmap_replaced"], Bar::Faster(1.6)),
    line("… papaya", "table/two_table", &["table/two_papaya"], Bar::None),
    line("… scc", "table/two_table", &["table/two_scc"], Bar::None),
];

fn main() -> ExitCode {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    println!("| what | ours | other | ratio | bar | met |");
    println!("|---|---:|---:|---:|---|---|");
    let (mut missed, mut absent) = (0, 0);
    for line in LINES {
        let others: Option<f64> =
            line.others.iter().map(|other| median_ns(&target, other)).sum::<Option<f64>>();
        let (Some(ours), Some(others)) = (median_ns(&target, line.ours), others) else {
            absent += 1;
            println!("| {} | – | – | – | {} | not measured |", line.what, words(line.bar));
            continue;
        };
        let is_met = show(line.what, ours, others, line.bar);
        missed += u32::from(!is_met);
    }
    match store(&target) {
        Some(unmet) => missed += unmet,
        None => absent += 1,
    }
    if absent > 0 {
        eprintln!("{absent} not measured: run the benches first (see the head of this file)");
        return ExitCode::from(2);
    }
    ExitCode::from(u8::from(missed > 0))
}

/// Prints one line of times; whether its bar is met.
fn show(what: &str, ours: f64, other: f64, bar: Bar) -> bool {
    let (ratio, is_met) = match bar {
        Bar::AtMost(most) => (ours / other, ours / other <= most),
        Bar::Faster(least) => (other / ours, other / ours >= least),
        Bar::None => (other / ours, true),
    };
    let sense = if matches!(bar, Bar::AtMost(_)) { "×" } else { "× faster" };
    let met = mark(bar, is_met);
    println!("| {what} | {} | {} | {ratio:.2} {sense} | {} | {met} |", time(ours), time(other), words(bar));
    is_met
}

const fn mark(bar: Bar, is_met: bool) -> &'static str {
    match (bar, is_met) {
        (Bar::None, _) => "",
        (_, true) => "yes",
        (_, false) => "**no**",
    }
}

fn words(bar: Bar) -> String {
    match bar {
        Bar::AtMost(most) => format!("at most {most} ×"),
        Bar::Faster(least) => format!("at least {least} × faster"),
        Bar::None => String::new(),
    }
}

fn time(ns: f64) -> String {
    match ns {
        ns if ns < 1e3 => format!("{ns:.0} ns"),
        ns if ns < 1e6 => format!("{:.2} µs", ns / 1e3),
        ns => format!("{:.1} ms", ns / 1e6),
    }
}

/// The median of one bench, in nanoseconds; `None` if it has not run.
fn median_ns(target: &Path, name: &str) -> Option<f64> {
    let path = target.join("criterion").join(name).join("new/estimates.json");
    let read: Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    read["median"]["point_estimate"].as_f64()
}

/// The store's lines; how many of its bars are not met, or `None` if its bench has not run.
fn store(target: &Path) -> Option<u32> {
    let read: Value = serde_json::from_slice(&fs::read(target.join("criterion/store.json")).ok()?).ok()?;
    let mut missed = 0;
    for size in read.as_array()? {
        let records = size["records"].as_u64()?;
        let (ours, bare) = (size["store_per_second"].as_f64()?, size["bare_per_second"].as_f64()?);
        let least = match records {
            1 | 16 => Some(0.6),
            128 => Some(0.4),
            _ => None,
        };
        let (ratio, is_met) = (ours / bare, least.is_none_or(|least| ours / bare >= least));
        missed += u32::from(!is_met);
        let bar = least.map_or_else(String::new, |least| format!("at least {least} ×"));
        let met = mark(least.map_or(Bar::None, Bar::AtMost), is_met);
        println!(
            "| commits of {records}, against an append and fdatasync | {ours:.0} records/s | {bare:.0} records/s | {ratio:.2} × | {bar} | {met} |"
        );
        let sustained = size["sustained_per_second"].as_f64()?;
        println!(
            "| … with the time that the database and its indexes need behind it | {sustained:.0} records/s | {bare:.0} records/s | {:.2} × |  |  |",
            sustained / bare
        );
        if records == 128 {
            missed += u32::from(!show(
                "… the p99 of a commit",
                size["store_p99_us"].as_f64()? * 1e3,
                size["bare_p99_us"].as_f64()? * 1e3,
                Bar::AtMost(8.0),
            ));
        }
    }
    Some(missed)
}
