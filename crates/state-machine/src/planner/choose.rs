//! Which of many waiting queries goes first: the one that saves most.
//!
//! For each payment the table of its band says for how long it can be expected to have been over without our knowing
//! ([`Shape::unseen`](super::estimate::Shape::unseen)): the integral, since it was last asked about, of the
//! probability that its end is there. Asking first where that is largest makes the density of questions follow the
//! square root of the hazard, which is the optimum (Barlow, Hunter and Proschan 1963; Keller 1974), without anybody
//! working out the price of a query: scarcity itself sets it.
//!
//! Payments that were last asked about at nearly the same age grow alike, so they stand in one queue, the longest
//! waiting in front, and only fronts are compared: some hundred at most, however many wait.

use std::collections::{HashMap, VecDeque};

use timer_wheel::Tick;

use super::ages::step_of;
use super::learned::{Band, Learned};
use crate::key::MerchantId;
use crate::shard::{Call, OrderRef};

/// A query that has waited for so long goes before any that has not, apart from what large merchants have a share of.
/// Where more have waited so long than the budget holds, the longest waiting goes first. Short enough that a payment is
/// asked about before its last query, by the documented clocks; at half of it a budget for two thirds of a fixed cadence
/// was spent on it alone, and delays were those of taking turns.
pub const WAIT_MAX_MS: u64 = 30_000;

/// Fronts are weighed anew after so long, those that changed at once.
const WEIGH_MS: u64 = 16;

/// A merchant that has more than this part of what waits, and more than [`SMALL`], is large.
const LARGE_PART: u32 = 32;

/// A merchant with so few waiting queries is never large.
const SMALL: u32 = 64;

/// While large merchants want more than half of what all others want, one query in so many is theirs, and the others'
/// unless they want none. Where they want no more than that, what saves most goes first, whoever it is of.
const LARGE_TURNS: u8 = 3;

/// Above all that is not overdue.
const OVERDUE: u64 = 1 << 63;

/// A call that waits for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// For which order.
    pub order: OrderRef,
    /// Which call.
    pub call: Call,
    /// Since when: with the order, this names the waiting.
    pub since: Tick,
    /// Whose payment.
    pub(super) merchant: MerchantId,
    /// How old the payment was, in ms, when it was last asked about, and as this began to wait.
    pub(super) asked_ms: u32,
    pub(super) age_ms: u32,
}

/// Payments of one band that were last asked about at nearly the same age.
#[derive(Clone, Debug)]
struct Queue {
    band: Band,
    step: usize,
    /// Of large merchants.
    large: bool,
    waiting: VecDeque<Waiting>,
    /// What the front is worth; more is first.
    worth: u64,
}

/// Queries that wait, and the order in which they go.
#[derive(Clone, Debug, Default)]
pub(super) struct Choice {
    queues: Vec<Queue>,
    /// How many wait of each merchant that has any.
    merchants: HashMap<MerchantId, u32>,
    /// Waiting of large merchants, and of all others.
    large: u32,
    others: u32,
    weighed: Option<Tick>,
    /// Counts to [`LARGE_TURNS`].
    turn: u8,
    /// How many were left after the last sweep.
    swept: u32,
    /// Room of a queue that ended, for the next one.
    spare: VecDeque<Waiting>,
}

/// What the front of a queue is worth.
fn worth(queue: &Queue, now: Tick, learned: &mut Learned) -> u64 {
    let Some(front) = queue.waiting.front() else { return 0 };
    let waited = now.ms_since(front.since);
    if waited >= WAIT_MAX_MS {
        return OVERDUE | waited.min(OVERDUE.saturating_sub(1));
    }
    let age = u64::from(front.age_ms).saturating_add(waited);
    let unseen = learned.shape(queue.band).unseen(u64::from(front.asked_ms), age);
    // At most 2^30; and what is worth the same goes by its waiting.
    unseen.min(1 << 32).wrapping_shl(20) | waited.min((1 << 20) - 1)
}

impl Choice {
    /// Queries that wait, those that are not wanted any more included.
    pub(super) fn len(&self) -> usize {
        self.large.saturating_add(self.others) as usize
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// All that wait.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = &Waiting> {
        self.queues.iter().flat_map(|queue| &queue.waiting)
    }

