//! A shard: all orders of one slice, their timers, and *record before act*.
//!
//! A shard is the only writer of its orders. It runs ahead of what is durable: whatever an input causes is
//! held back until the batch that explains it is committed, and no call goes out for an order that has a
//! record under way. One batch is under way at a time; the next gathers meanwhile. Source: DESIGN §1.

use std::collections::VecDeque;
use std::sync::Arc;

use planted::planted;
use protocol::fact::RefundFact;
use timer_wheel::{Handle, Tick, Wheel};

use crate::absence::{Absences, AbsentTill, Attendance};
use crate::key::{BootId, MerchantId, Now, OrderKey, ProviderId};
use crate::payment::{Effects, Next, Payment};
use crate::planner::{Planner, Quota, Urgency, Waiting};
use crate::policy::Policy;
use crate::record::{Record, State, TillReversal};
use crate::rescan::Rescans;

mod admission;
mod commit;
#[cfg(feature = "model")]
mod frozen;
mod io;
mod learn;
mod orders;
mod requests;
mod rescan;
mod waiters;

#[cfg(feature = "model")]
pub use frozen::{Frozen, Kept, canonical_record};
pub use io::{
    Action, Alarm, Batch, BatchId, Call, Fenced, Input, NotAccepted, OrderRef, Outcome, PayRequest,
    ReverseRequest, Said, Ticket, Wait,
};

pub use requests::relation;

use admission::Breakers;
use commit::{Gathering, UnderWay};
use orders::Orders;
use rescan::Sales;
use waiters::Waiter;

/// What bounds a shard.
#[derive(Clone, Debug)]
pub struct Config {
    /// The clocks.
    pub policy: Policy,
    /// Quotas of providers that are not named.
    pub quota: Quota,
    /// This shard's part of each provider's quotas.
    pub quotas: Vec<(ProviderId, Quota)>,
    /// Orders held in memory at once; more are refused before acceptance.
    pub orders_max: u32,
    /// Requests that wait for one order. One more sends away the watch that has waited longest, with the state as it
    /// is, or is answered so itself.
    pub waiters_max: usize,
    /// The boot that ticks belong to.
    pub boot: BootId,
    /// What each merchant wants done with money that no till asks about.
    pub absences: Absences,
    /// What each merchant wants done with payments that may be the same sale.
    pub rescans: Rescans,
}

/// One order in memory.
#[derive(Debug)]
#[cfg_attr(feature = "model", derive(Clone))]
struct Entry {
    payment: Payment,
    /// The newest version, durable or under way.
    latest: Arc<Record>,
    /// Versions that are not durable yet.
    undurable: u32,
    timer: Option<Handle>,
    /// The call that waits in the planner, and since when.
    queued: Option<(Call, Urgency, Tick)>,
    /// The call that was sent and not answered.
    under_way: Option<(u32, Call)>,
    calls: u32,
    /// Whether a last query holds room for the reversal.
    reserved: bool,
    /// The provider under whom it may still need a last query and a reversal, as the planner counts it.
    owes: Option<ProviderId>,
    waiters: Vec<Waiter>,
    /// The newest durable version. While there is none nobody is answered: the number may turn out to be
    /// known.
    durable: Option<Arc<Record>>,
    /// PAID while nobody listened: until then some till must have asked, or the operator hears of it.
    unheard: Option<Tick>,
    /// The request that made the payment, until its pay request is sent or discarded. It holds room in the
    /// pay quota.
    pay_ticket: Option<Ticket>,
    /// When its outcome reached a till.
    heard: Option<Tick>,
    /// When it was accepted.
    since: Tick,
}

/// All orders of one slice.
#[derive(Debug)]
pub struct Shard {
    config: Config,
    orders: Orders,
    wheel: Wheel<OrderRef>,
    planner: Planner,
    breakers: Breakers,
    sales: Sales,
    gathering: Gathering,
    under_way: Option<UnderWay>,
    released: VecDeque<Action>,
    next_batch: u64,
    /// The store does not take records at the moment.
    stalled: bool,
    draining: bool,
    /// Requests that found as many waiting for their order as may.
    crowded: u64,
    /// Of the reply that is being taken: whose tills have hung up, and whether one follows the payment all the same.
    absent: Vec<Ticket>,
    follows: bool,
}

