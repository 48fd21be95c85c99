//! The books: three records of every payment, held against each other.
//!
//! The wallet's ledger says where the money is; the till's notebook, what the merchant was told; the switch's store,
//! read from its file, what the switch believes. The switch's own counters are not asked. All three must say the
//! same: *paid, and it stays paid*, or *not paid, and no money is kept*. Source: DESIGN §1, §2.

use std::collections::HashMap;
use std::path::Path;

use simulator::Entry;
use state_machine::record::{State, TillReversal};
use state_machine::{MerchantId, Record};
use store::{Damaged, Filter, OpenError, SealKey, SqliteReader, StoreError};
use thiserror::Error;

use crate::notebook::{Notebook, Word};

/// One payment in all three books.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// What the till asked for.
    pub asked_fen: u64,
    /// What the till was told.
    pub notebook: &'a Notebook,
    /// What the wallet did; `None` if it never heard of the number.
    pub ledger: Option<&'a Entry>,
    /// What the switch recorded; `None` if nothing.
    pub record: Option<&'a Record>,
}

/// Where a payment is, by the switch's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Paid and kept.
    Paid,
    /// Not paid.
    Failed,
    /// Closed or returned, and proven.
    Reversed,
    /// On the operator's list.
    Held,
    /// Not decided, or decided and not proven.
    Open,
    /// Nothing was stored.
    NotTaken,
}

/// What is wrong with a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The till was told paid, and the money is not there or is another amount.
    ToldPaidNotHeld,
    /// The till was told not paid or reversed, or nothing, and money is kept.
    HeldNotTold,
    /// Charged more than once.
    ChargedTwice,
    /// The record says paid, and the money is not there or is another amount.
    RecordedPaidNotHeld,
    /// The record says not paid or reversed, or there is none, and money is kept.
    HeldNotRecorded,
    /// The till and the record do not say the same.
    ToldNotRecorded,
    /// The till was told one thing and then another.
    StoryChanged,
    /// It is not at its end.
    StillOpen,
}

impl Fault {
    /// For the report.
    pub const fn text(self) -> &'static str {
        match self {
            Self::ToldPaidNotHeld => "told paid, but the wallet does not hold the amount for the merchant",
            Self::HeldNotTold => "the wallet holds money that the till was not told of",
            Self::ChargedTwice => "charged twice",
            Self::RecordedPaidNotHeld => "recorded as paid, but the wallet does not hold the amount",
            Self::HeldNotRecorded => "the wallet holds money that the store does not know of",
            Self::ToldNotRecorded => "the till was told something else than is recorded",
            Self::StoryChanged => "the till was told one thing and then another",
            Self::StillOpen => "not at its end",
        }
    }

    /// Whether the till and the ledger disagree.
    pub const fn is_told_against_ledger(self) -> bool {
        match self {
            Self::ToldPaidNotHeld | Self::HeldNotTold | Self::StoryChanged => true,
            Self::ChargedTwice
            | Self::RecordedPaidNotHeld
            | Self::HeldNotRecorded
            | Self::ToldNotRecorded
            | Self::StillOpen => false,
        }
    }
}

impl Page<'_> {
    /// What the merchant holds of the customer's money, in fen.
    pub fn held_fen(&self) -> u64 {
        self.ledger.map_or(0, Entry::held_fen)
    }

    /// Where it is.
    pub fn ending(&self) -> Ending {
        self.record.map_or(Ending::NotTaken, ending)
    }

    /// Everything that is wrong with it.
    pub fn faults(&self) -> Vec<Fault> {
        let (told, held_fen, ending) = (self.notebook.told(), self.held_fen(), self.ending());
        let told_fen = if let Word::Paid(fen) = told { fen } else { 0 };
        let recorded_fen = match (ending, self.record) {
            (Ending::Paid, Some(record)) => {
                record.paid.as_ref().map_or(0, |paid| paid.amount.get()).saturating_sub(record.refunded_fen)
            }
            (Ending::Paid | Ending::Failed | Ending::Reversed, _) => 0,
            (Ending::Held | Ending::Open | Ending::NotTaken, _) => 0,
        };
        let told_as_recorded = match ending {
            Ending::Paid => matches!(told, Word::Paid(_)),
            Ending::Failed | Ending::Reversed => matches!(told, Word::NotPaid | Word::Reversed),
            Ending::Held | Ending::Open => matches!(told, Word::Open | Word::Nothing | Word::NotPaid),
            // Refused before it was taken: there is nothing to record.
            Ending::NotTaken => !matches!(told, Word::Paid(_) | Word::Open | Word::Reversed),
        };
        let paid_wrong = matches!(told, Word::Paid(fen) if fen != held_fen || fen != self.asked_fen);
        [
            (paid_wrong, Fault::ToldPaidNotHeld),
            (told_fen == 0 && held_fen > 0, Fault::HeldNotTold),
            (self.ledger.is_some_and(|entry| entry.captures > 1), Fault::ChargedTwice),
            (recorded_fen > 0 && recorded_fen != held_fen, Fault::RecordedPaidNotHeld),
            (recorded_fen == 0 && held_fen > 0, Fault::HeldNotRecorded),
            (!told_as_recorded, Fault::ToldNotRecorded),
            (self.notebook.contradiction().is_some(), Fault::StoryChanged),
            (matches!(ending, Ending::Open | Ending::Held), Fault::StillOpen),
        ]
        .into_iter()
        .filter_map(|(wrong, fault)| wrong.then_some(fault))
        .collect()
    }
}

/// Where a recorded payment is.
pub fn ending(record: &Record) -> Ending {
    let open = match record.state {
        State::Accepted | State::Pending | State::Reversing => true,
        State::Paid => record.till_reversal == TillReversal::Asked,
        // Looked at again later, but at its end.
        State::Failed | State::Reversed => false,
    };
    match record.state {
        _ if open && record.held.is_some() => Ending::Held,
        _ if open => Ending::Open,
        State::Paid if record.till_reversal == TillReversal::Done => Ending::Reversed,
        State::Paid => Ending::Paid,
        State::Failed => Ending::Failed,
        State::Accepted | State::Pending | State::Reversing | State::Reversed => Ending::Reversed,
    }
}

/// The switch's book: every record, by merchant and number.
pub type Records = HashMap<(MerchantId, String), Record>;

/// Why the switch's book cannot be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// Its file cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Its file cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A row is damaged.
    #[error(transparent)]
    Damaged(#[from] Damaged),
}

/// Reads every record in the file at `store`; a switch may be at work on it.
///
/// # Errors
///
/// [`ReadError`].
pub fn records(store: &Path, seal_key: &SealKey) -> Result<Records, ReadError> {
    let mut reader = SqliteReader::open(store, seal_key)?;
    let mut records = Records::new();
    let mut filter = Filter::default();
    loop {
        let page = reader.list(&filter)?;
        if let Some(damaged) = page.damaged.into_iter().next() {
            return Err(damaged.into());
        }
        for record in page.records {
            records.insert((record.key.merchant, record.key.number.to_string()), record);
        }
        match page.next {
            Some(next) => filter.after = Some(next),
            None => return Ok(records),
        }
    }
}

#[cfg(test)]
mod tests;
