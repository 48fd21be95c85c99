//! Payments that wait until another of the same sale is at its end: nothing of them is stored or sent before.
//!
//! What a first payment means to a second is decided in `rescan`; here stands who is of one sale, and who waits. A
//! payment that waits is a request, not an order: if the process dies nothing has happened, and if its till repeats or
//! reverses it meanwhile, that is a request like any other.

use std::collections::HashMap;
use std::sync::Arc;

use planted::planted;
use protocol::Fen;
use timer_wheel::Tick;

use super::{Action, Entry, NotAccepted, OrderRef, PayRequest, Shard};
use crate::key::{MerchantId, Now, OrderKey};
use crate::record::Record;
use crate::rescan::{First, HEARD_GRACE_MS, RescanRule};

/// Requests that wait behind one payment: one, and its repeats.
const BEHIND_MAX: usize = 4;

/// Which payments may be the same sale: one merchant, one till, one amount.
type Sale = (MerchantId, u64, Fen);

/// A payment that waits for another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Behind {
    request: PayRequest,
    /// Its till waits no longer.
    until: Tick,
}

/// Who is of one sale, and who waits for whom. Both are bounded by the orders in memory.
#[derive(Debug, Default)]
#[cfg_attr(feature = "model", derive(Clone))]
pub(super) struct Sales {
    orders: HashMap<Sale, Vec<OrderRef>>,
    behind: HashMap<OrderRef, Vec<Behind>>,
}

impl Sales {
    fn sale(record: &Record) -> Option<Sale> {
        let amount = record.amount.filter(|_| record.till != 0)?;
        Some((record.key.merchant, record.till, amount))
    }

    /// An order is in memory from here on.
    pub(super) fn add(&mut self, order: OrderRef, record: &Record) {
        if let Some(sale) = Self::sale(record) {
            self.orders.entry(sale).or_default().push(order);
        }
    }

    /// An order has left memory, or is another than it seemed to be.
    pub(super) fn remove(&mut self, order: OrderRef, record: &Record) {
        let Some(sale) = Self::sale(record) else { return };
        if let Some(orders) = self.orders.get_mut(&sale) {
            orders.retain(|one| *one != order);
            if orders.is_empty() {
                self.orders.remove(&sale);
            }
        }
    }

    /// Who waits behind an order, by number, and how much longer.
    #[cfg(feature = "model")]
    pub(super) fn behind(&self, order: OrderRef, now: Tick) -> Vec<(OrderKey, u64)> {
        let waiting = self.behind.get(&order).into_iter().flatten();
        waiting.map(|behind| (behind.request.key, behind.until.ms_since(now))).collect()
    }

    /// Whether anybody waits behind an order.
    pub(super) fn is_waited_for(&self, order: OrderRef) -> bool {
        !self.behind.is_empty() && self.behind.contains_key(&order)
    }

    /// When the first of those who wait behind an order has waited enough.
    pub(super) fn expires_at(&self, order: OrderRef) -> Option<Tick> {
        if self.behind.is_empty() {
            return None;
        }
        self.behind.get(&order)?.iter().map(|behind| behind.until).min()
    }
}

/// What stands in the way of a new payment.
enum InTheWay {
    /// Nothing.
    Nothing,
    /// A payment that is paid or stuck, or whatever its merchant does not want waited for.
    Refuse(OrderRef),
    /// Payments that are on their way to their end, one of them first.
    Going(Vec<OrderRef>),
}

impl Shard {
    /// Whether a new payment may be taken as far as others of the same sale go. If not it is answered here, now or
    /// later.
    pub(super) fn may_go(&mut self, request: &PayRequest, now: Now) -> bool {
        if request.till == 0 || planted!(RescanIgnored) {
            return true;
        }
        match self.in_the_way(request, now.tick) {
            InTheWay::Nothing => true,
            // It is refused whatever stands in its way. But its till is there, and hears of that.
            InTheWay::Refuse(order) if self.draining => {
                self.prompt(order, now);
                true
            }
            InTheWay::Going(orders) if self.draining => {
                orders.into_iter().for_each(|order| self.prompt(order, now));
                true
            }
            InTheWay::Refuse(order) => {
                // Told how it stands; and asking for that is what the till does.
                self.refuse_for(request, order);
                self.prompt(order, now);
                false
            }
            InTheWay::Going(orders) => {
                self.wait_behind(request, &orders, now);
                false
            }
        }
    }

    fn in_the_way(&self, request: &PayRequest, now: Tick) -> InTheWay {
        let rescan = self.config.rescans.of(request.key.merchant);
        let sale = (request.key.merchant, request.till, request.amount);
        let mut going = Vec::new();
        for order in self.sales.orders.get(&sale).into_iter().flatten().copied() {
            let Some(entry) = self.orders.get(order) else { continue };
            // One that is undecided could be charged beside the second whenever it came.
            let is_over = now.ms_since(entry.since) >= rescan.window_ms && !entry.latest.state.is_undecided();
            if rescan.rule == RescanRule::Off || is_over {
                continue;
            }
            match Self::first(entry, now) {
                First::Over => {}
                First::Going if rescan.rule == RescanRule::Settle => going.push(order),
                First::Stuck if now.ms_since(entry.since) >= rescan.window_ms => {}
                First::Going | First::Paid | First::Stuck => return InTheWay::Refuse(order),
            }
        }
        if going.is_empty() { InTheWay::Nothing } else { InTheWay::Going(going) }
    }