impl Shard {
    /// An empty shard at `now`.
    #[must_use]
    pub fn new(config: Config, now: Tick) -> Self {
        let mut planner = Planner::new(config.quota, config.quotas.clone());
        planner.give_up_after(config.policy.give_up_ms);
        Self {
            orders: Orders::new(config.orders_max),
            config,
            wheel: Wheel::new(now),
            planner,
            breakers: Breakers::default(),
            sales: Sales::default(),
            gathering: Gathering::default(),
            under_way: None,
            released: VecDeque::new(),
            next_batch: 0,
            stalled: false,
            draining: false,
            crowded: 0,
            absent: Vec::new(),
            follows: false,
        }
    }

    /// Merchants have changed their rules: what is decided from here on goes by these.
    pub fn set_absences(&mut self, absences: Absences) {
        self.config.absences = absences;
    }

    /// The same for payments that may be one sale.
    pub fn set_rescans(&mut self, rescans: Rescans) {
        self.config.rescans = rescans;
    }

    /// The key of an order that is in memory.
    #[must_use]
    pub fn key(&self, order: OrderRef) -> Option<OrderKey> {
        self.orders.get(order).map(|entry| entry.latest.key)
    }

    /// Makes no call for a second: to be said at the start of every process but the first on a store, since what
    /// the one before was granted in the last second is not known any more, and budgets hold in any second.
    pub const fn follow_another_process(&mut self, now: Tick) {
        self.planner.close_for_a_window(now);
    }

    /// Takes up an open order after a restart. Call it for each, then [`Shard::step`] at once; recovered
    /// orders are taken even over `orders_max`, since what was accepted is finished.
    pub fn recover(&mut self, record: Record, now: Now) {
        if planted!(ReversingNotRecovered) && record.state == State::Reversing {
            return;
        }
        let payment = Payment::recover(record, now, self.config.boot, &self.config.policy);
        let order = self.insert(payment, now);
        if let Some(entry) = self.orders.get_mut(order) {
            entry.durable = Some(Arc::clone(&entry.latest));
            self.released.push_back(Action::Publish { order, record: Arc::clone(&entry.latest) });
        }
        if planted!(PayResent) {
            self.planted_pay(order, now);
        }
        self.schedule(order, now.tick);
    }

    /// Feeds `inputs`, fires what is due, and hands out the next batch if none is under way. `now` never goes
    /// back. Drain [`Shard::poll_action`] afterwards.
    pub fn step(&mut self, inputs: impl IntoIterator<Item = Input>, now: Now) -> Option<Batch> {
        for input in inputs {
            self.handle(input, now);
        }
        while let Some((_, order)) = self.wheel.pop_due(now.tick) {
            self.on_timer(order, now);
        }
        self.grant(now);
        self.poll_batch()
    }

