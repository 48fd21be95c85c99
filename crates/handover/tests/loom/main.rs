//! Every order in which the threads of a hand-over can meet, as far as loom can tell: few threads, few steps.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p handover --release --test loom`
#![cfg(loom)]

mod batches;
mod bound;
mod channel;
mod mailbox;
mod request;
mod waiting;

/// Three threads and a lock have too many orders for all of them to be tried: every order in which the running thread
/// is interrupted at most so often, which is where nearly all faults of this kind show.
const PREEMPTIONS_MAX: usize = 3;

fn explore(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(PREEMPTIONS_MAX);
    builder.check(model);
}
