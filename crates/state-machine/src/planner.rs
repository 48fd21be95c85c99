//! When to ask: hard budgets per provider id and operation. A till's own question is evidence that an answer may be
//! there: its payment is asked about before those that nobody waits for. Within either, while there is room everything
//! that is due is asked; where room is scarce, first what saves most by what was learned of password-entry times
//! (`choose`, `estimate`), and no merchant's flood pushes the others out. What decides goes before all of them.
//!
//! Micropay has no notification, so every pending payment must be asked about, and every provider id has
//! quotas. A budget is a limit on *any* sliding second: a call is granted only if the call `limit` grants ago
//! is more than a second old. The last query before a reversal takes room for both at once, so that nothing
//! can come between them. Where the wallet says that we ask too often, the limit halves and grows back by
//! itself (AIMD). Source: DESIGN §3.

use std::collections::VecDeque;

use planted::planted;
use protocol::Fen;
use timer_wheel::Tick;

use crate::key::{Channel, MerchantId, ProviderId};
use crate::policy::Policy;
use crate::shard::{Call, OrderRef};

mod ages;
mod budget;
mod choose;
mod estimate;
mod learned;

pub use budget::WINDOW_MS;
pub use choose::{WAIT_MAX_MS, Waiting};
pub use estimate::Lesson;
pub use learned::{ImportError, Learned};

use budget::Budget;
use choose::Choice;
use learned::band_of;

/// While both wait, of so many queries that are granted one is for a payment that no till has asked for: those are
/// asked about later, never not at all.
const PROMPTED_TURNS: u8 = 4;

/// New payments are not taken while what accepted ones must still do (last queries, reversals, proofs) would
/// fill the budget for longer than this many seconds past the last deadline (INV-23).
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

/// A call that is due, and what its turn depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// For which order.
    pub order: OrderRef,
    /// Which call.
    pub call: Call,
    /// How urgent.
    pub urgency: Urgency,
    /// Whose payment.
    pub merchant: MerchantId,
    /// Which wallet's customer is typing.
    pub channel: Channel,
    /// How much is paid.
    pub amount: Option<Fen>,
    /// When the pay request left, at the latest.
    pub left_at: Tick,
    /// When it was last asked about, if it was.
    pub asked_at: Option<Tick>,
}

/// How urgent a call is.
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
    /// Undecided payments: each may end in a last query with its reversal.
    owed: u32,
    /// Queries on which a decision or proof hangs.
    deciding: VecDeque<Waiting>,
    /// Last queries, each with its reversal.
    pairs: VecDeque<Waiting>,
    /// What tills wait for.
    prompted: Choice,
    /// Everything else that is asked.
    asking: Choice,
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
            owed: 0,
            deciding: VecDeque::new(),
            pairs: VecDeque::new(),
            prompted: Choice::default(),
            asking: Choice::default(),
            turn: 0,
            reversals: VecDeque::new(),
        }
    }

    /// Whether accepted payments need all the room there is: as many calls are under way as may be, what is queued to
    /// decide or prove would fill its budget for many seconds, or the undecided ones are as many as could be given up
    /// in time, each with a query and a reversal, if nobody paid any more.
    fn is_crowded(&self, give_up_ms: u64) -> bool {
        let over = |queued: usize, budget: &Budget| {
            queued > budget.limit.saturating_mul(BACKLOG_SECONDS_MAX) as usize
        };
        self.under_way >= self.calls_max
            || over(self.pairs.len().saturating_add(self.reversals.len()), &self.reverse)
            || over(self.deciding.len(), &self.query)
            || self.owed >= pairs_in_time(self.query.limit.min(self.reverse.limit), give_up_ms)
    }
}

/// How many pairs a budget of `limit` has room for before the last deadline of who is undecided now, and a backlog after
/// it. Where the pay quota is no greater than the others, time alone keeps payments below that.
fn pairs_in_time(limit: u32, give_up_ms: u64) -> u32 {
    let ms = give_up_ms.saturating_add(u64::from(BACKLOG_SECONDS_MAX).saturating_mul(1_000));
    let pairs = u64::from(limit).saturating_mul(ms).checked_div(WINDOW_MS);
    pairs.and_then(|pairs| u32::try_from(pairs).ok()).unwrap_or(u32::MAX)
}

/// The planner of one shard.
#[derive(Debug)]
#[cfg_attr(feature = "model", derive(Clone))]
pub struct Planner {
    default: Quota,
    quotas: Vec<(ProviderId, Quota)>,
    accounts: Vec<Account>,
    /// How long a payment is waited for before its last query.
    give_up_ms: u64,
    /// Nothing is granted before this, if there is such a moment.
    closed_until: Option<Tick>,
    learned: Learned,
}

impl Planner {
    /// A planner that keeps `quotas`, and `default` for providers that are not named. Where several shards
    /// share a provider, each is given its part.
    #[must_use]
    pub fn new(default: Quota, quotas: Vec<(ProviderId, Quota)>) -> Self {
        Self {
            default,
            quotas,
            accounts: Vec::new(),
            give_up_ms: Policy::default().give_up_ms,
            closed_until: None,
            learned: Learned::default(),
        }
    }

