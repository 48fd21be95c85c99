//! Every metric of the switch: registered at start, with HELP, in base units. Source: DESIGN §7.
//!
//! Callers use the functions here, so that names and labels stand in one place. Labels are of low
//! cardinality: never a merchant, never a number.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use state_machine::absence::AbsentTill;
use state_machine::record::State;
use state_machine::{Channel, UnixMs};
use thiserror::Error;

const PAYMENTS: &str = "hufu_payments_total";
const PENDING: &str = "hufu_pending_payments";
const DETECTION_DELAY: &str = "hufu_detection_delay_seconds";
const TOLD_DELAY: &str = "hufu_told_delay_seconds";
const QUERIES: &str = "hufu_queries_per_payment";
const UPSTREAM_REQUESTS: &str = "hufu_upstream_requests_total";
const UPSTREAM_SECONDS: &str = "hufu_upstream_request_seconds";
const BUDGET_RATIO: &str = "hufu_query_budget_ratio";
const REVERSALS: &str = "hufu_reversals_total";
const MONEY_AT_RISK: &str = "hufu_money_at_risk_fen";
const COMMIT_SECONDS: &str = "hufu_store_commit_seconds";
const BATCH_RECORDS: &str = "hufu_store_batch_records";
const TIMER_LAG: &str = "hufu_timer_lag_seconds";
const QUEUE_DEPTH: &str = "hufu_shard_queue_depth";
const REFUSALS: &str = "hufu_refusals_total";
const ALARMS: &str = "hufu_alarms_total";
const ABSENT_TILLS: &str = "hufu_absent_tills_total";
const CONNECTIONS: &str = "hufu_connections";
const CERTIFICATE_END: &str = "hufu_tls_certificate_end_timestamp_seconds";
const TLS_RELOADS: &str = "hufu_tls_reloads_total";

/// From the customer's last key to our knowing, and from there to the till: half a second to a minute.
const DELAYS: [f64; 14] = [0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 13.0, 21.0, 34.0, 55.0];
/// One call to the wallet.
const CALLS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0];
/// One durable commit, or how late a timer fires.
const DISK: [f64; 13] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];
/// How many: queries of a payment, records of a batch.
const COUNTS: [f64; 12] = [1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 21.0, 34.0, 64.0, 128.0, 256.0, 1_024.0];

/// How a payment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// PAID.
    Paid,
    /// FAILED.
    Failed,
    /// REVERSING decided.
    Reversing,
    /// REVERSED proven.
    Reversed,
}

impl Outcome {
    const ALL: [Self; 4] = [Self::Paid, Self::Failed, Self::Reversing, Self::Reversed];

    /// The outcome that a state is; `None` while it is open.
    #[must_use]
    pub const fn of(state: State) -> Option<Self> {
        match state {
            State::Accepted | State::Pending => None,
            State::Paid => Some(Self::Paid),
            State::Failed => Some(Self::Failed),
            State::Reversing => Some(Self::Reversing),
            State::Reversed => Some(Self::Reversed),
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Paid => "paid",
            Self::Failed => "failed",
            Self::Reversing => "reversing",
            Self::Reversed => "reversed",
        }
    }
}

/// A call to the wallet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `/pay/micropay`.
    Pay,
    /// `/pay/orderquery`.
    Query,
    /// `/secapi/pay/reverse`.
    Reverse,
    /// `/secapi/pay/refund`.
    Refund,
    /// `/pay/refundquery`.
    RefundQuery,
}

impl Operation {
    const ALL: [Self; 5] = [Self::Pay, Self::Query, Self::Reverse, Self::Refund, Self::RefundQuery];

    /// The word in labels and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pay => "pay",
            Self::Query => "query",
            Self::Reverse => "reverse",
            Self::Refund => "refund",
            Self::RefundQuery => "refund_query",
        }
    }
}

/// What became of a call to the wallet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// A verified answer.
    Verified,
    /// An answer that is not verified: unsigned, wrongly signed, or of something else.
    Unverified,
    /// No usable answer: time-out, reset, not HTTP 200, not XML.
    Lost,
    /// Not one byte was sent.
    Unsent,
}

impl CallOutcome {
    const ALL: [Self; 4] = [Self::Verified, Self::Unverified, Self::Lost, Self::Unsent];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Unverified => "unverified",
            Self::Lost => "lost",
            Self::Unsent => "unsent",
        }
    }
}

