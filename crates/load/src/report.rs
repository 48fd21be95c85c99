//! What a run came to; and whether its figures are those of the server.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::books::Books;
use crate::clock::SECOND_NS;
use crate::measure::{Heard, Measured, Times, Traffic, text_us};
use crate::plan::Plan;

/// Processor time over which the sending thread is at its end, in percent.
const CPU_PERCENT_MAX: u64 = 90;
/// How long it may be kept from a processor, in percent.
const KEPT_PERCENT_MAX: u64 = 25;
/// Queries that may wait for a connection, in percent: a handshake is waited for where another one is opened.
const QUERIES_WAITED_PERCENT_MAX: u64 = 50;
/// A lag below this is nobody's business, in microseconds.
const LAG_US_MIN: u64 = 1_000;
/// The lag's 99th percentile may be at most this part of the latency's.
const LAG_PART: u64 = 10;

/// Percentiles of a time, in microseconds, each to three digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Percentiles {
    /// How many were measured.
    pub count: u64,
    /// Half were at most this.
    pub p50: u64,
    /// 90 %.
    pub p90: u64,
    /// 99 %.
    pub p99: u64,
    /// 99.9 %.
    pub p999: u64,
    /// All.
    pub max: u64,
}

impl Percentiles {
    fn of(times: &Times) -> Self {
        if times.is_empty() {
            return Self::default();
        }
        Self {
            count: times.len(),
            p50: times.value_at_quantile(0.50),
            p90: times.value_at_quantile(0.90),
            p99: times.value_at_quantile(0.99),
            p999: times.value_at_quantile(0.999),
            max: times.max(),
        }
    }
}

/// What was sent for one purpose, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Requests {
    /// Sent, of what was due in the measured time.
    pub sent: u64,
    /// Answered, whatever the answer.
    pub answered: u64,
    /// Without an answer since the connection broke.
    pub lost: u64,
    /// Without an answer in time.
    pub timed_out: u64,
    /// Without an answer when the run was over.
    pub unanswered: u64,
    /// From the moment at which they were due to the whole answer, time-outs with the time they were given.
    pub latency_us: Percentiles,
    /// From the moment at which they were sent.
    pub service_us: Percentiles,
    /// By `result_code`, `err_code` or `trade_state`, HTTP status, or what was wrong.
    pub results: BTreeMap<String, Percentiles>,
}

impl Requests {
    fn of(traffic: &Traffic) -> Self {
        let result = |(name, times): (&String, &Times)| (name.clone(), Percentiles::of(times));
        Self {
            sent: traffic.sent,
            answered: traffic.answered,
            lost: traffic.lost,
            timed_out: traffic.timed_out,
            unanswered: traffic.unanswered,
            latency_us: Percentiles::of(&traffic.latency),
            service_us: Percentiles::of(&traffic.service),
            results: traffic.results.iter().map(result).collect(),
        }
    }
}

/// The last word of each measured payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Outcomes {
    /// Paid.
    pub paid: u64,
    /// Not paid.
    pub not_paid: u64,
    /// Reversed.
    pub reversed: u64,
    /// Refused before anything was stored or sent.
    pub not_taken: u64,
    /// Still open when the run was over, or nobody asked.
    pub open: u64,
    /// Nothing that says anything was heard.
    pub unknown: u64,
    /// Paid, but another amount than was asked for.
    pub wrong_amount: u64,
}

/// Which side was at its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// The load was sent as it was planned: what is slow is the server.
    None,
    /// The generator could not keep its schedule.
    Generator,
    /// All connections were busy: the load was not sent as it was planned.
    Connections,
}

