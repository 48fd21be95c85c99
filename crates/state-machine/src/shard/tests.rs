//! The shard driven by scripts, from a till's request to the last call.

mod absent;
mod crash;
mod durability;
mod facts;
mod learned;
mod limits;
mod prompted;
mod random;
mod requests;
mod rescan;
mod rig;
mod table_a;
mod table_b;
mod table_c;
mod table_d;

use rig::Rig;

/// One line of a table: the rows and rules it covers, what happens, what comes out.
type Line = (&'static str, &'static str, &'static str);

/// Runs one script and compares what came out, word by word.
fn check(lines: &[Line]) {
    let mut wrong = String::new();
    for (rows, script, words) in lines {
        let mut rig = Rig::new();
        rig.run(script);
        let expected = words.split_whitespace().collect::<Vec<_>>().join(" ");
        if rig.words() != expected {
            wrong += &format!("{rows}: {script}\n  expected {expected}\n  came out {}\n", rig.words());
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// Every line of the four tables.
fn all_lines() -> impl Iterator<Item = &'static Line> {
    [table_a::LINES, table_b::LINES, table_c::LINES, table_d::LINES].into_iter().flatten()
}

#[test]
fn every_row_and_rule_has_a_line() {
    let covered = |id: &str| all_lines().any(|(rows, ..)| rows.split(' ').any(|row| row == id));
    for row in protocol::fact::Row::ALL {
        assert!(covered(row.as_str()), "{row}");
    }
    for rule in ["G1", "G2", "G3", "G4", "G5"] {
        assert!(covered(rule), "{rule}");
    }
}
