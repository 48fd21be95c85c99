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

use std::sync::Arc;

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

#[test]
fn a_payment_that_waits_has_one_record_and_half_a_kib() {
    let mut rig = rig::Rig::new();
    rig.run("pay:first a:A7 +5s q:userpaying");
    let shard = &rig.shard;
    let entry = shard.orders.find(&rig::key(1)).and_then(|order| shard.orders.get(order)).unwrap();
    let durable = entry.durable.as_ref().unwrap();
    assert!(Arc::ptr_eq(&entry.latest, durable), "what is durable is the newest");
    assert!(Arc::ptr_eq(&entry.payment.shared_record(), durable), "the payment has no copy of its own");
    assert_eq!(entry.waiters.capacity(), 0, "nobody waits, and no room is kept for who might");
    // With the two counters of an `Arc`. A pending payment may cost 1 KiB of resident memory in all.
    let bytes = size_of::<super::Entry>() + size_of::<crate::record::Record>() + 16;
    assert!(bytes <= 512, "{bytes} bytes");
}