/// How the generator itself did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Generator {
    /// Which side was at its limit.
    pub limit: Limit,
    /// Whether the figures are not those of the server.
    pub was_the_limit: bool,
    /// The same for people; empty if there is nothing to say.
    pub reason: String,
    /// Processor time of the thread that sends and reads, in percent of the measured time.
    pub cpu_percent: u64,
    /// How long that thread was ready and had no processor, in percent of the measured time; if the system tells.
    pub kept_waiting_percent: Option<u64>,
    /// Processor time of that thread for each pay request and query, in nanoseconds.
    pub cpu_ns_per_request: u64,
    /// Processor time of the thread that makes and signs pay requests ahead, over the whole run, in milliseconds.
    pub maker_cpu_ms: u64,
    /// How long payments could have left and did not.
    pub lag_us: Percentiles,
    /// How long all connections were busy when payments were due.
    pub connection_wait_us: Percentiles,
    /// Payments that waited for a connection, in percent.
    pub waited_percent: u64,
    /// How long all connections for queries were busy when queries were due.
    pub query_wait_us: Percentiles,
    /// Queries that waited for a connection, in percent.
    pub queries_waited_percent: u64,
    /// Payments due in time that had not left when the time was over.
    pub left_behind: u64,
    /// Payments that were made too late.
    pub unprepared: u64,
    /// Connections that broke.
    pub connections_lost: u64,
    /// Connections that could not be opened.
    pub connects_failed: u64,
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Where payments were sent.
    pub target: String,
    /// What every `out_trade_no` of the run begins with.
    pub numbers: String,
    /// `poisson` or `constant`.
    pub arrivals: &'static str,
    /// What arrivals and customers were drawn with.
    pub seed: u64,
    /// Customers and their shares.
    pub customers: String,
    /// The rate that was asked for.
    pub rate: u32,
    /// Sent before, not measured.
    pub warmup_s: u64,
    /// Measured.
    pub duration_s: u64,
    /// Connections for pay requests.
    pub connections: usize,
    /// Connections that queries had.
    pub poll_connections: usize,
    /// Payments due in the measured time.
    pub due: u64,
    /// Of those, payments that were never sent.
    pub unsent: u64,
    /// Payments due in each measured second.
    pub due_per_second: f64,
    /// Pay requests answered in each measured second.
    pub answered_per_second: f64,
    /// Those of them that were taken: paid, open or refused by the wallet, not turned away.
    pub taken_per_second: f64,
    /// Pay requests.
    pub payments: Requests,
    /// Queries about payments that were not decided.
    pub polls: Requests,
    /// From the moment at which a payment was due to its definite word, where its first answer was not one.
    pub definite_us: Percentiles,
    /// The most payments that were asked about at once.
    pub open_max: u64,
    /// How payments ended.
    pub outcomes: Outcomes,
    /// How the generator did.
    pub generator: Generator,
    /// What the wallet's books say, if they were looked at.
    pub books: Option<Books>,
    /// Whether somebody ended the run before its time.
    pub interrupted: bool,
    /// From the first payment to the end.
    pub elapsed_ms: u64,
}

impl Report {
    pub(crate) fn new(plan: &Plan, measured: &Measured) -> Self {
        let outcomes = Heard::outcomes(measured.words.get(measured.warmup_payments..).unwrap_or_default());
        let window_ns = plan.duration.as_nanos().try_into().unwrap_or(u64::MAX);
        let per_second = |count| per_second(count, window_ns);
        Self {
            target: plan.target.to_string(),
            numbers: plan.number_prefix(),
            arrivals: plan.arrivals.as_str(),
            seed: plan.seed,
            customers: plan.customers.text(),
            rate: plan.per_second,
            warmup_s: plan.warmup.as_secs(),
            duration_s: plan.duration.as_secs(),
            connections: plan.connections,
            poll_connections: measured.poll_connections,
            due: measured.due,
            unsent: measured.due.saturating_sub(measured.payments.sent),
            due_per_second: per_second(measured.due),
            answered_per_second: per_second(measured.answered_in_time),
            taken_per_second: per_second(measured.taken_in_time),
            payments: Requests::of(&measured.payments),
            polls: Requests::of(&measured.polls),
            definite_us: Percentiles::of(&measured.definite),
            open_max: measured.open_max,
            outcomes: Outcomes {
                paid: outcomes.paid,
                not_paid: outcomes.not_paid,
                reversed: outcomes.reversed,
                not_taken: outcomes.not_taken,
                open: outcomes.open,
                unknown: outcomes.unknown,
                wrong_amount: outcomes.wrong_amount,
            },
            generator: Generator::of(plan, measured),
            books: None,
            interrupted: measured.interrupted,
            elapsed_ms: measured.elapsed_ns / 1_000_000,
        }
    }
}

