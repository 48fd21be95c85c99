//! When to ask: hard budgets per provider id and operation, first come first served within an urgency. A till's own
//! question is evidence that an answer may be there: its payment is asked about before those that nobody waits for.
//!
//! Micropay has no notification, so every pending payment must be asked about, and every provider id has
//! quotas. A budget is a limit on *any* sliding second: a call is granted only if the call `limit` grants ago
//! is more than a second old. The last query before a reversal takes room for both at once, so that nothing
//! can come between them. Where the wallet says that we ask too often, the limit halves and grows back by
//! itself (AIMD). Source: DESIGN §3.

use std::collections::VecDeque;

use planted::planted;
use timer_wheel::Tick;

use crate::key::ProviderId;
use crate::shard::{Call, OrderRef};

/// The window of a budget: a second, and what a network may compress it by.
pub const WINDOW_MS: u64 = 1_050;

/// While both wait, of so many queries that are granted one is for a payment that no till has asked for: those are
/// asked about later, never not at all.
const PROMPTED_TURNS: u8 = 4;

/// New payments are not taken while what accepted ones must still do (last queries, reversals, proofs) would
/// fill the budget for longer than this many seconds (INV-23).
const BACKLOG_SECONDS_MAX: u32 = 10;

/// Calls allowed in any sliding second, per provider id. Source: DESIGN §3 (quotas are published elsewhere:
/// configuration, never a constant).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Pay requests.
    pub pay: u32,
    /// Order and refund queries.
    pub query: u32,
    /// Reversals and refunds.
    pub reverse: u32,
    /// Calls under way at once, pay requests apart: slower answers mean fewer calls, and no new payments
    /// while there is no room (NU-11).
    pub calls_max: u32,
}

impl Default for Quota {
    fn default() -> Self {
        Self { pay: 30, query: 1_800, reverse: 30, calls_max: 2_048 }
    }
}

/// How urgent a call is; within one urgency the longest waiting goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// A decision or a proof hangs on it: confirming, last query, reversing.
    Decides,
    /// A pending payment is asked about, and its till has asked for it since it last was: somebody waits there, and
    /// a cashier who asks has mostly just seen the customer's phone.
    Prompted,
    /// A pending payment is asked about.
    Asks,
}

/// A limit on any sliding second.
#[derive(Debug)]
#[cfg_attr(feature = "model", derive(Clone))]
struct Budget {
    /// The present limit, 1 to `limit_max`.
    limit: u32,
    limit_max: u32,
    /// When the limit was last halved, and last changed at all.
    halved: Option<Tick>,
    changed: Tick,
    /// When the granted calls of the last window went out, oldest first.
    granted: VecDeque<Tick>,
    /// Room held for calls that are certain to come.
    reserved: u32,
}

impl Budget {
    fn new(limit: u32) -> Self {
        let (granted, changed) = (VecDeque::new(), Tick::ZERO);
        Self { limit, limit_max: limit, halved: None, changed, granted, reserved: 0 }
    }

    /// The wallet said that this was too often: half from here, once per window.
    fn throttle(&mut self, now: Tick) {
        if self.halved.is_none_or(|at| now.ms_since(at) >= WINDOW_MS) {
            self.limit = (self.limit / 2).max(1).min(self.limit_max);
            self.halved = Some(now);
            self.changed = now;
        }
    }

    /// Whether the limit is as it was given.
    const fn is_whole(&self) -> bool {
        self.limit == self.limit_max
    }

    /// How many more calls may go out at `now`.
    fn room(&mut self, now: Tick) -> u32 {
        if planted!(BudgetIgnored) {
            return self.limit;
        }
        let quiet = now.ms_since(self.changed) / WINDOW_MS;
        if self.limit < self.limit_max && quiet > 0 {
            // A twentieth more for each window without complaint.
            let step = u64::from((self.limit_max / 20).max(1)).saturating_mul(quiet);
            let grown = u64::from(self.limit).saturating_add(step);
            self.limit = u32::try_from(grown).unwrap_or(u32::MAX).min(self.limit_max);
            self.changed = now;
        }
        while self.granted.front().is_some_and(|at| now.ms_since(*at) >= WINDOW_MS) {
            self.granted.pop_front();
        }
        let used = u32::try_from(self.granted.len()).unwrap_or(u32::MAX);
        self.limit.saturating_sub(used.saturating_add(self.reserved))
    }

