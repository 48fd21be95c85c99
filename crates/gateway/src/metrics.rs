//! Every metric of the switch: registered at start, with HELP, in base units. Source: DESIGN §7.
//!
//! Callers use the functions here, so that names and labels stand in one place. Labels are of low
//! cardinality: never a merchant, never a number. What changes with every payment is an addition to a handle that was
//! looked up at the start; what stands somewhere anyway ([`Gauges`]) is read when somebody looks.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use metrics::{counter, gauge};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use state_machine::absence::AbsentTill;
use state_machine::exposure::{AGES, Report, Stage};
use state_machine::shard::Alarm;
use state_machine::{Channel, UnixMs};
use thiserror::Error;

mod families;
mod handles;
mod labels;
mod process;
#[cfg(test)]
mod tests;

pub use labels::{Ask, CallOutcome, Limit, LookupQueue, Operation, Outcome, Refusal};

use crate::clock::Clock;
use families::{
    ABSENT_TILLS, ADMIN_CONNECTIONS, ALARMS, ARCHIVES, BACKLOG, BACKLOG_MAX, BUCKETS, BUDGET, BUDGET_RATIO,
    BUILD, CALLS_WAITING, CERTIFICATE_END, CONNECTIONS_MAX, DRAINING, KNOWN_ADDRESSES, LIMITS_REACHED,
    LOOKUPS_MAX, LOOKUPS_REFUSED, LOOKUPS_WAITING, MONEY_AT_RISK, MONEY_BY_AGE, OLDEST, OPEN, ORDERS,
    ORDERS_MAX, OVERDUE, OVERDUE_FEN, PENDING, QUEUE_DEPTH, QUEUE_MAX, STALLED, STREAMS, STREAMS_MAX,
    TLS_RELOADS, WALLET_CERTIFICATE_END,
};
use handles::Handles;

/// Why metrics cannot be had.
#[derive(Debug, Error)]
pub enum MetricsError {
    /// Buckets that the exporter refuses.
    #[error("metrics: {0}")]
    Build(#[from] BuildError),
    /// Another recorder is installed in this process.
    #[error("metrics: another recorder is installed")]
    Taken,
}

static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
static HANDLES: OnceLock<Handles> = OnceLock::new();
/// Held by who installs: a second caller waits until the first is done.
static INSTALLING: Mutex<()> = Mutex::new(());

/// Installs the recorder of this process and registers every metric. Repeating it changes nothing.
///
/// # Errors
///
/// [`MetricsError`] if another recorder is installed already.
pub fn install() -> Result<(), MetricsError> {
    let _turn = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    if HANDLE.get().is_some() {
        return Ok(());
    }
    let mut builder = PrometheusBuilder::new();
    for (name, buckets) in BUCKETS {
        builder = builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), buckets)?;
    }
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|_| MetricsError::Taken)?;
    process::STARTED.get_or_init(Clock::wall);
    register();
    let _ = HANDLES.set(Handles::new());
    let _ = HANDLE.set(handle);
    Ok(())
}

/// The present values in Prometheus' text format; empty before [`install`].
#[must_use]
pub fn render() -> String {
    let Some(handle) = HANDLE.get() else { return String::new() };
    let mut text = handle.render();
    process::append(&mut text);
    text
}

/// Folds what histograms have gathered; to be called every few seconds, so that memory stays flat between
/// scrapes.
pub fn upkeep() {
    if let Some(handle) = HANDLE.get() {
        handle.run_upkeep();
    }
}

/// Makes everything that has no handle appear at 0.
fn register() {
    families::describe();
    for alarm in Alarm::TROUBLES {
        counter!(ALARMS, "outcome" => alarm.as_str()).absolute(0);
    }
    for action in [AbsentTill::Keep, AbsentTill::Reverse] {
        counter!(ABSENT_TILLS, "outcome" => action.as_str()).absolute(0);
    }
    for outcome in TLS_OUTCOMES {
        counter!(TLS_RELOADS, "outcome" => outcome).absolute(0);
    }
    for limit in Limit::ALL {
        counter!(LIMITS_REACHED, "limit" => limit.as_str()).absolute(0);
    }
    for queue in LookupQueue::ALL {
        counter!(LOOKUPS_REFUSED, "queue" => queue.as_str()).absolute(0);
        gauge!(LOOKUPS_MAX, "queue" => queue.as_str()).set(0.0);
    }
    for name in [
        ADMIN_CONNECTIONS,
        CERTIFICATE_END,
        CONNECTIONS_MAX,
        KNOWN_ADDRESSES,
        QUEUE_MAX,
        STREAMS,
        STREAMS_MAX,
    ] {
        gauge!(name).set(0.0);
    }
    gauge!(BUILD, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    observe(&Gauges { queue_depths: vec![0], ..Gauges::default() });
}

/// What stands somewhere anyway, and is read when somebody looks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Payments that are not decided.
    pub pending: u64,
    /// Fen whose outcome is unknown.
    pub at_risk_fen: u64,
    /// The same by stage and age, at most a second old.
    pub exposure: Report,
    /// Queries asked in the last second.
    pub queries_used: u32,
    /// Queries that a second allows.
    pub queries_max: u32,
    /// Calls that wait for room in their budget.
    pub calls_waiting: u64,
    /// Requests of this process that found as many waiting for their payment as may.
    pub crowded: u64,
    /// Inputs that wait, by shard.
    pub queue_depths: Vec<usize>,
    /// Reads of the store that wait, in the order of [`LookupQueue::ALL`].
    pub lookups_waiting: [usize; LookupQueue::ALL.len()],
    /// Payments in memory, and how many may be.
    pub orders: u64,
    /// See `orders`.
    pub orders_max: u64,
    /// Records that wait to be put into the database, and how many may.
    pub backlog: [usize; 2],
    /// Days whose payments are in a file of their own.
    pub archives: usize,
    /// Whether the store takes no records.
    pub is_stalled: bool,
    /// Whether the switch stops.
    pub is_draining: bool,
    /// When the first client certificate for the wallet ends.
    pub wallet_certificate_end: Option<UnixMs>,
}

