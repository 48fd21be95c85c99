//! The last look: every payment of the run against the wallet's ledger.

use std::sync::Arc;

use protocol::Fen;
use state_machine::record::{State, TillReversal};
use state_machine::{OrderKey, Record};

use super::{Book, GUARD_MS, Judge, contradicts, looks_older, state_name};
use crate::ledger::{self, Entry};

/// What the end of a run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::world) struct Ends {
    pub(in crate::world) paid: u64,
    pub(in crate::world) failed: u64,
    pub(in crate::world) reversed: u64,
    /// PAID, and returned because the till asked.
    pub(in crate::world) returned: u64,
    /// On the operator's list.
    pub(in crate::world) held: u64,
    /// Rows that were spoilt: the operator's, too.
    pub(in crate::world) damaged: u64,
    /// Neither ended nor held: a violation each.
    pub(in crate::world) open: u64,
}

/// How a pay request travelled to the wallet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::world) struct Transit {
    /// How long it, or its copy, was under way, in milliseconds.
    pub(in crate::world) longest_ms: u32,
    /// Whether the network may have delivered it twice.
    pub(in crate::world) may_be_copied: bool,
    /// Whether an answer to this payment named its number at another merchant.
    pub(in crate::world) met_another_merchant: bool,
    /// Whether the machine's clock was minutes ahead when it was accepted.
    pub(in crate::world) clock_was_ahead: bool,
}

