//! What a till is told, from the durable record alone.
//!
//! Pure: the gateway turns these into XML or JSON. Source: DESIGN §4.

use planted::planted;
use protocol::fact::{Paid, Row};

use crate::record::{Cause, Record, State, TillReversal};
use crate::shard::{NotAccepted, Said};

/// An answer to `/pay/micropay`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayAnswer<'a> {
    /// `result_code` SUCCESS with the wallet's fields.
    Paid(&'a Paid),
    /// `result_code` FAIL.
    Fail(Fail<'a>),
}

/// A `result_code` FAIL: what went into `err_code` and `err_code_des`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fail<'a> {
    /// `err_code`.
    pub code: &'a str,
    /// `err_code_des`, for the cashier.
    pub description: &'a str,
}

impl<'a> Fail<'a> {
    const fn new(code: &'a str, description: &'a str) -> Self {
        Self { code, description }
    }
}

/// An answer to `/pay/orderquery` for a number that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueryAnswer<'a> {
    /// `trade_state`.
    pub trade_state: &'static str,
    /// `trade_state_desc`, for the cashier.
    pub description: &'a str,
    /// The wallet's fields, where money was paid.
    pub paid: Option<&'a Paid>,
}

/// An answer to `/secapi/pay/reverse`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReverseAnswer {
    /// SUCCESS, `recall=N`: no money is kept, and that is proven.
    Done,
    /// FAIL SYSTEMERROR, `recall=Y`: not proven yet, call again.
    CallAgain,
    /// FAIL REVERSE_EXPIRE, `recall=N`: older than 7 days, nothing was done; use a refund.
    TooOld,
}

/// `state` of the JSON API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonState {
    /// Accepted; the outcome is not known yet.
    Processing,
    /// The customer is asked for the password.
    AwaitingPassword,
    /// Paid.
    Paid,
    /// Not paid.
    Failed,
    /// Not paid; the money, if any was taken, is on its way back.
    Reversing,
    /// Not paid, or paid and returned; proven.
    Reversed,
}

impl JsonState {
    /// Every state.
    pub const ALL: [Self; 6] =
        [Self::Processing, Self::AwaitingPassword, Self::Paid, Self::Failed, Self::Reversing, Self::Reversed];

    /// The state with this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Processing => "processing",
            Self::AwaitingPassword => "awaiting_password",
            Self::Paid => "paid",
            Self::Failed => "failed",
            Self::Reversing => "reversing",
            Self::Reversed => "reversed",
        }
    }
}

/// What the customer is doing, while a payment is open.
pub const TEXT_PASSWORD: &str = "需要用户输入支付密码";
/// The outcome is being asked for.
pub const TEXT_UNCLEAR: &str = "结果确认中，请查询";
/// The outcome is unknown and an operator is on it.
pub const TEXT_HELD: &str = "结果未知，请勿重复收款，请联系服务商";
/// The payment will not happen; money, if any was taken, goes back.
pub const TEXT_REVERSED: &str = "支付未完成，订单已撤销，如已扣款将退回";

const CONFIGURATION: Fail<'static> = Fail::new("NOAUTH", "服务商配置错误");

/// The answer to a request to pay.
#[must_use]
pub fn pay(record: &Record, said: Said) -> PayAnswer<'_> {
    let closed_number = record.amount.is_none();
    if matches!(said, Said::OtherContent) && !closed_number {
        return PayAnswer::Fail(Fail::new("OUT_TRADE_NO_USED", "商户订单号重复，内容不一致，本次未扣款"));
    }
    let fresh = matches!(said, Said::Fresh | Said::Watched);
    let reversed = matches!(record.till_reversal, TillReversal::Done);
    match record.state {
        State::Accepted | State::Pending if planted!(OpenAsFailed) => PayAnswer::Fail(failure(record)),
        State::Accepted | State::Pending => PayAnswer::Fail(Fail::new("USERPAYING", open_text(record))),
        State::Paid if reversed => PayAnswer::Fail(Fail::new("ORDERREVERSED", TEXT_REVERSED)),
        State::Paid => match &record.paid {
            Some(paid) if fresh => PayAnswer::Paid(paid),
            Some(_) | None => PayAnswer::Fail(Fail::new("ORDERPAID", "该订单已支付")),
        },
        State::Failed => PayAnswer::Fail(failure(record)),
        State::Reversing | State::Reversed => PayAnswer::Fail(Fail::new("ORDERREVERSED", TEXT_REVERSED)),
    }
}