/// Sets every gauge to what was seen.
pub fn observe(seen: &Gauges) {
    gauge!(PENDING).set(approximate(seen.pending));
    gauge!(MONEY_AT_RISK).set(approximate(seen.at_risk_fen));
    for ((stage, ages), oldest_ms) in
        Stage::ALL.iter().zip(&seen.exposure.by_age).zip(seen.exposure.oldest_ms)
    {
        let stage = stage.as_str();
        gauge!(OLDEST, "stage" => stage).set(approximate(oldest_ms / 1_000));
        for ((age, _), sum) in AGES.iter().zip(ages) {
            gauge!(OPEN, "stage" => stage, "age" => *age).set(approximate(sum.payments));
            gauge!(MONEY_BY_AGE, "stage" => stage, "age" => *age).set(approximate(sum.fen));
        }
    }
    gauge!(OVERDUE).set(approximate(seen.exposure.overdue.payments));
    gauge!(OVERDUE_FEN).set(approximate(seen.exposure.overdue.fen));
    gauge!(BUDGET_RATIO).set(ratio(seen.queries_used, seen.queries_max));
    gauge!(BUDGET).set(f64::from(seen.queries_max));
    gauge!(CALLS_WAITING).set(approximate(seen.calls_waiting));
    counter!(LIMITS_REACHED, "limit" => Limit::Waiters.as_str()).absolute(seen.crowded);
    for (shard, depth) in seen.queue_depths.iter().enumerate() {
        gauge!(QUEUE_DEPTH, "shard" => shard.to_string())
            .set(approximate(u64::try_from(*depth).unwrap_or(u64::MAX)));
    }
    for (queue, waiting) in LookupQueue::ALL.iter().zip(seen.lookups_waiting) {
        gauge!(LOOKUPS_WAITING, "queue" => queue.as_str())
            .set(approximate(u64::try_from(waiting).unwrap_or(u64::MAX)));
    }
    gauge!(ORDERS).set(approximate(seen.orders));
    gauge!(ORDERS_MAX).set(approximate(seen.orders_max));
    let count = |count: usize| approximate(u64::try_from(count).unwrap_or(u64::MAX));
    for (name, records) in [BACKLOG, BACKLOG_MAX].into_iter().zip(seen.backlog) {
        gauge!(name).set(count(records));
    }
    gauge!(ARCHIVES).set(count(seen.archives));
    gauge!(STALLED).set(f64::from(u8::from(seen.is_stalled)));
    gauge!(DRAINING).set(f64::from(u8::from(seen.is_draining)));
    let end = seen.wallet_certificate_end.map_or(0, |at| u64::try_from(at.0 / 1_000).unwrap_or(0));
    gauge!(WALLET_CERTIFICATE_END).set(approximate(end));
}

/// What bounds the connections of tills, and the requests that wait for one shard.
pub fn limits(connections_max: u32, queue_max: usize) {
    gauge!(CONNECTIONS_MAX).set(f64::from(connections_max));
    gauge!(QUEUE_MAX).set(approximate(u64::try_from(queue_max).unwrap_or(u64::MAX)));
}

/// What bounds the reads of the store that wait, in the order of [`LookupQueue::ALL`].
pub fn lookup_limits(max: [usize; LookupQueue::ALL.len()]) {
    for (queue, max) in LookupQueue::ALL.iter().zip(max) {
        gauge!(LOOKUPS_MAX, "queue" => queue.as_str())
            .set(approximate(u64::try_from(max).unwrap_or(u64::MAX)));
    }
}

/// Too many reads of the store waited for one more.
pub fn lookup_refused(queue: LookupQueue) {
    counter!(LOOKUPS_REFUSED, "queue" => queue.as_str()).increment(1);
}

/// A payment reached an outcome.
pub fn payment(channel: Channel, outcome: Outcome) {
    with(|handles| {
        if let Some(counter) = handles.of(channel).payments.get(outcome as usize) {
            counter.increment(1);
        }
    });
}

