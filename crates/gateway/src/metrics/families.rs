//! Names, types, labels and meanings. `deploy/prometheus/metrics.md` says the same to people, and a test holds it
//! against what is exposed.

use metrics::{describe_counter, describe_gauge, describe_histogram};

pub(super) const PAYMENTS: &str = "hufu_payments_total";
pub(super) const PENDING: &str = "hufu_pending_payments";
pub(super) const OPEN: &str = "hufu_open_payments";
pub(super) const OLDEST: &str = "hufu_oldest_open_seconds";
pub(super) const OVERDUE: &str = "hufu_overdue_payments";
pub(super) const OVERDUE_FEN: &str = "hufu_overdue_fen";
pub(super) const MONEY_AT_RISK: &str = "hufu_money_at_risk_fen";
pub(super) const MONEY_BY_AGE: &str = "hufu_money_at_risk_by_age_fen";
pub(super) const DETECTION_DELAY: &str = "hufu_detection_delay_seconds";
pub(super) const TOLD_DELAY: &str = "hufu_told_delay_seconds";
pub(super) const QUERIES: &str = "hufu_queries_per_payment";
pub(super) const UPSTREAM_REQUESTS: &str = "hufu_upstream_requests_total";
pub(super) const UPSTREAM_SECONDS: &str = "hufu_upstream_request_seconds";
pub(super) const UPSTREAM_THROTTLED: &str = "hufu_upstream_throttled_total";
pub(super) const REVERSALS: &str = "hufu_reversals_total";
pub(super) const BUDGET_RATIO: &str = "hufu_query_budget_ratio";
pub(super) const BUDGET: &str = "hufu_query_budget_per_second";
pub(super) const CALLS_WAITING: &str = "hufu_calls_waiting";
pub(super) const WALLET_CERTIFICATE_END: &str = "hufu_wallet_certificate_end_timestamp_seconds";
pub(super) const COMMIT_SECONDS: &str = "hufu_store_commit_seconds";
pub(super) const BATCH_RECORDS: &str = "hufu_store_batch_records";
pub(super) const BACKLOG: &str = "hufu_store_backlog_records";
pub(super) const BACKLOG_MAX: &str = "hufu_store_backlog_max";
pub(super) const ARCHIVES: &str = "hufu_store_archives";
pub(super) const STALLED: &str = "hufu_store_stalled";
pub(super) const TIMER_LAG: &str = "hufu_timer_lag_seconds";
pub(super) const QUEUE_DEPTH: &str = "hufu_shard_queue_depth";
pub(super) const QUEUE_MAX: &str = "hufu_shard_queue_max";
pub(super) const LOOKUPS_WAITING: &str = "hufu_lookups_waiting";
pub(super) const LOOKUPS_MAX: &str = "hufu_lookups_max";
pub(super) const LOOKUPS_REFUSED: &str = "hufu_lookups_refused_total";
pub(super) const ORDERS: &str = "hufu_orders";
pub(super) const ORDERS_MAX: &str = "hufu_orders_max";
pub(super) const REQUEST_SECONDS: &str = "hufu_request_seconds";
pub(super) const REFUSALS: &str = "hufu_refusals_total";
pub(super) const LIMITS_REACHED: &str = "hufu_limits_reached_total";
pub(super) const ALARMS: &str = "hufu_alarms_total";
pub(super) const ABSENT_TILLS: &str = "hufu_absent_tills_total";
pub(super) const CONNECTIONS: &str = "hufu_connections";
pub(super) const CONNECTIONS_MAX: &str = "hufu_connections_max";
pub(super) const KNOWN_ADDRESSES: &str = "hufu_known_addresses";
pub(super) const STREAMS: &str = "hufu_streams";
pub(super) const STREAMS_MAX: &str = "hufu_streams_max";
pub(super) const ADMIN_CONNECTIONS: &str = "hufu_admin_connections";
pub(super) const CERTIFICATE_END: &str = "hufu_tls_certificate_end_timestamp_seconds";
pub(super) const TLS_RELOADS: &str = "hufu_tls_reloads_total";
pub(super) const DRAINING: &str = "hufu_draining";
pub(super) const BUILD: &str = "hufu_build_info";

