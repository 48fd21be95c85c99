//! Tills' words, the wallet's ledger and the switch's store, payment by payment.

use anyhow::Context as _;
use serde_json::{Value, json};
use till::books::{Ending, ending, records};

use super::{FEN, Told, Word, agrees};
use crate::ledger;
use crate::report::Report;
use crate::site::{Site, Wallet};

/// What the books say besides who was paid.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Queries that reached the wallet.
    pub(super) queries: u64,
    /// For each customer who paid: from the last key press to the switch's decision, in milliseconds.
    late_ms: Vec<i64>,
}

impl Seen {
    /// How late the switch knew.
    pub(super) fn delays(&self) -> Value {
        let mut late = self.late_ms.clone();
        late.sort_unstable();
        let at = |percent: usize| late.get(late.len() * percent / 100).or(late.last()).copied();
        json!({ "p50": at(50), "p95": at(95), "p99": at(99), "max": late.last() })
    }
}

/// Compares them; what differs goes into the report's verdict.
///
/// # Errors
///
/// When a book cannot be read.
pub(super) async fn compare(
    site: &Site,
    wallet: &Wallet,
    told: &[Told],
    report: &mut Report,
) -> anyhow::Result<Seen> {
    let mut ledger = ledger::fetch(wallet.plain).await?;
    let mut records = records(&site.store, &site.seal_key)?;
    let mut seen = Seen::default();
    let verdict = &mut report.verdict;
    for one in told {
        verdict.payments += 1;
        let number = one.key.number.to_string();
        let at = site.numbers.iter().position(|of| *of == one.key.merchant);
        let upstream = at.and_then(|at| site.merchants.get(at)).context("a merchant")?.upstream.clone();
        let entry = ledger.remove(&(upstream, number.clone()));
        let record = records.remove(&(one.key.merchant, number));
        let held = entry.as_ref().map_or(0, simulator::Entry::held_fen);
        let end = record.as_ref().map_or(Ending::NotTaken, ending);
        verdict.held_fen += held;
        verdict.told_fen += if one.word == Word::Paid { FEN } else { 0 };
        match end {
            Ending::Paid => verdict.paid += 1,
            Ending::Failed => verdict.failed += 1,
            Ending::Reversed => verdict.reversed += 1,
            Ending::NotTaken => verdict.not_taken += 1,
            Ending::Open | Ending::Held => verdict.lost += 1,
        }
        let wanted = if one.word == Word::Paid { FEN } else { 0 };
        verdict.contradicted += u64::from(held != wanted || !agrees(one.word, end));
        if let Some(entry) = entry {
            seen.queries += u64::from(entry.queries);
            verdict.charged_twice += u64::from(entry.captures > 1);
            for broken in &entry.violations {
                *verdict.rules_broken.entry(broken.as_str().to_owned()).or_default() += 1;
            }
            let decided = record.filter(|_| end == Ending::Paid).and_then(|record| record.decided_at);
            let late =
                decided.zip(entry.customer_done_at_ms).map(|(decided, done)| (decided.0 - done).max(0));
            seen.late_ms.extend(late);
        }
    }
    verdict.nobodys = u64::try_from(ledger.len().max(records.len()))?;
    Ok(seen)
}
