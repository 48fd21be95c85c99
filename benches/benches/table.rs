//! What does it cost to publish the life of an order, and to look one up?
//!
//! A life is an insertion, four transitions and a removal. 100,000 orders are live at a time; each step begins one,
//! moves four of different ages on, and ends the oldest, so that each is touched long after it left the cache. A value
//! is 8 words. `DashMap` does the same with the same hash, once with values that each transition replaces
//! (`Arc<[u64; 8]>`) and once with values that are locked and changed in place (`Arc<Mutex<[u64; 8]>>`). It finds
//! them by key; the table does so too in `table_by_key`, and by handle, as its owner would, in `table`. `watched` runs with
//! a thread beside it that looks up live orders without a pause. In `two` each of two threads lives with orders of its
//! own and looks up two of the other's in each life, as shards and connections do; papaya and scc too, which share one map as
//! `DashMap` does.
//!
//! `cargo bench -p hufu-benches --bench table`
#![allow(missing_docs, reason = "criterion's macros generate undocumented items")]

use std::collections::VecDeque;
use std::hash::{BuildHasherDefault, Hasher};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dashmap::DashMap;
use state_table::{Handle, Reader, Writer};

const LIVE: u64 = 100_000;
const TRANSITIONS: u64 = 4;
/// Lives in one iteration.
const LIVES: u64 = 10_000;

type Value = [u64; 8];

/// An order's value in one of its states.
fn value(key: u64, state: u64) -> Value {
    [key, state, 1, 2, 3, 4, 5, 6]
}

/// What all of them can do.
trait Orders {
    type Watcher: Watcher;
    fn insert(&mut self, key: u64);
    /// Moves the order that was begun `age` lives ago to its next state.
    fn update(&mut self, key: u64, age: u64, state: u64);
    fn remove_oldest(&mut self, key: u64);
    fn watcher(&self) -> Self::Watcher;
}

/// What other threads can do.
trait Watcher: Send {
    /// The state of an order.
    fn look(&self, key: u64) -> Option<u64>;
}

struct Table {
    writer: Writer<8>,
    /// The live orders, oldest first.
    handles: VecDeque<Handle>,
    by_key: bool,
}

impl Table {
    fn new(by_key: bool) -> Self {
        let slots_max = u32::try_from(LIVE + 1).expect("a small number");
        let (writer, _) = state_table::table(slots_max);
        Self { writer, handles: VecDeque::new(), by_key }
    }

    fn find(&self, key: u64) -> Handle {
        self.writer.find(mix(key), |words| words[0] == key).expect("it is live").0
    }
}

impl Orders for Table {
    type Watcher = Reader<8>;

    fn insert(&mut self, key: u64) {
        let handle = self.writer.insert(mix(key), &value(key, 0)).expect("there is room");
        self.handles.push_back(handle);
    }

    fn update(&mut self, key: u64, age: u64, state: u64) {
        let handle = if self.by_key {
            self.find(key)
        } else {
            self.handles[self.handles.len() - 1 - usize::try_from(age).expect("a small number")]
        };
        assert!(self.writer.update(handle, &value(key, state)));
    }

    fn remove_oldest(&mut self, key: u64) {
        let oldest = self.handles.pop_front().expect("some are live");
        let handle = if self.by_key { self.find(key) } else { oldest };
        assert!(self.writer.remove(handle));
    }

    fn watcher(&self) -> Reader<8> {
        self.writer.reader()
    }
}

impl Watcher for Reader<8> {
    fn look(&self, key: u64) -> Option<u64> {
        self.find(mix(key), |words| words[0] == key).map(|(_, words)| words[1])
    }
}

type Map<E> = Arc<DashMap<u64, Arc<E>, BuildHasherDefault<Mix>>>;

/// Room for twice as many as are live.
fn capacity() -> usize {
    usize::try_from(2 * LIVE).expect("a small number")
}

fn map<E>() -> Map<E> {
    // What two threads share holds the orders of both.
    Arc::new(DashMap::with_capacity_and_hasher(2 * capacity(), BuildHasherDefault::default()))
}

struct Replaced(Map<Value>);

impl Orders for Replaced {
    type Watcher = Self;

    fn insert(&mut self, key: u64) {
        self.0.insert(key, Arc::new(value(key, 0)));
    }

