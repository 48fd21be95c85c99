//! One thread per shard: moves inputs in, batches to the store, and actions out.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use handover::mailbox::Reader;
use protocol::fact::{PayFact, QueryFact};
use state_machine::absence::{Absence, AbsentTill};
use state_machine::exposure::{Exposure, Report};
use state_machine::record::{Record, State};
use state_machine::rescan::Rescan;
use state_machine::shard::{Action, Alarm, Batch, BatchId, Input, OrderRef, Outcome, Said, Shard, Ticket};
use state_machine::{Now, OrderKey, Tick};
use store::CommitError;

use super::calls::Callers;
use super::fatal;
use super::feed::Feed;
use super::inbox::{Inbox, Message, Request};
use super::learned::{self, Keeper};
use super::lookups::Lookups;
use super::publish::Published;
use super::tickets::Tickets;
use crate::clock::Clock;
use crate::engine::{Told, Topic};
use crate::merchants::Directory;
use crate::metrics;

/// Inputs taken in one step, so that batches stay within a commit of a few milliseconds.
const INPUTS_PER_STEP: usize = 1_024;
/// How long inputs gather while a batch is under way: nothing of theirs can be recorded before it is durable, and waking
/// the thread for each costs more than they do.
const GATHER_MAX: Duration = Duration::from_millis(2);
/// The longest sleep, so that clocks that count suspension are looked at.
const SLEEP_MAX: Duration = Duration::from_millis(500);

/// What is open is added up by age once in this time.
const REPORT_MS: u64 = 1_000;

/// What one shard shows to who looks; its thread is the only writer.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    /// Undecided payments.
    pub(super) pending: AtomicU64,
    /// Fen whose outcome is unknown.
    pub(super) at_risk_fen: AtomicU64,
    /// Queries of the last second in the high half, how many there may be in the low one.
    budget: AtomicU64,
    /// Calls that wait for room.
    pub(super) calls_waiting: AtomicU64,
    /// Requests that found as many waiting for their payment as may.
    pub(super) crowded: AtomicU64,
    /// What is open by stage and age: written once a second.
    report: Mutex<Report>,
}

impl Gauge {
    /// Queries of the last second, and how many there may be.
    pub(super) fn queries(&self) -> (u32, u32) {
        let word = self.budget.load(Ordering::Relaxed);
        let half = |word: u64| u32::try_from(word & u64::from(u32::MAX)).unwrap_or(u32::MAX);
        (half(word >> 32), half(word))
    }

