//! A shard at rest, for an exhaustive model: small enough to be copied at every step, and known again when seen
//! from another path. Only with the feature `model`.
//!
//! Nothing of the shard is remade here: freezing takes its wheel and its configuration out, thawing puts them
//! back and arms the timers again.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use timer_wheel::{Tick, Wheel};

use super::admission::Breakers;
use super::commit::{Gathering, UnderWay};
use super::orders::Orders;
use super::rescan::Sales;
use super::waiters::{Asked, Waiter};
use super::{Config, Entry, OrderRef, Shard};
use crate::canonical::{Present, variant};
use crate::key::OrderKey;
use crate::planner::{Learned, Planner};
use crate::record::Record;

/// What is too big to be kept for every state, and the same in all of them.
#[derive(Debug)]
pub struct Kept {
    /// What bounds the shard.
    pub config: Config,
    /// A wheel without timers.
    pub wheel: Wheel<OrderRef>,
}

/// A shard between two steps, without what is [`Kept`].
#[derive(Clone, Debug)]
pub struct Frozen {
    orders: Orders,
    timers: Vec<(OrderRef, Tick)>,
    planner: Planner,
    breakers: Breakers,
    sales: Sales,
    gathering: Gathering,
    under_way: Option<UnderWay>,
    next_batch: u64,
    stalled: bool,
    draining: bool,
}

/// Hashes everything of a durable record that can still make a difference, as seen from `now`.
pub fn canonical_record(record: &Record, config: &Config, now: Tick, into: &mut impl Hasher) {
    Present { now, policy: &config.policy }.record(record, into);
}

impl Shard {
    /// Takes the shard apart.
    ///
    /// # Panics
    ///
    /// If [`Shard::poll_action`] was not drained.
    #[must_use]
    pub fn freeze(mut self) -> (Frozen, Kept) {
        assert!(self.released.is_empty(), "actions are carried out before time stops");
        let mut timers = Vec::new();
        for order in self.orders.refs().collect::<Vec<_>>() {
            let Some(handle) = self.orders.get_mut(order).and_then(|entry| entry.timer.take()) else {
                continue;
            };
            timers.extend(self.wheel.deadline(handle).map(|at| (order, at)));
            self.wheel.cancel(handle);
        }
        // It chooses among what waits for room, and would be the greater part of every state.
        self.planner.set_learned(Learned::default());
        let Self { config, orders, wheel, planner, breakers, sales, gathering, under_way, .. } = self;
        let (next_batch, stalled, draining) = (self.next_batch, self.stalled, self.draining);
        let frozen = Frozen {
            orders,
            timers,
            planner,
            breakers,
            sales,
            gathering,
            under_way,
            next_batch,
            stalled,
            draining,
        };
        (frozen, Kept { config, wheel })
    }
}

impl Frozen {
    /// Puts the shard together again, at `now`.
    ///
    /// Timers of one deadline fire in the order of their slots: of orders that do not know of each other.
    #[must_use]
    pub fn thaw(self, kept: Kept, now: Tick) -> Shard {
        let Kept { config, mut wheel } = kept;
        wheel.restart(now);
        let mut orders = self.orders;
        for (order, at) in self.timers {
            if let Some(entry) = orders.get_mut(order) {
                entry.timer = Some(wheel.insert(at, order));
            }
        }
        Shard {
            config,
            orders,
            wheel,
            planner: self.planner,
            breakers: self.breakers,
            sales: self.sales,
            gathering: self.gathering,
            under_way: self.under_way,
            released: std::collections::VecDeque::new(),
            next_batch: self.next_batch,
            stalled: self.stalled,
            draining: self.draining,
            // It decides nothing.
            crowded: 0,
            absent: Vec::new(),
            follows: false,
        }
    }

    /// When something is due, if nothing comes before.
    #[must_use]
    pub fn next_wake(&self) -> Option<Tick> {
        self.timers.iter().map(|(_, at)| *at).chain(self.planner.next_room()).min()
    }

    /// The place of an order that is in memory.
    #[must_use]
    pub fn order(&self, key: &OrderKey) -> Option<OrderRef> {
        self.orders.find(key)
    }

    /// The newest record of an order that is in memory.
    #[must_use]
    pub fn record(&self, key: &OrderKey) -> Option<&Arc<Record>> {
        self.entry(key).map(|entry| &entry.latest)
    }

    /// The number of the call that is under way for an order.
    #[must_use]
    pub fn call(&self, key: &OrderKey) -> Option<u32> {
        self.entry(key).and_then(|entry| entry.under_way).map(|(call, _)| call)
    }

    fn entry(&self, key: &OrderKey) -> Option<&Entry> {
        self.orders.get(self.orders.find(key)?)
    }

    /// Hashes everything about one order that can still make a difference, as seen from `now`.
    ///
    /// Left out, besides what `canonical` leaves out: the names of calls, slots, tickets and batches, which are only ever
    /// compared for equality; the planner's books, which follow from the orders as long as its quotas are wide;
    /// the breakers, which close after more refusals than a model has orders; and the alarms that are held back.
    pub fn canonical(&self, key: &OrderKey, config: &Config, now: Tick, into: &mut impl Hasher) {
        let present = Present { now, policy: &config.policy };
        (self.stalled, self.draining, self.under_way.is_some()).hash(into);
        let Some((order, entry)) =
            self.orders.find(key).and_then(|order| Some((order, self.orders.get(order)?)))
        else {
            return;
        };
        let records = |of: &[(OrderRef, Arc<Record>)], into: &mut dyn Hasher| {
            let mut into = into;
            for (_, record) in of.iter().filter(|(of, _)| *of == order) {
                present.record(record, &mut into);
            }
        };
        entry.payment.canonical(present, into);
        present.record(&entry.latest, into);
        (entry.undurable, entry.reserved, entry.pay_ticket.is_some()).hash(into);
        entry.unheard.map(|at| present.until(at)).hash(into);
        (entry.heard.map(|at| present.to(at, crate::rescan::HEARD_GRACE_MS)), self.sales.behind(order, now))
            .hash(into);
        entry.durable.iter().for_each(|record| present.record(record, into));
        entry.under_way.map(|(_, call)| call).hash(into);
        entry.queued.map(|(call, ..)| call).hash(into);
        for Waiter { asked, .. } in &entry.waiters {
            variant(asked, into);
            match asked {
                Asked::Pay { wait, said, .. } => {
                    variant(wait, into);
                    variant(said, into);
                }
                Asked::Watch(wait) => variant(wait, into),
                Asked::Reversal => {}
            }
        }
        let timer = self.timers.iter().find(|(of, _)| *of == order);
        timer.map(|(_, at)| present.until(*at)).hash(into);
        self.under_way.iter().for_each(|batch| records(&batch.records, into));
        0_u8.hash(into);
        records(&self.gathering.records, into);
    }
}
