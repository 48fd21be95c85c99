//! Batches: what becomes durable together, and what waits for it.

use std::sync::Arc;

use planted::planted;
use protocol::fact::{PayFact, Row};

use super::requests::relation;
use super::waiters::{Asked, Waiter};
use super::{Action, Alarm, Batch, BatchId, Fenced, OrderRef, Outcome, Said, Shard, Ticket};
use crate::key::Now;
use crate::payment::Payment;
use crate::record::{Record, State};

/// The batch that is being made.
#[derive(Debug, Default)]
#[cfg_attr(feature = "model", derive(Clone))]
pub(super) struct Gathering {
    pub(super) records: Vec<(OrderRef, Arc<Record>)>,
    /// Actions that wait until their order's records are durable.
    pub(super) actions: Vec<(OrderRef, Action)>,
}

/// The batch that the store has.
#[derive(Debug)]
#[cfg_attr(feature = "model", derive(Clone))]
pub(super) struct UnderWay {
    id: BatchId,
    pub(super) records: Vec<(OrderRef, Arc<Record>)>,
}

impl Shard {
    /// Puts the first record of a new order into the batch that is being made.
    pub(super) fn record_first(&mut self, order: OrderRef) {
        if let Some(entry) = self.orders.get_mut(order) {
            entry.undurable = 1;
            self.gathering.records.push((order, Arc::clone(&entry.latest)));
        }
    }

    /// The next batch, if there are records and none is under way.
    pub fn poll_batch(&mut self) -> Option<Batch> {
        if self.under_way.is_some() || self.gathering.records.is_empty() {
            return None;
        }
        let records = std::mem::take(&mut self.gathering.records);
        let id = BatchId(self.next_batch);
        self.next_batch = self.next_batch.wrapping_add(1);
        let batch = Batch { id, records: records.iter().map(|(_, record)| Arc::clone(record)).collect() };
        self.under_way = Some(UnderWay { id, records });
        Some(batch)
    }

    /// The store does not take the batch at the moment and tries it again: admission closes, nothing is
    /// released (DB-07).
    pub fn failed(&mut self, id: BatchId) {
        self.stalled |= self.under_way.as_ref().is_some_and(|batch| batch.id == id);
    }

    /// The batch is durable; `outcomes` has one line per record, in order. Drain [`Shard::poll_action`], and
    /// call [`Shard::poll_batch`] or [`Shard::step`] for the next batch.
    ///
    /// # Errors
    ///
    /// [`Fenced`] if a record that follows one of ours was refused: another writer is at work.
    ///
    /// # Panics
    ///
    /// If `outcomes` has not one line per record: nobody could tell what is durable.
    pub fn committed(&mut self, id: BatchId, outcomes: Vec<Outcome>, now: Now) -> Result<(), Fenced> {
        let Some(batch) = self.under_way.take_if(|batch| batch.id == id) else { return Ok(()) };
        assert_eq!(batch.records.len(), outcomes.len(), "one outcome per record");
        self.stalled = false;
        let mut returned = Vec::new();
        for ((order, record), outcome) in batch.records.into_iter().zip(outcomes) {
            if returned.contains(&order) {
                continue; // Later versions of an order that turned out to exist.
            }
            match outcome {
                Outcome::Applied => self.applied(order, record, now),
                Outcome::Conflict(_) if planted!(ConflictIgnored) => self.applied(order, record, now),
                Outcome::Conflict(current) if record.version == 1 => {
                    let payment = Payment::recover(*current, now, self.config.boot, &self.config.policy);
                    self.replace(order, payment, now);
                    returned.push(order);
                }
                // A row behind our own version is no other writer's: it is damaged, and stands aside (DB-11).
                Outcome::Conflict(current) if current.version < record.version => {
                    let alarm = Alarm::SetAside;
                    self.released.push_back(Action::Alarm { key: current.key, alarm });
                    self.replace(order, Payment::set_aside(*current), now);
                    returned.push(order);
                }
                Outcome::Conflict(_) => return Err(Fenced),
            }
        }
        let gathered = std::mem::take(&mut self.gathering.actions);
        for (order, action) in gathered {
            self.act(order, action);
        }
        self.grant(now);
        Ok(())
    }