    /// The next thing to do, if there is one.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.released.pop_front()
    }

    /// When [`Shard::step`] must be called again, if no input comes before.
    #[must_use]
    pub fn next_wake(&self) -> Option<Tick> {
        self.wheel.next_deadline().into_iter().chain(self.planner.next_room()).min()
    }

    /// Orders in memory.
    #[must_use]
    pub fn len(&self) -> usize {
        self.orders.len()
    }

    /// Whether no order is in memory.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.orders.len() == 0
    }

    /// Queries asked within the last second, and how many may be.
    #[must_use]
    pub fn queries_used(&self, now: Tick) -> (u32, u32) {
        self.planner.queries_used(now)
    }

    /// Calls that wait for their budget.
    #[must_use]
    pub fn calls_waiting(&self) -> usize {
        self.planner.waiting()
    }

    /// The newest record of `key`, durable or under way, if the order is in memory.
    #[must_use]
    pub fn record(&self, key: &OrderKey) -> Option<&Arc<Record>> {
        self.orders.get(self.orders.find(key)?).map(|entry| &entry.latest)
    }

    fn handle(&mut self, input: Input, now: Now) {
        match input {
            Input::Pay(request) => self.on_pay_request(&request, now),
            Input::Reverse(request) => self.on_reverse_request(&request, now),
            Input::Watch { ticket, key, wait } => self.on_watch(ticket, &key, wait, now),
            Input::Heard { key } => self.on_heard(&key, now),
            Input::Drain => self.drain(),
            Input::Attended { gone, follows, reply } => {
                self.absent = if planted!(HungUpListens) { Vec::new() } else { gone };
                self.follows = follows;
                self.handle(*reply, now);
                self.absent = Vec::new();
                self.follows = false;
            }
            Input::PayLeft { order, at } => {
                let policy = self.config.policy;
                if let Some(entry) = self.orders.get_mut(order)
                    && !entry.payment.pay_is_over()
                {
                    entry.payment.left(at, &policy);
                    self.schedule(order, now.tick);
                }
            }
            Input::PayReply { order, left_at, row, fact } => {
                let first = self.orders.get(order).is_some_and(|entry| !entry.payment.pay_is_over());
                if !first {
                    return; // Repeated, or of an order that was recovered or has left.
                }
                self.breakers.on_pay(self.key_of(order), &fact);
                self.apply(order, now, |payment, policy, effects| {
                    payment.on_pay(left_at, row, fact, now, policy, effects);
                });
            }
            Input::QueryReply { order, call, row, fact, throttled } => {
                if let Some(kind) = self.answered(order, call, throttled, now) {
                    self.breakers.on_query(self.key_of(order), &fact);
                    self.learn_from_query(order, &fact, now);
                    let last = matches!(kind, Call::LastQuery);
                    self.apply(order, now, |payment, policy, effects| {
                        payment.on_query(last, row, fact, now, policy, effects);
                    });
                }
            }
            Input::ReverseReply { order, call, row: _, fact, throttled } => {
                if self.answered(order, call, throttled, now).is_some() {
                    let closed = self.breakers.on_reverse(self.key_of(order), fact, now.tick);
                    self.apply(order, now, |payment, policy, effects| {
                        effects.alarms.extend(closed.then_some(Alarm::ReversalRefused));
                        payment.on_reverse(fact, now, policy, effects);
                    });
                }
            }
            Input::RefundReply { order, call, row: _, fact } => {
                let throttled = matches!(fact, RefundFact::Throttled);
                if self.answered(order, call, throttled, now).is_some() {
                    self.apply(order, now, |payment, policy, effects| {
                        payment.on_refund(&fact, now, policy, effects);
                    });
                }
            }
            Input::RefundsReply { order, call, fact } => {
                if self.answered(order, call, false, now).is_some() {
                    self.apply(order, now, |payment, policy, effects| {
                        payment.on_refunds(fact, now, policy, effects);
                    });
                }
            }
        }
    }

    /// Takes the reply of the call under way; anything else is late or repeated and changes nothing.
    fn answered(&mut self, order: OrderRef, call: u32, throttled: bool, now: Now) -> Option<Call> {
        let entry = self.orders.get_mut(order)?;
        let (_, kind) = entry.under_way.take_if(|(under_way, _)| *under_way == call)?;
        let provider = entry.latest.provider;
        self.planner.answered(provider);
        if throttled {
            self.planner.throttled(provider, kind, now.tick);
        }
        Some(kind)
    }

    fn key_of(&self, order: OrderRef) -> Option<(MerchantId, ProviderId)> {
        self.orders.get(order).map(|entry| (entry.latest.key.merchant, entry.latest.provider))
    }

    fn insert(&mut self, payment: Payment, now: Now) -> OrderRef {
        let latest = payment.shared_record();
        let since = self.accepted_tick(&latest, now);
        let order = self.orders.insert(Entry {
            payment,
            latest,
            undurable: 0,
            timer: None,
            queued: None,
            under_way: None,
            calls: 0,
            reserved: false,
            owes: None,
            waiters: Vec::new(),
            durable: None,
            unheard: None,
            pay_ticket: None,
            heard: None,
            since,
        });
        if let Some(entry) = self.orders.get(order) {
            self.sales.add(order, &entry.latest);
        }
        self.count_owed(order);
        order
    }

    /// The planner counts who may still need a last query and a reversal, so that no more are accepted than could be
    /// ended in time (INV-23).
    fn count_owed(&mut self, order: OrderRef) {
        let Some(entry) = self.orders.get_mut(order) else { return };
        let owes = entry.payment.gives_up_at().map(|_| entry.latest.provider);
        let before = std::mem::replace(&mut entry.owes, owes);
        if before != owes {
            owes.into_iter().for_each(|provider| self.planner.owe(provider));
            before.into_iter().for_each(|provider| self.planner.owe_less(provider));
        }
    }

    /// Lets one fact act on one payment, and gathers what follows from it.
    fn apply(&mut self, order: OrderRef, now: Now, event: impl FnOnce(&mut Payment, &Policy, &mut Effects)) {
        let Some(entry) = self.orders.get_mut(order) else { return };
        let before = entry.payment.record().state;
        let mut effects = Effects::default();
        let absence = self.config.absences.of(entry.latest.key.merchant);
        // Who waits for an order that is held back has hung up: it was held back for that.
        let waits = entry.waiters.iter().any(|waiter| !self.absent.contains(&waiter.ticket));
        // Who scans again stands at the same till.
        let listens =
            (waits || self.follows || self.sales.is_waited_for(order)) && !entry.payment.is_unclaimed();
        let reverse_after_ms = (absence.rule == AbsentTill::Reverse).then_some(absence.after_ms);
        entry.payment.attend(Attendance { reverse_after_ms, listens });
        event(&mut entry.payment, &self.config.policy, &mut effects);
        if effects.changed {
            entry.payment.next_version(now);
            entry.latest = entry.payment.shared_record();
            entry.undurable = entry.undurable.saturating_add(1);
            self.gathering.records.push((order, Arc::clone(&entry.latest)));
            if planted!(ShownBeforeDurable) {
                self.released.push_back(Action::Publish { order, record: Arc::clone(&entry.latest) });
            }
        }
        let key = entry.latest.key;
        let decided = entry.latest.state != before && entry.latest.is_definite();
        let given_up = decided.then(|| entry.payment.given_up()).flatten();
        if let Some(lesson) = given_up.filter(|_| before == State::Pending) {
            self.planner.learn(entry.latest.channel, entry.latest.amount, lesson, now.tick);
        }
        let by_till = entry.latest.till_reversal != TillReversal::None;
        if decided && !listens && entry.latest.state == State::Paid && !by_till {
            entry.unheard = Some(now.tick.saturating_add(absence.after_ms));
        }
        let settled = decided.then(|| Action::Settled {
            record: Arc::clone(&entry.latest),
            queries: entry.payment.queries(),
            learned_at: now.wall,
        });
        for alarm in effects.alarms {
            self.act(order, Action::Alarm { key, alarm });
        }
        if let Some(action) = settled {
            self.act(order, action);
        }
        self.answer_waiters(order);
        self.schedule(order, now.tick);
        self.let_go(order, now);
    }

    fn on_timer(&mut self, order: OrderRef, now: Now) {
        self.expire_behind(order, now);
        let Some(entry) = self.orders.get_mut(order) else { return };
        entry.timer = None;
        if entry.unheard.is_some_and(|at| at <= now.tick) {
            entry.unheard = None;
            let key = entry.latest.key;
            self.act(order, Action::Alarm { key, alarm: Alarm::PaidUnheard });
            return self.schedule(order, now.tick);
        }
        let is_idle = entry.undurable == 0 && entry.under_way.is_none() && entry.waiters.is_empty();
        let is_over = entry.payment.is_settled() && is_idle;
        if is_over
            && self.orders.get(order).is_some_and(|entry| self.remembered_until(entry, now.tick).is_none())
        {
            let Some(key) = self.orders.get(order).map(|entry| entry.latest.key) else { return };
            if let Some(entry) = self.orders.get(order) {
                self.sales.remove(order, &entry.latest);
            }
            self.orders.remove(order);
            self.released.push_back(Action::Retire { order, key });
            return;
        }
        self.apply(order, now, |payment, policy, effects| payment.on_due(now, policy, effects));
    }

    /// Arms the timer of an order, or queues its call if that is due. Every open order leaves here with
    /// exactly one next step: a call under way, a record under way, a call queued, or a timer (INV-18).
    /// Beside one of the first three a timer may limit how long it is waited for.
    fn schedule(&mut self, order: OrderRef, now: Tick) {
        self.count_owed(order);
        let policy = &self.config.policy;
        let behind = self.sales.expires_at(order);
        let remembered = self.orders.get(order).and_then(|entry| self.remembered_until(entry, now));
        let Some(entry) = self.orders.get_mut(order) else { return };
        if let Some(timer) = entry.timer.take() {
            self.wheel.cancel(timer);
        }
        let mut at = entry.payment.expires_at(policy).into_iter().chain(behind).min();
        let mut wake = |tick: Tick| at = Some(at.map_or(tick, |earlier| earlier.min(tick)));
        if entry.under_way.is_some() || (entry.undurable > 0 && !planted!(ReversedBeforeDurable)) {
            // Its answer, or its record, comes first: whatever was queued is queued again then.
            entry.queued = None;
            entry.timer = at.map(|tick| self.wheel.insert(tick, order));
            return;
        }
        let reserved = std::mem::take(&mut entry.reserved);
        let provider = entry.latest.provider;
        let next = entry.payment.next(now, policy);
        let reverses = matches!(next, Next::Call { call: Call::Reverse, at: due, .. } if due <= now);
        match (reserved, reverses) {
            (true, true) => {
                self.planner.use_reserved(provider, now);
                return self.send(order, Call::Reverse, now);
            }
            (true, false) => self.planner.release(provider),
            (false, _) => {}
        }
        match next {
            Next::Call { call, at: due, urgency } if due <= now => {
                if entry.queued.is_none_or(|(queued, as_urgent, _)| (queued, as_urgent) != (call, urgency)) {
                    entry.queued = Some((call, urgency, now));
                    self.planner.ask(provider, &entry.due(order, call, urgency), now);
                }
                // While it waits for room, its deadline may come.
                if let Some(deadline) = entry.payment.gives_up_at().filter(|d| *d > now) {
                    wake(deadline);
                }
            }
            Next::Call { call: Call::Query, .. } if planted!(TimerDropped) => entry.queued = None,
            Next::Call { at: due, .. } => {
                entry.queued = None;
                wake(due);
            }
            Next::Nothing => {
                entry.queued = None;
                if entry.payment.is_settled() {
                    let retired = now.saturating_add(policy.retain_ms);
                    wake(entry.unheard.unwrap_or_else(|| remembered.map_or(retired, |at| at.max(retired))));
                }
            }
        }
        entry.timer = at.map(|tick| self.wheel.insert(tick, order));
    }

    /// Sends the calls that have room.
    fn grant(&mut self, now: Now) {
        loop {
            let (orders, policy) = (&self.orders, &self.config.policy);
            let wanted = |waiting: &Waiting| {
                let Waiting { order, call, since, .. } = *waiting;
                orders.get(order).is_some_and(|entry| {
                    entry.queued.is_some_and(|(queued, _, at)| queued == call && at == since)
                        && matches!(
                            entry.payment.next(now.tick, policy),
                            Next::Call { call: next, at, .. } if next == call && at <= now.tick
                        )
                })
            };
            let Some((order, call)) = self.planner.grant(now.tick, wanted) else { return };
            self.send(order, call, now.tick);
        }
    }

    /// Hands out one call; its room has been taken.
    fn send(&mut self, order: OrderRef, call: Call, now: Tick) {
        let Some(entry) = self.orders.get_mut(order) else { return };
        entry.calls = entry.calls.wrapping_add(1);
        entry.queued = None;
        entry.under_way = Some((entry.calls, call));
        entry.reserved = matches!(call, Call::LastQuery);
        entry.payment.on_sent(call, now);
        let action = Action::Call {
            order,
            call: entry.calls,
            kind: call,
            record: Arc::clone(&entry.latest),
            other_host: entry.payment.prefers_other_host(),
        };
        if call != Call::Reverse || !planted!(ReversalNeverSent) {
            self.released.push_back(action);
        }
        self.schedule(order, now);
    }

    /// Gathers an action until everything that its order has recorded is durable.
    fn act(&mut self, order: OrderRef, action: Action) {
        match self.orders.get(order) {
            Some(entry) if entry.undurable > 0 => self.gathering.actions.push((order, action)),
            Some(_) | None => self.released.push_back(action),
        }
    }

    /// Orders for which something is still to be done.
    #[must_use]
    pub fn open_orders(&self) -> usize {
        self.orders.iter().filter(|entry| entry.latest.is_open()).count()
    }
}