    /// How many went out in the window that ends at `now`.
    fn used(&self, now: Tick) -> u32 {
        let gone = self.granted.partition_point(|at| now.ms_since(*at) >= WINDOW_MS);
        u32::try_from(self.granted.len().saturating_sub(gone)).unwrap_or(u32::MAX)
    }

    fn take(&mut self, now: Tick) {
        self.granted.push_back(now);
    }

    /// Holds room for a call that is certain to come.
    const fn reserve(&mut self) {
        self.reserved = self.reserved.saturating_add(1);
    }

    /// Gives reserved room back.
    const fn release(&mut self) {
        self.reserved = self.reserved.saturating_sub(1);
    }

    /// Turns reserved room into a call.
    fn use_reserved(&mut self, now: Tick) {
        self.release();
        self.take(now);
    }

    /// When the oldest call leaves the window, or the limit grows, if there is no room before.
    fn frees_at(&self) -> Option<Tick> {
        let used = u32::try_from(self.granted.len()).unwrap_or(u32::MAX).saturating_add(self.reserved);
        if used < self.limit {
            return None;
        }
        let grows = (self.limit < self.limit_max).then_some(&self.changed);
        self.granted.front().into_iter().chain(grows).map(|at| at.saturating_add(WINDOW_MS)).min()
    }
}

/// A call that waits for room.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    order: OrderRef,
    call: Call,
}

#[derive(Debug)]
#[cfg_attr(feature = "model", derive(Clone))]
struct Account {
    provider: ProviderId,
    pay: Budget,
    query: Budget,
    reverse: Budget,
    /// Calls under way.
    under_way: u32,
    calls_max: u32,
    /// Queries on which a decision or proof hangs.
    deciding: VecDeque<Waiting>,
    /// Last queries, each with its reversal.
    pairs: VecDeque<Waiting>,
    /// What tills wait for.
    prompted: VecDeque<Waiting>,
    /// Everything else that is asked.
    asking: VecDeque<Waiting>,
    /// Counts to [`PROMPTED_TURNS`].
    turn: u8,
    reversals: VecDeque<Waiting>,
}

impl Account {
    fn new(provider: ProviderId, quota: Quota) -> Self {
        Self {
            provider,
            pay: Budget::new(quota.pay),
            query: Budget::new(quota.query),
            reverse: Budget::new(quota.reverse),
            under_way: 0,
            calls_max: quota.calls_max,
            deciding: VecDeque::new(),
            pairs: VecDeque::new(),
            prompted: VecDeque::new(),
            asking: VecDeque::new(),
            turn: 0,
            reversals: VecDeque::new(),
        }
    }

    /// Whether accepted payments need all the room there is: as many calls are under way as may be, or what
    /// is queued to decide or prove would fill its budget for many seconds.
    fn is_crowded(&self) -> bool {
        let over = |queued: usize, budget: &Budget| {
            queued > budget.limit.saturating_mul(BACKLOG_SECONDS_MAX) as usize
        };
        self.under_way >= self.calls_max
            || over(self.pairs.len().saturating_add(self.reversals.len()), &self.reverse)
            || over(self.deciding.len(), &self.query)
    }
}

/// The planner of one shard.
#[derive(Debug)]
#[cfg_attr(feature = "model", derive(Clone))]
pub struct Planner {
    default: Quota,
    quotas: Vec<(ProviderId, Quota)>,
    accounts: Vec<Account>,
    /// Nothing is granted before this, if there is such a moment.
    closed_until: Option<Tick>,
}

impl Planner {
    /// A planner that keeps `quotas`, and `default` for providers that are not named. Where several shards
    /// share a provider, each is given its part.
    #[must_use]
    pub const fn new(default: Quota, quotas: Vec<(ProviderId, Quota)>) -> Self {
        Self { default, quotas, accounts: Vec::new(), closed_until: None }
    }

