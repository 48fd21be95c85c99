//! The closing report: outcomes, delays, and the payments whose books differ.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;
use simulator::{Entry, Stats, Totals, Violation};
use state_machine::Record;
use state_machine::record::{Cause, State};

use crate::output::{duration_ms, line, table, yuan};
use till::books::{Ending, Fault, Page};
use till::notebook::Word;

/// Payments that are shown with all three records.
const SHOWN_MAX: usize = 20;

/// Percentiles of a delay, in real milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Delay {
    /// Payments measured.
    count: u64,
    p50: u64,
    p95: u64,
    p99: u64,
    max: u64,
}

impl Delay {
    fn of(histogram: &Histogram<u64>) -> Self {
        Self {
            count: histogram.len(),
            p50: histogram.value_at_quantile(0.50),
            p95: histogram.value_at_quantile(0.95),
            p99: histogram.value_at_quantile(0.99),
            max: histogram.max(),
        }
    }
}

/// One payment whose books differ.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Difference {
    out_trade_no: String,
    merchant: String,
    faults: Vec<&'static str>,
    wallet: String,
    told: String,
    recorded: String,
}

/// Everything that is reported; `--json` prints it as one line.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    customers: u64,
    paid: u64,
    failed: u64,
    reversed: u64,
    held: u64,
    open: u64,
    not_taken: u64,
    peak_pending: u64,
    queries_per_payment: f64,
    /// Customer's last key in the wallet → PAID in the switch, of payments that had to be waited for.
    detection_delay_ms: Delay,
    /// The switch knew → the till had it.
    told_delay_ms: Delay,
    paid_fen: u64,
    wallet_holds_fen: u64,
    wallet_returned_fen: u64,
    wallet_pay_requests: u64,
    wallet_queries: u64,
    wallet_reversals: u64,
    wallet_peak_dialogs: u64,
    /// Rules of the wallet that the switch broke, such as reversing too early.
    wallet_violations: u64,
    /// The same by rule.
    violations: BTreeMap<&'static str, u64>,
    /// The shortest time between a pay request and a reversal that the wallet found too early, as it arrived there.
    earliest_reversal_ms: Option<i64>,
    charged_twice: u64,
    told_and_ledger_differ: u64,
    books_differ: u64,
    pub(super) books_agree: bool,
    pub(super) elapsed_ms: u64,
    differences: Vec<Difference>,
}

/// Adds up the pages.
pub(super) struct Reporter {
    report: Report,
    detection: Histogram<u64>,
    told: Histogram<u64>,
}

impl Reporter {
    pub(super) fn new(peak_pending: u64, stats: Stats, totals: Totals) -> Self {
        // Counts milliseconds to three digits; it grows as it must.
        #[expect(clippy::expect_used, reason = "3 digits are among those that the type allows")]
        let histogram = || Histogram::new(3).expect("3 digits are allowed");
        let none = Delay { count: 0, p50: 0, p95: 0, p99: 0, max: 0 };
        let report = Report {
            customers: 0,
            paid: 0,
            failed: 0,
            reversed: 0,
            held: 0,
            open: 0,
            not_taken: 0,
            peak_pending,
            queries_per_payment: 0.0,
            detection_delay_ms: none,
            told_delay_ms: none,
            paid_fen: 0,
            wallet_holds_fen: totals.captured_fen.saturating_sub(totals.returned_fen),
            wallet_returned_fen: totals.returned_fen,
            wallet_pay_requests: stats.pay_requests,
            wallet_queries: stats.queries,
            wallet_reversals: stats.reversals,
            wallet_peak_dialogs: stats.peak_open_dialogs,
            wallet_violations: totals.violations,
            violations: BTreeMap::new(),
            earliest_reversal_ms: None,
            charged_twice: 0,
            told_and_ledger_differ: 0,
            books_differ: 0,
            books_agree: false,
            elapsed_ms: 0,
            differences: Vec::new(),
        };
        Self { report, detection: histogram(), told: histogram() }
    }

