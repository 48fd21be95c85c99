//! What does a pending payment cost the switch, as 10,000, 200,000 and 1,000,000 wait for a password at once?
//!
//! The production shard, planner, timer wheel, state table, exposure and store, in virtual time, against the wallet model
//! in process. All payments begin within 30 s, and are pending together for half a minute; then their customers pay, have
//! the wallet close or revoke them, or are given up after three minutes. Each payment is asked about equally often at every
//! count: budgets grow with it. At the end the wallet's ledger is held against the records, payment by payment.
//!
//! Each count runs in a process of its own. *Bytes* are resident memory with everything pending, beyond that of a process
//! in which only the wallet model has the same payments, and of both what they are with 1,000 payments: a switch that is
//! idle, but has worked. *CPU* is of the thread, around the switch's parts alone.
//!
//! `cargo bench -p hufu-benches --bench pending [-- --json]`; it fails if a bar is missed: 1 KiB, and at
//! 1,000,000 at most 1.5 × the CPU of 10,000.
#![expect(clippy::float_arithmetic, reason = "figures for people, in a bench")]

use std::io::Write as _;
use std::process::Command;

mod run;

use run::{Cost, Part};

const BYTES_MAX: u64 = 1_024;
const GROWTH_MAX: f64 = 1.5;
/// Below this, what the process itself needs hides what a payment costs.
const WEIGHED_FROM: u64 = 50_000;
/// What an idle switch has served before.
const IDLE: u64 = 1_000;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let after = |name: &str| args.iter().skip_while(|arg| *arg != name).nth(1).map(String::as_str);
    if let Some(count) = after("--alone") {
        return print_alone(count.parse().expect("a number"), after("--part").unwrap_or("switch"));
    }
    let is_full = args.iter().any(|arg| arg == "--bench");
    let json = args.iter().any(|arg| arg == "--json");
    let counts: &[u64] = if is_full { &[10_000, 200_000, 1_000_000] } else { &[1_000] };
    eprintln!(
        "| pending at once | bytes each | CPU µs a payment: all | shard | store | queries each | records each | paid | failed | reversed |"
    );
    eprintln!("|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    let (mut rows, mut missed) = (Vec::new(), Vec::new());
    let idle = alone(IDLE, "switch").resident.saturating_sub(alone(IDLE, "wallet").resident);
    for count in counts {
        let (wallet, cost) = (alone(*count, "wallet"), alone(*count, "switch"));
        let beyond = cost.resident.saturating_sub(wallet.resident).saturating_sub(idle);
        let bytes = beyond / count.saturating_sub(IDLE).max(1);
        let each = |ns: u64| ns as f64 / 1_000.0 / *count as f64;
        let all = each(cost.shard_ns + cost.store_ns);
        let Cost { pending, queries, records, paid, failed, reversed, .. } = cost;
        eprintln!(
            "| {pending} | {bytes} | {all:.1} | {:.1} | {:.1} | {:.2} | {:.2} | {paid} | {failed} | {reversed} |",
            each(cost.shard_ns),
            each(cost.store_ns),
            queries as f64 / *count as f64,
            records as f64 / *count as f64,
        );
        if json {
            print(&format!(
                r#"{{"pending":{pending},"bytes_each":{bytes},"cpu_us_each":{all:.2},"shard_us_each":{:.2},"store_us_each":{:.2},"queries":{queries},"records":{records},"paid":{paid},"failed":{failed},"reversed":{reversed},"differ":{}}}"#,
                each(cost.shard_ns),
                each(cost.store_ns),
                cost.differ,
            ));
        }
        let mut bar = |holds: bool, what: String| {
            if !holds {
                missed.push(what);
            }
        };
        bar(pending == *count, format!("only {pending} of {count} were pending at once"));
        bar(cost.differ == 0, format!("{} payments differ between ledger and records", cost.differ));
        bar(paid + failed + reversed == *count, format!("not all of {count} ended"));
        if *count >= WEIGHED_FROM {
            bar(bytes <= BYTES_MAX, format!("{bytes} bytes for each of {count}"));
        }
        rows.push((*count, all));
    }
    if let (Some((_, first)), Some((count, last))) = (rows.first(), rows.last())
        && rows.len() > 1
    {
        let growth = last / first;
        eprintln!("CPU of a payment at {count}: {growth:.2} × that at {}", rows[0].0);
        if growth > GROWTH_MAX {
            missed.push(format!("{growth:.2} × the CPU"));
        }
    }
    assert!(missed.is_empty(), "missed: {missed:#?}");
}

/// Runs one count in this process and prints what it cost, for the process that asked.
fn print_alone(count: u64, part: &str) {
    let part = if part == "wallet" { Part::Wallet } else { Part::Switch };
    let words: Vec<String> = run::run(count, part).to_words().iter().map(u64::to_string).collect();
    print(&words.join(" "));
}

/// A line for programs.
fn print(line: &str) {
    writeln!(std::io::stdout(), "{line}").expect("somebody who reads");
}

/// Runs one count in a process of its own.
fn alone(count: u64, part: &str) -> Cost {
    let this = std::env::current_exe().expect("this program");
    let mut command = Command::new(this);
    command.args(["--alone", &count.to_string(), "--part", part]).stderr(std::process::Stdio::inherit());
    let done = command.output().expect("a process");
    assert!(done.status.success(), "{count} {part} failed");
    let text = String::from_utf8(done.stdout).expect("digits");
    Cost::from_words(text.split_whitespace().map(|word| word.parse().expect("a number")))
}