/// From the customer's last key to our knowing: half a second to a minute.
const DETECTION: [f64; 14] = [0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 13.0, 21.0, 34.0, 55.0];
/// From knowing to the till having it: a millisecond where it waits, until it asks again where it does not.
const TOLD: [f64; 14] = [0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];
/// One call to the wallet, or of a till: pay requests may be held for half a minute.
const CALLS: [f64; 13] = [0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// One durable commit, or how late a timer fires.
const DISK: [f64; 14] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
/// How many: queries of a payment, records of a batch.
const COUNTS: [f64; 12] = [1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 21.0, 34.0, 64.0, 128.0, 256.0, 1_024.0];

/// The buckets of each histogram.
pub(super) const BUCKETS: [(&str, &[f64]); 8] = [
    (DETECTION_DELAY, &DETECTION),
    (TOLD_DELAY, &TOLD),
    (UPSTREAM_SECONDS, &CALLS),
    (REQUEST_SECONDS, &CALLS),
    (COMMIT_SECONDS, &DISK),
    (TIMER_LAG, &DISK),
    (QUERIES, &COUNTS),
    (BATCH_RECORDS, &COUNTS),
];

const COUNTERS: [(&str, &str); 10] = [
    (PAYMENTS, "Payments decided or proven reversed, by outcome"),
    (UPSTREAM_REQUESTS, "Calls to the wallet, by operation and outcome"),
    (UPSTREAM_THROTTLED, "Answers of the wallet that say we ask too often, by operation"),
    (REVERSALS, "Reversal calls sent to the wallet"),
    (REFUSALS, "Requests of tills refused before anything was done for them, by cause"),
    (LIMITS_REACHED, "Times that a bound was reached which no refusal counts, by bound"),
    (LOOKUPS_REFUSED, "Reads of the store that were refused since too many waited, by queue"),
    (ALARMS, "Things an operator must hear of, by alarm"),
    (ABSENT_TILLS, "Payments that were paid while no till asked, by what was done with the money"),
    (TLS_RELOADS, "Times that the certificate for tills was loaded again: taken, or kept as it was"),
];

const GAUGES: [(&str, &str); 30] = [
    (PENDING, "Payments that are not decided"),
    (OPEN, "Payments whose outcome is unknown, by stage and age"),
    (OLDEST, "Age of the oldest payment whose outcome is unknown, by stage; 0 where there is none"),
    (
        OVERDUE,
        "Undecided payments past the moment at which each must be decided or given up; held ones apart",
    ),
    (OVERDUE_FEN, "Fen of overdue payments"),
    (MONEY_AT_RISK, "Fen of payments that are undecided, held, or being reversed and not proven so"),
    (MONEY_BY_AGE, "Fen of payments whose outcome is unknown, by stage and age"),
    (BUDGET_RATIO, "Share of the query quotas of all provider ids used in the last second"),
    (
        BUDGET,
        "Queries that a second allows now, over all provider ids; less after answers that say too often",
    ),
    (CALLS_WAITING, "Calls to the wallet that wait for room in their budget"),
    (
        WALLET_CERTIFICATE_END,
        "When the first client certificate for the wallet ends, in seconds since 1970; 0 if there is none",
    ),
    (BACKLOG, "Durable records that wait to be put into the database and its indexes"),
    (BACKLOG_MAX, "Records that may wait for it; the store takes none beyond"),
    (ARCHIVES, "Days that are over and have left the database for a file of their own"),
    (STALLED, "1 while the store takes no records, else 0"),
    (QUEUE_DEPTH, "Inputs that wait for a shard, by shard"),
    (QUEUE_MAX, "Requests of tills that may wait for a shard; more are refused"),
    (LOOKUPS_WAITING, "Reads of the store that wait for a thread, by queue"),
    (LOOKUPS_MAX, "Reads of the store that may wait for a thread, by queue; more are refused"),
    (ORDERS, "Payments in memory, ended ones that are kept for a while included"),
    (ORDERS_MAX, "Payments that may be in memory; more are refused"),
    (CONNECTIONS, "Open HTTP connections, of tills and of the admin address"),
    (CONNECTIONS_MAX, "Connections that tills may have open"),
    (STREAMS, "Streams of events that are open"),
    (STREAMS_MAX, "Streams of events that may be open; more are refused"),
    (ADMIN_CONNECTIONS, "Connections of the administrator's socket that are open, of 16"),
    (KNOWN_ADDRESSES, "Addresses that are remembered because tills have come from them"),
    (CERTIFICATE_END, "When the certificate that tills are shown ends, in seconds since 1970; 0 without TLS"),
    (DRAINING, "1 while the switch stops and takes no new payments, else 0"),
    (BUILD, "Always 1; its label is the version"),
];

const HISTOGRAMS: [(&str, &str); 8] = [
    (DETECTION_DELAY, "From the customer's payment (time_end, 1 s resolution) to the switch knowing it"),
    (TOLD_DELAY, "From the switch knowing an outcome to the till having it"),
    (QUERIES, "Queries asked per payment until it was decided"),
    (UPSTREAM_SECONDS, "Time of a call to the wallet, by operation"),
    (REQUEST_SECONDS, "Time to answer a till, what it is made to wait included, by what it asks for"),
    (COMMIT_SECONDS, "Time of a durable commit"),
    (BATCH_RECORDS, "Records per durable commit"),
    (TIMER_LAG, "How late timers fire"),
];

/// Gives every metric its HELP.
pub(super) fn describe() {
    for (name, help) in COUNTERS {
        describe_counter!(name, help);
    }
    for (name, help) in GAUGES {
        describe_gauge!(name, help);
    }
    for (name, help) in HISTOGRAMS {
        describe_histogram!(name, help);
    }
}