    /// Payments are given up after so long: by then there must be room for what each may still need.
    pub const fn give_up_after(&mut self, ms: u64) {
        self.give_up_ms = ms;
    }

    /// One more payment may end in a last query with its reversal. [`Planner::owe_less`] follows once it cannot.
    pub fn owe(&mut self, provider: ProviderId) {
        let account = self.account(provider);
        account.owed = account.owed.saturating_add(1);
    }

    /// A payment is decided, or in hands that make no such calls.
    pub fn owe_less(&mut self, provider: ProviderId) {
        let account = self.account(provider);
        account.owed = account.owed.saturating_sub(1);
    }

    /// Takes a lesson about how long customers take.
    pub fn learn(&mut self, channel: Channel, amount: Option<Fen>, lesson: Lesson, now: Tick) {
        self.learned.learn(channel, amount, lesson, now);
    }

    /// What was learned of password-entry times.
    #[must_use]
    pub const fn learned(&self) -> &Learned {
        &self.learned
    }

    /// Goes by what was learned elsewhere: by the process before, say.
    pub fn set_learned(&mut self, learned: Learned) {
        self.learned = learned;
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
        let give_up_ms = self.give_up_ms;
        let account = self.account(provider);
        let granted = !closed && !account.is_crowded(give_up_ms) && account.pay.room(now) > 0;
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

    /// Queues a call that is due at `now`.
    pub fn ask(&mut self, provider: ProviderId, due: &Due, now: Tick) {
        let ms = |tick: Tick| u32::try_from(tick.ms_since(due.left_at)).unwrap_or(u32::MAX);
        let Due { order, call, merchant, .. } = *due;
        let (asked_ms, age_ms) = (due.asked_at.map_or(0, ms), ms(now));
        let waiting = Waiting { order, call, since: now, merchant, asked_ms, age_ms };
        let account = self.account(provider);
        match (call, due.urgency) {
            (Call::Reverse | Call::Refund, _) => account.reversals.push_back(waiting),
            (Call::LastQuery, _) => account.pairs.push_back(waiting),
            (Call::Query | Call::RefundQuery, Urgency::Decides) => account.deciding.push_back(waiting),
            (Call::Query | Call::RefundQuery, Urgency::Prompted) => {
                account.prompted.push(waiting, band_of(due.channel, due.amount));
            }
            (Call::Query | Call::RefundQuery, Urgency::Asks) => {
                account.asking.push(waiting, band_of(due.channel, due.amount));
            }
        }
    }

    /// Grants the next call that has room, if `wanted` says that it is still wanted, and takes its room.
    /// A [`Call::LastQuery`] takes the room of its reversal with it.
    pub fn grant(&mut self, now: Tick, mut wanted: impl FnMut(&Waiting) -> bool) -> Option<(OrderRef, Call)> {
        if self.is_closed(now) {
            return None;
        }
        let learned = &mut self.learned;
        for account in &mut self.accounts {
            let Account { query, reverse, deciding, pairs, prompted, asking, reversals, turn, .. } = account;
            if account.under_way >= account.calls_max {
                continue;
            }
            let queued = [deciding.len(), pairs.len(), prompted.len(), asking.len(), reversals.len()];
            // The most common case by far. A limit that was halved grows each time that somebody looks.
            if queued == [0; 5] && reverse.is_whole() {
                *turn = turn.saturating_add(u8::from(query.room(now) > 0)) % PROMPTED_TURNS;
                continue;
            }
            let mut first_wanted = |queue: &mut VecDeque<Waiting>| {
                std::iter::from_fn(|| queue.pop_front()).find(|next| wanted(next))
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
                first.next(now, learned, &mut wanted).or_else(|| second.next(now, learned, &mut wanted))
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
            let polled = account.prompted.len().saturating_add(account.asking.len());
            let queries = polled.saturating_add(account.deciding.len()).saturating_add(account.pairs.len());
            let query = (queries > 0).then(|| account.query.frees_at());
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
            let polled = account.prompted.len().saturating_add(account.asking.len());
            let others = [&account.deciding, &account.pairs, &account.reversals].map(VecDeque::len);
            others.iter().fold(polled, |sum, len| sum.saturating_add(*len))
        };
        self.accounts.iter().map(of).sum()
    }
}

#[cfg(test)]
impl Planner {
    /// Whether `call` of `order` waits for room.
    pub(crate) fn holds(&self, order: OrderRef, call: Call) -> bool {
        self.accounts.iter().any(|account| {
            let others = [&account.deciding, &account.pairs, &account.reversals].into_iter().flatten();
            let mut all = others.chain(account.prompted.iter()).chain(account.asking.iter());
            all.any(|waiting| waiting.order == order && waiting.call == call)
        })
    }

    /// Pay requests and reversals that room is reserved for, calls under way, and payments that may need more.
    pub(crate) fn books(&self) -> (u32, u32, u32, u32) {
        let sum = |of: fn(&Account) -> u32| self.accounts.iter().map(of).sum();
        (sum(|a| a.pay.reserved), sum(|a| a.reverse.reserved), sum(|a| a.under_way), sum(|a| a.owed))
    }
}

#[cfg(test)]
mod tests;
