//! What does the life of a timer cost: put in, then cancelled or fired?
//!
//! Each round puts in `n` timers with deadlines spread over the coming minute (an order's clocks: first query,
//! give-up, reversal), cancels half of them in random order, and lets the minute pass in steps of 100 ms, which fires
//! the rest. `tokio_util::time::DelayQueue` and a binary heap that cancels lazily do the very same round. All three
//! live on from round to round, as they do in a process that runs for weeks, so none pays for fresh memory. One tokio
//! task that sleeps a timer, which is aborted to cancel it, is how a switch is written that has no timers of its own.
//!
//! `cargo bench -p hufu-benches --bench timers`
#![allow(missing_docs, reason = "criterion's macros generate undocumented items")]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::poll_fn;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use timer_wheel::{Handle, Tick, Wheel};
use tokio::runtime::{Builder, Runtime};
use tokio::task::AbortHandle;
use tokio_util::time::{DelayQueue, delay_queue};

const MINUTE_MS: u64 = 60_000;
const STEP_MS: u64 = 100;

/// The same work for every structure.
struct Round {
    /// Milliseconds from the start of the round, one for each timer.
    delays_ms: Vec<u64>,
    /// The timers to cancel, in this order.
    cancelled: Vec<usize>,
}

impl Round {
    fn new(timers: usize) -> Self {
        let mut random = SplitMix(42);
        let delays_ms = (0..timers).map(|_| 1 + random.below(MINUTE_MS)).collect();
        let mut cancelled: Vec<usize> = (0..timers).collect();
        for last in (1..timers).rev() {
            cancelled.swap(last, usize::try_from(random.below(last as u64 + 1)).expect("an index"));
        }
        cancelled.truncate(timers / 2);
        Self { delays_ms, cancelled }
    }

    fn fired(&self) -> usize {
        self.delays_ms.len() - self.cancelled.len()
    }
}

struct OurWheel {
    wheel: Wheel<u32>,
    handles: Vec<Handle>,
}

impl OurWheel {
    fn new(timers: usize) -> Self {
        let capacity = u32::try_from(timers).expect("a few million");
        Self { wheel: Wheel::with_capacity(Tick::ZERO, capacity), handles: Vec::with_capacity(timers) }
    }

    fn run(&mut self, round: &Round) -> usize {
        let start = self.wheel.now();
        self.handles.clear();
        for (&delay_ms, value) in round.delays_ms.iter().zip(0..) {
            self.handles.push(self.wheel.insert(start.saturating_add(delay_ms), value));
        }
        for &timer in &round.cancelled {
            black_box(self.wheel.cancel(self.handles[timer]));
        }
        let mut fired = 0;
        for step in 1..=MINUTE_MS / STEP_MS {
            let now = start.saturating_add(step * STEP_MS);
            while let Some(due) = self.wheel.pop_due(now) {
                black_box(due);
                fired += 1;
            }
        }
        fired
    }
}

struct TokioQueue {
    runtime: Runtime,
    queue: DelayQueue<u32>,
    keys: Vec<delay_queue::Key>,
}

impl TokioQueue {
    fn new(timers: usize) -> Self {
        let runtime =
            Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        let queue = runtime.block_on(async { DelayQueue::with_capacity(timers) });
        Self { runtime, queue, keys: Vec::with_capacity(timers) }
    }

    fn run(&mut self, round: &Round) -> usize {
        let Self { runtime, queue, keys } = self;
        // Unconstrained, or the runtime would ask for a pause every 128 timers.
        runtime.block_on(tokio::task::unconstrained(async {
            let start = tokio::time::Instant::now();
            keys.clear();
            for (&delay_ms, value) in round.delays_ms.iter().zip(0..) {
                keys.push(queue.insert_at(value, start + Duration::from_millis(delay_ms)));
            }
            for &timer in &round.cancelled {
                black_box(queue.remove(&keys[timer]));
            }
            let mut fired = 0;
            for _ in 1..=MINUTE_MS / STEP_MS {
                tokio::time::advance(Duration::from_millis(STEP_MS)).await;
                poll_fn(|context| {
                    while let Poll::Ready(Some(due)) = queue.poll_expired(context) {
                        black_box(due);
                        fired += 1;
                    }
                    Poll::Ready(())
                })
                .await;
            }
            fired
        }))
    }
}