    /// Queues a query.
    pub(super) fn push(&mut self, waiting: Waiting, band: Band) {
        let mine = self.merchants.entry(waiting.merchant).or_default();
        *mine = mine.saturating_add(1);
        let all = self.large.saturating_add(self.others);
        let large = *mine > SMALL.max(all / LARGE_PART);
        let count = if large { &mut self.large } else { &mut self.others };
        *count = count.saturating_add(1);
        let step = step_of(u64::from(waiting.asked_ms));
        let same = |queue: &&mut Queue| queue.band == band && queue.step == step && queue.large == large;
        if let Some(queue) = self.queues.iter_mut().find(same) {
            queue.waiting.push_back(waiting);
        } else {
            let mut queue = std::mem::take(&mut self.spare);
            queue.push_back(waiting);
            self.queues.push(Queue { band, step, large, waiting: queue, worth: 0 });
            self.weighed = None;
        }
    }

    /// The next query that is still wanted.
    pub(super) fn next(
        &mut self,
        now: Tick,
        learned: &mut Learned,
        wanted: &mut impl FnMut(&Waiting) -> bool,
    ) -> Option<Waiting> {
        self.sweep(wanted);
        loop {
            let place = self.first(now, learned)?;
            let queue = self.queues.get_mut(place)?;
            let next = queue.waiting.pop_front()?;
            let count = if queue.large { &mut self.large } else { &mut self.others };
            *count = count.saturating_sub(1);
            if queue.waiting.is_empty() {
                self.spare = std::mem::take(&mut queue.waiting);
                self.queues.swap_remove(place);
            } else {
                queue.worth = worth(queue, now, learned);
            }
            self.forget(&next);
            if wanted(&next) {
                return Some(next);
            }
        }
    }

    /// The place of the queue whose turn it is: the one whose front is worth most.
    fn first(&mut self, now: Tick, learned: &mut Learned) -> Option<usize> {
        if self.queues.len() < 2 {
            return (!self.queues.is_empty()).then_some(0);
        }
        if self.weighed.is_none_or(|at| now.ms_since(at) >= WEIGH_MS) {
            learned.refresh(now);
            for queue in &mut self.queues {
                queue.worth = worth(queue, now, learned);
            }
            self.weighed = Some(now);
        }
        let is_flooded = self.others > 0 && self.large > self.others / 2;
        let turn = is_flooded.then(|| {
            self.turn = self.turn.saturating_add(1) % LARGE_TURNS;
            self.turn == 0
        });
        let places = self.queues.iter().enumerate();
        let in_turn = places.filter(|(_, queue)| turn.is_none_or(|large| queue.large == large));
        in_turn.max_by_key(|(_, queue)| queue.worth).map(|(place, _)| place)
    }

    /// Drops what is not wanted any more, once that may be half of what is here: memory follows what really waits.
    fn sweep(&mut self, wanted: &mut impl FnMut(&Waiting) -> bool) {
        let all = self.large.saturating_add(self.others);
        if all <= self.swept.saturating_mul(2).saturating_add(1_024) {
            return;
        }
        let mut queues = std::mem::take(&mut self.queues);
        *self = Self { turn: self.turn, ..Self::default() };
        for queue in &mut queues {
            queue.waiting.retain(|waiting| wanted(waiting));
            let left = u32::try_from(queue.waiting.len()).unwrap_or(u32::MAX);
            let count = if queue.large { &mut self.large } else { &mut self.others };
            *count = count.saturating_add(left);
            for waiting in &queue.waiting {
                let mine = self.merchants.entry(waiting.merchant).or_default();
                *mine = mine.saturating_add(1);
            }
        }
        queues.retain(|queue| !queue.waiting.is_empty());
        self.queues = queues;
        self.swept = self.large.saturating_add(self.others);
    }

    fn forget(&mut self, waiting: &Waiting) {
        if let Some(mine) = self.merchants.get_mut(&waiting.merchant) {
            *mine = mine.saturating_sub(1);
            if *mine == 0 {
                self.merchants.remove(&waiting.merchant);
            }
        }
    }
}
