//! One thread per shard: moves inputs in, batches to the store, and actions out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError};
use protocol::fact::{PayFact, QueryFact};
use state_machine::absence::{Absence, AbsentTill};
use state_machine::record::{Record, State};
use state_machine::shard::{Action, Alarm, Batch, BatchId, Input, OrderRef, Outcome, Shard};
use state_machine::{Now, OrderKey};
use store::CommitError;

use super::calls::Callers;
use super::fatal;
use super::feed::Feed;
use super::inbox::{Inbox, Message, Request};
use super::lookups::Lookups;
use super::publish::Published;
use super::tickets::Tickets;
use crate::clock::Clock;
use crate::engine::{Told, Topic};
use crate::merchants::Directory;
use crate::metrics;

/// Inputs taken in one step, so that batches stay within a commit of a few milliseconds.
const INPUTS_PER_STEP: usize = 1_024;
/// The longest sleep, so that clocks that count suspension are looked at.
const SLEEP_MAX: Duration = Duration::from_millis(500);

/// What all shards share with the sockets.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) tickets: Arc<Tickets>,
    pub(super) callers: Callers,
    pub(super) lookups: Lookups,
    pub(super) feed: Arc<Feed>,
    /// Undecided payments, and fen whose outcome is unknown, over all shards.
    pub(super) pending: AtomicU64,
    pub(super) at_risk_fen: AtomicU64,
    /// What each shard has used of its query budgets: used in the high half, the limit in the low one.
    pub(super) budgets: Vec<AtomicU64>,
    /// Whether the last word of the store was that it takes no records.
    pub(super) stalled: std::sync::atomic::AtomicBool,
}

/// An input on its way into the next step.
enum Taken {
    Request(Request),
    Reply(Input),
}

impl Taken {
    fn into_input(self) -> Option<Input> {
        match self {
            Self::Request(request) => request.take().map(|(_, input)| input),
            Self::Reply(input) => Some(input),
        }
    }
}

/// A shard and everything its thread owns.
pub(super) struct ShardThread {
    pub(super) number: usize,
    pub(super) shard: Shard,
    pub(super) inbox: Inbox,
    pub(super) messages: Receiver<Message>,
    pub(super) published: Published,
    pub(super) shared: Arc<Shared>,
    /// Hands a batch to the store.
    pub(super) commit: Box<dyn Fn(Batch) + Send>,
    /// The batch that the store has.
    pub(super) under_way: Option<BatchId>,
    /// What each slot adds to the two gauges.
    pub(super) risks: Vec<(bool, u64)>,
    /// What becomes of money that no till asks about, where its merchant has set nothing.
    pub(super) absence: Absence,
    /// The merchants whose rules the shard goes by.
    pub(super) directory: Arc<Directory>,
}

