//! The simulation's store: pure, and able to lose what was not synced.
//!
//! [`Store::commit`] only stages; what is staged becomes durable with [`CrashStore::sync`], or is lost in
//! [`CrashStore::crash`]. Reads show what is durable, as a reader beside the real store would see it. The same
//! differential test holds this model and the SQLite store equal.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use planted::planted;
use protocol::TransactionId;
use state_machine::shard::Outcome;
use state_machine::step::Step;
use state_machine::{MerchantId, OrderKey, Record};

use crate::contract::{
    CommitError, Cursor, Damaged, Event, EventQuery, Events, Fence, Filter, Listing, Recovered, Store,
    StoreError, stand_in,
};

/// A store without files, for the simulation and the tests.
#[derive(Clone, Debug, Default)]
pub struct CrashStore {
    durable: BTreeMap<OrderKey, Arc<Record>>,
    /// Commits that are not durable yet, oldest first.
    staged: VecDeque<Vec<Arc<Record>>>,
    /// What the next commit is judged against, where it is not what is durable: the newest of `staged`.
    newest: BTreeMap<OrderKey, Arc<Record>>,
    /// What each merchant may be told, oldest first.
    events: BTreeMap<MerchantId, Vec<(OrderKey, Step)>>,
    /// The keys of durable records that are open.
    open: BTreeSet<OrderKey>,
    damaged: BTreeSet<OrderKey>,
    fence: u64,
    fence_newest: u64,
    faults: VecDeque<CommitError>,
    syncs_each_commit: bool,
}

impl CrashStore {
    /// An empty store, opened for the first time.
    #[must_use]
    pub fn new() -> Self {
        Self { fence: 1, fence_newest: 1, ..Self::default() }
    }

    /// An empty store whose every commit is durable when it returns, as the real one's is.
    #[must_use]
    pub fn synced() -> Self {
        Self { syncs_each_commit: true, ..Self::new() }
    }

    /// How many commits are staged.
    #[must_use]
    pub fn staged(&self) -> usize {
        self.staged.len()
    }

    /// Makes every staged commit durable. Only now may their outcomes reach a shard.
    pub fn sync(&mut self) {
        let all = self.staged.len();
        self.sync_first(all);
    }

    /// Loses every staged commit but the `kept` oldest (a commit may reach the disk and die with its
    /// acknowledgement), and opens the store again as its writer.
    pub fn crash(&mut self, kept: usize) {
        self.sync_first(kept);
        self.staged.clear();
        self.newest.clear();
        self.faults.clear();
        self.fence_newest = self.fence_newest.saturating_add(1);
        self.fence = self.fence_newest;
    }

    /// Another writer opens the store: this one is fenced from now on.
    pub fn usurp(&mut self) {
        self.fence_newest = self.fence_newest.saturating_add(1);
    }

    /// The next commit fails with `error`; repeated calls queue up.
    pub fn fail_next(&mut self, error: CommitError) {
        self.faults.push_back(error);
    }

    /// A bit of the order's row flips: from now on it is set aside.
    pub fn damage(&mut self, key: OrderKey) {
        self.damaged.insert(key);
    }

    /// Every durable record, by key: for checkers.
    pub fn durable(&self) -> impl Iterator<Item = &Arc<Record>> {
        self.durable.values()
    }

    fn sync_first(&mut self, commits: usize) {
        for _ in 0..commits {
            let Some(records) = self.staged.pop_front() else { break };
            for record in records {
                if record.is_open() {
                    self.open.insert(record.key);
                } else {
                    self.open.remove(&record.key);
                }
                let step = Step::of(&record);
                let key = record.key;
                let before = self.durable.insert(key, record);
                if before.is_none_or(|before| Step::of(&before).shows() != step.shows()) {
                    self.events.entry(key.merchant).or_default().push((key, step));
                }
            }
        }
        if self.staged.is_empty() {
            self.newest.clear();
        }
    }

    /// The newest record under `key`, durable or not.
    fn newest(&self, key: &OrderKey) -> Option<&Arc<Record>> {
        self.newest.get(key).or_else(|| self.durable.get(key))
    }

    fn is_damaged(&self, key: &OrderKey) -> Option<Damaged> {
        self.damaged.contains(key).then(|| Damaged { key: Some(*key), why: "checksum differs".to_owned() })
    }

    fn judge(&self, offered: &Record) -> Option<Outcome> {
        let found = self.newest(&offered.key);
        let found_version = found.map_or(0, |found| found.version);
        let applies = match found {
            None => offered.version == 1,
            Some(found) => {
                offered.version.checked_sub(1) == Some(found.version)
                    && found.state.may_become(offered.state)
                    && found.accepted_at == offered.accepted_at
            }
        };
        if applies || planted!(LastWriteWins) {
            return None;
        }
        let shown = match found {
            Some(found) if !self.damaged.contains(&offered.key) => Record::clone(found),
            Some(_) | None => stand_in(offered, found_version),
        };
        Some(Outcome::Conflict(Box::new(shown)))
    }
}

impl Store for CrashStore {
    fn fence(&self) -> Fence {
        Fence(self.fence)
    }