impl Generator {
    fn of(plan: &Plan, measured: &Measured) -> Self {
        let payments = &measured.payments;
        let requests = payments.sent + measured.polls.sent;
        let mut generator = Self {
            limit: Limit::None,
            was_the_limit: false,
            reason: String::new(),
            cpu_percent: percent(measured.cpu_ns, measured.cpu_span_ns),
            kept_waiting_percent: measured.runqueue_ns.map(|ns| percent(ns, measured.cpu_span_ns)),
            cpu_ns_per_request: measured.cpu_ns.checked_div(requests).unwrap_or(0),
            maker_cpu_ms: measured.maker_cpu_ns / 1_000_000,
            lag_us: Percentiles::of(&payments.lag),
            connection_wait_us: Percentiles::of(&payments.wait),
            waited_percent: waited_percent(payments),
            query_wait_us: Percentiles::of(&measured.polls.wait),
            queries_waited_percent: waited_percent(&measured.polls),
            left_behind: measured.left_behind,
            unprepared: measured.unprepared,
            connections_lost: measured.connections_lost,
            connects_failed: measured.connects_failed,
        };
        (generator.limit, generator.reason) =
            verdict(&generator, Percentiles::of(&payments.latency).p99, measured, plan);
        generator.was_the_limit = generator.limit != Limit::None;
        generator
    }
}

/// Which side was at its limit, and how that is seen.
fn verdict(seen: &Generator, latency_us_p99: u64, measured: &Measured, plan: &Plan) -> (Limit, String) {
    let due = measured.due;
    let mut reasons = Vec::new();
    if seen.cpu_percent >= CPU_PERCENT_MAX {
        reasons.push(format!("its thread used {} % of a processor", seen.cpu_percent));
    }
    if let Some(kept) = seen.kept_waiting_percent.filter(|kept| *kept >= KEPT_PERCENT_MAX) {
        reasons.push(format!("its thread was kept from a processor {kept} % of the time"));
    }
    if seen.unprepared > due / 100 {
        reasons.push(format!("{} payments were made too late", seen.unprepared));
    }
    let lag = seen.lag_us.p99;
    if lag > LAG_US_MIN && lag > latency_us_p99 / LAG_PART {
        reasons.push(format!(
            "payments left up to {} late (99 %), beside a latency of {}",
            text_us(lag),
            text_us(latency_us_p99)
        ));
    }
    if !reasons.is_empty() {
        let text = format!(
            "The generator was the limit, not the server: {}. Lower --rate, or give it a processor of its own.",
            reasons.join("; ")
        );
        return (Limit::Generator, text);
    }
    let connections = plan.connections;
    let left = seen.left_behind;
    if (left > due / 100 && left > u64::try_from(connections).unwrap_or(u64::MAX)) || seen.waited_percent > 50
    {
        let text = format!(
            "The generator was the limit, not the server, unless more connections change nothing: all {connections} \
             were busy when {} % of the payments were due, and {left} had not left when the time was over. Raise \
             --connections; if as few are answered, the server is at its end.",
            seen.waited_percent
        );
        return (Limit::Connections, text);
    }
    if seen.queries_waited_percent > QUERIES_WAITED_PERCENT_MAX {
        let text = format!(
            "The generator was the limit, not the server, of how soon a definite word came: all {} connections for \
             queries were busy when {} % of them were due, for {} (99 %). Raise --poll-connections.",
            measured.poll_connections,
            seen.queries_waited_percent,
            text_us(seen.query_wait_us.p99)
        );
        return (Limit::Connections, text);
    }
    (Limit::None, String::new())
}

/// Requests that waited for a connection for a microsecond or more, in percent.
fn waited_percent(traffic: &Traffic) -> u64 {
    percent(traffic.wait.len() - traffic.wait.count_between(0, 0), traffic.sent)
}

/// `part` of `whole`, in whole percent.
fn percent(part: u64, whole: u64) -> u64 {
    let percent = u128::from(part) * 100 / u128::from(whole.max(1));
    u64::try_from(percent).unwrap_or(u64::MAX)
}

/// `count` in each second of `span_ns`, to one digit after the point.
#[expect(clippy::float_arithmetic, reason = "a rate in a report, to one digit after the point")]
fn per_second(count: u64, span_ns: u64) -> f64 {
    let tenths = u128::from(count) * 10 * u128::from(SECOND_NS) / u128::from(span_ns.max(1));
    f64::from(u32::try_from(tenths).unwrap_or(u32::MAX)) / 10.0
}

#[cfg(test)]
mod tests;
