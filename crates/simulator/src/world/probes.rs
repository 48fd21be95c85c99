//! What was reached at least once: a run that never meets a case proves nothing about it.

use std::collections::BTreeMap;

use protocol::fact::Row;
use state_machine::record::{Cause, Record, State};

/// Counts of what happened, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probes {
    /// Customers who acted, by number.
    pub customers: BTreeMap<u8, u64>,
    /// Rows that classified an answer.
    pub rows: BTreeMap<&'static str, u64>,
    /// States that became durable.
    pub states: BTreeMap<&'static str, u64>,
    /// Causes of the ends and decisions.
    pub causes: BTreeMap<&'static str, u64>,
    /// Proofs that no money is kept.
    pub proofs: BTreeMap<&'static str, u64>,
    /// Faults.
    pub faults: BTreeMap<&'static str, u64>,
    /// Words that tills were told.
    pub told: BTreeMap<&'static str, u64>,
    /// Alarms, refusals, holds and what else is worth a name.
    pub others: BTreeMap<&'static str, u64>,
}

fn count<K: Ord>(map: &mut BTreeMap<K, u64>, key: K) {
    *map.entry(key).or_insert(0) += 1;
}

impl Probes {
    pub(super) fn fault(&mut self, name: &'static str) {
        count(&mut self.faults, name);
    }

    pub(super) fn told(&mut self, name: &'static str) {
        count(&mut self.told, name);
    }

    pub(super) fn other(&mut self, name: &'static str) {
        count(&mut self.others, name);
    }

    pub(super) fn row(&mut self, row: Row) {
        count(&mut self.rows, row.as_str());
    }

    pub(super) fn customer(&mut self, bb: u8) {
        count(&mut self.customers, bb);
    }

    /// A record became durable after `before`.
    pub(super) fn record(&mut self, before: Option<&Record>, record: &Record) {
        let new = |differs: fn(&Record, &Record) -> bool| before.is_none_or(|before| differs(before, record));
        if new(|a, b| a.state != b.state) {
            count(&mut self.states, state_name(record.state));
        }
        if let Some(cause) = record.cause
            && new(|a, b| a.cause != b.cause)
        {
            count(&mut self.causes, cause.as_str());
        }
        if let Some(proof) = record.proof
            && new(|a, b| a.proof != b.proof)
        {
            count(&mut self.proofs, proof.as_str());
        }
        if let Some(held) = record.held
            && new(|a, b| a.held != b.held)
        {
            self.other(held.as_str());
        }
        if record.repair && new(|a, b| a.repair != b.repair) {
            self.other("repair_refund_durable");
        }
        let looked = |a: &Record, b: &Record| a.looks_left != b.looks_left;
        if record.state == State::Reversed && before.is_some() && new(looked) {
            self.other("looked_again");
        }
        if record.cause == Some(Cause::Overtaken) && before.is_none() {
            self.other("overtaken");
        }
    }

    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Self) {
        fn merge<K: Ord + Copy>(into: &mut BTreeMap<K, u64>, from: &BTreeMap<K, u64>) {
            for (key, n) in from {
                *into.entry(*key).or_insert(0) += n;
            }
        }
        merge(&mut self.customers, &other.customers);
        merge(&mut self.rows, &other.rows);
        merge(&mut self.states, &other.states);
        merge(&mut self.causes, &other.causes);
        merge(&mut self.proofs, &other.proofs);
        merge(&mut self.faults, &other.faults);
        merge(&mut self.told, &other.told);
        merge(&mut self.others, &other.others);
    }

    /// Each family of counts with its name.
    #[must_use]
    pub fn families(&self) -> Vec<(&'static str, Vec<(String, u64)>)> {
        let named = |map: &BTreeMap<&'static str, u64>| {
            map.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect::<Vec<_>>()
        };
        let customers = self.customers.iter().map(|(bb, n)| (format!("{bb:02}"), *n)).collect();
        vec![
            ("faults", named(&self.faults)),
            ("customers", customers),
            ("states", named(&self.states)),
            ("causes", named(&self.causes)),
            ("proofs", named(&self.proofs)),
            ("rows", named(&self.rows)),
            ("told", named(&self.told)),
            ("others", named(&self.others)),
        ]
    }
}

/// The state's name, as in the reference.
pub(super) const fn state_name(state: State) -> &'static str {
    match state {
        State::Accepted => "ACCEPTED",
        State::Pending => "PENDING",
        State::Paid => "PAID",
        State::Failed => "FAILED",
        State::Reversing => "REVERSING",
        State::Reversed => "REVERSED",
    }
}
