//! The judges: what tills were told, where the money is, and what the switch recorded, payment by payment.
//!
//! The switch's own counters are not asked. A payment is *lost* if it was accepted and has no end or no record,
//! *charged twice* if the wallet took money more than once or keeps what nobody was told of, *contradicted* if a till
//! was told one thing and then another, or something else than the ledger or the record say. Source:
//! faults-and-invariants INV-01, 02, 04 to 06, 08, 12, 13, 16.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use serde::Serialize;
use simulator::Entry;
use state_machine::MerchantId;
use till::books::{Ending, Fault, Page, Records};
use till::credentials::TestMerchant;
use till::notebook::{Notebook, Word};
use till::serve::Till;

use crate::ledger::Ledger;
use crate::process::lines_about;

/// Violations that are shown with everything that is known.
const SHOWN_MAX: usize = 10;
/// Lines of the switch's log for each of them.
const LINES_MAX: usize = 20;

/// What became of the payments of a campaign.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verdict {
    /// Payments that tills began.
    pub payments: u64,
    /// Paid and kept.
    pub paid: u64,
    /// Not paid.
    pub failed: u64,
    /// Closed or returned.
    pub reversed: u64,
    /// Refused, or never heard by the switch.
    pub not_taken: u64,
    /// Accepted and without an end, or forgotten.
    pub lost: u64,
    /// Charged twice, or charged and kept without a word.
    pub charged_twice: u64,
    /// Told one thing and then another, or something else than is so.
    pub contradicted: u64,
    /// Rules of the wallet that were broken, by name.
    pub rules_broken: BTreeMap<String, u64>,
    /// Payments at the wallet or in the store that no till began.
    pub nobodys: u64,
    /// Fen that tills were told they have.
    pub told_fen: u64,
    /// Fen that the wallet holds for merchants.
    pub held_fen: u64,
    /// The first violations, in full.
    pub violations: Vec<History>,
}

/// Everything that is known of a payment that broke a rule.
#[derive(Clone, Debug, Serialize)]
pub struct History {
    /// The merchant's number.
    pub out_trade_no: String,
    /// Whose.
    pub mch_id: String,
    /// What is wrong.
    pub faults: Vec<String>,
    /// What the till asked and heard.
    pub notebook: Vec<String>,
    /// The wallet's page.
    pub ledger: String,
    /// The switch's record.
    pub record: String,
    /// What the switch logged of it.
    pub log: Vec<String>,
}

/// One payment, as the judges look at it.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// What the till asked for.
    pub asked_fen: u64,
    /// What it was told.
    pub notebook: &'a Notebook,
    /// The wallet's page.
    pub ledger: Option<&'a Entry>,
    /// The switch's record.
    pub record: Option<&'a state_machine::Record>,
}

/// Which promise a payment breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Broken {
    /// It is lost.
    Lost,
    /// It is charged twice.
    ChargedTwice,
    /// Somebody was told what is not so.
    Contradicted,
}

/// Every promise that a payment breaks, with the words for it.
#[must_use]
pub fn judge(case: &Case<'_>) -> Vec<(Broken, String)> {
    let Case { asked_fen, notebook, ledger, record } = *case;
    let page = Page { asked_fen, notebook, ledger, record };
    let faults = page.faults().into_iter().filter(|fault| *fault != Fault::StoryChanged);
    let mut broken: Vec<_> = faults.map(|fault| (promise(fault, &page), fault.text().to_owned())).collect();
    if let Some((before, after)) = notebook.contradiction() {
        let words = format!("told {} and then {}", before.word.text(), after.word.text());
        let promise = if after.word == Word::Absent { Broken::Lost } else { Broken::Contradicted };
        broken.push((promise, words));
    }
    broken
}

/// The promise behind a difference of the books.
fn promise(fault: Fault, page: &Page<'_>) -> Broken {
    match fault {
        Fault::StillOpen => Broken::Lost,
        // Accepted, and there is no record of it.
        Fault::ToldNotRecorded if page.ending() == Ending::NotTaken => Broken::Lost,
        Fault::ChargedTwice | Fault::HeldNotTold | Fault::HeldNotRecorded => Broken::ChargedTwice,
        Fault::ToldPaidNotHeld
        | Fault::RecordedPaidNotHeld
        | Fault::ToldNotRecorded
        | Fault::StoryChanged => Broken::Contradicted,
    }
}

/// The books of a campaign.
pub struct Books<'a> {
    /// Who is paid.
    pub merchants: &'a [TestMerchant],
    /// Their numbers in the store.
    pub numbers: &'a [MerchantId],
    /// The tills.
    pub tills: &'a [Till],
    /// The wallet's.
    pub ledger: &'a Ledger,
    /// The switch's.
    pub records: &'a Records,
    /// Where the logs are.
    pub logs: &'a Path,
}

