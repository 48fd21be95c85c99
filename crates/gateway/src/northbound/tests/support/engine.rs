//! An engine that does as it is told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use protocol::TransactionId;
use state_machine::record::{Cause, Record, State};
use state_machine::shard::{NotAccepted, Said, Wait};
use state_machine::{MerchantId, OrderKey, ProviderId};
use store::memory::CrashStore;
use store::{EventQuery, Events, Filter, Listing, Store as _, StoreError};
use tokio::sync::{oneshot, watch};

use super::NUMBER;
use super::records::{paid, record, refused};
use crate::driver::{Feed, Following};
use crate::engine::{Engine, Health, ListRequest, Lookup, NewPayment, StoreDown, Told, Topic};

/// What the engine does with a payment it has not seen.
#[derive(Clone, Copy, Debug)]
pub(in super::super) enum Script {
    Paid,
    Pending,
    Refused(&'static str, &'static str),
    NotAccepted(NotAccepted),
    /// Keeps the till waiting until it is told otherwise.
    Silent,
    /// Forgets the till.
    Gone,
    /// Takes nothing, whatever the number.
    Shut(NotAccepted),
    /// Says nothing, and nothing is durable.
    Unheard,
    Panic,
}

/// What the engine does with a reversal.
#[derive(Clone, Copy, Debug)]
pub(in super::super) enum Undo {
    Proven,
    Unproven,
    TooOld,
    NotAccepted(NotAccepted),
    Silent,
}

/// What the engine was asked.
#[derive(Clone, Debug)]
pub(in super::super) enum Call {
    Pay(NewPayment),
    Reverse(OrderKey, ProviderId),
    Watch(OrderKey, Wait),
    Find,
    FindTransaction(MerchantId),
}

pub(in super::super) struct TestEngine {
    pub(in super::super) script: Mutex<Script>,
    pub(in super::super) undo: Mutex<Undo>,
    pub(in super::super) store_down: Mutex<bool>,
    pub(in super::super) records: Mutex<HashMap<OrderKey, Arc<Record>>>,
    /// What lists and events are read from.
    store: Mutex<CrashStore>,
    feed: Arc<Feed>,
    calls: Mutex<Vec<Call>>,
    waiting: Mutex<Vec<oneshot::Sender<Told>>>,
    asked: watch::Sender<usize>,
}

impl TestEngine {
    /// Pays everybody, and reverses whatever it is asked to.
    pub(super) fn new() -> Self {
        Self {
            script: Mutex::new(Script::Paid),
            undo: Mutex::new(Undo::Proven),
            store_down: Mutex::new(false),
            records: Mutex::default(),
            store: Mutex::new(CrashStore::synced()),
            feed: Arc::default(),
            calls: Mutex::default(),
            waiting: Mutex::default(),
            asked: watch::Sender::new(0),
        }
    }

    /// Notes the call; told to who waits for it when what it did is done.
    fn note(&self, call: Call) -> Noted<'_> {
        self.calls.lock().unwrap().push(call);
        Noted(self)
    }

    /// Waits until the engine was asked `count` times.
    pub(in super::super) async fn asked(&self, count: usize) {
        self.asked.subscribe().wait_for(|asked| *asked >= count).await.unwrap();
    }

    pub(in super::super) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    /// The only payment that was asked for.
    pub(in super::super) fn payment(&self) -> NewPayment {
        match self.calls().as_slice() {
            [Call::Pay(payment)] => payment.clone(),
            calls => panic!("not one payment: {calls:?}"),
        }
    }

    pub(in super::super) fn put(&self, record: Record) {
        let (key, record) = (record.key, Arc::new(record));
        self.records.lock().unwrap().insert(key, Arc::clone(&record));
        self.store.lock().unwrap().commit(&[record]).unwrap();
        self.feed.wake(&key);
    }

    /// Nothing of the payment's row can be trusted any more.
    pub(in super::super) fn damage(&self, key: OrderKey) {
        self.store.lock().unwrap().damage(key);
    }

    fn read<T>(&self, read: impl FnOnce(&mut CrashStore) -> Result<T, StoreError>) -> Lookup<T> {
        let (sender, receiver) = oneshot::channel();
        let down = *self.store_down.lock().unwrap();
        let found = read(&mut self.store.lock().unwrap()).map_err(|_| StoreDown);
        drop(sender.send(if down { Err(StoreDown) } else { found }));
        Lookup::Later(receiver)
    }

    /// Tells everybody who waits.
    pub(in super::super) fn tell(&self, record: &Arc<Record>, said: Said) {
        for waiting in self.waiting.lock().unwrap().drain(..) {
            let _ = waiting.send(Told::Answer { record: Arc::clone(record), said });
        }
    }

    /// Does not take the request that came last.
    pub(in super::super) fn refuse_last(&self, why: NotAccepted) {
        let last = self.waiting.lock().unwrap().pop().expect("one waits");
        let _ = last.send(Told::Refused(why));
    }

    fn lookup(&self, found: Option<Arc<Record>>) -> Lookup<Option<Arc<Record>>> {
        let (sender, receiver) = oneshot::channel();
        if *self.store_down.lock().unwrap() {
            sender.send(Err(StoreDown)).unwrap();
        } else {
            sender.send(Ok(found)).unwrap();
        }
        Lookup::Later(receiver)
    }
}

