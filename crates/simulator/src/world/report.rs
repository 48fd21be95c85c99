//! What a run, or many, came to.

use std::fmt::Write as _;

use super::judge::Violation;
use super::judge::finish::Ends;
use super::probes::Probes;
use super::tills::{n_of, n_of_text};
use super::{World, out_trade_no};

/// What one run came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// Payments that tills tried to make.
    pub orders: u64,
    /// Orders that were accepted and ended PAID.
    pub paid: u64,
    /// Orders that ended FAILED.
    pub failed: u64,
    /// Orders that ended REVERSED.
    pub reversed: u64,
    /// PAID orders that were returned because their till asked.
    pub returned: u64,
    /// Orders that are held: the operator's.
    pub held: u64,
    /// Orders whose row was spoilt: the operator's, too.
    pub damaged: u64,
    /// Orders that neither ended nor are held.
    pub open: u64,
    /// The most orders open at once.
    pub peak_open: u64,
    /// The most undecided orders at once.
    pub peak_pending: u64,
    /// Events of the run: inputs to a shard, and to the wallet.
    pub events: u64,
    /// Everything that happened at a moment, also between tills and switch.
    pub steps: u64,
    /// How much virtual time passed, in milliseconds.
    pub virtual_ms: u64,
    /// The same for the same setup (INV-30).
    pub hash: u64,
    /// Whether whoever ran it has run it twice, to compare.
    pub again: bool,
    /// What did not hold.
    pub violations: Vec<Violation>,
    /// What was reached.
    pub probes: Probes,
}

impl World {
    pub(super) fn report(&mut self) -> Report {
        let end_ms = self.drawn.start_ms + i64::try_from(self.now).unwrap_or(0);
        self.wallet.advance(end_ms);
        let parity = |sub_mch_id: &str| sub_mch_id.bytes().last().map(|digit| u32::from(digit & 1));
        if self.is_enough() {
            return self.sum_up(Ends::default());
        }
        let stored = self.switch.disk.all();
        let kept: std::collections::HashMap<u32, u64> = self
            .wallet
            .ledger()
            .filter_map(|entry| {
                let n = 2 * n_of_text(&entry.key.out_trade_no)? + parity(&entry.key.sub_mch_id)?;
                Some((n, entry.held_fen()))
            })
            .collect();
        self.judge_rescans(|n| kept.get(&n).copied().unwrap_or(0));
        let ends: Ends = self.judge.finish(
            self.wallet.ledger(),
            stored.iter(),
            |entry| Some(2 * n_of_text(&entry.key.out_trade_no)? + parity(&entry.key.sub_mch_id)?),
            n_of,
            &self.transit,
        );
        self.sum_up(ends)
    }

    fn sum_up(&mut self, ends: Ends) -> Report {
        Report {
            seed: self.setup.seed,
            orders: u64::try_from(self.tills.len()).unwrap_or(u64::MAX),
            paid: ends.paid,
            failed: ends.failed,
            reversed: ends.reversed,
            returned: ends.returned,
            held: ends.held,
            damaged: ends.damaged,
            open: ends.open,
            peak_open: self.judge.peak_open,
            peak_pending: self.judge.peak_pending,
            events: self.events,
            steps: self.steps,
            virtual_ms: self.now,
            hash: self.hash,
            again: false,
            violations: std::mem::take(&mut self.judge.violations),
            probes: std::mem::take(&mut self.judge.probes),
        }
    }
}

/// Many runs together.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Runs.
    pub seeds: u64,
    /// Sums over the runs, as in [`Report`].
    pub orders: u64,
    /// Orders that ended PAID.
    pub paid: u64,
    /// Orders that ended FAILED.
    pub failed: u64,
    /// Orders that ended REVERSED.
    pub reversed: u64,
    /// PAID orders that were returned.
    pub returned: u64,
    /// Orders that are held.
    pub held: u64,
    /// Orders whose row was spoilt.
    pub damaged: u64,
    /// Orders that neither ended nor are held.
    pub open: u64,
    /// The most orders open at once in any run.
    pub peak_open: u64,
    /// The most undecided orders at once in any run.
    pub peak_pending: u64,
    /// Events.
    pub events: u64,
    /// Steps.
    pub steps: u64,
    /// Virtual time, in milliseconds.
    pub virtual_ms: u64,
    /// Real time, in milliseconds; 0 if it was not measured.
    pub real_ms: u64,
    /// Seeds that were run twice, to compare.
    pub again: u64,
    /// Events of the second runs, which `events` leaves out.
    pub events_again: u64,
    /// Violations.
    pub violations: u64,
    /// Seeds in which a rule did not hold.
    pub failing: Vec<u64>,
    /// What was reached.
    pub probes: Probes,
}

impl Summary {
    /// Adds a run.
    pub fn add(&mut self, report: &Report) {
        self.seeds += 1;
        self.orders += report.orders;
        self.paid += report.paid;
        self.failed += report.failed;
        self.reversed += report.reversed;
        self.returned += report.returned;
        self.held += report.held;
        self.damaged += report.damaged;
        self.open += report.open;
        self.peak_open = self.peak_open.max(report.peak_open);
        self.peak_pending = self.peak_pending.max(report.peak_pending);
        self.events += report.events;
        self.steps += report.steps;
        self.virtual_ms += report.virtual_ms;
        self.again += u64::from(report.again);
        self.events_again += if report.again { report.events } else { 0 };
        self.violations += u64::try_from(report.violations.len()).unwrap_or(0);
        if !report.violations.is_empty() {
            self.failing.push(report.seed);
        }
        self.probes.add(&report.probes);
    }

