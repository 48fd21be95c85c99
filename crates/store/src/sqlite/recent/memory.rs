//! Recent records in memory: exactly those that were committed since the last file was given to be folded, and those
//! of that file. Whoever asks for a payment asks here first.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use protocol::TransactionId;
use state_machine::step::Step;
use state_machine::{MerchantId, OrderKey, Record};

/// A record that was committed.
#[derive(Clone)]
pub(in super::super) struct Entry {
    pub(in super::super) commit: u64,
    pub(in super::super) record: Arc<Record>,
    /// Its payment shows another state than before: an event.
    pub(in super::super) is_event: bool,
}

/// An event that may not be in the database yet.
pub(in super::super) struct Told {
    pub(in super::super) commit: u64,
    pub(in super::super) key: OrderKey,
    pub(in super::super) step: Step,
    /// The payment as it is now.
    pub(in super::super) present: Arc<Record>,
}

/// The records of one file.
#[derive(Default)]
pub(in super::super) struct Generation {
    entries: Vec<Entry>,
    /// The last record of each payment.
    by_key: HashMap<OrderKey, usize>,
    by_transaction: HashMap<(MerchantId, TransactionId), Vec<usize>>,
    events: HashMap<MerchantId, Vec<usize>>,
}

impl Generation {
    fn with_room_for(records: usize) -> Self {
        Self {
            entries: Vec::with_capacity(records),
            by_key: HashMap::with_capacity(records),
            by_transaction: HashMap::with_capacity(records / 2),
            events: HashMap::new(),
        }
    }

    fn push(&mut self, entry: Entry) {
        let at = self.entries.len();
        let record = &entry.record;
        self.by_key.insert(record.key, at);
        if let Some(paid) = &record.paid {
            self.by_transaction.entry((record.key.merchant, paid.transaction_id)).or_default().push(at);
        }
        if entry.is_event {
            self.events.entry(record.key.merchant).or_default().push(at);
        }
        self.entries.push(entry);
    }

    fn latest(&self, key: &OrderKey) -> Option<&Entry> {
        self.entries.get(*self.by_key.get(key)?)
    }
}

struct State {
    current: Generation,
    /// Of the file that is being folded, or was folded last.
    sealed: Arc<Generation>,
    /// Up to this commit all is in the database.
    folded: u64,
}

impl State {
    fn latest(&self, key: &OrderKey) -> Option<&Entry> {
        self.current.latest(key).or_else(|| self.sealed.latest(key))
    }

    /// Older ones first.
    fn generations(&self) -> [&Generation; 2] {
        [&self.sealed, &self.current]
    }
}

/// What the writer and the readers beside it in this process share.
pub(in super::super) struct Recent(RwLock<State>);

impl Recent {
    pub(in super::super) fn new(folded: u64) -> Self {
        Self(RwLock::new(State { current: Generation::default(), sealed: Arc::default(), folded }))
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what has become durable.
    pub(in super::super) fn publish(&self, entries: impl Iterator<Item = Entry>) {
        let mut state = self.write();
        entries.for_each(|entry| state.current.push(entry));
    }

    /// A new file begins. What is handed back is in the database, and takes a while to drop.
    pub(in super::super) fn seal(&self) -> Arc<Generation> {
        let mut state = self.write();
        let records = state.current.entries.len();
        let sealed = std::mem::replace(&mut state.current, Generation::with_room_for(records));
        std::mem::replace(&mut state.sealed, Arc::new(sealed))
    }

    /// Nothing was committed for a while, and all is in the database: what was kept so that it need not be read from
    /// there is given back. Returns it, since it takes a while to drop.
    pub(in super::super) fn release(&self) -> Arc<Generation> {
        let mut state = self.write();
        if !state.current.entries.is_empty() {
            return Arc::default();
        }
        state.current = Generation::default();
        std::mem::take(&mut state.sealed)
    }

    /// Everything up to `commit` is in the database.
    pub(in super::super) fn set_folded(&self, commit: u64) {
        self.write().folded = commit;
    }

    /// The last record of `key`, if it is a recent one.
    pub(in super::super) fn latest(&self, key: &OrderKey) -> Option<Arc<Record>> {
        self.read().latest(key).map(|entry| Arc::clone(&entry.record))
    }

    /// The last record of each payment that may not be in the database yet, with its commit.
    pub(in super::super) fn unfolded(&self) -> HashMap<OrderKey, Entry> {
        let state = self.read();
        let entries = state.generations().into_iter().flat_map(|generation| &generation.entries);
        entries
            .filter(|entry| entry.commit > state.folded)
            .map(|entry| (entry.record.key, entry.clone()))
            .collect()
    }

    /// Recent payments of `merchant` that hold the wallet's number `id`.
    pub(in super::super) fn by_transaction(
        &self,
        merchant: MerchantId,
        id: &TransactionId,
    ) -> Vec<Arc<Record>> {
        let state = self.read();
        let mut found = Vec::new();
        for generation in state.generations() {
            for at in generation.by_transaction.get(&(merchant, *id)).into_iter().flatten() {
                let Some(entry) = generation.entries.get(*at) else { continue };
                let latest = state.latest(&entry.record.key).unwrap_or(entry);
                if latest.record.paid.as_ref().is_some_and(|paid| paid.transaction_id == *id) {
                    found.push(Arc::clone(&latest.record));
                }
            }
        }
        found
    }

    /// Recent events of `merchant`, in order.
    pub(in super::super) fn events(&self, merchant: MerchantId) -> Vec<Told> {
        let state = self.read();
        let mut told = Vec::new();
        for generation in state.generations() {
            for at in generation.events.get(&merchant).into_iter().flatten() {
                let Some(entry) = generation.entries.get(*at).filter(|entry| entry.commit > state.folded)
                else {
                    continue;
                };
                let key = entry.record.key;
                told.push(Told {
                    commit: entry.commit,
                    key,
                    step: Step::of(&entry.record),
                    present: Arc::clone(&state.latest(&key).unwrap_or(entry).record),
                });
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use state_machine::{BootId, Now, ProviderId, Tick, UnixMs};

    use super::*;

    fn entry(commit: u64, number: &str) -> Entry {
        let key = OrderKey { merchant: MerchantId(1), number: number.parse().expect("a number") };
        let now = Now { tick: Tick::from_ms(0), wall: UnixMs(0) };
        let record = Arc::new(Record::begun(key, ProviderId(1), now, BootId(1)));
        Entry { commit, record, is_event: true }
    }

    #[test]
    fn what_was_folded_is_kept_until_nothing_comes_any_more() {
        let recent = Recent::new(0);
        let (first, second) = (entry(1, "FIRST1"), entry(2, "SECOND"));
        let (first_key, second_key) = (first.record.key, second.record.key);
        recent.publish([first].into_iter());
        drop(recent.seal());
        recent.set_folded(1);
        recent.publish([second].into_iter());
        drop(recent.release());
        assert!(recent.latest(&first_key).is_some(), "as long as payments come it need not be read");
        assert!(recent.latest(&second_key).is_some(), "never what the database has not");
        drop(recent.seal());
        recent.set_folded(2);
        drop(recent.release());
        let state = recent.read();
        assert!(state.latest(&first_key).or(state.latest(&second_key)).is_none());
        assert_eq!(state.current.entries.capacity() + state.current.by_key.capacity(), 0, "no room is kept");
    }
}
