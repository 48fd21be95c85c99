//! Counts for the progress line, as the tills see them. The books are never made from these.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::notebook::Word;

/// How many payments are where.
#[derive(Debug, Default)]
pub struct Tally {
    begun: AtomicU64,
    open: AtomicU64,
    open_max: AtomicU64,
    paid: AtomicU64,
    not_paid: AtomicU64,
    reversed: AtomicU64,
}

impl Tally {
    /// A till begins a payment.
    pub fn began(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        self.open_max.fetch_max(open, Ordering::Relaxed);
    }

    /// A till has nothing more to do for a payment.
    pub fn ended(&self, told: Word) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        let counter = match told {
            Word::Paid(_) => &self.paid,
            Word::NotPaid | Word::NotTaken => &self.not_paid,
            Word::Reversed => &self.reversed,
            Word::Open | Word::Absent | Word::Nothing => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// The most payments that were open at once.
    #[must_use]
    pub fn open_max(&self) -> u64 {
        self.open_max.load(Ordering::Relaxed)
    }

    /// Payments that tills are busy with.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// Payments that have begun.
    #[must_use]
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// One line.
    #[must_use]
    pub fn line(&self) -> String {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        format!(
            "pending {:>4} (peak {:>4})   paid {:>5}   not paid {:>4}   reversed {:>4}",
            read(&self.open),
            self.open_max(),
            read(&self.paid),
            read(&self.not_paid),
            read(&self.reversed),
        )
    }
}