impl ShardThread {
    /// Runs until it is told to stop. A shard that panicked cannot be trusted with money any more: the process
    /// ends, and recovery decides.
    pub(super) fn run(self) {
        let number = self.number;
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.serve())).is_err() {
            fatal(&format!(
                "shard {number} failed; what is wrong stands above. Money may have moved for open payments. Start \
                 the switch again: it asks the wallet about each of them."
            ));
        }
    }

    fn serve(mut self) {
        let mut inputs = Vec::new();
        self.act_all(Clock::now());
        loop {
            let wait = self
                .shard
                .next_wake()
                .map_or(SLEEP_MAX, |wake| Duration::from_millis(wake.ms_since(Clock::tick())).min(SLEEP_MAX));
            let first = match self.messages.recv_timeout(wait) {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let now = Clock::now();
            self.observe_lag(now);
            let more = self.messages.try_iter().take(INPUTS_PER_STEP).collect::<Vec<_>>();
            for message in first.into_iter().chain(more) {
                match message {
                    Message::Request(request) => inputs.push(Taken::Request(request)),
                    Message::Reply(input) => inputs.push(Taken::Reply(input)),
                    Message::Committed(id, outcomes) => self.on_committed(id, outcomes, now),
                    Message::Stalled => {
                        if let Some(id) = self.under_way {
                            self.shard.failed(id);
                        }
                    }
                    // What was not taken before is refused as it is dropped.
                    Message::Stop => return,
                }
            }
            self.follow_merchants();
            for taken in &mut inputs {
                if let Taken::Reply(input) = taken {
                    self.attend(input);
                }
            }
            if let Some(batch) = self.shard.step(inputs.drain(..).filter_map(Taken::into_input), now) {
                self.hand_over(batch);
            }
            self.act_all(now);
            self.report_budget(now);
        }
    }

    /// The shard goes by what merchants have set at this moment.
    fn follow_merchants(&mut self) {
        let merchants = self.shared.callers.merchants.load();
        if !Arc::ptr_eq(&merchants, &self.directory) {
            self.directory = Arc::clone(&merchants);
            self.shard.set_absences(self.directory.absences(self.absence));
        }
    }

    /// Says who listens as a reply comes that may show money: a till that has hung up waits in the shard all the
    /// same, and one that has a stream open does not.
    fn attend(&self, input: &mut Input) {
        let (Input::PayReply { order, fact: PayFact::Paid(_), .. }
        | Input::QueryReply { order, fact: QueryFact::Paid(_), .. }
        | Input::RefundsReply { order, .. }) = *input
        else {
            return;
        };
        let Some(key) = self.shard.key(order) else { return };
        let tickets = &self.shared.tickets;
        let gone = self.shard.waiting(order).filter(|ticket| !tickets.is_heard(*ticket)).collect();
        let follows = self.shared.feed.has_followers(Topic::Payment(key));
        let reply = std::mem::replace(input, Input::Drain);
        *input = Input::Attended { gone, follows, reply: Box::new(reply) };
    }

    /// The share of the query budget in use, over all shards.
    fn report_budget(&mut self, now: Now) {
        let (used, limit) = self.shard.queries_used(now.tick);
        if let Some(mine) = self.shared.budgets.get(self.number) {
            mine.store((u64::from(used) << 32) | u64::from(limit), Ordering::Relaxed);
        }
        let sum = self.shared.budgets.iter().fold((0_u32, 0_u32), |(used, limit), budget| {
            let word = budget.load(Ordering::Relaxed);
            let half = |word: u64| u32::try_from(word & u64::from(u32::MAX)).unwrap_or(u32::MAX);
            (used.saturating_add(half(word >> 32)), limit.saturating_add(half(word)))
        });
        metrics::query_budget(sum.0, sum.1);
    }

    fn on_committed(&mut self, id: BatchId, outcomes: Result<Vec<Outcome>, CommitError>, now: Now) {
        let outcomes = match outcomes {
            Ok(outcomes) => outcomes,
            Err(error) => fatal(&error.to_string()),
        };
        if let Err(error) = self.shard.committed(id, outcomes, now) {
            fatal(&error.to_string());
        }
        self.under_way = None;
        if let Some(batch) = self.shard.poll_batch() {
            self.hand_over(batch);
        }
    }

    fn hand_over(&mut self, batch: Batch) {
        self.under_way = Some(batch.id);
        (self.commit)(batch);
    }

    fn act_all(&mut self, now: Now) {
        while let Some(action) = self.shard.poll_action() {
            self.act(action, now);
        }
        metrics::queue_depth(self.number, self.inbox.depth());
    }

    fn act(&mut self, action: Action, now: Now) {
        let shared = &self.shared;
        match action {
            Action::SendPay { order, record, ticket, leave_by } => {
                let outgoing = shared.tickets.take_outgoing(ticket);
                shared.callers.pay(order, record, outgoing, leave_by, self.inbox.clone());
            }
            Action::Call { order, call, kind, record, other_host } => {
                shared.callers.call(order, call, kind, record, other_host, self.inbox.clone());
            }
            Action::Answer { ticket, record, said } => {
                if let Some(decided) = record.decided_at {
                    let ms = now.wall.0.saturating_sub(decided.0);
                    metrics::told_delay(Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
                }
                shared.tickets.tell(ticket, Told::Answer { record, said });
            }
            Action::Refuse { ticket, why } => {
                shared.tickets.refuse(ticket, why);
            }
            Action::Discard { ticket } => drop(shared.tickets.take_outgoing(ticket)),
            Action::NotHere { ticket } => {
                if let Some(key) = shared.tickets.key(ticket) {
                    let asker = Arc::clone(shared);
                    let taken = shared.lookups.answer_watch(key, move |found| match found {
                        Some(record) => {
                            let said = state_machine::shard::Said::Watched;
                            asker.tickets.tell(ticket, Told::Answer { record, said });
                        }
                        None => asker.tickets.close(ticket),
                    });
                    if !taken {
                        shared.tickets.close(ticket);
                    }
                }
            }
            Action::Publish { order, record } => {
                self.published.publish(order, &record);
                shared.feed.wake(&record.key);
                self.count(order, &record);
            }
            Action::Retire { order, key: _ } => self.published.retire(order),
            Action::Alarm { key, alarm } => warn(&key, alarm),
            Action::Settled { record, queries, learned_at } => settled(&record, queries, learned_at.0),
        }
    }

    /// Keeps the gauges of open payments and of money at risk.
    fn count(&mut self, order: OrderRef, record: &Record) {
        let slot = order.slot as usize;
        if self.risks.len() <= slot {
            self.risks.resize(slot.saturating_add(1), (false, 0));
        }
        let pending = record.state.is_undecided();
        let unknown = pending || matches!(record.state, State::Reversing);
        let fen = if unknown { record.amount.map_or(0, protocol::Fen::get) } else { 0 };
        let Some(place) = self.risks.get_mut(slot) else { return };
        let (was_pending, was_fen) = std::mem::replace(place, (pending, fen));
        // Wrapping on purpose: each term that is taken away was added before.
        let add = |gauge: &AtomicU64, new: u64, old: u64| {
            gauge.fetch_add(new.wrapping_sub(old), Ordering::Relaxed);
        };
        add(&self.shared.pending, u64::from(pending), u64::from(was_pending));
        add(&self.shared.at_risk_fen, fen, was_fen);
        metrics::open(
            self.shared.pending.load(Ordering::Relaxed),
            self.shared.at_risk_fen.load(Ordering::Relaxed),
        );
    }

    fn observe_lag(&self, now: Now) {
        if let Some(wake) = self.shard.next_wake().filter(|wake| *wake <= now.tick) {
            metrics::timer_lag(Duration::from_millis(now.tick.ms_since(wake)));
        }
    }
}

fn warn(key: &OrderKey, alarm: Alarm) {
    let absent = |action: AbsentTill, told: &str| {
        metrics::absent_till(action);
        tracing::warn!(merchant = key.merchant.0, out_trade_no = %key.number, action = action.as_str(), "{told}");
    };
    // No trouble of the switch's: a till is not there.
    if alarm == Alarm::PaidUnheard {
        return absent(AbsentTill::Keep, "paid and kept, and no till has asked since: tell the merchant");
    }
    if alarm == Alarm::AbsentTill {
        return absent(AbsentTill::Reverse, "paid, and no till has asked since: the money goes back");
    }
    metrics::alarm(alarm);
    tracing::warn!(
        merchant = key.merchant.0,
        out_trade_no = %key.number,
        alarm = alarm.as_str(),
        "a payment needs attention; `hufu payment show` tells where it stands"
    );
}

fn settled(record: &Record, queries: u32, learned_at_ms: i64) {
    let Some(outcome) = metrics::Outcome::of(record.state) else { return };
    metrics::payment(record.channel, outcome);
    if matches!(record.state, State::Paid | State::Failed | State::Reversing) {
        metrics::queries(queries);
    }
    let time_end = record.paid.as_ref().and_then(|paid| paid.time_end_s);
    if let (State::Paid, Some(end)) = (record.state, time_end) {
        let ms = learned_at_ms.saturating_sub(end.saturating_mul(1_000));
        metrics::detection_delay(Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
    }
}

/// Tells a shard to stop taking payments.
pub(super) fn drain(inbox: &Inbox) {
    inbox.send(Message::Reply(Input::Drain));
}
