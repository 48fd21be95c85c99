//! Which payments are certainly not in the database, without asking it: a new payment's number is looked up here, and
//! only the few that may be there after all are looked up in the index.
//!
//! A Bloom filter of ten bits and seven probes a payment, wrong for one number in a hundred; more are laid beside it
//! as payments come. It is made anew at each opening, from the index, on a thread of its own, and says nothing until
//! that is done. It never decides alone: a number that it knows is looked up.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::thread::JoinHandle;

use rusqlite::Connection;
use state_machine::OrderKey;

const BITS_PER_KEY: u64 = 10;
const PROBES: u64 = 7;
/// Payments that the first part has room for, at least.
const ROOM_MIN: u64 = 1 << 16;
/// Up to so many payments are read while the opening waits.
const AT_ONCE: u64 = 1 << 12;
/// Each part has room for all before it together, so there are never many.
const PARTS: usize = 24;

struct Part {
    words: Box<[AtomicU64]>,
    room: u64,
}

impl Part {
    fn new(room: u64) -> Self {
        let words = room.saturating_mul(BITS_PER_KEY).div_ceil(64);
        let words = (0..words).map(|_| AtomicU64::new(0)).collect();
        Self { words, room }
    }

    /// Which bits stand for `hash`.
    fn places(&self, hash: u64) -> impl Iterator<Item = (&AtomicU64, u64)> {
        let step = hash.rotate_left(32) | 1;
        let bits = u64::try_from(self.words.len()).unwrap_or(0).saturating_mul(64).max(1);
        (0..PROBES).filter_map(move |probe| {
            let bit = hash.wrapping_add(probe.wrapping_mul(step)).checked_rem(bits)?;
            let word = self.words.get(usize::try_from(bit / 64).ok()?)?;
            Some((word, 1_u64.rotate_left(u32::try_from(bit % 64).ok()?)))
        })
    }
}

/// See the head of this file.
pub(super) struct Numbers {
    hasher: RandomState,
    parts: [OnceLock<Part>; PARTS],
    /// Payments that were added, and the part that the next ones go to.
    added: Mutex<(u64, usize)>,
    is_complete: AtomicBool,
}

impl Numbers {
    /// For a database of `rows` payments.
    pub(super) fn new(rows: u64) -> Self {
        let filter = Self {
            hasher: RandomState::new(),
            parts: [const { OnceLock::new() }; PARTS],
            added: Mutex::new((0, 0)),
            is_complete: AtomicBool::new(false),
        };
        if let Some(first) = filter.parts.first() {
            first.get_or_init(|| Part::new(rows.saturating_add(rows / 4).max(ROOM_MIN)));
        }
        filter
    }

    fn hash(&self, merchant: u32, number: &[u8]) -> u64 {
        self.hasher.hash_one((merchant, number))
    }

    /// Whether there is certainly no such payment in the database.
    pub(super) fn is_new(&self, key: &OrderKey) -> bool {
        if !self.is_complete.load(Ordering::Acquire) {
            return false;
        }
        !self.has(self.hash(key.merchant.0, key.number.as_str().as_bytes()))
    }

    /// There is such a payment, or will be.
    pub(super) fn add(&self, key: &OrderKey) {
        self.add_hash(self.hash(key.merchant.0, key.number.as_str().as_bytes()));
    }

    /// Whether it was added, or looks as if it was.
    fn has(&self, hash: u64) -> bool {
        let mut parts = self.parts.iter().map_while(OnceLock::get);
        parts.any(|part| part.places(hash).all(|(word, bit)| word.load(Ordering::Relaxed) & bit != 0))
    }

    fn add_hash(&self, hash: u64) {
        if self.has(hash) {
            return;
        }
        let mut added = self.added.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, at) = &mut *added;
        let Some(mut part) = self.parts.get(*at).and_then(OnceLock::get) else { return };
        if *count >= part.room
            && let Some(next) = self.parts.get(at.saturating_add(1))
        {
            part = next.get_or_init(|| Part::new(part.room.saturating_mul(2)));
            (*count, *at) = (0, at.saturating_add(1));
        }
        *count = count.saturating_add(1);
        for (word, bit) in part.places(hash) {
            word.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// Adds every payment of the database, unless `stop` says that nobody waits for it any more. What is committed
    /// meanwhile must be added by who commits it.
    pub(super) fn fill(&self, conn: &Connection, stop: &AtomicBool) -> rusqlite::Result<()> {
        let mut statement =
            conn.prepare("SELECT merchant, out_trade_no FROM payments INDEXED BY payments_key")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let merchant: u32 = row.get(0)?;
            self.add_hash(self.hash(merchant, row.get_ref(1)?.as_bytes()?));
        }
        self.is_complete.store(true, Ordering::Release);
        Ok(())
    }
}