    /// Grants nothing for a window from `now` on: what an earlier process was granted in the last second is not
    /// known any more.
    pub const fn close_for_a_window(&mut self, now: Tick) {
        self.closed_until = Some(now.saturating_add(WINDOW_MS));
    }

    fn is_closed(&mut self, now: Tick) -> bool {
        self.closed_until = self.closed_until.filter(|until| now < *until);
        self.closed_until.is_some()
    }

    fn account(&mut self, provider: ProviderId) -> &mut Account {
        let place =
            self.accounts.iter().position(|account| account.provider == provider).unwrap_or_else(|| {
                let named = self.quotas.iter().find(|(id, _)| *id == provider);
                self.accounts.push(Account::new(provider, named.map_or(self.default, |(_, quota)| *quota)));
                self.accounts.len().saturating_sub(1)
            });
        #[expect(clippy::indexing_slicing, reason = "the place was found or made above")]
        &mut self.accounts[place]
    }

    /// Reserves room for one pay request, if there is some, and if what earlier payments must still do does
    /// not need it (INV-23). [`Planner::use_pay`] or [`Planner::release_pay`] follows.
    pub fn reserve_pay(&mut self, provider: ProviderId, now: Tick) -> bool {
        let closed = self.is_closed(now);
        let account = self.account(provider);
        let granted = !closed && !account.is_crowded() && account.pay.room(now) > 0;
        if granted {
            account.pay.reserve();
        }
        granted
    }

    /// Turns reserved room into a pay request that leaves at `now`.
    pub fn use_pay(&mut self, provider: ProviderId, now: Tick) {
        self.account(provider).pay.use_reserved(now);
    }

    /// Gives back the room of a pay request that will not be sent.
    pub fn release_pay(&mut self, provider: ProviderId) {
        self.account(provider).pay.release();
    }

    /// The wallet said that `call` came too often: its budget shrinks for a while (B1, UB-19).
    pub fn throttled(&mut self, provider: ProviderId, call: Call, now: Tick) {
        let account = self.account(provider);
        match call {
            Call::Query | Call::LastQuery | Call::RefundQuery => account.query.throttle(now),
            Call::Reverse | Call::Refund => account.reverse.throttle(now),
        }
    }

    /// Queues a call that is due.
    pub fn ask(&mut self, provider: ProviderId, order: OrderRef, call: Call, urgency: Urgency) {
        let account = self.account(provider);
        let waiting = Waiting { order, call };
        match (call, urgency) {
            (Call::Reverse | Call::Refund, _) => account.reversals.push_back(waiting),
            (Call::LastQuery, _) => account.pairs.push_back(waiting),
            (Call::Query | Call::RefundQuery, Urgency::Decides) => account.deciding.push_back(waiting),
            (Call::Query | Call::RefundQuery, Urgency::Prompted) => account.prompted.push_back(waiting),
            (Call::Query | Call::RefundQuery, Urgency::Asks) => account.asking.push_back(waiting),
        }
    }

    /// Grants the next call that has room, if `wanted` says that it is still wanted, and takes its room.
    /// A [`Call::LastQuery`] takes the room of its reversal with it.
    pub fn grant(
        &mut self,
        now: Tick,
        mut wanted: impl FnMut(OrderRef, Call) -> bool,
    ) -> Option<(OrderRef, Call)> {
        if self.is_closed(now) {
            return None;
        }
        for account in &mut self.accounts {
            let Account { query, reverse, deciding, pairs, prompted, asking, reversals, turn, .. } = account;
            if account.under_way >= account.calls_max {
                continue;
            }
            let queues = [&*deciding, &*pairs, &*prompted, &*asking, &*reversals];
            // The most common case by far. A limit that was halved grows each time that somebody looks.
            if queues.iter().map(|queue| queue.len()).sum::<usize>() == 0 && reverse.is_whole() {
                *turn = turn.saturating_add(u8::from(query.room(now) > 0)) % PROMPTED_TURNS;
                continue;
            }
            let mut first_wanted = |queue: &mut VecDeque<Waiting>| {
                std::iter::from_fn(|| queue.pop_front()).find(|next| wanted(next.order, next.call))
            };
            let reversal = (reverse.room(now) > 0).then(|| first_wanted(reversals)).flatten();
            if let Some(next) = reversal {
                reverse.take(now);
                account.under_way = account.under_way.saturating_add(1);
                return Some((next.order, next.call));
            }
            if query.room(now) == 0 {
                if planted!(Starved) {
                    deciding.clear();
                    prompted.clear();
                    asking.clear();
                }
                continue;
            }
            let decides = first_wanted(deciding);
            // A pair without room for its reversal waits: the deadline slips, the budget does not.
            let pair = (decides.is_none() && reverse.room(now) > 0).then(|| first_wanted(pairs)).flatten();
            if pair.is_some() {
                reverse.reserve();
            }
            let polled = || {
                *turn = turn.saturating_add(1) % PROMPTED_TURNS;
                let (first, second) = if *turn == 0 { (asking, prompted) } else { (prompted, asking) };
                first_wanted(first).or_else(|| first_wanted(second))
            };
            if let Some(next) = decides.or(pair).or_else(polled) {
                query.take(now);
                account.under_way = account.under_way.saturating_add(1);
                return Some((next.order, next.call));
            }
        }
        None
    }