    /// Takes one payment.
    pub(super) fn add(&mut self, merchant: &str, number: &str, page: &Page<'_>) {
        let report = &mut self.report;
        report.customers += 1;
        let counter = match page.ending() {
            Ending::Paid => &mut report.paid,
            Ending::Failed => &mut report.failed,
            Ending::Reversed => &mut report.reversed,
            Ending::Held => &mut report.held,
            Ending::Open => &mut report.open,
            Ending::NotTaken => &mut report.not_taken,
        };
        *counter += 1;
        if let Word::Paid(fen) = page.notebook.told() {
            report.paid_fen += fen;
        }
        if let Some(ms) = detection_ms(page) {
            self.detection.saturating_record(ms);
        }
        if let Some(ms) = told_ms(page) {
            self.told.saturating_record(ms);
        }
        for violation in page.ledger.iter().flat_map(|entry| &entry.violations) {
            *report.violations.entry(violation.as_str()).or_default() += 1;
            if let Violation::EarlyReversal { after_ms } = violation {
                let earliest = report.earliest_reversal_ms.map_or(*after_ms, |ms| ms.min(*after_ms));
                report.earliest_reversal_ms = Some(earliest);
            }
        }
        let faults = page.faults();
        report.charged_twice += u64::from(faults.contains(&Fault::ChargedTwice));
        report.told_and_ledger_differ += u64::from(faults.iter().any(|fault| fault.is_told_against_ledger()));
        if !faults.is_empty() {
            report.books_differ += 1;
            report.differences.push(difference(merchant, number, page, &faults));
        }
    }

    /// Closes the report.
    pub(super) fn finish(mut self, elapsed_ms: u64) -> Report {
        let report = &mut self.report;
        report.queries_per_payment = ratio(report.wallet_queries, report.customers);
        report.detection_delay_ms = Delay::of(&self.detection);
        report.told_delay_ms = Delay::of(&self.told);
        report.books_agree = report.books_differ == 0 && report.paid_fen == report.wallet_holds_fen;
        report.elapsed_ms = elapsed_ms;
        self.report
    }
}

/// From the customer's last key to PAID, where there was something to wait for: a payment charged at once is told
/// by the answer itself.
fn detection_ms(page: &Page<'_>) -> Option<u64> {
    let (entry, record) = (page.ledger?, page.record?);
    let done_at = entry.customer_done_at_ms.filter(|at| *at > entry.first_pay_at_ms)?;
    let decided_at = record.decided_at.filter(|_| record.state == State::Paid)?;
    Some(u64::try_from(decided_at.0 - done_at).unwrap_or(0))
}

/// From the decision to the till's first hearing of it. What the till itself asked for is no news to it.
fn told_ms(page: &Page<'_>) -> Option<u64> {
    let record = page.record?;
    let decided_at = record.decided_at?;
    let own_wish = matches!(record.cause, Some(Cause::Till | Cause::Overtaken));
    let told_at = match record.state {
        State::Paid => page.notebook.told_at_ms(|word| matches!(word, Word::Paid(_)))?,
        State::Failed | State::Reversing | State::Reversed if !own_wish => {
            page.notebook.told_at_ms(|word| matches!(word, Word::NotPaid | Word::Reversed))?
        }
        State::Accepted | State::Pending | State::Failed | State::Reversing | State::Reversed => return None,
    };
    Some(u64::try_from(told_at - decided_at.0).unwrap_or(0))
}

#[expect(clippy::float_arithmetic, clippy::cast_precision_loss, reason = "a mean for people, no money")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 / whole as f64 * 100.0).round() / 100.0 }
}

fn difference(merchant: &str, number: &str, page: &Page<'_>, faults: &[Fault]) -> Difference {
    let story: Vec<String> = page
        .notebook
        .notes
        .iter()
        .map(|note| format!("{:?}: {} ({})", note.call, note.word.text(), note.wire))
        .collect();
    Difference {
        out_trade_no: number.to_owned(),
        merchant: merchant.to_owned(),
        faults: faults.iter().map(|fault| fault.text()).collect(),
        wallet: page.ledger.map_or_else(|| "never heard of it".to_owned(), ledger_words),
        told: if story.is_empty() { "nothing".to_owned() } else { dedup(story).join("; ") },
        recorded: page.record.map_or_else(|| "nothing".to_owned(), record_words),
    }
}

/// The same answer many times over is told once.
fn dedup(mut story: Vec<String>) -> Vec<String> {
    story.dedup();
    story
}

