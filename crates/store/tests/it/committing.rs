//! Group commit: order, merging, stalls, ends. Covers DB-07, DB-09, DB-14.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use protocol::TransactionId;
use state_machine::record::State;
use state_machine::shard::{Batch, BatchId, Outcome};
use state_machine::{MerchantId, OrderKey, Record};
use store::memory::CrashStore;
use store::{
    CommitError, CommitQueue, Committer, CommitterOptions, Ended, EventQuery, Events, Fence, Filter, Listing,
    Observer, Recovered, ShardIndex, Store, StoreError,
};

use crate::support::{Place, accepted, all, moved};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Heard {
    Done(usize, u64, Result<Vec<Outcome>, CommitError>),
    Committed(usize, u64),
    Stalled,
    Resumed,
}

/// Writes down what it hears; its clock moves 7 ns at each look.
#[derive(Clone, Default)]
struct Notebook {
    lines: Arc<Mutex<Vec<Heard>>>,
    clock_ns: u64,
}

impl Notebook {
    fn lines(&self) -> Vec<Heard> {
        self.lines.lock().expect("no panic").clone()
    }

    fn write(&self, line: Heard) {
        self.lines.lock().expect("no panic").push(line);
    }
}

impl Observer for Notebook {
    fn now_ns(&mut self) -> u64 {
        self.clock_ns += 7;
        self.clock_ns
    }

    fn done(&mut self, shard: ShardIndex, batch: BatchId, result: Result<Vec<Outcome>, CommitError>) {
        self.write(Heard::Done(shard.0, batch.0, result));
    }

    fn committed(&mut self, records: usize, took_ns: u64) {
        self.write(Heard::Committed(records, took_ns));
    }

    fn stalled(&mut self, _why: &CommitError) {
        self.write(Heard::Stalled);
    }

    fn resumed(&mut self) {
        self.write(Heard::Resumed);
    }
}

/// Holds its first commit until it is let go, and counts commits.
struct Slow {
    store: CrashStore,
    entered: crossbeam::channel::Sender<()>,
    go: crossbeam::channel::Receiver<()>,
    commits: Arc<AtomicUsize>,
}

impl Store for Slow {
    fn fence(&self) -> Fence {
        self.store.fence()
    }

    fn commit(&mut self, records: &[Arc<Record>]) -> Result<Vec<Outcome>, CommitError> {
        if self.commits.fetch_add(1, Ordering::SeqCst) == 0 {
            self.entered.send(()).expect("the test listens");
            self.go.recv().expect("the test lets go");
        }
        self.store.commit(records)
    }

    fn open_orders(&mut self, visit: &mut dyn FnMut(Recovered)) -> Result<u64, StoreError> {
        self.store.open_orders(visit)
    }

    fn find(&mut self, key: &OrderKey) -> Result<Option<Record>, StoreError> {
        self.store.find(key)
    }

    fn find_by_transaction(
        &mut self,
        merchant: MerchantId,
        id: &TransactionId,
    ) -> Result<Option<Record>, StoreError> {
        self.store.find_by_transaction(merchant, id)
    }

    fn list(&mut self, filter: &Filter) -> Result<Listing, StoreError> {
        self.store.list(filter)
    }

    fn events(&mut self, query: &EventQuery) -> Result<Events, StoreError> {
        self.store.events(query)
    }
}

fn batch(id: u64, records: Vec<Record>) -> Batch {
    Batch { id: BatchId(id), records: records.into_iter().map(Arc::new).collect() }
}

fn options() -> CommitterOptions {
    CommitterOptions {
        pause_min: Duration::from_micros(10),
        pause_max: Duration::from_micros(20),
        ..CommitterOptions::default()
    }
}

fn spawn<S: Store + 'static>(store: S, options: CommitterOptions) -> (Committer<S>, CommitQueue, Notebook) {
    let notebook = Notebook::default();
    let (committer, queue) = Committer::spawn(store, notebook.clone(), options).expect("a thread");
    (committer, queue, notebook)
}

