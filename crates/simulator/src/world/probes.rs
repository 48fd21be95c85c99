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
    pub rows: Counts,
    /// States that became durable.
    pub states: Counts,
    /// Causes of the ends and decisions.
    pub causes: Counts,
    /// Proofs that no money is kept.
    pub proofs: Counts,
    /// Faults.
    pub faults: Counts,
    /// Words that tills were told.
    pub told: Counts,
    /// Alarms, refusals, holds and what else is worth a name.
    pub others: Counts,
}

/// How often each name came. A name is a constant: it is known again by its place in memory, and what comes often
/// stands in front.
#[derive(Clone, Debug, Default)]
pub struct Counts(Vec<(&'static str, u64)>);

impl PartialEq for Counts {
    fn eq(&self, other: &Self) -> bool {
        self.sorted() == other.sorted()
    }
}

impl Eq for Counts {}

impl Counts {
    fn count(&mut self, name: &'static str) {
        let Some(at) = self.0.iter().position(|(known, _)| std::ptr::eq(*known, name)) else {
            return self.0.push((name, 1));
        };
        if let Some((_, n)) = self.0.get_mut(at) {
            *n += 1;
        }
        self.0.swap(at, at.saturating_sub(1));
    }

    /// Whether it ever came.
    #[must_use]
    pub fn contains_key(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| *known == name)
    }

    /// In the order of the names.
    #[must_use]
    pub fn sorted(&self) -> BTreeMap<&'static str, u64> {
        let mut sorted = BTreeMap::new();
        for (name, n) in &self.0 {
            *sorted.entry(*name).or_insert(0) += n;
        }
        sorted
    }
}

impl Probes {
    pub(super) fn fault(&mut self, name: &'static str) {
        self.faults.count(name);
    }

    pub(super) fn told(&mut self, name: &'static str) {
        self.told.count(name);
    }

    pub(super) fn other(&mut self, name: &'static str) {
        self.others.count(name);
    }

    pub(super) fn row(&mut self, row: Row) {
        self.rows.count(row.as_str());
    }

    pub(super) fn customer(&mut self, bb: u8) {
        *self.customers.entry(bb).or_insert(0) += 1;
    }

    /// A record became durable after `before`.
    pub(super) fn record(&mut self, before: Option<&Record>, record: &Record) {
        let new = |differs: fn(&Record, &Record) -> bool| before.is_none_or(|before| differs(before, record));
        if new(|a, b| a.state != b.state) {
            self.states.count(state_name(record.state));
        }
        if let Some(cause) = record.cause
            && new(|a, b| a.cause != b.cause)
        {
            self.causes.count(cause.as_str());
        }
        if let Some(proof) = record.proof
            && new(|a, b| a.proof != b.proof)
        {
            self.proofs.count(proof.as_str());
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
        for (bb, n) in &other.customers {
            *self.customers.entry(*bb).or_insert(0) += n;
        }
        let pairs = [
            (&mut self.rows, &other.rows),
            (&mut self.states, &other.states),
            (&mut self.causes, &other.causes),
            (&mut self.proofs, &other.proofs),
            (&mut self.faults, &other.faults),
            (&mut self.told, &other.told),
            (&mut self.others, &other.others),
        ];
        for (into, from) in pairs {
            into.0.extend_from_slice(&from.0);
            into.0 = into.sorted().into_iter().collect();
        }
    }

    /// Each family of counts with its name.
    #[must_use]
    pub fn families(&self) -> Vec<(&'static str, Vec<(String, u64)>)> {
        let named = |counts: &Counts| {
            counts.sorted().into_iter().map(|(name, n)| (name.to_owned(), n)).collect::<Vec<_>>()
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
