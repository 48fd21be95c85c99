//! How much money has no known outcome, and for how long: what an operator is woken for.
//!
//! A record changes two sums: that of its stage, and that of the five seconds in which it was accepted. So an order
//! costs nothing while it waits, however many there are, and a report walks moments, not orders. Wall time labels
//! here and decides nothing: after a step of the clock ages are wrong by that step (INV-27). Source: DESIGN §7.

use std::collections::BTreeMap;

use protocol::Fen;

use crate::key::UnixMs;
use crate::record::{Record, State, TillReversal};

/// Ages are told apart by this much.
const QUANTUM_MS: u64 = 5_000;

/// What is known about money whose outcome is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stage {
    /// ACCEPTED or PENDING: paid or not, nobody knows yet.
    Undecided,
    /// Only an operator gets any further ([`crate::record::Held`]).
    Held,
    /// To be given back, and not proven so: REVERSING, or paid and reversed by its till.
    Reversing,
}

impl Stage {
    /// In the order of [`Report::by_age`].
    pub const ALL: [Self; 3] = [Self::Undecided, Self::Held, Self::Reversing];

    /// Where the money of `record` stands; `None` where its outcome is known.
    #[must_use]
    pub const fn of(record: &Record) -> Option<Self> {
        if !record.is_open() {
            return None;
        }
        if record.held.is_some() {
            return Some(Self::Held);
        }
        match record.state {
            State::Accepted | State::Pending => Some(Self::Undecided),
            State::Reversing => Some(Self::Reversing),
            State::Paid if matches!(record.till_reversal, TillReversal::Asked) => Some(Self::Reversing),
            // What is looked at again has ended without money, as far as anybody knows.
            State::Paid | State::Failed | State::Reversed => None,
        }
    }

    /// The word in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Undecided => "undecided",
            Self::Held => "held",
            Self::Reversing => "reversing",
        }
    }
}

/// Ages are reported in bands: under a minute, ten minutes, an hour, a day, and older. Bounds in milliseconds.
pub const AGES: [(&str, u64); 5] = [
    ("under_1m", 60_000),
    ("under_10m", 600_000),
    ("under_1h", 3_600_000),
    ("under_1d", 86_400_000),
    ("over_1d", u64::MAX),
];

/// Payments, and their money.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// How many.
    pub payments: u64,
    /// Their amounts.
    pub fen: u64,
}

impl Sum {
    const fn add(&mut self, other: Self) {
        self.payments = self.payments.saturating_add(other.payments);
        self.fen = self.fen.saturating_add(other.fen);
    }

    const fn take(&mut self, other: Self) {
        self.payments = self.payments.saturating_sub(other.payments);
        self.fen = self.fen.saturating_sub(other.fen);
    }
}

/// What is open at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// By [`Stage::ALL`], then by [`AGES`].
    pub by_age: [[Sum; AGES.len()]; Stage::ALL.len()],
    /// How long the oldest has been open, by [`Stage::ALL`]; 0 where there is none.
    pub oldest_ms: [u64; Stage::ALL.len()],
    /// Undecided payments that are older than any may be.
    pub overdue: Sum,
}

impl Report {
    /// Adds what another shard has.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.by_age.iter_mut().flatten().zip(other.by_age.iter().flatten()) {
            mine.add(*theirs);
        }
        for (mine, theirs) in self.oldest_ms.iter_mut().zip(other.oldest_ms) {
            *mine = (*mine).max(theirs);
        }
        self.overdue.add(other.overdue);
    }
}

/// What one order adds: 16 bytes for each.
#[derive(Clone, Copy, Debug)]
struct Part {
    fen: u64,
    /// Quanta since 1970.
    accepted: u32,
    stage: Option<Stage>,
    is_pending: bool,
}

const NOTHING: Part = Part { fen: 0, accepted: 0, stage: None, is_pending: false };

/// The money of one shard whose outcome is unknown.
#[derive(Debug, Default)]
pub struct Exposure {
    /// What each slot of the shard's orders adds.
    parts: Vec<Part>,
    /// By stage and moment of acceptance; only what is not nothing.
    moments: BTreeMap<(Stage, u32), Sum>,
    /// All of it.
    total: Sum,
    /// Payments that are ACCEPTED or PENDING, held ones among them.
    pending: u64,
}

impl Exposure {
    /// The record that is durable now for the order in `slot`.
    pub fn see(&mut self, slot: u32, record: &Record) {
        let place = slot as usize;
        if self.parts.len() <= place {
            self.parts.resize(place.saturating_add(1), NOTHING);
        }
        let part = Part {
            fen: record.amount.map_or(0, Fen::get),
            accepted: quantum(record.accepted_at),
            stage: Stage::of(record),
            is_pending: record.state.is_undecided(),
        };
        let Some(was) = self.parts.get_mut(place) else { return };
        let was = std::mem::replace(was, part);
        self.pending = self.pending.saturating_sub(u64::from(was.is_pending));
        self.pending = self.pending.saturating_add(u64::from(part.is_pending));
        if let Some(stage) = was.stage {
            let sum = Sum { payments: 1, fen: was.fen };
            self.total.take(sum);
            let moment = (stage, was.accepted);
            if let Some(there) = self.moments.get_mut(&moment) {
                there.take(sum);
                if there.payments == 0 {
                    self.moments.remove(&moment);
                }
            }
        }
        if let Some(stage) = part.stage {
            let sum = Sum { payments: 1, fen: part.fen };
            self.total.add(sum);
            self.moments.entry((stage, part.accepted)).or_default().add(sum);
        }
    }

    /// All of it.
    #[must_use]
    pub const fn total(&self) -> Sum {
        self.total
    }

    /// Payments that are ACCEPTED or PENDING, held ones among them.
    #[must_use]
    pub const fn pending(&self) -> u64 {
        self.pending
    }

    /// What is open at `now`; an undecided payment is overdue after `overdue_ms`. Ages are right to five seconds, and
    /// never too small.
    #[must_use]
    pub fn report(&self, now: UnixMs, overdue_ms: u64) -> Report {
        let now_ms = u64::try_from(now.0).unwrap_or(0);
        let mut report = Report::default();
        for ((stage, accepted), sum) in &self.moments {
            let age_ms = now_ms.saturating_sub(u64::from(*accepted).saturating_mul(QUANTUM_MS));
            let row = *stage as usize;
            let band = AGES
                .iter()
                .position(|(_, under_ms)| age_ms < *under_ms)
                .unwrap_or(AGES.len().saturating_sub(1));
            if let Some(cell) = report.by_age.get_mut(row).and_then(|row| row.get_mut(band)) {
                cell.add(*sum);
            }
            if let Some(oldest) = report.oldest_ms.get_mut(row) {
                *oldest = (*oldest).max(age_ms);
            }
            // The quantum has been counted in: who is at most as old as that is not overdue yet.
            if *stage == Stage::Undecided && age_ms > overdue_ms.saturating_add(QUANTUM_MS) {
                report.overdue.add(*sum);
            }
        }
        report
    }
}

fn quantum(at: UnixMs) -> u32 {
    let ms = u64::try_from(at.0).unwrap_or(0);
    u32::try_from(ms.checked_div(QUANTUM_MS).unwrap_or(0)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