/// What is said of an open payment.
#[must_use]
pub fn open_text(record: &Record) -> &'static str {
    if record.held.is_some() {
        TEXT_HELD
    } else if matches!(record.state, State::Pending) {
        TEXT_PASSWORD
    } else {
        TEXT_UNCLEAR
    }
}

/// Why a FAILED payment failed, in the wallet's words where it had any. The provider's own faults are not
/// the till's business.
fn failure(record: &Record) -> Fail<'_> {
    if let Some(refusal) = &record.refusal {
        let code = refusal.code.as_str();
        let ours = matches!(code, "SIGNERROR" | "NOAUTH")
            || code.starts_with("APPID_")
            || code.starts_with("MCHID_");
        // To a till this word says that it has its money (A12): from us it only ever means that.
        if code == "ORDERPAID" {
            return Fail::new("OUT_TRADE_NO_USED", "商户订单号已被使用，本次未扣款，请更换单号重新下单");
        }
        return if ours { CONFIGURATION } else { Fail::new(code, &refusal.description) };
    }
    match record.cause {
        Some(Cause::Row(Row::A1)) => Fail::new("TRADE_ERROR", "支付请求未能送达，未扣款，请重新下单"),
        Some(Cause::Row(Row::B8)) => Fail::new("ORDERCLOSED", "订单已关闭，未扣款"),
        Some(Cause::Row(Row::B9)) => Fail::new("ORDERREVERSED", "订单已全额退款"),
        Some(
            Cause::Row(_)
            | Cause::Deadline
            | Cause::Till
            | Cause::Overtaken
            | Cause::AbsentTill
            | Cause::Rescan,
        )
        | None => Fail::new("TRADE_ERROR", "支付失败，未扣款"),
    }
}

/// The answer to a query.
#[must_use]
pub fn query(record: &Record) -> QueryAnswer<'_> {
    let paid = record.paid.as_deref();
    let revoked = QueryAnswer { trade_state: "REVOKED", description: "订单已撤销", paid: None };
    let done = matches!(record.till_reversal, TillReversal::Done);
    match record.state {
        State::Accepted | State::Pending => {
            QueryAnswer { trade_state: "USERPAYING", description: open_text(record), paid: None }
        }
        State::Paid | State::Failed if done => revoked,
        State::Paid if record.refunded_fen > 0 => {
            QueryAnswer { trade_state: "REFUND", description: "订单发生过退款", paid }
        }
        State::Paid => QueryAnswer { trade_state: "SUCCESS", description: "支付成功", paid },
        State::Failed => {
            QueryAnswer { trade_state: "PAYERROR", description: failure(record).description, paid: None }
        }
        State::Reversing if matches!(record.cause, Some(Cause::Till)) => {
            QueryAnswer { trade_state: "USERPAYING", description: "订单撤销中", paid: None }
        }
        State::Reversing => QueryAnswer { trade_state: "PAYERROR", description: TEXT_REVERSED, paid: None },
        State::Reversed => revoked,
    }
}