/// The switch learned of a payment this long after the wallet booked it (`time_end`).
pub fn detection_delay(delay: Duration) {
    with(|handles| handles.detection_delay.record(delay));
}

/// A till was answered this long after the switch knew.
pub fn told_delay(delay: Duration) {
    with(|handles| handles.told_delay.record(delay));
}

/// A payment was decided after so many queries.
pub fn queries(count: u32) {
    with(|handles| handles.queries.record(f64::from(count)));
}

/// A call to the wallet ended.
pub fn upstream(channel: Channel, operation: Operation, outcome: CallOutcome, took: Duration) {
    with(|handles| {
        let (of, place) = (handles.of(channel), operation as usize);
        if let Some(counter) = of.requests.get(place).and_then(|by| by.get(outcome as usize)) {
            counter.increment(1);
        }
        if let Some(seconds) = of.seconds.get(place) {
            seconds.record(took);
        }
    });
}

/// The wallet said that this is too often.
pub fn throttled(channel: Channel, operation: Operation) {
    with(|handles| {
        if let Some(counter) = handles.of(channel).throttled.get(operation as usize) {
            counter.increment(1);
        }
    });
}

/// A reversal was sent.
pub fn reversal(channel: Channel) {
    with(|handles| handles.of(channel).reversals.increment(1));
}

/// A batch of records became durable.
pub fn commit(records: usize, took: Duration) {
    with(|handles| {
        handles.commit_seconds.record(took);
        handles.batch_records.record(approximate(u64::try_from(records).unwrap_or(u64::MAX)));
    });
}

/// Timers fired this late.
pub fn timer_lag(lag: Duration) {
    with(|handles| handles.timer_lag.record(lag));
}

/// A till was answered, or its request refused, after this time.
pub fn asked(what: Ask, took: Duration) {
    with(|handles| {
        if let Some(seconds) = handles.asked.get(what as usize) {
            seconds.record(took);
        }
    });
}

/// A till's request was refused.
pub fn refused(why: Refusal) {
    with(|handles| {
        if let Some(counter) = handles.refusals.get(why as usize) {
            counter.increment(1);
        }
    });
}

/// An operator must hear of something.
pub fn alarm(alarm: Alarm) {
    counter!(ALARMS, "outcome" => alarm.as_str()).increment(1);
}

/// Money that no till asked about was kept, or goes back.
pub fn absent_till(action: AbsentTill) {
    counter!(ABSENT_TILLS, "outcome" => action.as_str()).increment(1);
}

/// Somebody connected (`true`) or is gone.
pub fn connection(opened: bool) {
    with(|handles| {
        if opened {
            handles.connections.increment(1.0);
        } else {
            handles.connections.decrement(1.0);
        }
    });
}

/// A bound was reached that no refusal counts.
pub fn limit_reached(limit: Limit) {
    counter!(LIMITS_REACHED, "limit" => limit.as_str()).increment(1);
}

/// So many streams of events are open, of so many that may be.
pub fn streams(open: usize, max: usize) {
    gauge!(STREAMS).set(approximate(u64::try_from(open).unwrap_or(u64::MAX)));
    gauge!(STREAMS_MAX).set(approximate(u64::try_from(max).unwrap_or(u64::MAX)));
}

/// So many connections of the administrator's socket are open.
pub fn admin_connections(open: usize) {
    gauge!(ADMIN_CONNECTIONS).set(approximate(u64::try_from(open).unwrap_or(u64::MAX)));
}

/// So many addresses are remembered because tills have come from them.
pub fn known_addresses(count: usize) {
    gauge!(KNOWN_ADDRESSES).set(approximate(u64::try_from(count).unwrap_or(u64::MAX)));
}

/// What a reload comes to: the new files are in use, or what was before.
const TLS_OUTCOMES: [&str; 2] = ["taken", "kept"];

/// The certificate for tills was loaded again; whether it was taken.
pub fn tls_reload(taken: bool) {
    let [yes, no] = TLS_OUTCOMES;
    counter!(TLS_RELOADS, "outcome" => if taken { yes } else { no }).increment(1);
}

/// The certificate that tills are shown ends then.
pub fn tls_certificate_end(at: UnixMs) {
    gauge!(CERTIFICATE_END).set(approximate(u64::try_from(at.0 / 1_000).unwrap_or(0)));
}

/// Counts nothing where nothing is installed, as in tests of other things.
fn with(count: impl FnOnce(&Handles)) {
    if let Some(handles) = HANDLES.get() {
        count(handles);
    }
}

/// A gauge's value; exact up to 2⁵³.
#[expect(clippy::cast_precision_loss, reason = "gauges are floats; 2^53 fen are more than there are")]
fn approximate(value: u64) -> f64 {
    value as f64
}

#[expect(clippy::float_arithmetic, reason = "gauges are floats, and no money depends on this one")]
fn ratio(part: u32, whole: u32) -> f64 {
    if whole == 0 { 0.0 } else { f64::from(part) / f64::from(whole) }
}