/// A call that is being served.
struct Noted<'e>(&'e TestEngine);

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        let count = self.0.calls.lock().unwrap().len();
        self.0.asked.send_modify(|asked| *asked = count.max(*asked));
    }
}

impl Engine for TestEngine {
    fn pay(&self, request: NewPayment) -> oneshot::Receiver<Told> {
        let _noted = self.note(Call::Pay(request.clone()));
        let (sender, receiver) = oneshot::channel();
        if let Script::Shut(why) = *self.script.lock().unwrap() {
            sender.send(Told::Refused(why)).unwrap();
            return receiver;
        }
        if let Some(record) = self.records.lock().unwrap().get(&request.key) {
            let same = record.digest == request.digest;
            let said = if same { Said::Repeated } else { Said::OtherContent };
            sender.send(Told::Answer { record: Arc::clone(record), said }).unwrap();
            return receiver;
        }
        let base = Record {
            digest: request.digest,
            amount: Some(request.amount),
            ..record(NUMBER, State::Accepted)
        };
        let base = Record { key: request.key, provider: request.provider, ..base };
        let made = match *self.script.lock().unwrap() {
            Script::Paid => paid(base),
            Script::Pending => Record { state: State::Pending, ..base },
            Script::Refused(code, text) => refused(base, code, text),
            Script::NotAccepted(why) => {
                sender.send(Told::Refused(why)).unwrap();
                return receiver;
            }
            Script::Silent => {
                self.put(base);
                self.waiting.lock().unwrap().push(sender);
                return receiver;
            }
            Script::Gone => {
                self.put(base);
                return receiver;
            }
            Script::Unheard => {
                self.waiting.lock().unwrap().push(sender);
                return receiver;
            }
            Script::Shut(_) => unreachable!("refused above"),
            Script::Panic => panic!("as the test asked"),
        };
        self.put(made.clone());
        sender.send(Told::Answer { record: Arc::new(made), said: Said::Fresh }).unwrap();
        receiver
    }

    fn reverse(&self, key: OrderKey, provider: ProviderId) -> oneshot::Receiver<Told> {
        let _noted = self.note(Call::Reverse(key, provider));
        let (sender, receiver) = oneshot::channel();
        let state = |state| Arc::new(Record { key, cause: Some(Cause::Till), ..record(NUMBER, state) });
        let answer = |record, said| Told::Answer { record, said };
        let told = match *self.undo.lock().unwrap() {
            Undo::Proven => answer(state(State::Reversed), Said::Reversal),
            Undo::Unproven => answer(state(State::Reversing), Said::Reversal),
            Undo::TooOld => answer(Arc::new(paid(record(NUMBER, State::Paid))), Said::TooOld),
            Undo::NotAccepted(why) => Told::Refused(why),
            Undo::Silent => {
                self.waiting.lock().unwrap().push(sender);
                return receiver;
            }
        };
        sender.send(told).unwrap();
        receiver
    }

    fn watch(&self, key: OrderKey, wait: Wait) -> oneshot::Receiver<Told> {
        let (sender, receiver) = oneshot::channel();
        let known = self.records.lock().unwrap().get(&key).cloned();
        match known.filter(|_| wait == Wait::Nothing) {
            Some(record) => drop(sender.send(Told::Answer { record, said: Said::Watched })),
            None => self.waiting.lock().unwrap().push(sender),
        }
        let _noted = self.note(Call::Watch(key, wait));
        receiver
    }

    fn find(&self, key: &OrderKey) -> Lookup<Option<Arc<Record>>> {
        let _noted = self.note(Call::Find);
        self.lookup(self.records.lock().unwrap().get(key).cloned())
    }

    fn find_by_transaction(&self, merchant: MerchantId, id: &TransactionId) -> Lookup<Option<Arc<Record>>> {
        let _noted = self.note(Call::FindTransaction(merchant));
        let records = self.records.lock().unwrap();
        let is_it = |record: &&Arc<Record>| {
            record.key.merchant == merchant
                && record.paid.as_ref().is_some_and(|paid| paid.transaction_id == *id)
        };
        self.lookup(records.values().find(is_it).cloned())
    }

    fn list(&self, _: ListRequest) -> Lookup<Vec<Arc<Record>>> {
        let mut all: Vec<_> = self.records.lock().unwrap().values().cloned().collect();
        all.sort_by_key(|record| record.key);
        Lookup::Now(all)
    }

    fn page(&self, filter: Filter) -> Lookup<Listing> {
        self.read(|store| store.list(&filter))
    }

    fn events(&self, query: EventQuery) -> Lookup<Events> {
        self.read(|store| store.events(&query))
    }

    fn follow(&self, topic: Topic) -> Following {
        self.feed.follow(topic)
    }

    fn health(&self) -> Health {
        Health { recovered: true, store: !*self.store_down.lock().unwrap(), draining: false }
    }

    fn drain(&self) {}
}