/// The filter in use, and the one that is to follow.
pub(super) struct Known(RwLock<(Arc<Numbers>, Option<Arc<Numbers>>)>);

impl Known {
    pub(super) const fn new(numbers: Arc<Numbers>) -> Self {
        Self(RwLock::new((numbers, None)))
    }

    /// Whether there is certainly no such payment in the database.
    pub(super) fn is_new(&self, key: &OrderKey) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).0.is_new(key)
    }

    /// There is such a payment, or will be.
    pub(super) fn add(&self, key: &OrderKey) {
        let both = self.0.read().unwrap_or_else(PoisonError::into_inner);
        both.0.add(key);
        if let Some(next) = &both.1 {
            next.add(key);
        }
    }

    /// Makes the filter anew, for a database of `rows` payments: many have left it. `on_the_way` are those that are to
    /// come into it.
    pub(super) fn renew(
        &self,
        conn: &Connection,
        rows: u64,
        on_the_way: impl FnOnce() -> Vec<OrderKey>,
    ) -> rusqlite::Result<()> {
        let next = Arc::new(Numbers::new(rows));
        self.0.write().unwrap_or_else(PoisonError::into_inner).1 = Some(Arc::clone(&next));
        // Whatever was committed before this is among them, or is read below.
        on_the_way().iter().for_each(|key| next.add(key));
        let filled = next.fill(conn, &AtomicBool::new(false));
        let mut both = self.0.write().unwrap_or_else(PoisonError::into_inner);
        both.1 = None;
        if filled.is_ok() {
            both.0 = next;
        }
        filled
    }
}

/// The thread that fills a filter.
pub(super) struct Filling {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Filling {
    /// Fills `filter` from `conn`, a database of `rows` payments: at once if they are few.
    pub(super) fn start(filter: Arc<Numbers>, conn: Connection, rows: u64) -> Result<Self, String> {
        let stop = Arc::new(AtomicBool::new(false));
        let fill = {
            let stop = Arc::clone(&stop);
            move || {
                if let Err(error) = filter.fill(&conn, &stop) {
                    tracing::warn!(%error, "every new payment is looked up in the database");
                }
            }
        };
        if rows <= AT_ONCE {
            fill();
            return Ok(Self { stop, thread: None });
        }
        let thread = std::thread::Builder::new().name("store-filter".to_owned()).spawn(fill);
        Ok(Self { stop, thread: Some(thread.map_err(|error| error.to_string())?) })
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to say.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use rusqlite::Connection;
    use state_machine::{MerchantId, OrderKey};

    use super::{Numbers, ROOM_MIN};

    fn key(at: u64) -> OrderKey {
        OrderKey {
            merchant: MerchantId(u32::try_from(at % 7).expect("small")),
            number: format!("order-{at:08}").parse().expect("a number"),
        }
    }

    #[test]
    fn what_was_added_is_never_new_and_few_others_are_looked_up() {
        let conn = Connection::open_in_memory().expect("memory");
        conn.execute_batch(
            "CREATE TABLE payments (merchant INTEGER, out_trade_no TEXT);
             CREATE UNIQUE INDEX payments_key ON payments (merchant, out_trade_no);
             INSERT INTO payments VALUES (3, 'order-00000003')",
        )
        .expect("a table");
        let filter = Numbers::new(0);
        assert!(!filter.is_new(&key(1)), "it says nothing before it is complete");
        // Three parts.
        let all = ROOM_MIN * 5;
        (10..all).for_each(|at| filter.add(&key(at)));
        filter.fill(&conn, &AtomicBool::new(false)).expect("readable");
        assert!((10..all).chain([3]).all(|at| !filter.is_new(&key(at))));
        let doubtful = (all..2 * all).filter(|at| !filter.is_new(&key(*at))).count();
        assert!(doubtful < usize::try_from(all / 25).expect("small"), "{doubtful} of {all}");
        assert!(filter.is_new(&key(1)) || filter.is_new(&key(2)));
    }
}
