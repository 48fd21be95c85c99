//! Every interleaving of one and two payments within named bounds, explored to completion with `stateright`.
//!
//! What is explored is the production code, not a copy of it: the shard with its automata, its timers and its
//! *record before act* ([`state_machine::shard::Shard`]), between two steps kept as a
//! [`Frozen`](state_machine::shard::Frozen) without its wheel; and the conditional write of
//! [`store::memory::CrashStore`], which a differential test of `store` holds equal to SQLite. Round them an
//! abstract [`wallet`], customers, tills, a network, a disk and a second process do their worst, each as often as
//! the [`Bounds`] allow.
//!
//! *Normalised.* Times are told from the present; time moves only to the next moment at which something is due
//! (a timer, a call given up); what no clock can be held against any more is forgotten; two orders that differ
//! only in their number are one state. A state is known again by 64 bits: at 20,000,000 states one pair in 90,000
//! runs is mistaken for one.
//!
//! *Assumed*, since the documents do: a pay request arrives within a minute after its connection was closed, or
//! never (C9); so long may queries miss what is there, but only once where the wallet said that the number
//! is taken (A13); an equal pay request changes nothing at the wallet; a wallet that says
//! PAYERROR of money that it took does not refuse the reversal for its age too (C6 would leave that to the
//! operator); a process that lost the store sends nothing new (the
//! operating system's lock goes with the process), but it may still offer the batch that it had, and tell what was
//! durable before. Budgets are wide and breakers open: the planner is simulated elsewhere.
//!
//! For a test that plants a bug in the production code and switches it on:
//!
//! ```no_run
//! let found = model::check::explore_quick().pop().and_then(|outcome| outcome.counterexample);
//! if let Some(path) = found {
//!     println!("{:?} broken by\n{}", path.rules, path.steps.join("\n"));
//! }
//! ```
#![forbid(unsafe_code)]

pub mod bounds;
pub mod check;
mod disk;
mod facts;
pub mod judge;
mod machine;
mod probes;
mod process;
pub mod profile;
pub mod spoil;
mod step;
pub mod wallet;
mod world;

pub use bounds::Bounds;
pub use check::{Outcome, Path, explore, explore_quick, explore_spoiled};
pub use judge::Rule;
pub use machine::{Machine, Step};
pub use spoil::Spoil;
pub use world::World;

/// What a run of the whole profile covers, by the ids of the project's list of faults and invariants.
pub const COVERED: &[&str] = &[
    "INV-01", "INV-02", "INV-04", "INV-05", "INV-06", "INV-07", "INV-08", "INV-09", "INV-11", "INV-12",
    "INV-13", "INV-14", "INV-15", "INV-17", "NM-00", "NU-03", "NU-05", "NU-06", "NU-07", "NU-08", "NU-09",
    "UB-03", "UB-04", "UB-09", "UB-11", "DB-01", "PR-01", "PR-02", "PR-03", "PR-04", "PR-05", "PR-06",
    "PR-07", "PR-09",
];