    /// A granted call was answered.
    pub fn answered(&mut self, provider: ProviderId) {
        let account = self.account(provider);
        account.under_way = account.under_way.saturating_sub(1);
    }

    /// Gives back the room that a last query reserved: its reversal is not needed.
    pub fn release(&mut self, provider: ProviderId) {
        self.account(provider).reverse.release();
    }

    /// Turns the room that a last query reserved into its reversal, at `now`.
    pub fn use_reserved(&mut self, provider: ProviderId, now: Tick) {
        let account = self.account(provider);
        account.reverse.use_reserved(now);
        account.under_way = account.under_way.saturating_add(1);
    }

    /// When room may appear for a call that waits; `None` while nothing waits, or while only answers can
    /// make room. Later than the present once [`Planner::grant`] has said `None` at it.
    #[must_use]
    pub fn next_room(&self) -> Option<Tick> {
        if let Some(until) = self.closed_until {
            return (self.waiting() > 0).then_some(until);
        }
        let frees = |account: &Account| {
            let query = [&account.deciding, &account.prompted, &account.asking, &account.pairs]
                .iter()
                .any(|queue| !queue.is_empty())
                .then(|| account.query.frees_at());
            let reverse = (!account.reversals.is_empty() || !account.pairs.is_empty())
                .then(|| account.reverse.frees_at());
            query.flatten().into_iter().chain(reverse.flatten()).min()
        };
        self.accounts.iter().filter(|account| account.under_way < account.calls_max).filter_map(frees).min()
    }

    /// Queries granted within the last window, and how many there may be, over all providers.
    #[must_use]
    pub fn queries_used(&self, now: Tick) -> (u32, u32) {
        self.accounts.iter().fold((0, 0), |(used, limit), account| {
            let taken = account.query.used(now);
            (used.saturating_add(taken), limit.saturating_add(account.query.limit_max))
        })
    }

    /// Calls that wait for room.
    #[must_use]
    pub fn waiting(&self) -> usize {
        let of = |account: &Account| {
            [&account.deciding, &account.pairs, &account.prompted, &account.asking, &account.reversals]
                .into_iter()
                .map(VecDeque::len)
                .sum::<usize>()
        };
        self.accounts.iter().map(of).sum()
    }
}

#[cfg(test)]
impl Planner {
    /// Whether `call` of `order` waits for room.
    pub(crate) fn holds(&self, order: OrderRef, call: Call) -> bool {
        self.accounts.iter().any(|account| {
            [&account.deciding, &account.pairs, &account.prompted, &account.asking, &account.reversals]
                .into_iter()
                .flatten()
                .any(|waiting| waiting.order == order && waiting.call == call)
        })
    }

    /// Pay requests and reversals that room is reserved for, and calls under way.
    pub(crate) fn books(&self) -> (u32, u32, u32) {
        let sum = |of: fn(&Account) -> u32| self.accounts.iter().map(of).sum();
        (sum(|a| a.pay.reserved), sum(|a| a.reverse.reserved), sum(|a| a.under_way))
    }
}

#[cfg(test)]
mod tests;
