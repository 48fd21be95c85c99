//! `cargo run -p covers`: which invariants and faults have a test that ran.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a command prints its result")]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use comfy_table::{ContentArrangement, Table};
use covers::catalogue::{Claim, Entry, entries};
use covers::report::{Ran, markdown, missing, read, tests_of};

/// Each invariant and fault with the tests that name it and ran; fails when one that is claimed has none.
#[derive(Debug, Parser)]
struct Arguments {
    /// The record that the tests left (tests/run writes it there).
    #[arg(long, default_value = "target/covers")]
    record: PathBuf,
    /// Only these ids, or all that begin so: `INV`, `NM-00`.
    ids: Vec<String>,
    /// Only what is missing, and the count.
    #[arg(long)]
    brief: bool,
    /// A table for a document: id, then the tests.
    #[arg(long, conflicts_with = "brief")]
    markdown: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let ran = read(&arguments.record)?;
    let asked = |entry: &Entry| {
        arguments.ids.is_empty() || arguments.ids.iter().any(|id| entry.id.starts_with(id.as_str()))
    };
    if arguments.markdown {
        print!("{}", markdown(entries().filter(asked), &ran));
    } else if !arguments.brief {
        println!("{}", table(entries().filter(asked), &ran));
    }
    let missing = missing(entries().filter(asked), &ran);
    for entry in &missing {
        println!("{} is claimed covered, and no test that names it ran: {}", entry.id, entry.what);
    }
    println!("{}", totals(entries().filter(asked), &ran));
    Ok(if missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn table(entries: impl Iterator<Item = Entry>, ran: &Ran) -> Table {
    let mut table = Table::new();
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["id", "what", "ways", "tests that name it and ran"]);
    for entry in entries {
        table.add_row([entry.id, entry.what, entry.ways, &tests_of(&entry, ran).join("\n")]);
    }
    table
}

fn totals(entries: impl Iterator<Item = Entry>, ran: &Ran) -> String {
    let (mut covered, mut later, mut all) = (0_usize, 0_usize, 0_usize);
    for entry in entries {
        all += 1;
        match entry.claim {
            Claim::Later(_) => later += 1,
            _ if ran.contains_key(entry.id) => covered += 1,
            Claim::Covered => {}
        }
    }
    format!("{covered} of {all} ids have a test that ran, {later} do not apply yet or only in part")
}