#[test]
fn what_waits_goes_into_one_commit_and_each_batch_hears_its_own() {
    let (entered, has_entered) = crossbeam::channel::bounded(1);
    let (let_go, go) = crossbeam::channel::bounded(1);
    let commits = Arc::new(AtomicUsize::new(0));
    let store = Slow { store: CrashStore::synced(), entered, go, commits: Arc::clone(&commits) };
    let (committer, queue, notebook) = spawn(store, options());

    let first = accepted(1, "order-1");
    queue.submit(ShardIndex(0), batch(10, vec![first.clone()])).expect("taken");
    has_entered.recv().expect("the first commit is under way");
    // Meanwhile: another order, the same order again, and nothing.
    queue
        .submit(ShardIndex(1), batch(20, vec![accepted(1, "order-2"), accepted(1, "order-3")]))
        .expect("taken");
    queue.submit(ShardIndex(2), batch(30, vec![first.clone(), accepted(1, "order-4")])).expect("taken");
    queue.submit(ShardIndex(3), batch(40, vec![])).expect("taken");
    let_go.send(()).expect("the committer waits");
    drop(queue);
    committer.join();

    let conflict = Outcome::Conflict(Box::new(first));
    assert_eq!(
        notebook.lines(),
        [
            Heard::Committed(1, 7),
            Heard::Done(0, 10, Ok(vec![Outcome::Applied])),
            Heard::Committed(4, 7),
            Heard::Done(1, 20, Ok(vec![Outcome::Applied, Outcome::Applied])),
            Heard::Done(2, 30, Ok(vec![conflict, Outcome::Applied])),
            Heard::Done(3, 40, Ok(vec![])),
        ]
    );
    assert_eq!(commits.load(Ordering::SeqCst), 2);
}

#[test]
fn a_busy_store_is_asked_again_with_the_same_records() {
    let _covers = covers::covers(&["DB-12"]);
    let mut store = CrashStore::synced();
    for _ in 0..3 {
        store.fail_next(CommitError::Busy("disk full".to_owned()));
    }
    let (committer, queue, notebook) = spawn(store, options());
    let first = accepted(1, "order-1");
    queue.submit(ShardIndex(0), batch(1, vec![first.clone()])).expect("taken");
    queue.submit(ShardIndex(0), batch(2, vec![moved(&first, State::Paid)])).expect("taken");
    // Wait until both are answered before the store is taken back: stopping would end the pauses early.
    while notebook.lines().iter().filter(|line| matches!(line, Heard::Done(..))).count() < 2 {
        std::thread::yield_now();
    }
    drop(queue);
    let mut store = committer.join();
    let heard = notebook.lines();
    let (stalls, rest) = heard.split_at(3);
    assert_eq!(stalls, [Heard::Stalled, Heard::Stalled, Heard::Stalled]);
    assert_eq!(rest[0], Heard::Resumed);
    assert_eq!(rest.iter().filter(|line| matches!(line, Heard::Resumed)).count(), 1);
    for (id, line) in [1, 2].into_iter().zip(rest.iter().filter(|line| matches!(line, Heard::Done(..)))) {
        assert_eq!(*line, Heard::Done(0, id, Ok(vec![Outcome::Applied])));
    }
    assert_eq!(all(&mut store), [moved(&first, State::Paid)]);
}

#[test]
fn stopping_ends_the_wait_for_a_busy_store() {
    let mut store = CrashStore::synced();
    let busy = CommitError::Busy("disk full".to_owned());
    for _ in 0..2 {
        store.fail_next(busy.clone());
    }
    let patient = CommitterOptions { pause_min: Duration::from_secs(3_600), ..options() };
    let (committer, queue, notebook) = spawn(store, patient);
    queue.submit(ShardIndex(0), batch(1, vec![accepted(1, "order-1")])).expect("taken");
    let mut store = committer.join();
    assert_eq!(notebook.lines(), [Heard::Stalled, Heard::Done(0, 1, Err(busy))]);
    assert_eq!(all(&mut store), []);
    assert_eq!(queue.submit(ShardIndex(0), batch(2, vec![])), Err(Ended));
}