    /// Adds what is open.
    pub(super) fn add_to(&self, sum: &mut Report) {
        sum.add(&self.report.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// What all shards share with the sockets.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) tickets: Arc<Tickets>,
    pub(super) callers: Callers,
    pub(super) lookups: Lookups,
    pub(super) feed: Arc<Feed>,
    /// What the planners learn, over restarts.
    pub(super) keeper: Arc<Keeper>,
    /// What each shard shows.
    pub(super) gauges: Vec<Gauge>,
    /// Whether the last word of the store was that it takes no records.
    pub(super) stalled: std::sync::atomic::AtomicBool,
    /// What the store has to do yet.
    pub(super) depth: store::Depth,
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

/// What is to be done on the runtime.
pub(super) enum Errand {
    Pay { order: OrderRef, record: Arc<Record>, ticket: Ticket, leave_by: Tick },
    Tell { ticket: Ticket, record: Arc<Record>, said: Said },
}

impl Errand {
    fn run(self, shared: &Shared, inbox: &Inbox) {
        match self {
            Self::Pay { order, record, ticket, leave_by } => {
                let outgoing = shared.tickets.take_outgoing(ticket);
                shared.callers.pay(order, record, outgoing, leave_by, inbox.clone());
            }
            Self::Tell { ticket, record, said } => shared.tickets.tell(ticket, Told::Answer { record, said }),
        }
    }
}

/// A shard and everything its thread owns.
pub(super) struct ShardThread {
    pub(super) number: usize,
    pub(super) shard: Shard,
    pub(super) inbox: Inbox,
    pub(super) messages: Reader<Message>,
    pub(super) published: Published,
    pub(super) shared: Arc<Shared>,
    /// What the last actions have left to the runtime.
    pub(super) errands: Vec<Errand>,
    /// Hands a batch to the store.
    pub(super) commit: Box<dyn Fn(Batch) + Send>,
    /// The batch that the store has.
    pub(super) under_way: Option<BatchId>,
    /// The money whose outcome is unknown.
    pub(super) exposure: Exposure,
    /// A payment that is undecided for longer is overdue.
    pub(super) overdue_ms: u64,
    /// When it was last added up.
    pub(super) reported_at: Tick,
    /// When what the planner has learned was last kept.
    pub(super) learned_at: Tick,
    /// What becomes of money that no till asks about, where its merchant has set nothing.
    pub(super) absence: Absence,
    /// What becomes of second payments of one sale, where the merchant has set nothing.
    pub(super) rescan: Rescan,
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
        let (mut messages, mut inputs, mut commits) = (Vec::new(), Vec::new(), Vec::new());
        self.act_all(Clock::now());
        // Whether there was anything to take last time.
        let mut is_busy = false;
        loop {
            let wait = self
                .shard
                .next_wake()
                .map_or(SLEEP_MAX, |wake| Duration::from_millis(wake.ms_since(Clock::tick())).min(SLEEP_MAX));
            // What comes while a batch is under way goes into the next one anyway.
            let gathers = is_busy && self.under_way.is_some();
            let wait = if gathers { wait.min(GATHER_MAX) } else { wait };
            self.messages.take(&mut messages, INPUTS_PER_STEP, wait, gathers);
            is_busy = !messages.is_empty();
            let now = Clock::now();
            self.observe_lag(now);
            for message in messages.drain(..) {
                match message {
                    Message::Request(request) => inputs.push(Taken::Request(request)),
                    Message::Reply(input) => inputs.push(Taken::Reply(input)),
                    Message::Committed(id, outcomes) => commits.push((id, outcomes)),
                    Message::Stalled => {
                        if let Some(id) = self.under_way {
                            self.shard.failed(id);
                        }
                    }
                    // What was not taken before is refused as it is dropped.
                    Message::Stop => {
                        self.shared.keeper.put(self.number, self.shard.learned());
                        return;
                    }
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
            // After the inputs, so that what they have to record goes with the next batch at once.
            for (id, outcomes) in commits.drain(..) {
                self.on_committed(id, outcomes, now);
            }
            self.act_all(now);
            self.report(now);
        }
    }

    /// The shard goes by what merchants have set at this moment.
    fn follow_merchants(&mut self) {
        let merchants = self.shared.callers.merchants.load();
        if !Arc::ptr_eq(&merchants, &self.directory) {
            self.directory = Arc::clone(&merchants);
            self.shard.set_absences(self.directory.absences(self.absence));
            self.shard.set_rescans(self.directory.rescans(self.rescan));
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

    /// Shows what is used of the budgets, and, once a second, what is open by age.
    fn report(&mut self, now: Now) {
        let Some(mine) = self.shared.gauges.get(self.number) else { return };
        let (used, limit) = self.shard.queries_used(now.tick);
        mine.budget.store((u64::from(used) << 32) | u64::from(limit), Ordering::Relaxed);
        let waiting = u64::try_from(self.shard.calls_waiting()).unwrap_or(u64::MAX);
        mine.calls_waiting.store(waiting, Ordering::Relaxed);
        mine.crowded.store(self.shard.crowded(), Ordering::Relaxed);
        if now.tick.ms_since(self.reported_at) >= REPORT_MS {
            self.reported_at = now.tick;
            *mine.report.lock().unwrap_or_else(PoisonError::into_inner) =
                self.exposure.report(now.wall, self.overdue_ms);
        }
        if now.tick.ms_since(self.learned_at) >= learned::WRITE_MS {
            self.learned_at = now.tick;
            self.shared.keeper.put(self.number, self.shard.learned());
            if self.number == 0 {
                let keeper = Arc::clone(&self.shared.keeper);
                drop(self.shared.callers.runtime.spawn_blocking(move || keeper.write()));
            }
        }
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
        self.run_errands();
    }

    /// Has the runtime do what many wait for: one task of its own hands it to the others there, which wakes its threads
    /// once.
    fn run_errands(&mut self) {
        if self.errands.len() <= 1 {
            return self.errands.drain(..).for_each(|errand| errand.run(&self.shared, &self.inbox));
        }
        let errands = std::mem::take(&mut self.errands);
        let (shared, inbox) = (Arc::clone(&self.shared), self.inbox.clone());
        self.shared.callers.runtime.spawn(async move {
            errands.into_iter().for_each(|errand| errand.run(&shared, &inbox));
        });
    }

    fn act(&mut self, action: Action, now: Now) {
        let shared = &self.shared;
        match action {
            Action::SendPay { order, record, ticket, leave_by } => {
                self.errands.push(Errand::Pay { order, record, ticket, leave_by });
            }
            Action::Call { order, call, kind, record, other_host } => {
                shared.callers.call(order, call, kind, record, other_host, self.inbox.clone());
            }
            Action::Answer { ticket, record, said } => {
                if let Some(decided) = record.decided_at {
                    let ms = now.wall.0.saturating_sub(decided.0);
                    metrics::told_delay(Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
                }
                self.errands.push(Errand::Tell { ticket, record, said });
            }
            Action::Refuse { ticket, why } => {
                shared.tickets.refuse(ticket, why);
            }
            Action::RefuseFor { ticket, first } => {
                shared.tickets.refuse_for(ticket, first);
            }
            Action::Discard { ticket } => drop(shared.tickets.take_outgoing(ticket)),
            Action::NotHere { ticket } => {
                if let Some(key) = shared.tickets.key(ticket) {
                    let asker = Arc::clone(shared);
                    let taken = shared.lookups.answer_watch(key, move |found| match found {
                        Some(record) => {
                            let said = Said::Watched;
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
                self.exposure.see(order.slot, &record);
                self.show_open();
            }
            Action::Retire { order, key: _ } => self.published.retire(order),
            Action::Alarm { key, alarm } => warn(&key, alarm),
            Action::Settled { record, queries, learned_at } => settled(&record, queries, learned_at.0),
        }
    }

    /// Shows how much is open.
    fn show_open(&self) {
        if let Some(mine) = self.shared.gauges.get(self.number) {
            mine.pending.store(self.exposure.pending(), Ordering::Relaxed);
            mine.at_risk_fen.store(self.exposure.total().fen, Ordering::Relaxed);
        }
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
    inbox.reply(Input::Drain);
}