fn ledger_words(entry: &Entry) -> String {
    format!(
        "customer {:04} ({:04}), {}; asked {}, charged {} in {} charges, returned {}; {} queries, {} reversals",
        entry.customer,
        entry.acted,
        entry.state.as_str(),
        entry.amount_fen,
        entry.captured_fen,
        entry.captures,
        entry.returned_fen,
        entry.queries,
        entry.reversals,
    )
}

fn record_words(record: &Record) -> String {
    format!(
        "{:?} version {}, cause {}, proof {}, held {}, till's reversal {:?}",
        record.state,
        record.version,
        record.cause.map_or("none", Cause::as_str),
        record.proof.map_or("none", protocol::fact::Row::as_str),
        record.held.map_or("no", state_machine::record::Held::as_str),
        record.till_reversal,
    )
}

impl Report {
    /// How often which rule of the wallet was broken.
    fn violations(&self) -> String {
        let kinds: Vec<String> =
            self.violations.iter().map(|(rule, count)| format!("{count} {rule}")).collect();
        if kinds.is_empty() { "0".to_owned() } else { kinds.join(", ") }
    }

    /// Prints it for people.
    pub(super) fn print(&self) {
        let mut outcomes = table(&["Outcome", "Payments", ""], &[1]);
        for (name, count, meaning) in [
            ("paid", self.paid, "charged once, and it stays paid"),
            ("failed", self.failed, "not paid; nothing was charged, or it has gone back"),
            ("reversed", self.reversed, "closed or returned, and that is proven"),
            ("held", self.held, "for the operator"),
            ("open", self.open, "not at its end"),
            ("not taken", self.not_taken, "refused before anything was stored or sent"),
        ] {
            outcomes.add_row([name.to_owned(), count.to_string(), meaning.to_owned()]);
        }
        let mut delays =
            table(&["Real milliseconds", "Payments", "p50", "p95", "p99", "max"], &[1, 2, 3, 4, 5]);
        for (name, delay) in [
            ("customer's last key → the switch knows", self.detection_delay_ms),
            ("the switch knows → the till has it", self.told_delay_ms),
        ] {
            let Delay { count, p50, p95, p99, max } = delay;
            let mut row = vec![name.to_owned()];
            row.extend([count, p50, p95, p99, max].map(|number| number.to_string()));
            delays.add_row(row);
        }
        let mut books = table(&["Books", ""], &[1]);
        for (name, value) in [
            ("payments, peak open at once", format!("{}, {}", self.customers, self.peak_pending)),
            ("queries to the wallet for each payment", format!("{:.2}", self.queries_per_payment)),
            (
                "pay requests, queries, reversals at the wallet",
                format!("{}, {}, {}", self.wallet_pay_requests, self.wallet_queries, self.wallet_reversals),
            ),
            ("tills were told: paid", format!("{} CNY", yuan(self.paid_fen))),
            ("the wallet holds for merchants", format!("{} CNY", yuan(self.wallet_holds_fen))),
            ("the wallet has returned", format!("{} CNY", yuan(self.wallet_returned_fen))),
            ("charged twice", self.charged_twice.to_string()),
            ("told and ledger differ", self.told_and_ledger_differ.to_string()),
            ("payments with any difference between the three books", self.books_differ.to_string()),
            ("rules of the wallet broken", self.violations()),
        ] {
            books.add_row([name.to_owned(), value]);
        }
        line(format!("{outcomes}\n\n{delays}\n\n{books}\n"));
        for one in self.differences.iter().take(SHOWN_MAX) {
            line(format!("{} of merchant {}: {}", one.out_trade_no, one.merchant, one.faults.join("; ")));
            line(format!(
                "  wallet:   {}\n  till:     {}\n  recorded: {}",
                one.wallet, one.told, one.recorded
            ));
        }
        if self.differences.len() > SHOWN_MAX {
            line(format!("… and {} more; --json lists them all.", self.differences.len() - SHOWN_MAX));
        }
        let verdict = if self.books_agree {
            "The wallet's ledger, the tills' notebooks and the switch's store agree; nothing is open."
        } else {
            "THE BOOKS DIFFER."
        };
        line(format!("{verdict} ({})", duration_ms(self.elapsed_ms)));
    }
}