    fn update(&mut self, key: u64, _: u64, state: u64) {
        *self.0.get_mut(&key).expect("it is live") = Arc::new(value(key, state));
    }

    fn remove_oldest(&mut self, key: u64) {
        assert!(self.0.remove(&key).is_some());
    }

    fn watcher(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl Watcher for Replaced {
    fn look(&self, key: u64) -> Option<u64> {
        let value = Arc::clone(self.0.get(&key)?.value());
        Some(value[1])
    }
}

struct Locked(Map<Mutex<Value>>);

impl Orders for Locked {
    type Watcher = Self;

    fn insert(&mut self, key: u64) {
        self.0.insert(key, Arc::new(Mutex::new(value(key, 0))));
    }

    fn update(&mut self, key: u64, _: u64, state: u64) {
        let order = Arc::clone(self.0.get(&key).expect("it is live").value());
        *order.lock().unwrap_or_else(PoisonError::into_inner) = value(key, state);
    }

    fn remove_oldest(&mut self, key: u64) {
        assert!(self.0.remove(&key).is_some());
    }

    fn watcher(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl Watcher for Locked {
    fn look(&self, key: u64) -> Option<u64> {
        let order = Arc::clone(self.0.get(&key)?.value());
        let value = *order.lock().unwrap_or_else(PoisonError::into_inner);
        Some(value[1])
    }
}

/// Values that each transition replaces.
#[derive(Clone)]
struct Papaya(Arc<papaya::HashMap<u64, Arc<Value>, BuildHasherDefault<Mix>>>);

impl Orders for Papaya {
    type Watcher = Self;

    fn insert(&mut self, key: u64) {
        self.0.pin().insert(key, Arc::new(value(key, 0)));
    }

    fn update(&mut self, key: u64, _: u64, state: u64) {
        assert!(self.0.pin().insert(key, Arc::new(value(key, state))).is_some());
    }

    fn remove_oldest(&mut self, key: u64) {
        assert!(self.0.pin().remove(&key).is_some());
    }

    fn watcher(&self) -> Self {
        self.clone()
    }
}

impl Watcher for Papaya {
    fn look(&self, key: u64) -> Option<u64> {
        let value = Arc::clone(self.0.pin().get(&key)?);
        Some(value[1])
    }
}

/// Values that each transition replaces.
#[derive(Clone)]
struct Scc(Arc<scc::HashMap<u64, Arc<Value>, BuildHasherDefault<Mix>>>);

impl Orders for Scc {
    type Watcher = Self;

    fn insert(&mut self, key: u64) {
        assert!(self.0.insert_sync(key, Arc::new(value(key, 0))).is_ok());
    }

    fn update(&mut self, key: u64, _: u64, state: u64) {
        let replaced = self.0.update_sync(&key, |_, old| *old = Arc::new(value(key, state)));
        assert!(replaced.is_some());
    }

    fn remove_oldest(&mut self, key: u64) {
        assert!(self.0.remove_sync(&key).is_some());
    }

    fn watcher(&self) -> Self {
        self.clone()
    }
}

impl Watcher for Scc {
    fn look(&self, key: u64) -> Option<u64> {
        let value = self.0.read_sync(&key, |_, value| Arc::clone(value))?;
        Some(value[1])
    }
}

/// Orders with `LIVE` of them live; `next` is the key of the one to begin.
struct Crowd<O> {
    orders: O,
    next: Arc<AtomicU64>,
}

impl<O: Orders> Crowd<O> {
    fn new(orders: O) -> Self {
        Self::from(orders, 0)
    }

    /// Whose keys begin at `first`.
    fn from(mut orders: O, first: u64) -> Self {
        for key in first..first + LIVE {
            orders.insert(key);
        }
        Self { orders, next: Arc::new(AtomicU64::new(first + LIVE)) }
    }

    fn live(&mut self, lives: u64) {
        self.live_and(lives, |_| {});
    }

    /// Calls `each` with the key of each life.
    fn live_and(&mut self, lives: u64, each: impl Fn(u64)) {
        let first = self.next.load(Ordering::Relaxed);
        for key in first..first + lives {
            self.orders.insert(key);
            for state in 1..=TRANSITIONS {
                let age = state * LIVE / (TRANSITIONS + 1);
                self.orders.update(key - age, age, state);
            }
            self.orders.remove_oldest(key - LIVE);
            self.next.store(key + 1, Ordering::Relaxed);
            each(key);
        }
    }

    /// Runs `work` while another thread looks up live orders.
    fn watched(&mut self, work: impl FnOnce(&mut Self)) {
        let (watcher, next, done) = (self.orders.watcher(), Arc::clone(&self.next), AtomicBool::new(false));
        thread::scope(|scope| {
            let done = &done;
            scope.spawn(move || {
                for step in 0.. {
                    let live = next.load(Ordering::Relaxed) - LIVE;
                    black_box(watcher.look(live + mix(step) % LIVE));
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
            work(self);
            done.store(true, Ordering::Relaxed);
        });
    }
}

fn lives<O: Orders>(criterion: &mut Criterion, name: &str, orders: O) {
    let mut crowd = Crowd::new(orders);
    let mut group = criterion.benchmark_group("table");
    group.sample_size(20).throughput(Throughput::Elements(LIVES));
    group.bench_function(format!("life/{name}"), |bencher| bencher.iter(|| crowd.live(LIVES)));
    crowd.watched(|crowd| {
        group.bench_function(format!("life_watched/{name}"), |bencher| bencher.iter(|| crowd.live(LIVES)));
    });
    let (watcher, first) = (crowd.orders.watcher(), crowd.next.load(Ordering::Relaxed) - LIVE);
    let mut step = 0;
    group.bench_function(format!("lookup/{name}"), |bencher| {
        bencher.iter(|| {
            for _ in 0..LIVES {
                step += 1;
                assert!(watcher.look(first + mix(step) % LIVE).is_some());
            }
        });
    });
    group.bench_function(format!("lookup_in_vain/{name}"), |bencher| {
        bencher.iter(|| {
            for _ in 0..LIVES {
                step += 1;
                assert!(watcher.look(u64::MAX - step).is_none());
            }
        });
    });
    group.finish();
}

/// Two threads, each with orders of its own, which look up each other's.
fn two<O: Orders + Send>(criterion: &mut Criterion, name: &str, orders: [O; 2]) {
    let [left, right] = orders;
    let mut crowds = [Crowd::from(left, 0), Crowd::from(right, 1 << 40)];
    let mut group = criterion.benchmark_group("table");
    group.sample_size(20).throughput(Throughput::Elements(2 * LIVES));
    group.bench_function(format!("two/{name}"), |bencher| {
        bencher.iter(|| {
            let [left, right] = &mut crowds;
            let looks = [left, right].map(|crowd| (crowd.orders.watcher(), Arc::clone(&crowd.next)));
            thread::scope(|scope| {
                for (crowd, (watcher, next)) in crowds.iter_mut().zip(looks.into_iter().rev()) {
                    scope.spawn(move || {
                        crowd.live_and(LIVES, |key| {
                            // It may end in this very moment.
                            let live = next.load(Ordering::Relaxed) - LIVE;
                            black_box(watcher.look(live + mix(key) % LIVE));
                            black_box(watcher.look(live + mix(!key) % LIVE));
                        });
                    });
                }
            });
        });
    });
    group.finish();
}

fn tables(criterion: &mut Criterion) {
    two(criterion, "table", [Table::new(false), Table::new(false)]);
    two(criterion, "table_by_key", [Table::new(true), Table::new(true)]);
    let shared = map();
    two(criterion, "dashmap_replaced", [Replaced(Arc::clone(&shared)), Replaced(shared)]);
    let shared = Papaya(Arc::new(papaya::HashMap::with_capacity_and_hasher(
        2 * capacity(),
        BuildHasherDefault::default(),
    )));
    two(criterion, "papaya", [shared.clone(), shared]);
    let shared =
        Scc(Arc::new(scc::HashMap::with_capacity_and_hasher(2 * capacity(), BuildHasherDefault::default())));
    two(criterion, "scc", [shared.clone(), shared]);
    lives(criterion, "table", Table::new(false));
    lives(criterion, "table_by_key", Table::new(true));
    lives(criterion, "dashmap_replaced", Replaced(map()));
    lives(criterion, "dashmap_locked", Locked(map()));
}

/// The hash of a key, for all of them. Source: the finalizer of Vigna's splitmix64.
fn mix(key: u64) -> u64 {
    let word = (key ^ (key >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are words");
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = mix(key);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

criterion_group!(benches, tables);
criterion_main!(benches);
