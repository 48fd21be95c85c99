//! What is counted for every payment, looked up once: an event is an addition, without a lock and without a name.

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use state_machine::Channel;

use super::families::{
    BATCH_RECORDS, COMMIT_SECONDS, CONNECTIONS, DETECTION_DELAY, PAYMENTS, QUERIES, REFUSALS,
    REQUEST_SECONDS, REVERSALS, TIMER_LAG, TOLD_DELAY, UPSTREAM_REQUESTS, UPSTREAM_SECONDS,
    UPSTREAM_THROTTLED,
};
use super::labels::{Ask, CallOutcome, Operation, Outcome, Refusal};

/// Of one channel; places are the numbers of the labels.
pub(super) struct OfChannel {
    pub(super) payments: [Counter; Outcome::ALL.len()],
    pub(super) requests: [[Counter; CallOutcome::ALL.len()]; Operation::ALL.len()],
    pub(super) throttled: [Counter; Operation::ALL.len()],
    pub(super) seconds: [Histogram; Operation::ALL.len()],
    pub(super) reversals: Counter,
}

impl OfChannel {
    fn new(channel: Channel) -> Self {
        let channel = channel.as_str();
        Self {
            payments: Outcome::ALL
                .map(|outcome| counter!(PAYMENTS, "channel" => channel, "outcome" => outcome.as_str())),
            requests: Operation::ALL.map(|operation| {
                CallOutcome::ALL.map(|outcome| {
                    counter!(UPSTREAM_REQUESTS, "channel" => channel, "operation" => operation.as_str(), "outcome" => outcome.as_str())
                })
            }),
            throttled: Operation::ALL.map(|operation| {
                counter!(UPSTREAM_THROTTLED, "channel" => channel, "operation" => operation.as_str())
            }),
            seconds: Operation::ALL.map(|operation| {
                histogram!(UPSTREAM_SECONDS, "channel" => channel, "operation" => operation.as_str())
            }),
            reversals: counter!(REVERSALS, "channel" => channel),
        }
    }
}

/// Of all channels.
pub(super) struct Handles {
    wechat_v2: OfChannel,
    pub(super) detection_delay: Histogram,
    pub(super) told_delay: Histogram,
    pub(super) queries: Histogram,
    pub(super) commit_seconds: Histogram,
    pub(super) batch_records: Histogram,
    pub(super) timer_lag: Histogram,
    pub(super) asked: [Histogram; Ask::ALL.len()],
    pub(super) refusals: [Counter; Refusal::ALL.len()],
    pub(super) connections: Gauge,
}

impl Handles {
    /// Every one of them appears at 0.
    pub(super) fn new() -> Self {
        let handles = Self {
            wechat_v2: OfChannel::new(Channel::WechatV2),
            detection_delay: histogram!(DETECTION_DELAY),
            told_delay: histogram!(TOLD_DELAY),
            queries: histogram!(QUERIES),
            commit_seconds: histogram!(COMMIT_SECONDS),
            batch_records: histogram!(BATCH_RECORDS),
            timer_lag: histogram!(TIMER_LAG),
            asked: Ask::ALL.map(|asked| histogram!(REQUEST_SECONDS, "operation" => asked.as_str())),
            refusals: Refusal::ALL.map(|refusal| counter!(REFUSALS, "outcome" => refusal.as_str())),
            connections: gauge!(CONNECTIONS),
        };
        handles.connections.set(0.0);
        handles
    }

    pub(super) const fn of(&self, channel: Channel) -> &OfChannel {
        match channel {
            Channel::WechatV2 => &self.wechat_v2,
        }
    }
}