impl Judge {
    /// Compares the books once the calm is over (INV-01, 02, 03, 06, 08, 12, 21, 22). `place` names the payment
    /// of a ledger entry, `durable` is what the store holds, `transit` tells what the network did with each pay
    /// request.
    pub(in crate::world) fn finish<'a>(
        &mut self,
        ledger: impl Iterator<Item = &'a Entry>,
        durable: impl Iterator<Item = &'a Arc<Record>>,
        place: impl Fn(&Entry) -> Option<u32>,
        place_of: impl Fn(&OrderKey) -> u32,
        transit: &[Transit],
    ) -> Ends {
        self.book = Book::Ledger;
        let mut entries: Vec<Option<&Entry>> = vec![None; self.pages.len()];
        for entry in ledger {
            let n = place(entry);
            let slot = n.and_then(|n| entries.get_mut(usize::try_from(n).unwrap_or(usize::MAX)));
            match slot {
                Some(slot) => *slot = Some(entry),
                None => self.break_rule("INV-01", None, format!("unknown number {}", entry.key.out_trade_no)),
            }
            self.judge_entry(n, entry, transit);
        }
        let mut ends = Ends::default();
        let mut stored = 0;
        for record in durable {
            let n = place_of(&record.key);
            stored += usize::from(!self.page(n).damaged);
            let seen = self.durable(n).map(|seen| seen.version);
            if seen != Some(record.version) {
                let what =
                    format!("the store has version {}, was told to be durable: {seen:?}", record.version);
                self.break_rule("INV-13", Some(n), what);
            }
            let entry = entries.get(usize::try_from(n).unwrap_or(usize::MAX)).copied().flatten();
            let transit = transit.get(usize::try_from(n).unwrap_or(usize::MAX)).copied().unwrap_or_default();
            self.judge_end(n, record, entry, transit, &mut ends);
        }
        if stored != self.pages.iter().filter(|page| page.durable.is_some() && !page.damaged).count() {
            self.break_rule("INV-13", None, "a record that was durable is gone");
        }
        for (n, entry) in entries.iter().enumerate() {
            let n = u32::try_from(n).unwrap_or(u32::MAX);
            if let Some(entry) = entry
                && self.durable(n).is_none()
            {
                let what = format!("{} pay requests, nothing durable", entry.pay_requests);
                self.break_rule("INV-14", Some(n), what);
            }
        }
        ends
    }

    fn judge_entry(&mut self, n: Option<u32>, entry: &Entry, transit: &[Transit]) {
        let transit = n.and_then(|n| transit.get(usize::try_from(n).ok()?)).copied().unwrap_or_default();
        self.probes.customer(u8::try_from(entry.acted / 100).unwrap_or(u8::MAX));
        if entry.captures > 1 {
            self.break_rule("INV-01", n, format!("{} charges", entry.captures));
        }
        if entry.pay_requests > 1 + u32::from(transit.may_be_copied) {
            self.break_rule("INV-02", n, format!("{} pay requests reached the wallet", entry.pay_requests));
        }
        for violation in &entry.violations {
            match violation {
                // The wallet counts from the arrival of the pay request; what the network held back is no fault.
                ledger::Violation::EarlyReversal { after_ms } => {
                    let since = u64::try_from(*after_ms + i64::from(transit.longest_ms)).unwrap_or(0);
                    if since < GUARD_MS {
                        self.break_rule(
                            "INV-08",
                            n,
                            format!("the wallet saw a reversal after {after_ms} ms"),
                        );
                    }
                }
                ledger::Violation::RefundOverCeiling => self.break_rule("INV-21", n, violation.as_str()),
                ledger::Violation::PayRequestRepeated | ledger::Violation::PayAfterReversal
                    if transit.may_be_copied => {}
                ledger::Violation::PayRequestRepeated
                | ledger::Violation::ContentChanged
                | ledger::Violation::PayAfterReversal
                | ledger::Violation::DoubleCapture => self.break_rule("INV-02", n, violation.as_str()),
            }
        }
    }

    fn judge_end(
        &mut self,
        n: u32,
        record: &Record,
        entry: Option<&Entry>,
        transit: Transit,
        ends: &mut Ends,
    ) {
        if self.page(n).damaged {
            // Nothing is done for it before an operator has looked at the row (DB-11).
            ends.damaged += 1;
            return;
        }
        let held_fen = entry.map_or(0, Entry::held_fen);
        let asked_fen = record.amount.map_or(0, Fen::get);
        if let Some(entry) = entry
            && Some(entry.amount_fen) != record.amount.map(Fen::get)
        {
            let what = format!("{asked_fen} fen accepted, {} asked of the wallet", entry.amount_fen);
            self.break_rule("INV-03", Some(n), what);
        }
        if record.held.is_some() {
            ends.held += 1;
            let explained = contradicts(entry) || transit.met_another_merchant;
            if !explained && transit.clock_was_ahead && looks_older(record, entry) {
                self.probes.other("held_by_a_wrong_clock");
            } else if !explained {
                let what = format!("held ({:?}) without a contradiction upstream", record.held);
                self.break_rule("INV-12", Some(n), what);
            }
            return;
        }
        // An order that ended without money and has come to light since, unpaid: watched, for its channel's window.
        let ended = matches!(record.state, State::Reversed | State::Failed) && !record.repair;
        if ended && record.is_open() && held_fen == 0 {
            self.probes.other("watched_after_the_end");
        } else if record.is_open() {
            ends.open += 1;
            let what = format!("still {} ({:?}) after the calm", state_name(record.state), record.cause);
            self.break_rule("INV-12", Some(n), what);
            return;
        }
        let (counter, right_fen) = match (record.state, record.till_reversal) {
            (State::Paid, TillReversal::None | TillReversal::Asked) => {
                (&mut ends.paid, asked_fen - record.refunded_fen.min(asked_fen))
            }
            (State::Paid, TillReversal::Done) => (&mut ends.returned, 0),
            (State::Failed, _) => (&mut ends.failed, 0),
            (State::Accepted | State::Pending | State::Reversing | State::Reversed, _) => {
                (&mut ends.reversed, 0)
            }
        };
        *counter += 1;
        // A part that went back on the wallet's platform, perhaps unseen, is for the bill to show.
        let elsewhere = record.state == State::Paid
            && entry
                .is_some_and(|entry| entry.state == ledger::State::Refund && entry.captured_fen == asked_fen);
        if held_fen != right_fen && !elsewhere {
            let rule = if record.state == State::Paid { "INV-12" } else { "INV-06" };
            let what = format!(
                "ended {} ({:?}, {:?}), the wallet holds {held_fen} of {asked_fen} fen",
                state_name(record.state),
                record.cause,
                record.proof
            );
            self.break_rule(rule, Some(n), what);
        }
    }
}
