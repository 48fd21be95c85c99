//! Whether an answer has reached its till: what was written counts only once the peer's side has acknowledged it.
//!
//! Only payments that are held against each other need this (`state_machine::rescan`): one that is paid is in the way of
//! the same sale until its till has the answer in its hands. An answer that lies in the kernel's queue while the line
//! is cut is not there. Behind a proxy it is the proxy that acknowledges.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use state_machine::record::{State, TillReversal};
use state_machine::{OrderKey, Record};
use tokio::sync::Notify;
use tokio::time::sleep;

use super::server::Reply;
use crate::engine::Engine;

/// How often it is looked whether the peer has acknowledged: about what a line takes.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Answers of one connection that may wait for it; of more it stays unknown whether they have arrived.
const OWED_MAX: usize = 128;

/// An answer says that this payment is paid.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tells(OrderKey);

/// Notes on an answer that it tells of `record`, where somebody must know whether it arrives.
pub(super) fn tells(reply: &mut Reply, record: &Record) {
    if matters(record) {
        reply.extensions_mut().insert(Tells(record.key));
    }
}

/// Whether somebody must know that a till has heard of `record`.
fn matters(record: &Record) -> bool {
    let kept = record.state == State::Paid && record.till_reversal == TillReversal::None;
    kept && record.till != 0
}

struct Owed {
    key: OrderKey,
    engine: Arc<dyn Engine>,
    /// Bytes that had been written before it.
    behind: u64,
}

/// The answers of one connection that are on their way.
#[derive(Default)]
pub(super) struct Receipts {
    owed: Mutex<Vec<Owed>>,
    /// Whether there are any: looked at with every piece that is read or written.
    any: AtomicBool,
    written: AtomicU64,
    more: Notify,
}

impl Receipts {
    /// An answer that tells of a payment is handed to the connection now, or its piece.
    fn owe(&self, engine: &Arc<dyn Engine>, key: OrderKey) {
        let mut owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
        if owed.len() < OWED_MAX {
            let behind = self.written.load(Ordering::Relaxed);
            owed.push(Owed { key, engine: Arc::clone(engine), behind });
            self.any.store(true, Ordering::Relaxed);
            self.more.notify_one();
        }
    }

    /// The same for a piece of an answer that goes on.
    pub(super) fn owe_for_piece(&self, record: &Record, engine: &Arc<dyn Engine>) {
        if matters(record) {
            self.owe(engine, record.key);
        }
    }

    /// The same for a whole answer.
    pub(super) fn owe_for(&self, reply: &mut Reply, engine: &Arc<dyn Engine>) {
        if let Some(Tells(key)) = reply.extensions_mut().remove() {
            self.owe(engine, key);
        }
    }

    /// Whether any answer is on its way.
    pub(super) fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// So many bytes more were written.
    pub(super) fn wrote(&self, bytes: usize) {
        self.written.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The peer has acknowledged everything that was written: answers that were written have arrived.
    pub(super) fn acknowledged(&self) {
        let mut owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
        let written = self.written.load(Ordering::Relaxed);
        owed.retain(|one| {
            let arrived = one.behind < written;
            if arrived {
                one.engine.heard(&one.key);
            }
            !arrived
        });
        self.any.store(!owed.is_empty(), Ordering::Relaxed);
    }

    /// Ends when it is time to look again; never while nothing is on its way.
    pub(super) async fn look(&self) {
        while !self.any() {
            self.more.notified().await;
        }
        sleep(LOOK_EVERY).await;
    }
}

impl std::fmt::Debug for Receipts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receipts").field("any", &self.any()).finish_non_exhaustive()
    }
}