    /// What an order means to a payment behind it: while a record is under way, that it goes on.
    fn first(entry: &Entry, now: Tick) -> First {
        let heard = entry.heard.is_some_and(|at| now.ms_since(at) >= HEARD_GRACE_MS);
        if entry.undurable > 0 { First::Going } else { First::of(&entry.latest, heard) }
    }

    /// The moment at which `record` was accepted, by the ticks of this boot; by the wall clock where its own are of another.
    pub(super) fn accepted_tick(&self, record: &Record, now: Now) -> Tick {
        if record.boot == self.config.boot {
            return record.accepted_tick;
        }
        let age_ms = now.wall.0.saturating_sub(record.accepted_at.0);
        now.tick.saturating_sub(u64::try_from(age_ms).unwrap_or(0))
    }

    /// Until when an order is remembered since it is paid and its till may not know: it is in the way of the same sale.
    pub(super) fn remembered_until(&self, entry: &Entry, now: Tick) -> Option<Tick> {
        if entry.latest.till == 0 || First::of(&entry.latest, entry.heard.is_some()) != First::Paid {
            return None;
        }
        let rescan = self.config.rescans.of(entry.latest.key.merchant);
        let until = entry.since.saturating_add(rescan.window_ms);
        (rescan.rule != RescanRule::Off && until > now).then_some(until)
    }

    /// The request waits behind the first of `orders`; all of them are given up as soon as may be. Whoever waited there
    /// under another number was given up by the cashier.
    fn wait_behind(&mut self, request: &PayRequest, orders: &[OrderRef], now: Now) {
        let Some(first) = orders.first().copied() else { return };
        for order in orders {
            let waiting = self.sales.behind.remove(order).unwrap_or_default();
            let (same, others): (Vec<_>, Vec<_>) =
                waiting.into_iter().partition(|behind| behind.request.key == request.key);
            if !same.is_empty() {
                self.sales.behind.insert(*order, same);
            }
            for other in others {
                self.refuse_for(&other.request, *order);
            }
        }
        let until = now.tick.saturating_add(request.patience_ms);
        // No empty list: whoever is in it stands at the till.
        let waiting = self.sales.behind.get(&first).map_or(0, Vec::len);
        if waiting < BEHIND_MAX && until > now.tick {
            self.sales.behind.entry(first).or_default().push(Behind { request: *request, until });
        } else {
            self.refuse_for(request, first);
        }
        for order in orders {
            self.prompt(*order, now);
            let policy = self.config.policy;
            if let Some(entry) = self.orders.get_mut(*order) {
                entry.payment.hurry(now.tick, &policy);
            }
            self.schedule(*order, now.tick);
        }
    }

    /// Tells a till that its payment was not taken, and how the first one stands.
    fn refuse_for(&mut self, request: &PayRequest, first: OrderRef) {
        let Some(entry) = self.orders.get(first) else { return };
        let first = Arc::clone(entry.durable.as_ref().unwrap_or(&entry.latest));
        self.released.push_back(Action::RefuseFor { ticket: request.ticket, first });
    }

    /// An order may be at its end: those who wait behind it are looked at again.
    pub(super) fn let_go(&mut self, order: OrderRef, now: Now) {
        if self.sales.behind.is_empty() {
            return;
        }
        if self.orders.get(order).is_some_and(|entry| Self::first(entry, now.tick) == First::Going) {
            return;
        }
        for Behind { request, .. } in self.sales.behind.remove(&order).unwrap_or_default() {
            self.on_pay_request(&request, now);
        }
    }

    /// Those whose tills wait no longer are told so.
    pub(super) fn expire_behind(&mut self, order: OrderRef, now: Now) {
        let Some(waiting) = self.sales.behind.remove(&order) else { return };
        let (over, going): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|behind| behind.until <= now.tick);
        if !going.is_empty() {
            self.sales.behind.insert(order, going);
        }
        for behind in over {
            self.refuse_for(&behind.request, order);
        }
    }

    /// The switch stops: nobody waits any more.
    pub(super) fn refuse_behind(&mut self) {
        let mut waiting: Vec<PayRequest> =
            self.sales.behind.drain().flat_map(|(_, behind)| behind).map(|behind| behind.request).collect();
        waiting.sort_unstable_by_key(|request| request.ticket);
        for request in waiting {
            self.released.push_back(Action::Refuse { ticket: request.ticket, why: NotAccepted::Stopping });
        }
    }

    /// The outcome of an order has reached a till. Only a paid one makes a difference: from here on the same amount
    /// from the same till is another sale.
    pub(super) fn on_heard(&mut self, key: &OrderKey, now: Now) {
        let Some(order) = self.orders.find(key) else { return };
        let Some(entry) = self.orders.get_mut(order) else { return };
        if entry.heard.is_none() && entry.latest.till != 0 && entry.latest.is_definite() {
            entry.heard = Some(now.tick);
            self.schedule(order, now.tick);
        }
    }
}