/// Why a till's request was refused before anything was done for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No TLS handshake, or not in time.
    Handshake,
    /// The address has all the connections that one may have.
    AddressConnections,
    /// Every place was taken, and the connection was in the middle of a handshake, a head or a body for long.
    Evicted,
    /// HTTP/2 frames that ask for nothing, without end.
    Flood,
    /// The merchant's client certificate was not shown.
    ClientCertificate,
    /// Bytes that are no plain HTTP/1.1.
    Framing,
    /// Head or body came too slowly.
    ReadDeadline,
    /// An answer was not read.
    WriteDeadline,
    /// The body was cut or could not be read.
    BodyCut,
    /// The body is too long.
    BodyTooLong,
    /// The body is compressed, or of another type than it must be.
    BodyType,
    /// No such route or method.
    Route,
    /// The body is no well-formed document.
    Malformed,
    /// Unknown merchant, wrong signature or wrong bearer key.
    Unauthenticated,
    /// A sub-merchant that is not bound to the caller.
    NotBound,
    /// The merchant is disabled.
    Disabled,
    /// A field is missing or wrong.
    Field,
    /// The merchant asks too often.
    Rate,
    /// All merchants together ask too often.
    TotalRate,
    /// The switch is full, throttled or stopping.
    NotAccepted,
    /// The store does not answer.
    StoreDown,
}

impl Refusal {
    const ALL: [Self; 21] = [
        Self::Handshake,
        Self::AddressConnections,
        Self::Evicted,
        Self::Flood,
        Self::ClientCertificate,
        Self::TotalRate,
        Self::Framing,
        Self::ReadDeadline,
        Self::WriteDeadline,
        Self::BodyCut,
        Self::BodyTooLong,
        Self::BodyType,
        Self::Route,
        Self::Malformed,
        Self::Unauthenticated,
        Self::NotBound,
        Self::Disabled,
        Self::Field,
        Self::Rate,
        Self::NotAccepted,
        Self::StoreDown,
    ];

    /// The word in labels and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::AddressConnections => "address_connections",
            Self::Evicted => "evicted",
            Self::Flood => "flood",
            Self::ClientCertificate => "client_certificate",
            Self::TotalRate => "total_rate",
            Self::Framing => "framing",
            Self::ReadDeadline => "read_deadline",
            Self::WriteDeadline => "write_deadline",
            Self::BodyCut => "body_cut",
            Self::BodyTooLong => "body_too_long",
            Self::BodyType => "body_type",
            Self::Route => "route",
            Self::Malformed => "malformed",
            Self::Unauthenticated => "unauthenticated",
            Self::NotBound => "not_bound",
            Self::Disabled => "disabled",
            Self::Field => "field",
            Self::Rate => "rate",
            Self::NotAccepted => "not_accepted",
            Self::StoreDown => "store_down",
        }
    }
}

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
    for (name, buckets) in [
        (DETECTION_DELAY, DELAYS.as_slice()),
        (TOLD_DELAY, DELAYS.as_slice()),
        (UPSTREAM_SECONDS, CALLS.as_slice()),
        (COMMIT_SECONDS, DISK.as_slice()),
        (TIMER_LAG, DISK.as_slice()),
        (QUERIES, COUNTS.as_slice()),
        (BATCH_RECORDS, COUNTS.as_slice()),
    ] {
        builder = builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), buckets)?;
    }
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|_| MetricsError::Taken)?;
    let _ = HANDLE.set(handle);
    register();
    Ok(())
}

/// The present values in Prometheus' text format; empty before [`install`].
#[must_use]
pub fn render() -> String {
    HANDLE.get().map(PrometheusHandle::render).unwrap_or_default()
}

/// Folds what histograms have gathered; to be called every few seconds, so that memory stays flat between
/// scrapes.
pub fn upkeep() {
    if let Some(handle) = HANDLE.get() {
        handle.run_upkeep();
    }
}

