//! Requests that wait for an order, and when each has waited enough.

use std::sync::Arc;

use super::{Action, NotAccepted, OrderRef, Said, Shard, Ticket, Wait};
use crate::record::{Record, State};
use crate::till;

/// What a waiting request asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// To be paid; the digest decides again if the number turns out to be known.
    Pay { wait: Wait, said: Said, digest: [u8; 16] },
    /// To be reversed.
    Reversal,
    /// To be told.
    Watch(Wait),
}

/// One waiting request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiter {
    pub(super) ticket: Ticket,
    pub(super) asked: Asked,
}

impl Waiter {
    /// How the answer is to be read, once it can be given from `record`.
    pub(super) fn ready(&self, record: &Record) -> Option<Said> {
        let enough = |wait: Wait| match wait {
            Wait::Nothing => true,
            Wait::FirstWord => !matches!(record.state, State::Accepted) || record.held.is_some(),
            Wait::Definite => record.is_definite(),
        };
        match self.asked {
            Asked::Pay { said: Said::OtherContent, .. } => Some(Said::OtherContent),
            Asked::Pay { wait, said, .. } => enough(wait).then_some(said),
            Asked::Reversal => till::reversal_is_over(record).then_some(Said::Reversal),
            Asked::Watch(wait) => enough(wait).then_some(Said::Watched),
        }
    }

    /// The answer when it cannot wait.
    pub(super) const fn now(&self) -> Said {
        match self.asked {
            Asked::Pay { said, .. } => said,
            Asked::Reversal => Said::Reversal,
            Asked::Watch(_) => Said::Watched,
        }
    }
}

impl Shard {
    /// Answers at once if that is possible, or lets the request wait.
    pub(super) fn wait(&mut self, order: OrderRef, waiter: Waiter) {
        let Some(entry) = self.orders.get_mut(order) else { return };
        let full = entry.waiters.len() >= self.config.waiters_max;
        if !entry.born {
            if full {
                let why = NotAccepted::Full;
                self.released.push_back(Action::Refuse { ticket: waiter.ticket, why });
            } else {
                entry.waiters.push(waiter);
            }
            return;
        }
        let said = waiter.ready(&entry.latest).or_else(|| full.then(|| waiter.now()));
        match said {
            Some(said) => {
                let record = Arc::clone(&entry.latest);
                self.act(order, Action::Answer { ticket: waiter.ticket, record, said });
            }
            None => entry.waiters.push(waiter),
        }
    }

    /// Answers every request that has waited enough.
    pub(super) fn answer_waiters(&mut self, order: OrderRef) {
        let Some(entry) = self.orders.get_mut(order) else { return };
        if entry.waiters.is_empty() || !entry.born {
            return;
        }
        let record = Arc::clone(&entry.latest);
        let mut answers = Vec::new();
        entry.waiters.retain(|waiter| match waiter.ready(&record) {
            Some(said) => {
                answers.push((waiter.ticket, said));
                false
            }
            None => true,
        });
        for (ticket, said) in answers {
            self.act(order, Action::Answer { ticket, record: Arc::clone(&record), said });
        }
    }
}