/// The answer to a reversal.
#[must_use]
pub fn reverse(record: &Record, said: Said) -> ReverseAnswer {
    if matches!(said, Said::TooOld) {
        return ReverseAnswer::TooOld;
    }
    match record.state {
        State::Failed | State::Reversed => ReverseAnswer::Done,
        State::Reversing if planted!(ReversalToldDone) => ReverseAnswer::Done,
        State::Paid => match record.till_reversal {
            TillReversal::Done => ReverseAnswer::Done,
            TillReversal::None | TillReversal::Asked => ReverseAnswer::CallAgain,
        },
        State::Accepted | State::Pending | State::Reversing => ReverseAnswer::CallAgain,
    }
}

/// Whether a reversal need not be waited for any more.
#[must_use]
pub fn reversal_is_over(record: &Record) -> bool {
    matches!(reverse(record, Said::Reversal), ReverseAnswer::Done)
}

/// `state` of the JSON API.
#[must_use]
pub const fn json_state(state: State, till_reversal: TillReversal) -> JsonState {
    match state {
        State::Accepted => JsonState::Processing,
        State::Pending => JsonState::AwaitingPassword,
        State::Paid => match till_reversal {
            TillReversal::None => JsonState::Paid,
            TillReversal::Asked => JsonState::Reversing,
            TillReversal::Done => JsonState::Reversed,
        },
        State::Failed => JsonState::Failed,
        State::Reversing => JsonState::Reversing,
        State::Reversed => JsonState::Reversed,
    }
}

/// `state` and, where it failed, `failure` of the JSON API.
#[must_use]
pub fn json(record: &Record) -> (JsonState, Option<Fail<'_>>) {
    let failure = match record.state {
        State::Accepted | State::Pending | State::Paid => None,
        State::Failed => Some(failure(record)),
        State::Reversing | State::Reversed => Some(Fail::new("ORDERREVERSED", TEXT_REVERSED)),
    };
    (json_state(record.state, record.till_reversal), failure)
}

/// `err_code` and text of a request to pay that was not taken because of `first`, an earlier payment of the same till for
/// the same amount: nothing was stored and nothing was sent for it. The code says that there is nothing to ask about.
#[must_use]
pub fn unsettled(first: &Record) -> (&'static str, String) {
    let stands = match json_state(first.state, first.till_reversal) {
        JsonState::Processing | JsonState::AwaitingPassword if first.held.is_some() => {
            "结果未知，请联系服务商"
        }
        JsonState::Processing => "结果确认中，请先查询",
        JsonState::AwaitingPassword => "等待用户输入支付密码，请先查询或撤销",
        JsonState::Paid => "已支付，请勿重复收款",
        JsonState::Reversing => "撤销中，请稍后重新扫码",
        JsonState::Failed | JsonState::Reversed => "未支付，请重新扫码",
    };
    ("TRADE_ERROR", format!("上一笔同金额订单{}{stands}。本次未受理，未扣款", first.key.number))
}

/// `err_code` and text of a request to pay that was not taken: nothing was stored and nothing was sent for it.
#[must_use]
pub const fn not_accepted(why: NotAccepted) -> Fail<'static> {
    match why {
        NotAccepted::Full | NotAccepted::Throttled | NotAccepted::StoreBusy => {
            Fail::new("FREQUENCY_LIMITED", "系统繁忙，未受理，未扣款，请稍后重试；重复提交的订单请先查询")
        }
        // Other requests with the number were taken: never "not charged".
        NotAccepted::Crowded => Fail::new("USERPAYING", TEXT_UNCLEAR),
        NotAccepted::Stopping => {
            Fail::new("FREQUENCY_LIMITED", "系统维护中，未受理，未扣款，请稍后重试；重复提交的订单请先查询")
        }
        NotAccepted::Suspended => Fail::new(
            "FREQUENCY_LIMITED",
            "通道暂停收款，未受理，未扣款，请联系服务商；重复提交的订单请先查询",
        ),
        // Not FREQUENCY_LIMITED: the same request never succeeds.
        NotAccepted::Expired => Fail::new("PARAM_ERROR", "已超过time_expire，未受理，未扣款，请重新下单"),
    }
}