impl Books<'_> {
    /// Judges every payment.
    #[must_use]
    pub fn judge(&self) -> Verdict {
        let mut verdict = Verdict::default();
        let mut known = HashSet::new();
        for till in self.tills {
            let sale = &till.sale;
            let (Some(merchant), Some(number)) =
                (self.merchants.get(sale.merchant), self.numbers.get(sale.merchant))
            else {
                continue;
            };
            let case = Case {
                asked_fen: sale.amount_fen,
                notebook: &till.notebook,
                ledger: self.ledger.get(&(merchant.upstream.clone(), sale.number.clone())),
                record: self.records.get(&(*number, sale.number.clone())),
            };
            known.insert((sale.merchant, sale.number.as_str()));
            verdict.add(&case, || (merchant.mch_id.clone(), sale.number.clone()), self.logs);
        }
        let begun =
            |merchant: Option<usize>, number: &str| merchant.is_some_and(|at| known.contains(&(at, number)));
        let at_wallet = self.ledger.keys().filter(|(upstream, number)| {
            !begun(self.merchants.iter().position(|one| one.upstream == *upstream), number)
        });
        let in_store = self
            .records
            .keys()
            .filter(|(id, number)| !begun(self.numbers.iter().position(|one| one == id), number));
        verdict.nobodys = u64::try_from(at_wallet.count() + in_store.count()).unwrap_or(u64::MAX);
        verdict.held_fen = self.ledger.values().map(Entry::held_fen).sum();
        verdict
    }
}

impl Verdict {
    /// Whether every promise was kept.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let Self { lost, charged_twice, contradicted, nobodys, .. } = self;
        lost + charged_twice + contradicted + nobodys == 0
            && self.rules_broken.is_empty()
            && self.told_fen == self.held_fen
    }

    /// Takes one payment; `names` are asked for only if it broke a rule.
    pub fn add(&mut self, case: &Case<'_>, names: impl FnOnce() -> (String, String), logs: &Path) {
        let page = Page {
            asked_fen: case.asked_fen,
            notebook: case.notebook,
            ledger: case.ledger,
            record: case.record,
        };
        self.payments += 1;
        match page.ending() {
            Ending::Paid => self.paid += 1,
            Ending::Failed => self.failed += 1,
            Ending::Reversed => self.reversed += 1,
            Ending::NotTaken => self.not_taken += 1,
            Ending::Held | Ending::Open => {}
        }
        if let Word::Paid(fen) = case.notebook.told() {
            self.told_fen += fen;
        }
        let broken = judge(case);
        let has = |promise| broken.iter().any(|(one, _)| *one == promise);
        self.lost += u64::from(has(Broken::Lost));
        self.charged_twice += u64::from(has(Broken::ChargedTwice));
        self.contradicted += u64::from(has(Broken::Contradicted));
        let rules: Vec<&str> =
            case.ledger.iter().flat_map(|entry| &entry.violations).map(|one| one.as_str()).collect();
        for rule in &rules {
            *self.rules_broken.entry((*rule).to_owned()).or_default() += 1;
        }
        let faults: Vec<String> = broken
            .into_iter()
            .map(|(_, words)| words)
            .chain(rules.iter().map(|rule| format!("the wallet's rule {rule} was broken")))
            .collect();
        if !faults.is_empty() && self.violations.len() < SHOWN_MAX {
            let (mch_id, out_trade_no) = names();
            self.violations.push(History {
                faults,
                notebook: story(case.notebook),
                ledger: case.ledger.map_or_else(|| "never heard of it".to_owned(), Entry::to_json),
                record: case.record.map_or_else(|| "none".to_owned(), |record| format!("{record:?}")),
                log: lines_about(logs, &out_trade_no, LINES_MAX),
                mch_id,
                out_trade_no,
            });
        }
    }

    /// Adds what another part of the campaign came to.
    pub fn merge(&mut self, other: Self) {
        self.payments += other.payments;
        self.paid += other.paid;
        self.failed += other.failed;
        self.reversed += other.reversed;
        self.not_taken += other.not_taken;
        self.lost += other.lost;
        self.charged_twice += other.charged_twice;
        self.contradicted += other.contradicted;
        self.nobodys += other.nobodys;
        self.told_fen += other.told_fen;
        self.held_fen += other.held_fen;
        for (rule, count) in other.rules_broken {
            *self.rules_broken.entry(rule).or_default() += count;
        }
        self.violations.extend(other.violations);
        self.violations.truncate(SHOWN_MAX);
    }
}

/// A notebook in words, one line an answer.
fn story(notebook: &Notebook) -> Vec<String> {
    notebook
        .notes
        .iter()
        .map(|note| {
            let times = if note.times > 1 {
                format!(" ×{} until {}", note.times, note.last_at_ms)
            } else {
                String::new()
            };
            format!("{} {:?}: {} ({}){times}", note.at_ms, note.call, note.word.text(), note.wire)
        })
        .collect()
}

#[cfg(test)]
mod tests;
