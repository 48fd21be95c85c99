//! What the planner learns from the orders of a shard, and what it is told of them.

use protocol::fact::QueryFact;

use super::{Call, Entry, OrderRef, Shard};
use crate::key::Now;
use crate::planner::{Due, Learned, Urgency};

impl Entry {
    /// A call of this order, and what its turn depends on.
    pub(super) fn due(&self, order: OrderRef, call: Call, urgency: Urgency) -> Due {
        let record = &self.latest;
        let (left_at, asked_at) = self.payment.asked();
        let (merchant, channel, amount) = (record.key.merchant, record.channel, record.amount);
        Due { order, call, urgency, merchant, channel, amount, left_at, asked_at }
    }
}

impl Shard {
    /// What was learned of password-entry times: to be kept over a restart, or merged with another shard's.
    #[must_use]
    pub const fn learned(&self) -> &Learned {
        self.planner.learned()
    }

    /// Goes by what was learned before, and learns on from there.
    pub fn set_learned(&mut self, learned: Learned) {
        self.planner.set_learned(learned);
    }

    /// A query of an order that is waited for was answered: what it says about when customers are done.
    pub(super) fn learn_from_query(&mut self, order: OrderRef, fact: &QueryFact, now: Now) {
        let Some(entry) = self.orders.get_mut(order) else { return };
        if let Some(lesson) = entry.payment.lesson(fact) {
            self.planner.learn(entry.latest.channel, entry.latest.amount, lesson, now.tick);
        }
    }
}
