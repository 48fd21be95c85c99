//! Draws what was measured: `cargo run --release -p hufu-benches --bin plots` makes `docs/plots/*.svg` from the data that
//! the benches and campaigns have left (`benches/data`, `tests/data`). The same data give the same pictures.
#![expect(
    clippy::expect_used,
    clippy::float_arithmetic,
    clippy::print_stdout,
    reason = "a command for people; what it reads stands in this tree"
)]

mod figure;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use figure::{Axis, Figure, Line, Panel};
use serde_json::Value;

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let data = |path: &str| read(&root.join(path));
    let to = |name: &str| root.join("docs/plots").join(name);
    draw(&to("delay-against-load.svg"), &delay_against_load(&data("benches/data/planner.jsonl")));
    draw(&to("cost-against-pending.svg"), &cost_against_pending(&data("benches/data/pending.jsonl")));
    draw(&to("told-delay.svg"), &told_delay(&data("tests/data/checker.jsonl")));
    match latency(&data("benches/data/cost.jsonl")) {
        Some(figure) => draw(&to("latency.svg"), &figure),
        None => println!(
            "not drawn: latency.svg; `checker cost --record benches/data/cost.jsonl` measures what it shows"
        ),
    }
}

/// One JSON object a line.
fn read(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect()
}

fn draw(path: &Path, figure: &Figure) {
    figure.draw(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    println!("{}", path.display());
}

fn number(row: &Value, name: &str) -> f64 {
    row[name].as_f64().unwrap_or_else(|| panic!("{name} is missing in {row}"))
}

fn count(row: &Value, name: &str) -> u32 {
    row[name]
        .as_u64()
        .and_then(|count| count.try_into().ok())
        .unwrap_or_else(|| panic!("{name} is missing in {row}"))
}

fn text<'a>(row: &'a Value, name: &str) -> &'a str {
    row[name].as_str().unwrap_or_else(|| panic!("{name} is missing in {row}"))
}

/// The values of `name`, each once, in the order in which they come.
fn each<'a>(rows: &'a [Value], name: &str) -> Vec<&'a str> {
    let mut found = Vec::new();
    for row in rows.iter().filter_map(|row| row[name].as_str()) {
        if !found.contains(&row) {
            found.push(row);
        }
    }
    found
}

/// How late the switch knows of a password, against how much of the budget a cadence of 5 and 10 s would take.
fn delay_against_load(rows: &[Value]) -> Figure {
    let rows: Vec<Value> = rows.iter().filter(|row| row["delay_ms_mean"].is_number()).cloned().collect();
    let panel = |population: &str| Panel {
        title: format!("{population} customers"),
        lines: each(&rows, "policy")
            .into_iter()
            .map(|policy| {
                let of = rows.iter().filter(|row| row["population"] == population && row["policy"] == policy);
                let points =
                    of.map(|row| (number(row, "load_percent"), number(row, "delay_ms_mean") / 1_000.0));
                Line { name: policy.to_owned(), points: points.collect() }
            })
            .collect(),
    };
    Figure {
        title: "Mean delay from the password to the switch knowing".to_owned(),
        x: Axis { name: "load, % of what a cadence of 5 + 10 s asks".to_owned(), ..Axis::default() },
        y: Axis { name: "seconds".to_owned(), is_log: true },
        panels: each(&rows, "population").into_iter().map(panel).collect(),
    }
}

/// Bytes and processor time of a payment that waits for its password, against how many do.
fn cost_against_pending(rows: &[Value]) -> Figure {
    // What the newest commit has measured.
    let commit = rows.last().map(|row| &row["commit"]);
    let newest = |name: &str| {
        let points: BTreeMap<u32, f64> = rows
            .iter()
            .filter(|row| Some(&row["commit"]) == commit)
            .map(|row| (count(row, "pending"), number(row, name)))
            .collect();
        points.into_iter().map(|(pending, cost)| (f64::from(pending), cost)).collect()
    };
    let line = |name: &str, column: &str| Line { name: name.to_owned(), points: newest(column) };
    Figure {
        title: "What a pending payment costs".to_owned(),
        x: Axis { name: "payments pending at once".to_owned(), is_log: true },
        y: Axis { name: "bytes, or microseconds".to_owned(), is_log: true },
        panels: vec![
            Panel { title: "resident bytes".to_owned(), lines: vec![line("bytes", "bytes_each")] },
            Panel {
                title: "CPU of its whole life, µs".to_owned(),
                lines: vec![line("shard", "shard_us_each"), line("store", "store_us_each")],
            },
        ],
    }
}

/// How late a till hears, by how it listens.
fn told_delay(rows: &[Value]) -> Figure {
    let held = rows.iter().rfind(|row| row["campaign"] == "held tills").expect("the campaign `held` has run");
    let ways = [
        ("relay, polls every 5 s", "relay_poll_every_5_s_the_switch_knows_the_till_has_it_ms"),
        ("long poll", "long_poll_the_same"),
        ("hold", "hold_the_same"),
        ("events of the payment", "server_sent_events_of_the_payment_the_same"),
        ("events of the merchant", "server_sent_events_of_the_merchant_the_same"),
    ];
    let line = |(name, column): (&str, &str)| Line {
        name: name.to_owned(),
        points: [(50.0, "p50"), (95.0, "p95"), (99.0, "p99"), (100.0, "max")]
            .map(|(at, quantile)| (at, number(&held[column], quantile)))
            .to_vec(),
    };
    Figure {
        title: format!("How late a till hears, {} held at once", number(held, "held_at_once")),
        x: Axis { name: "per cent of the tills that have heard".to_owned(), ..Axis::default() },
        y: Axis { name: "milliseconds".to_owned(), is_log: true },
        panels: vec![Panel { title: text(held, "date").to_owned(), lines: ways.map(line).to_vec() }],
    }
}

/// How long a payment without password takes its till, alone at the wallet, through nginx, through the switch; `None` if
/// no run has kept these percentiles.
fn latency(rows: &[Value]) -> Option<Figure> {
    let ways = [
        ("the wallet alone", "latency_of_the_wallet_alone_p50_p90_p99_p999_us"),
        ("through nginx", "latency_of_nginx_p50_p90_p99_p999_us"),
        ("through the switch", "latency_of_the_switch_p50_p90_p99_p999_us"),
    ];
    let last = rows.iter().rfind(|row| row[ways[0].1].is_array())?;
    let line = |(name, column): (&str, &str)| {
        let us = last[column].as_array().into_iter().flatten().filter_map(Value::as_f64);
        let points = [50.0, 90.0, 99.0, 99.9].into_iter().zip(us.map(|us| us / 1_000.0));
        Line { name: name.to_owned(), points: points.collect() }
    };
    Some(Figure {
        title: format!("A payment at {} a second", number(last, "rate_of_the_latencies_payments_s")),
        x: Axis { name: "per cent of the payments".to_owned(), ..Axis::default() },
        y: Axis { name: "milliseconds".to_owned(), is_log: true },
        panels: vec![Panel { title: text(last, "date").to_owned(), lines: ways.map(line).to_vec() }],
    })
}