/// A task for each timer.
struct Sleeps {
    runtime: Runtime,
    tasks: Vec<AbortHandle>,
}

impl Sleeps {
    fn new(timers: usize) -> Self {
        let runtime =
            Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        Self { runtime, tasks: Vec::with_capacity(timers) }
    }

    fn run(&mut self, round: &Round) -> usize {
        let Self { runtime, tasks } = self;
        let fired = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&fired);
        runtime.block_on(tokio::task::unconstrained(async {
            let start = tokio::time::Instant::now();
            tasks.clear();
            for &delay_ms in &round.delays_ms {
                let (fired, until) = (Arc::clone(&counted), start + Duration::from_millis(delay_ms));
                let task = tokio::spawn(async move {
                    tokio::time::sleep_until(until).await;
                    fired.fetch_add(1, Ordering::Relaxed);
                });
                tasks.push(task.abort_handle());
            }
            // A timer runs once its task has begun.
            tokio::task::yield_now().await;
            for &timer in &round.cancelled {
                tasks[timer].abort();
            }
            for _ in 1..=MINUTE_MS / STEP_MS {
                tokio::time::advance(Duration::from_millis(STEP_MS)).await;
            }
            while counted.load(Ordering::Relaxed) < round.fired() {
                tokio::task::yield_now().await;
            }
        }));
        fired.load(Ordering::Relaxed)
    }
}

struct Heap {
    now_ms: u64,
    heap: BinaryHeap<Reverse<(u64, u32)>>,
    cancelled: Vec<bool>,
}

impl Heap {
    fn new(timers: usize) -> Self {
        Self { now_ms: 0, heap: BinaryHeap::with_capacity(timers), cancelled: vec![false; timers] }
    }

    fn run(&mut self, round: &Round) -> usize {
        let start_ms = self.now_ms;
        self.cancelled.fill(false);
        for (&delay_ms, value) in round.delays_ms.iter().zip(0..) {
            self.heap.push(Reverse((start_ms + delay_ms, value)));
        }
        for &timer in &round.cancelled {
            self.cancelled[timer] = true;
        }
        let mut fired = 0;
        for _ in 1..=MINUTE_MS / STEP_MS {
            self.now_ms += STEP_MS;
            while let Some(first) = self.heap.peek_mut() {
                let Reverse((deadline_ms, value)) = *first;
                if deadline_ms > self.now_ms {
                    break;
                }
                std::collections::binary_heap::PeekMut::pop(first);
                if !self.cancelled[value as usize] {
                    black_box((deadline_ms, value));
                    fired += 1;
                }
            }
        }
        fired
    }
}

fn timers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("timers");
    group.sample_size(10);
    // The test run takes each structure once, unoptimised: the smallest number says enough there.
    let sizes: &[_] = if cfg!(debug_assertions) { &[10_000] } else { &[10_000, 100_000, 1_000_000] };
    for &timers in sizes {
        let round = Round::new(timers);
        group.throughput(Throughput::Elements(timers as u64));
        let mut wheel = OurWheel::new(timers);
        group.bench_function(BenchmarkId::new("wheel", timers), |bencher| {
            bencher.iter(|| assert_eq!(wheel.run(&round), round.fired()));
        });
        let bytes = wheel.wheel.memory_bytes();
        assert!(bytes <= 32 * timers, "{bytes} bytes for {timers} timers");
        let mut queue = TokioQueue::new(timers);
        group.bench_function(BenchmarkId::new("delay_queue", timers), |bencher| {
            bencher.iter(|| assert_eq!(queue.run(&round), round.fired()));
        });
        let mut sleeps = Sleeps::new(timers);
        group.bench_function(BenchmarkId::new("sleep_each", timers), |bencher| {
            bencher.iter(|| assert_eq!(sleeps.run(&round), round.fired()));
        });
        let mut heap = Heap::new(timers);
        group.bench_function(BenchmarkId::new("binary_heap", timers), |bencher| {
            bencher.iter(|| assert_eq!(heap.run(&round), round.fired()));
        });
    }
    group.finish();
}

/// A small generator, so that every run measures the same round. Source: Vigna's splitmix64.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

criterion_group!(benches, timers);
criterion_main!(benches);