#[cfg(test)]
impl Shard {
    /// INV-18: every open order has exactly one next step, and the planner's books agree with the orders.
    fn check(&self, now: Tick) {
        let mut reserved = 0;
        let mut under_way = 0;
        let mut pays = 0;
        let mut owed = 0;
        for entry in self.orders.iter() {
            let (calls, record) = (entry.under_way.is_some(), entry.undurable > 0);
            let queued = entry.queued.is_some_and(|(call, ..)| {
                self.orders.find(&entry.latest.key).is_some_and(|order| self.planner.holds(order, call))
            });
            assert_eq!(queued, entry.queued.is_some(), "queued, but not in the planner: {entry:?}");
            let steps = u32::from(calls || record) + u32::from(queued);
            let is_open = !entry.payment.is_settled();
            assert_eq!(entry.payment.record().is_open(), is_open, "{entry:?}");
            assert!(steps <= 1, "two next steps: {entry:?}");
            assert!(steps == 1 || entry.timer.is_some(), "no next step: {entry:?}");
            assert!(is_open || !queued, "a call after the end: {entry:?}");
            reserved += u32::from(entry.reserved);
            under_way += u32::from(calls);
            pays += u32::from(entry.pay_ticket.is_some());
            owed += u32::from(entry.payment.gives_up_at().is_some());
        }
        assert_eq!(self.planner.books(), (pays, reserved, under_way, owed), "at {now:?}");
    }
}

#[cfg(test)]
mod tests;