    fn commit(&mut self, records: &[Arc<Record>]) -> Result<Vec<Outcome>, CommitError> {
        if let Some(error) = self.faults.pop_front() {
            return Err(error);
        }
        if self.fence != self.fence_newest && !planted!(FenceIgnored) {
            return Err(CommitError::Fenced { ours: Fence(self.fence), newer: Fence(self.fence_newest) });
        }
        let mut applied = Vec::new();
        let mut refused = BTreeSet::new();
        let mut outcomes = Vec::with_capacity(records.len());
        for record in records {
            let conflict = if refused.contains(&record.key) {
                let shown = match self.newest(&record.key) {
                    Some(found) if !self.damaged.contains(&record.key) => Record::clone(found),
                    found => stand_in(record, found.map_or(0, |found| found.version)),
                };
                Some(Outcome::Conflict(Box::new(shown)))
            } else {
                self.judge(record)
            };
            if let Some(conflict) = conflict {
                refused.insert(record.key);
                outcomes.push(conflict);
            } else {
                // A whole new version heals what was damaged.
                self.damaged.remove(&record.key);
                self.newest.insert(record.key, Arc::clone(record));
                applied.push(Arc::clone(record));
                outcomes.push(Outcome::Applied);
            }
        }
        self.staged.push_back(applied);
        if self.syncs_each_commit {
            self.sync();
        }
        Ok(outcomes)
    }

    fn open_orders(&mut self, visit: &mut dyn FnMut(Recovered)) -> Result<u64, StoreError> {
        for key in &self.damaged {
            visit(Recovered::Damaged(Damaged { key: Some(*key), why: "checksum differs".to_owned() }));
        }
        let mut open = 0;
        let sound = self.open.iter().filter(|key| !self.damaged.contains(key));
        for record in sound.filter_map(|key| self.durable.get(key)) {
            open = u64::saturating_add(open, 1);
            visit(Recovered::Open(Box::new(Record::clone(record))));
        }
        Ok(open)
    }

    fn find(&mut self, key: &OrderKey) -> Result<Option<Record>, StoreError> {
        if let Some(damaged) = self.is_damaged(key) {
            return Err(StoreError::Damaged(Box::new(damaged)));
        }
        Ok(self.durable.get(key).map(|record| Record::clone(record)))
    }

    fn find_by_transaction(
        &mut self,
        merchant: MerchantId,
        id: &TransactionId,
    ) -> Result<Option<Record>, StoreError> {
        let oldest = self
            .durable
            .values()
            .filter(|record| record.key.merchant == merchant)
            .filter(|record| record.paid.as_ref().is_some_and(|paid| paid.transaction_id == *id))
            .min_by_key(|record| Cursor::of(record))
            .map(|record| record.key);
        oldest.map_or(Ok(None), |key| self.find(&key))
    }

    fn list(&mut self, filter: &Filter) -> Result<Listing, StoreError> {
        let mut found: Vec<&Record> = self
            .durable
            .values()
            .map(AsRef::as_ref)
            .filter(|record| filter.merchant.is_none_or(|merchant| record.key.merchant == merchant))
            .filter(|record| filter.from.is_none_or(|from| record.accepted_at >= from))
            .filter(|record| filter.until.is_none_or(|until| record.accepted_at < until))
            .filter(|record| filter.state.is_none_or(|state| record.state == state))
            .filter(|record| filter.shows.is_none_or(|shows| Step::of(record).shows() == shows))
            .filter(|record| !filter.held_only || record.held.is_some())
            .filter(|record| !filter.open_only || record.is_open())
            .collect();
        found.sort_by_key(|record| Cursor::of(record));
        if filter.newest_first {
            found.reverse();
        }
        let limit = usize::try_from(filter.limit()).unwrap_or(usize::MAX);
        let mut listing = Listing::default();
        let mut seen = 0;
        for record in found {
            let place = Cursor::of(record);
            let passed = filter
                .after
                .is_some_and(|after| if filter.newest_first { place >= after } else { place <= after });
            if passed {
                continue;
            }
            if seen == limit {
                return Ok(listing);
            }
            seen = usize::saturating_add(seen, 1);
            listing.next = (seen == limit).then_some(place);
            match self.is_damaged(&record.key) {
                Some(damaged) => listing.damaged.push(damaged),
                None => listing.records.push(record.clone()),
            }
        }
        Ok(listing)
    }

    fn events(&mut self, query: &EventQuery) -> Result<Events, StoreError> {
        let all = self.events.get(&query.merchant).map_or(&[][..], Vec::as_slice);
        let seen = |key: &OrderKey, step: Step| match (self.is_damaged(key), self.durable.get(key)) {
            (None, Some(present)) => Ok(Box::new(step.seen_in(Record::clone(present)))),
            (damaged, _) => {
                Err(damaged.unwrap_or_else(|| Damaged { key: Some(*key), why: "it is gone".to_owned() }))
            }
        };
        let events = (1..)
            .zip(all)
            .filter(|(number, (key, _))| {
                *number > query.after && query.number.is_none_or(|only| key.number == only)
            })
            .take(usize::try_from(query.limit()).unwrap_or(usize::MAX))
            .map(|(number, (key, step))| Event { number, payment: seen(key, *step) })
            .collect();
        Ok(Events { events, last: u64::try_from(all.len()).unwrap_or(u64::MAX) })
    }
}