    /// Events in a second of real time, those of second runs too; 0 if it was not measured.
    #[must_use]
    pub fn events_per_s(&self) -> u64 {
        ((self.events + self.events_again) * 1_000).checked_div(self.real_ms).unwrap_or(0)
    }

    fn numbers(&self) -> [(&'static str, u64); 18] {
        [
            ("seeds", self.seeds),
            ("orders", self.orders),
            ("paid", self.paid),
            ("failed", self.failed),
            ("reversed", self.reversed),
            ("returned", self.returned),
            ("held", self.held),
            ("damaged", self.damaged),
            ("open", self.open),
            ("peak_open", self.peak_open),
            ("peak_pending", self.peak_pending),
            ("events", self.events),
            ("steps", self.steps),
            ("virtual_ms", self.virtual_ms),
            ("real_ms", self.real_ms),
            ("events_per_s", self.events_per_s()),
            ("violations", self.violations),
            ("failing_seeds", u64::try_from(self.failing.len()).unwrap_or(0)),
        ]
    }

    /// Adds the sums of other runs, one after the other.
    pub fn merge(&mut self, other: &Self) {
        let sums = [
            (&mut self.seeds, other.seeds),
            (&mut self.orders, other.orders),
            (&mut self.paid, other.paid),
            (&mut self.failed, other.failed),
            (&mut self.reversed, other.reversed),
            (&mut self.returned, other.returned),
            (&mut self.held, other.held),
            (&mut self.damaged, other.damaged),
            (&mut self.open, other.open),
            (&mut self.events, other.events),
            (&mut self.steps, other.steps),
            (&mut self.virtual_ms, other.virtual_ms),
            (&mut self.real_ms, other.real_ms),
            (&mut self.again, other.again),
            (&mut self.events_again, other.events_again),
            (&mut self.violations, other.violations),
        ];
        sums.into_iter().for_each(|(sum, more)| *sum += more);
        self.peak_open = self.peak_open.max(other.peak_open);
        self.peak_pending = self.peak_pending.max(other.peak_pending);
        self.failing.extend_from_slice(&other.failing);
        self.probes.add(&other.probes);
    }

    /// A table for people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut table = String::new();
        let hours = self.virtual_ms / 3_600_000;
        let (s, ms) = (self.real_ms / 1_000, self.real_ms % 1_000);
        let _ = writeln!(
            table,
            "{} seeds, {} orders, {} hours of virtual time in {s}.{ms:03} s: {}",
            grouped(self.seeds),
            grouped(self.orders),
            grouped(hours),
            if self.violations == 0 { "every rule held".to_owned() } else { self.verdict() }
        );
        let _ = writeln!(
            table,
            "{} events ({}/s: inputs to a shard or the wallet), {} steps; {} seeds run twice, same hash",
            grouped(self.events),
            grouped(self.events_per_s()),
            grouped(self.steps),
            grouped(self.again)
        );
        for (name, value) in [
            ("ended PAID", self.paid),
            ("ended FAILED", self.failed),
            ("ended REVERSED", self.reversed),
            ("returned to order", self.returned),
            ("held", self.held),
            ("row set aside", self.damaged),
            ("not ended", self.open),
            ("pending at once", self.peak_pending),
            ("open at once", self.peak_open),
        ] {
            let _ = writeln!(table, "  {name:<18} {:>13}", grouped(value));
        }
        for (family, counts) in self.probes.families() {
            let widest = counts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
            let columns = (110 / (widest + 14)).max(1);
            let _ = writeln!(table, "{family}");
            for row in counts.chunks(columns) {
                let cells: String = row
                    .iter()
                    .map(|(name, count)| format!("  {name:<widest$} {:>11}", grouped(*count)))
                    .collect();
                let _ = writeln!(table, "{cells}");
            }
        }
        table
    }

    fn verdict(&self) -> String {
        format!("{} VIOLATIONS in {} seeds", grouped(self.violations), self.failing.len())
    }

    /// One JSON object.
    #[must_use]
    pub fn to_json(&self) -> String {
        let numbers: Vec<String> =
            self.numbers().iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        let seeds: Vec<String> = self.failing.iter().map(u64::to_string).collect();
        let families: Vec<String> = self
            .probes
            .families()
            .into_iter()
            .map(|(family, counts)| {
                let counts: Vec<String> =
                    counts.iter().map(|(name, count)| format!("\"{name}\":{count}")).collect();
                format!("\"{family}\":{{{}}}", counts.join(","))
            })
            .collect();
        format!(
            "{{{},\"failing\":[{}],\"probes\":{{{}}}}}",
            numbers.join(","),
            seeds.join(","),
            families.join(",")
        )
    }
}

/// `1234567` as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl Violation {
    /// One line for people: the rule, the payment, the moment, what was seen.
    #[must_use]
    pub fn line(&self) -> String {
        let payment = self.n.map_or_else(|| "-".to_owned(), out_trade_no);
        let (s, ms) = (self.at_ms / 1_000, self.at_ms % 1_000);
        format!("{} ({}) {payment} at {s}.{ms:03} s: {}", self.rule, self.book.as_str(), self.what)
    }
}
