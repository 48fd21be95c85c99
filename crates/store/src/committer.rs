//! Group commit on a thread of its own: every batch that waits goes into one durable commit.
//!
//! A batch that the store is too busy for is tried again until it goes through, with growing pauses; nothing
//! else is written before it, so the order of each shard's batches is kept (DB-07). After a fatal error or a
//! newer fence nothing more is written at all.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use handover::batches::{Work, hand_in, serve};
use handover::door::Door;
use handover::mailbox::{self, mailbox};
use planted::planted;
use state_machine::Record;
use state_machine::shard::{Batch, BatchId, Outcome};
use thiserror::Error;

use crate::contract::{CommitError, Store};

/// A shard's number, as the driver counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardIndex(pub usize);

/// Hears what becomes of batches; every call is made on the committer's thread and must not block.
pub trait Observer: Send + 'static {
    /// A moment of a monotonic clock in nanoseconds; only differences are used.
    fn now_ns(&mut self) -> u64;

    /// The outcomes of a batch, in the order of its records. On [`CommitError::Fatal`] and
    /// [`CommitError::Fenced`] the process must end, and no batch after it is written. [`CommitError::Busy`]
    /// comes only if the committer is stopped while it waits: the batch is not durable.
    fn done(&mut self, shard: ShardIndex, batch: BatchId, result: Result<Vec<Outcome>, CommitError>);

    /// One commit of `records` records is durable; it took `took_ns`, without the pauses of a busy store.
    fn committed(&mut self, records: usize, took_ns: u64);

    /// The store takes no records: admission must close. Called at each failed try.
    fn stalled(&mut self, why: &CommitError);

    /// The store takes records again.
    fn resumed(&mut self);
}

/// Limits of the committer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitterOptions {
    /// A commit takes no further batch once it holds this many records.
    pub records_max: usize,
    /// The pause after the first busy answer; it doubles each time.
    pub pause_min: Duration,
    /// The longest pause.
    pub pause_max: Duration,
}

impl Default for CommitterOptions {
    fn default() -> Self {
        Self { records_max: 4_096, pause_min: Duration::from_millis(5), pause_max: Duration::from_secs(1) }
    }
}

/// The committer has ended; nothing was written.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the committer has ended: the batch is not durable; the process must end")]
pub struct Ended;

/// Hands batches to the committer's thread; clones do the same.
#[derive(Clone, Debug)]
pub struct CommitQueue {
    door: Door,
    batches: mailbox::Sender<(ShardIndex, Batch)>,
}

impl CommitQueue {
    /// Hands `batch` over; it is answered then. As many wait as there are shards, at most: each has one under way.
    ///
    /// # Errors
    ///
    /// [`Ended`] after a fatal error.
    pub fn submit(&self, shard: ShardIndex, batch: Batch) -> Result<(), Ended> {
        let handed_over = hand_in(&self.door, || self.batches.send((shard, batch)).is_ok());
        if handed_over { Ok(()) } else { Err(Ended) }
    }
}

/// The thread that owns the store.
#[derive(Debug)]
pub struct Committer<S> {
    stop: Sender<()>,
    thread: JoinHandle<S>,
}

impl<S: Store + 'static> Committer<S> {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// What the system says if it gives no thread.
    pub fn spawn(
        store: S,
        observer: impl Observer,
        options: CommitterOptions,
    ) -> std::io::Result<(Self, CommitQueue)> {
        let (batches, inbox) = mailbox();
        let (stop, stopped) = bounded(1);
        let door = Door::new();
        let mut worker = Worker { store, observer, options, stopped, records: Vec::new(), failed: None };
        let thread = std::thread::Builder::new().name("store-commit".to_owned()).spawn({
            let door = door.clone();
            move || {
                serve(&door, || inbox.receive(), || inbox.receive_now(), &mut worker);
                worker.store
            }
        })?;
        Ok((Self { stop, thread }, CommitQueue { door, batches }))
    }

    /// Waits until every [`CommitQueue`] is dropped and every batch handed over is answered, and gives the store
    /// back. A store that is busy is waited for no longer: its batch is answered [`CommitError::Busy`].
    ///
    /// # Panics
    ///
    /// If the committer's thread has panicked.
    pub fn join(self) -> S {
        // Full or gone: it is stopping already.
        let _ = self.stop.try_send(());
        match self.thread.join() {
            Ok(store) => store,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

struct Worker<S, O> {
    store: S,
    observer: O,
    options: CommitterOptions,
    stopped: Receiver<()>,
    /// The records of the batches that are being committed.
    records: Vec<Arc<Record>>,
    /// Why nothing is written any more.
    failed: Option<CommitError>,
}

impl<S: Store, O: Observer> Work<(ShardIndex, Batch)> for Worker<S, O> {
    fn has_room(&self, taken: &[(ShardIndex, Batch)]) -> bool {
        let records = taken.iter().fold(0_usize, |sum, (_, batch)| sum.saturating_add(batch.records.len()));
        records < self.options.records_max
    }

    fn work(&mut self, taken: &mut Vec<(ShardIndex, Batch)>) -> bool {
        let mut records = std::mem::take(&mut self.records);
        records.extend(taken.iter().flat_map(|(_, batch)| batch.records.iter().cloned()));
        if planted!(AcknowledgedEarly) {
            self.answer(taken, Ok(vec![Outcome::Applied; records.len()]));
        }
        let result = self.commit(&records);
        records.clear();
        self.records = records;
        self.failed = result.as_ref().err().cloned();
        self.answer(taken, result);
        self.failed.is_none()
    }

    fn refuse(&mut self, (shard, batch): (ShardIndex, Batch)) {
        let why =
            self.failed.clone().unwrap_or_else(|| CommitError::Fatal("the committer has ended".to_owned()));
        self.observer.done(shard, batch.id, Err(why));
    }
}

impl<S: Store, O: Observer> Worker<S, O> {
    /// Tries until the store takes the records or fails for good.
    fn commit(&mut self, records: &[Arc<Record>]) -> Result<Vec<Outcome>, CommitError> {
        let mut pause = self.options.pause_min;
        let mut stalled = false;
        loop {
            let started_ns = self.observer.now_ns();
            let result = self.store.commit(records);
            let took_ns = self.observer.now_ns().saturating_sub(started_ns);
            match result {
                Err(busy @ CommitError::Busy(_)) => {
                    stalled = true;
                    self.observer.stalled(&busy);
                    match self.stopped.recv_timeout(pause) {
                        Err(RecvTimeoutError::Timeout) => {
                            pause = pause.saturating_mul(2).min(self.options.pause_max);
                        }
                        Ok(()) | Err(RecvTimeoutError::Disconnected) => return Err(busy),
                    }
                }
                Err(fatal @ (CommitError::Fatal(_) | CommitError::Fenced { .. })) => return Err(fatal),
                Ok(outcomes) => {
                    if stalled {
                        self.observer.resumed();
                    }
                    self.observer.committed(records.len(), took_ns);
                    return Ok(outcomes);
                }
            }
        }
    }

    /// Gives each batch its share of the outcomes.
    fn answer(&mut self, waiting: &mut Vec<(ShardIndex, Batch)>, result: Result<Vec<Outcome>, CommitError>) {
        let mut outcomes = result.map(Vec::into_iter);
        for (shard, batch) in waiting.drain(..) {
            let share = match &mut outcomes {
                Ok(outcomes) => Ok(outcomes.by_ref().take(batch.records.len()).collect()),
                Err(error) => Err(error.clone()),
            };
            self.observer.done(shard, batch.id, share);
        }
    }
}
