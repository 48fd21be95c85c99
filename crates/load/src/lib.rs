//! A load generator for anything that speaks the V2 API: the switch, the simulated wallet, a proxy in front of it.
//!
//! It is an open loop: each payment is due at a moment that a seeded schedule has fixed, and nothing that the server
//! does moves that moment ([`Process`]). Latency counts from there; what the server took once a request was sent is
//! told apart as service time. Pay requests are made and signed ahead, on another thread, at most two seconds and
//! 30 MB of them. One thread sends and reads, on connections that stay open; it measures its own lateness and
//! processor time, and [`Report`] says when it, and not the server, was the limit.
//!
//! Tills go on asking about what is not decided ([`Plan::poll`]), on connections of their own, so that their queries
//! are not in the way of payments.

mod account;
mod arrivals;
mod books;
mod clock;
mod connection;
mod descriptors;
mod engine;
mod measure;
mod mix;
mod pacer;
mod plan;
mod report;
mod requests;
mod response;
mod stream;
mod target;

use std::sync::Arc;

pub use account::{Account, AccountError};
pub use arrivals::{Arrivals, Process};
pub use books::{Books, BooksError};
pub use engine::LoadError;
pub use measure::{Live, text_us};
pub use mix::{Mix, MixError};
pub use plan::{Plan, trust};
pub use report::{Limit, Percentiles, Report};
pub use target::{Target, TargetError};

/// Runs `plan` on this thread to its end and reports; `live` shows how it goes meanwhile, and can end it.
///
/// # Errors
///
/// [`LoadError`]: nothing was measured.
pub fn run(plan: &Arc<Plan>, live: &Live) -> Result<Outcome, LoadError> {
    let measured = engine::run(plan, live)?;
    Ok(Outcome { report: Report::new(plan, &measured), plan: Arc::clone(plan), words: measured.words })
}

/// A run that is over.
#[derive(Debug)]
pub struct Outcome {
    /// What was measured.
    pub report: Report,
    plan: Arc<Plan>,
    words: Vec<measure::Heard>,
}
