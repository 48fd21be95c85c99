//! A payment as JSON. Also what the admin commands show. Source: DESIGN §4.

use jiff::Timestamp;
use serde::Serialize;
use state_machine::till::{self, JsonState};
use state_machine::{Record, UnixMs};

/// A payment as its merchant sees it.
#[derive(Clone, Debug, Serialize)]
pub struct Payment {
    out_trade_no: String,
    state: &'static str,
    /// Absent only where a reversal closed a number that was never seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    amount_fen: Option<u64>,
    channel: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    transaction_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    paid_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    openid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<Failure>,
    created_at: String,
}

/// Why a payment failed.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    code: String,
    message: String,
}

impl Payment {
    /// The payment that `record` is of.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        let (state, failure) = till::json(record);
        // What was paid and is kept, or is being returned at the merchant's wish; never under a failure.
        let shown =
            record.paid.as_deref().filter(|_| failure.is_none() && !matches!(state, JsonState::Failed));
        Self {
            out_trade_no: record.key.number.to_string(),
            state: state.as_str(),
            amount_fen: record.amount.map(protocol::Fen::get),
            channel: record.channel.as_str(),
            transaction_id: shown.map(|paid| paid.transaction_id.to_string()),
            paid_at: shown
                .and_then(|paid| paid.time_end_s)
                .and_then(|s| rfc3339(UnixMs(s.saturating_mul(1_000)))),
            openid: shown.and_then(|paid| paid.fields.get("openid")).map(str::to_owned),
            failure: failure
                .map(|fail| Failure { code: fail.code.to_owned(), message: fail.description.to_owned() }),
            created_at: rfc3339(record.accepted_at).unwrap_or_default(),
        }
    }
}

/// A moment as RFC 3339 in UTC, to the second, or to the millisecond where there are any; `None` outside the
/// years that it can write.
#[must_use]
pub fn rfc3339(at: UnixMs) -> Option<String> {
    Timestamp::from_millisecond(at.0).ok().map(|moment| moment.to_string())
}

#[cfg(test)]
mod tests {
    use super::rfc3339;
    use state_machine::UnixMs;

    #[test]
    fn moments_are_utc() {
        for (ms, text) in [
            (1_795_400_103_000, Some("2026-11-23T02:15:03Z")),
            (1_795_400_103_007, Some("2026-11-23T02:15:03.007Z")),
            (0, Some("1970-01-01T00:00:00Z")),
            (i64::MAX, None),
        ] {
            assert_eq!(rfc3339(UnixMs(ms)).as_deref(), text);
        }
    }
}
