//! What a till hears, by the words on its wire and nothing else. Source: DESIGN §4.

use state_machine::shard::NotAccepted;
use state_machine::till::{PayAnswer, QueryAnswer, ReverseAnswer};

/// What a till was told, or that it heard nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// `result_code` SUCCESS, or `trade_state` SUCCESS.
    Paid,
    /// ORDERPAID: it has been paid before.
    OrderPaid,
    /// `trade_state` REFUND: paid, and something went back.
    Refunded,
    /// USERPAYING: not known yet.
    Open,
    /// A refusal or PAYERROR: it will never be paid.
    Failed,
    /// ORDERREVERSED, ORDERCLOSED: it will never be paid.
    Closing,
    /// `trade_state` REVOKED: no money is kept.
    Revoked,
    /// OUT_TRADE_NO_USED: says nothing of an outcome.
    NumberUsed,
    /// ORDERNOTEXIST.
    NotExist,
    /// Refused before anything was stored.
    NotAccepted(NotAccepted),
    /// The same, because of an earlier payment of the same till for the same amount.
    Unsettled,
    /// The reversal is done.
    ReverseDone,
    /// The reversal is not done yet.
    ReverseAgain,
    /// The reversal cannot be taken any more.
    TooOld,
    /// The reversal was not taken: nothing was stored.
    ReverseRefused,
    /// No answer: a connection that broke.
    Lost,
}

impl Told {
    pub(super) fn of_pay(answer: &PayAnswer<'_>) -> Self {
        match answer {
            PayAnswer::Paid(_) => Self::Paid,
            PayAnswer::Fail(fail) => match fail.code {
                "USERPAYING" => Self::Open,
                "ORDERPAID" => Self::OrderPaid,
                "ORDERREVERSED" | "ORDERCLOSED" => Self::Closing,
                "OUT_TRADE_NO_USED" => Self::NumberUsed,
                _ => Self::Failed,
            },
        }
    }

    pub(super) fn of_query(answer: &QueryAnswer<'_>) -> Self {
        match answer.trade_state {
            "SUCCESS" => Self::Paid,
            "REFUND" => Self::Refunded,
            "USERPAYING" => Self::Open,
            "REVOKED" => Self::Revoked,
            _ => Self::Failed,
        }
    }

    pub(super) const fn of_reverse(answer: ReverseAnswer) -> Self {
        match answer {
            ReverseAnswer::Done => Self::ReverseDone,
            ReverseAnswer::CallAgain => Self::ReverseAgain,
            ReverseAnswer::TooOld => Self::TooOld,
        }
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Paid => "SUCCESS",
            Self::OrderPaid => "ORDERPAID",
            Self::Refunded => "REFUND",
            Self::Open => "USERPAYING",
            Self::Failed => "PAYERROR",
            Self::Closing => "ORDERREVERSED",
            Self::Revoked => "REVOKED",
            Self::NumberUsed => "OUT_TRADE_NO_USED",
            Self::NotExist => "ORDERNOTEXIST",
            Self::NotAccepted(why) => match why {
                NotAccepted::Full => "not_accepted:full",
                NotAccepted::Crowded => "not_accepted:crowded",
                NotAccepted::Throttled => "not_accepted:throttled",
                NotAccepted::StoreBusy => "not_accepted:store_busy",
                NotAccepted::Stopping => "not_accepted:stopping",
                NotAccepted::Suspended => "not_accepted:suspended",
                NotAccepted::Expired => "not_accepted:expired",
            },
            Self::Unsettled => "not_accepted:unsettled",
            Self::ReverseDone => "reverse:done",
            Self::ReverseAgain => "reverse:call_again",
            Self::TooOld => "reverse:too_old",
            Self::ReverseRefused => "reverse:not_accepted",
            Self::Lost => "(nothing)",
        }
    }

    /// Whether it says that the customer's money is there.
    pub(super) const fn says_paid(self) -> bool {
        matches!(self, Self::Paid | Self::OrderPaid | Self::Refunded)
    }

    /// Whether it says that the order is not paid and never will be.
    pub(super) const fn says_never(self) -> bool {
        matches!(self, Self::Failed | Self::Closing)
    }

    /// Whether it says nothing of an order.
    pub(super) const fn says_nothing(self) -> bool {
        matches!(
            self,
            Self::NotExist
                | Self::NotAccepted(_)
                | Self::Unsettled
                | Self::TooOld
                | Self::ReverseRefused
                | Self::Lost
        )
    }

    /// Whether it says that no money is kept.
    pub(super) const fn says_returned(self) -> bool {
        matches!(self, Self::Revoked | Self::ReverseDone)
    }
}