/// Describes every metric and makes it appear at 0.
fn register() {
    describe_counter!(PAYMENTS, "Payments decided or proven reversed, by outcome");
    describe_gauge!(PENDING, "Payments whose outcome is unknown");
    describe_histogram!(
        DETECTION_DELAY,
        Unit::Seconds,
        "From the customer's payment (time_end, 1 s resolution) to the switch knowing it"
    );
    describe_histogram!(
        TOLD_DELAY,
        Unit::Seconds,
        "From the switch knowing an outcome to the till having it"
    );
    describe_histogram!(QUERIES, "Queries asked per payment until it was decided");
    describe_counter!(UPSTREAM_REQUESTS, "Calls to the wallet, by operation and outcome");
    describe_histogram!(UPSTREAM_SECONDS, Unit::Seconds, "Time of a call to the wallet, by operation");
    describe_gauge!(BUDGET_RATIO, "Share of the query quotas of all provider ids used in the last second");
    describe_counter!(REVERSALS, "Reversal calls sent to the wallet");
    describe_gauge!(MONEY_AT_RISK, "Fen of payments that are undecided, or being reversed and not proven so");
    describe_histogram!(COMMIT_SECONDS, Unit::Seconds, "Time of a durable commit");
    describe_histogram!(BATCH_RECORDS, "Records per durable commit");
    describe_histogram!(TIMER_LAG, Unit::Seconds, "How late timers fire");
    describe_gauge!(QUEUE_DEPTH, "Inputs that wait for a shard, by shard");
    describe_counter!(REFUSALS, "Requests of tills refused before anything was done for them, by cause");
    describe_counter!(ALARMS, "Things an operator must hear of, by alarm");
    describe_counter!(
        ABSENT_TILLS,
        "Payments that were paid while no till asked, by what was done with the money"
    );
    describe_gauge!(CONNECTIONS, "Open HTTP connections, of tills and of the admin address");
    describe_gauge!(
        CERTIFICATE_END,
        Unit::Seconds,
        "When the certificate that tills are shown ends, in seconds since 1970; 0 without TLS"
    );
    describe_counter!(
        TLS_RELOADS,
        "Times that the certificate for tills was loaded again: taken, or kept as it was"
    );
    let channel = Channel::WechatV2.as_str();
    for outcome in Outcome::ALL {
        counter!(PAYMENTS, "channel" => channel, "outcome" => outcome.as_str()).absolute(0);
    }
    for operation in Operation::ALL {
        for outcome in CallOutcome::ALL {
            counter!(UPSTREAM_REQUESTS, "channel" => channel, "operation" => operation.as_str(), "outcome" => outcome.as_str())
                .absolute(0);
        }
        let _ = histogram!(UPSTREAM_SECONDS, "channel" => channel, "operation" => operation.as_str());
    }
    for refusal in Refusal::ALL {
        counter!(REFUSALS, "outcome" => refusal.as_str()).absolute(0);
    }
    for action in [AbsentTill::Keep, AbsentTill::Reverse] {
        counter!(ABSENT_TILLS, "outcome" => action.as_str()).absolute(0);
    }
    counter!(REVERSALS, "channel" => channel).absolute(0);
    for name in [DETECTION_DELAY, TOLD_DELAY, QUERIES, COMMIT_SECONDS, BATCH_RECORDS, TIMER_LAG] {
        let _ = histogram!(name);
    }
    for outcome in TLS_OUTCOMES {
        counter!(TLS_RELOADS, "outcome" => outcome).absolute(0);
    }
    for name in [PENDING, BUDGET_RATIO, MONEY_AT_RISK, CONNECTIONS, CERTIFICATE_END] {
        gauge!(name).set(0.0);
    }
    gauge!(QUEUE_DEPTH, "shard" => "0").set(0.0);
}

/// A payment reached an outcome.
pub fn payment(channel: Channel, outcome: Outcome) {
    counter!(PAYMENTS, "channel" => channel.as_str(), "outcome" => outcome.as_str()).increment(1);
}

/// How many payments are open and how much money that is.
pub fn open(payments: u64, fen: u64) {
    gauge!(PENDING).set(approximate(payments));
    gauge!(MONEY_AT_RISK).set(approximate(fen));
}

/// The switch learned of a payment this long after the wallet booked it (`time_end`).
pub fn detection_delay(delay: Duration) {
    histogram!(DETECTION_DELAY).record(delay);
}

/// A till was answered this long after the switch knew.
pub fn told_delay(delay: Duration) {
    histogram!(TOLD_DELAY).record(delay);
}

/// A payment was decided after so many queries.
pub fn queries(count: u32) {
    histogram!(QUERIES).record(f64::from(count));
}

/// A call to the wallet ended.
pub fn upstream(channel: Channel, operation: Operation, outcome: CallOutcome, took: Duration) {
    let (channel, operation) = (channel.as_str(), operation.as_str());
    counter!(UPSTREAM_REQUESTS, "channel" => channel, "operation" => operation, "outcome" => outcome.as_str())
        .increment(1);
    histogram!(UPSTREAM_SECONDS, "channel" => channel, "operation" => operation).record(took);
}

/// So many of the `limit` queries that a second allows were asked in the last one.
pub fn query_budget(used: u32, limit: u32) {
    gauge!(BUDGET_RATIO).set(ratio(used, limit));
}

/// A reversal was sent.
pub fn reversal(channel: Channel) {
    counter!(REVERSALS, "channel" => channel.as_str()).increment(1);
}