    /// A record is durable: everybody may see it, and what waited for it goes out.
    fn applied(&mut self, order: OrderRef, record: Arc<Record>, now: Now) {
        let policy = self.config.policy;
        let first = record.version == 1;
        self.released.push_back(Action::Publish { order, record: Arc::clone(&record) });
        let Some(entry) = self.orders.get_mut(order) else { return };
        entry.undurable = entry.undurable.saturating_sub(1);
        entry.durable = Some(Arc::clone(&record));
        if first && let Some(ticket) = entry.pay_ticket.take() {
            // The last check before the pay request leaves: a till may have reversed it meanwhile.
            if entry.payment.record().state == State::Accepted {
                entry.payment.released(now.tick, &policy);
                let leave_by = now.tick.saturating_add(policy.leave_ms);
                self.planner.use_pay(record.provider, now.tick);
                self.released.push_back(Action::SendPay { order, record, ticket, leave_by });
            } else {
                self.planner.release_pay(record.provider);
                self.released.push_back(Action::Discard { ticket });
                self.apply(order, now, |payment, policy, effects| {
                    payment.on_pay(None, Row::A1, PayFact::Unsent, now, policy, effects);
                });
            }
        }
        self.answer_waiters(order);
        self.schedule(order, now.tick);
        self.let_go(order, now);
    }

    /// Sends the pay request of an order without asking whether it may. Only what is planted does so: in the
    /// product this does nothing, whoever calls it.
    pub(super) fn planted_pay(&mut self, order: OrderRef, now: Now) {
        let planted = [planted!(PaidBeforeDurable), planted!(PayResent)];
        if !planted.contains(&true) {
            return;
        }
        let Some(entry) = self.orders.get(order) else { return };
        let (record, ticket) = (Arc::clone(&entry.latest), entry.pay_ticket.unwrap_or(Ticket(0)));
        let leave_by = now.tick.saturating_add(self.config.policy.leave_ms);
        self.released.push_back(Action::SendPay { order, record, ticket, leave_by });
    }

    /// The store has another record than this shard thought: what was begun for the order is dropped, and every
    /// request meets what is there.
    fn replace(&mut self, order: OrderRef, payment: Payment, now: Now) {
        self.gathering.records.retain(|(of, _)| *of != order);
        self.gathering.actions.retain(|(of, _)| *of != order);
        let since = self.accepted_tick(payment.record(), now);
        let Some(entry) = self.orders.get_mut(order) else { return };
        let entered_by = entry.latest.provider; // Whose room the request holds.
        self.sales.remove(order, &entry.latest);
        self.sales.add(order, payment.record());
        entry.since = since;
        entry.heard = None;
        entry.latest = payment.shared_record();
        entry.payment = payment;
        entry.undurable = 0;
        entry.unheard = None;
        let mut waiters = std::mem::take(&mut entry.waiters);
        if planted!(WaitersForgotten) {
            waiters.clear();
        }
        let record = Arc::clone(&entry.latest);
        entry.durable = Some(Arc::clone(&record));
        if let Some(ticket) = entry.pay_ticket.take() {
            self.planner.release_pay(entered_by);
            self.released.push_back(Action::Discard { ticket });
        }
        self.released.push_back(Action::Publish { order, record: Arc::clone(&record) });
        for Waiter { ticket, asked } in waiters {
            match asked {
                Asked::Pay { wait, digest, .. } => {
                    let said: Said = relation(&record, &digest);
                    let asked = Asked::Pay { wait, said, digest };
                    self.wait(order, Waiter { ticket, asked });
                }
                Asked::Reversal => self.reverse_existing(order, ticket, now),
                Asked::Watch(_) => {
                    self.wait(order, Waiter { ticket, asked });
                }
            }
        }
        self.schedule(order, now.tick);
        self.let_go(order, now);
    }
}
