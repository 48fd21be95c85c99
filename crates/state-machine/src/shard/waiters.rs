//! Requests that wait for an order, and when each has waited enough.

use std::sync::Arc;

use planted::planted;

use super::{Action, NotAccepted, OrderRef, Said, Shard, Ticket, Wait};
use crate::record::{Record, State, TillReversal};
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
    ///
    /// A process that is `draining` keeps nobody until the customer has decided: the next one knows as much.
    pub(super) fn ready(&self, record: &Record, draining: bool) -> Option<Said> {
        let first_word = !matches!(record.state, State::Accepted) || record.held.is_some();
        let enough = |wait: Wait| match wait {
            Wait::Nothing => true,
            Wait::FirstWord => first_word,
            Wait::Definite => record.is_definite() || (draining && first_word),
        };
        match self.asked {
            Asked::Pay { said: Said::OtherContent, .. } => Some(Said::OtherContent),
            Asked::Pay { wait, said, .. } => enough(wait).then_some(said),
            // A PAID order that neither is nor was being reversed: the request could not be taken.
            Asked::Reversal if is_refused(record) => Some(Said::TooOld),
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

const fn is_refused(record: &Record) -> bool {
    matches!((record.state, record.till_reversal), (State::Paid, TillReversal::None))
}

impl Shard {
    /// The requests that wait for an order, also of tills that have hung up: for [`Input::Attended`].
    pub fn waiting(&self, order: OrderRef) -> impl Iterator<Item = Ticket> {
        let entry = self.orders.get(order).into_iter();
        entry.flat_map(|entry| &entry.waiters).map(|waiter| waiter.ticket)
    }

    /// Requests so far that found as many waiting for their order as may.
    #[must_use]
    pub const fn crowded(&self) -> u64 {
        self.crowded
    }

    /// Answers at once if that is possible, or lets the request wait. Where as many wait as may, it is
    /// answered from what is durable, or refused (`false`) while nothing is.
    pub(super) fn wait(&mut self, order: OrderRef, waiter: Waiter) -> bool {
        let Some(entry) = self.orders.get_mut(order) else { return false };
        // The request that made the order always waits.
        let full = entry.waiters.len() >= self.config.waiters_max.max(1);
        let Waiter { ticket, .. } = waiter;
        let ready = (entry.undurable == 0).then(|| waiter.ready(&entry.latest, self.draining)).flatten();
        if full && ready.is_none() {
            self.crowded = self.crowded.saturating_add(1);
        }
        // A till that has hung up since is as good as any other: nobody knows here.
        let oldest = entry.waiters.iter().position(|waiting| matches!(waiting.asked, Asked::Watch(_)));
        if let (Some(record), None, true, Some(oldest)) = (&entry.durable, ready, full, oldest) {
            let Waiter { ticket, asked } = entry.waiters.remove(oldest);
            let (record, said) = (Arc::clone(record), Waiter { ticket, asked }.now());
            self.released.push_back(Action::Answer { ticket, record, said });
            entry.waiters.push(waiter);
            return true;
        }
        let action = match (&entry.durable, ready) {
            (Some(record), Some(said)) => Action::Answer { ticket, record: Arc::clone(record), said },
            (Some(record), None) if full => {
                Action::Answer { ticket, record: Arc::clone(record), said: waiter.now() }
            }
            (None, _) if full => Action::Refuse { ticket, why: NotAccepted::Crowded },
            (Some(_) | None, _) => {
                entry.waiters.push(waiter);
                return true;
            }
        };
        let is_answered = matches!(action, Action::Answer { .. });
        self.released.push_back(action);
        is_answered
    }

    /// Takes no new payment from now on, and tells those who wait for an outcome to ask the next process.
    pub(super) fn drain(&mut self) {
        self.draining = true;
        self.refuse_behind();
        for order in self.orders.refs().collect::<Vec<_>>() {
            self.answer_waiters(order);
        }
    }

    /// Answers every request that has waited enough, once everything that the order has recorded is durable.
    pub(super) fn answer_waiters(&mut self, order: OrderRef) {
        let Some(entry) = self.orders.get_mut(order) else { return };
        let durable = entry.durable.as_ref().filter(|_| entry.undurable == 0);
        let Some(record) = durable.or_else(|| planted!(ToldBeforeDurable).then_some(&entry.latest)) else {
            return;
        };
        let released = &mut self.released;
        let draining = self.draining;
        entry.waiters.retain(|waiter| match waiter.ready(record, draining) {
            Some(said) => {
                let (ticket, record) = (waiter.ticket, Arc::clone(record));
                released.push_back(Action::Answer { ticket, record, said });
                false
            }
            None => true,
        });
        // Most payments wait long and are waited for shortly: room for waiters would be a sixth of what each costs.
        if entry.waiters.is_empty() {
            entry.waiters = Vec::new();
        }
    }
}