#[test]
fn after_a_fatal_error_nothing_is_written() {
    for error in [
        CommitError::Fatal("fsync failed".to_owned()),
        CommitError::Fenced { ours: Fence(1), newer: Fence(2) },
    ] {
        let (entered, has_entered) = crossbeam::channel::bounded(1);
        let (let_go, go) = crossbeam::channel::bounded(1);
        let mut store = CrashStore::synced();
        store.fail_next(error.clone());
        let commits = Arc::new(AtomicUsize::new(0));
        let slow = Slow { store, entered, go, commits: Arc::clone(&commits) };
        let (committer, queue, notebook) = spawn(slow, options());
        queue.submit(ShardIndex(0), batch(1, vec![accepted(1, "order-1")])).expect("taken");
        has_entered.recv().expect("the first commit is under way");
        queue.submit(ShardIndex(1), batch(2, vec![accepted(1, "order-2")])).expect("taken");
        let_go.send(()).expect("the committer waits");
        let mut slow = committer.join();
        assert_eq!(notebook.lines(), [Heard::Done(0, 1, Err(error.clone())), Heard::Done(1, 2, Err(error))]);
        assert_eq!((all(&mut slow), commits.load(Ordering::SeqCst)), (Vec::new(), 1));
        assert_eq!(queue.submit(ShardIndex(0), batch(3, vec![])), Err(Ended));
    }
}

#[test]
fn a_commit_has_a_limit() {
    let (entered, has_entered) = crossbeam::channel::bounded(1);
    let (let_go, go) = crossbeam::channel::bounded(1);
    let commits = Arc::new(AtomicUsize::new(0));
    let slow = Slow { store: CrashStore::synced(), entered, go, commits };
    let (committer, queue, notebook) = spawn(slow, CommitterOptions { records_max: 4, ..options() });
    let pair =
        |at: u64| batch(at, vec![accepted(1, &format!("order-a{at}")), accepted(1, &format!("order-b{at}"))]);
    queue.submit(ShardIndex(0), pair(0)).expect("taken");
    has_entered.recv().expect("the first commit is under way");
    for at in 1..5 {
        queue.submit(ShardIndex(0), pair(at)).expect("taken");
    }
    let_go.send(()).expect("the committer waits");
    drop(queue);
    committer.join();
    let sizes: Vec<usize> = notebook
        .lines()
        .into_iter()
        .filter_map(|line| if let Heard::Committed(records, _) = line { Some(records) } else { None })
        .collect();
    assert_eq!(sizes, [2, 4, 4]);
}

#[test]
fn many_shards_share_the_real_store() {
    let place = Place::new();
    let (committer, queue, notebook) = spawn(place.open(), CommitterOptions::default());
    std::thread::scope(|scope| {
        for shard in 0..4_usize {
            let queue = queue.clone();
            scope.spawn(move || {
                for id in 0..25 {
                    let first = accepted(1, &format!("order-{shard}-{id:03}"));
                    let records = vec![first.clone(), moved(&first, State::Paid)];
                    queue.submit(ShardIndex(shard), batch(id, records)).expect("taken");
                }
            });
        }
    });
    drop(queue);
    let mut store = committer.join();
    assert_eq!(all(&mut store).len(), 100);
    let heard = notebook.lines();
    let applied = vec![Outcome::Applied, Outcome::Applied];
    for shard in 0..4 {
        let ids: Vec<u64> = heard
            .iter()
            .filter_map(|line| match line {
                Heard::Done(of, id, result) if *of == shard => {
                    assert_eq!(result.as_ref(), Ok(&applied));
                    Some(*id)
                }
                Heard::Done(..) | Heard::Committed(..) | Heard::Stalled | Heard::Resumed => None,
            })
            .collect();
        assert_eq!(ids, (0..25).collect::<Vec<_>>(), "shard {shard} hears in order");
    }
}