/// A batch of records became durable.
pub fn commit(records: usize, took: Duration) {
    histogram!(COMMIT_SECONDS).record(took);
    histogram!(BATCH_RECORDS).record(approximate(u64::try_from(records).unwrap_or(u64::MAX)));
}

/// Timers fired this late.
pub fn timer_lag(lag: Duration) {
    histogram!(TIMER_LAG).record(lag);
}

/// So many inputs wait for a shard.
pub fn queue_depth(shard: usize, depth: usize) {
    gauge!(QUEUE_DEPTH, "shard" => shard.to_string())
        .set(approximate(u64::try_from(depth).unwrap_or(u64::MAX)));
}

/// A till's request was refused.
pub fn refused(why: Refusal) {
    counter!(REFUSALS, "outcome" => why.as_str()).increment(1);
}

/// An operator must hear of something.
pub fn alarm(alarm: state_machine::shard::Alarm) {
    counter!(ALARMS, "outcome" => alarm.as_str()).increment(1);
}

/// Money that no till asked about was kept, or goes back.
pub fn absent_till(action: AbsentTill) {
    counter!(ABSENT_TILLS, "outcome" => action.as_str()).increment(1);
}

/// Somebody connected (`true`) or is gone.
pub fn connection(opened: bool) {
    if opened {
        gauge!(CONNECTIONS).increment(1.0);
    } else {
        gauge!(CONNECTIONS).decrement(1.0);
    }
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

/// A gauge's value; exact up to 2⁵³.
#[expect(clippy::cast_precision_loss, reason = "gauges are floats; 2^53 fen are more than there are")]
fn approximate(value: u64) -> f64 {
    value as f64
}

#[expect(clippy::float_arithmetic, reason = "gauges are floats, and no money depends on this one")]
fn ratio(part: u32, whole: u32) -> f64 {
    if whole == 0 { 0.0 } else { f64::from(part) / f64::from(whole) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{AbsentTill, CallOutcome, Operation, Outcome, Refusal};
    use state_machine::Channel;

    /// The names of DESIGN §7; a dashboard depends on them.
    const NAMES: [&str; 15] = [
        "payments_total",
        "pending_payments",
        "detection_delay_seconds",
        "told_delay_seconds",
        "queries_per_payment",
        "upstream_requests_total",
        "upstream_request_seconds",
        "query_budget_ratio",
        "reversals_total",
        "money_at_risk_fen",
        "store_commit_seconds",
        "store_batch_records",
        "timer_lag_seconds",
        "shard_queue_depth",
        "refusals_total",
    ];

    #[test]
    fn every_metric_is_there_from_the_start_with_help() {
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| super::install().expect("repeating it, even at once, changes nothing"));
            }
        });
        let text = super::render();
        for name in NAMES {
            assert!(text.contains(&format!("# HELP hufu_{name} ")), "{name}\n{text}");
            assert!(text.lines().any(|line| line.starts_with(&format!("hufu_{name}"))), "{name}\n{text}");
        }
        let line = "hufu_upstream_requests_total{channel=\"wechat_v2\",operation=\"refund_query\",outcome=\"lost\"} 0";
        assert!(text.contains(line), "{text}");
        assert!(text.contains("hufu_absent_tills_total{outcome=\"keep\"}"), "{text}");
    }

    #[test]
    fn what_is_counted_is_rendered() {
        super::install().expect("one recorder in this process");
        super::payment(Channel::WechatV2, Outcome::Reversed);
        super::upstream(
            Channel::WechatV2,
            Operation::Refund,
            CallOutcome::Unverified,
            Duration::from_millis(30),
        );
        super::detection_delay(Duration::from_millis(700));
        super::refused(Refusal::StoreDown);
        super::absent_till(AbsentTill::Reverse);
        super::open(3, 9_007_199_254_740_993);
        super::query_budget(900, 1_800);
        super::upkeep();
        let text = super::render();
        for line in [
            "hufu_payments_total{channel=\"wechat_v2\",outcome=\"reversed\"} 1",
            "hufu_upstream_request_seconds_bucket{channel=\"wechat_v2\",operation=\"refund\",le=\"0.05\"} 1",
            "hufu_upstream_request_seconds_bucket{channel=\"wechat_v2\",operation=\"refund\",le=\"0.025\"} 0",
            "hufu_detection_delay_seconds_bucket{le=\"1\"} 1",
            "hufu_refusals_total{outcome=\"store_down\"} 1",
            "hufu_absent_tills_total{outcome=\"reverse\"} 1",
            "hufu_pending_payments 3",
            "hufu_query_budget_ratio 0.5",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
