//! What an answer of the wallet means: transport outcome, parsed reply and signature → a neutral fact.
//!
//! One function for each operation, one line for each row of the decision table. Only verified answers
//! decide (G1): signed, of the merchant asked about, of the order asked about, and with an amount where
//! money moved. Whatever does not fit may alarm, never decide. Source: wechatpay-v2 §2.2, §2.3, §4.5.

mod pay;
mod query;
mod refund;
mod refunds;
mod reply;
mod reverse;

pub use pay::micropay;
pub use query::orderquery;
pub use refund::refund;
pub use refunds::{Pages, RefundRecord, RefundsPage, refundquery};
pub use reverse::reverse;

use crate::amount::Fen;
use crate::fact::Row;
use crate::ids::{OutTradeNo, Text};
use crate::xml::Message;

/// How a call ended, as far as the transport knows.
#[derive(Clone, Copy, Debug)]
pub enum Exchange<'a> {
    /// Not one byte of the request was written to a connection.
    Unsent,
    /// Something may have been sent; no whole answer came.
    Lost,
    /// The peer did not take our client certificate, in the handshake.
    NoCertificate,
    /// A whole answer came.
    Answer {
        /// HTTP status.
        status: u16,
        /// HTTP body.
        body: &'a [u8],
    },
    /// A whole answer came with HTTP status 200, and has been read.
    Message(Message<'a>),
}

/// What the check of a message's signature found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signature {
    /// It is that of our key over every pair.
    Valid,
    /// There is none.
    Missing,
    /// It is another.
    Wrong,
}

/// What the answer must be about, from our own record.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The provider's `appid`, as it was sent.
    pub appid: &'a str,
    /// The provider's number, as it was sent.
    pub mch_id: &'a str,
    /// The sub-merchant's `appid`, if it was sent.
    pub sub_appid: Option<&'a str>,
    /// The sub-merchant's number, if it was sent.
    pub sub_mch_id: Option<&'a str>,
    /// The number of the payment.
    pub out_trade_no: &'a OutTradeNo,
    /// The amount of the payment, if it is known to the caller.
    pub amount: Option<Fen>,
    /// Whether the request can have reached the wallet once at most (G4).
    pub delivered_once: bool,
}

/// What an operator must hear of, one kind for each cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Alarm {
    /// An unsigned refusal whose text speaks of signature, parameters, XML or permission (A3).
    UnsignedRefusal,
    /// An answer without signature, or with a wrong one, or without what it must carry (A5, B1).
    NotVerified,
    /// A signed answer about another merchant (A5, B5).
    WrongMerchant,
    /// A signed answer about another order (A5, B1).
    WrongOrder,
    /// A signed answer with another amount, or refunds that exceed their payment (A5, B5).
    AmountDiffers,
    /// A word that this version does not know.
    UnknownWord,
    /// The wallet refuses our configuration (A15).
    Misconfigured,
    /// The number belongs to another payment (A12, A13).
    NumberTaken,
    /// The client certificate was not accepted (C8).
    NoCertificate,
    /// A reversal was refused (C7).
    ReversalRefused,
    /// A refund was refused (D3, D5).
    RefundRefused,
}

impl Alarm {
    /// Its name in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnsignedRefusal => "unsigned_refusal",
            Self::NotVerified => "not_verified",
            Self::WrongMerchant => "wrong_merchant",
            Self::WrongOrder => "wrong_order",
            Self::AmountDiffers => "amount_differs",
            Self::UnknownWord => "unknown_word",
            Self::Misconfigured => "misconfigured",
            Self::NumberTaken => "number_taken",
            Self::NoCertificate => "no_certificate",
            Self::ReversalRefused => "reversal_refused",
            Self::RefundRefused => "refund_refused",
        }
    }
}

/// What one answer comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict<F> {
    /// The row of the decision table.
    pub row: Row,
    /// What the automata are told.
    pub fact: F,
    /// What an operator is told.
    pub alarm: Option<Alarm>,
    /// Whether the connection may serve another request; false after anything that does not fit. Source: §1.2.
    pub keep_connection: bool,
    /// Whether the wallet asks for fewer calls. A hint for the pace, never an outcome.
    pub throttled: bool,
    /// The wallet's `err_code`, for logs and metrics; verified or not.
    pub err_code: Option<Text<32>>,
}

/// A row with what it says: the short form in which the tables are written.
struct Line<F> {
    row: Row,
    fact: F,
    alarm: Option<Alarm>,
}

/// A line without an alarm.
fn line<F>(row: Row, fact: F) -> Line<F> {
    Line { row, fact, alarm: None }
}

impl<F> Line<F> {
    fn alarm(self, alarm: Alarm) -> Self {
        Self { alarm: Some(alarm), ..self }
    }

    /// The verdict of a verified answer.
    fn fits(self, reply: &reply::Reply<'_>) -> Verdict<F> {
        Verdict {
            keep_connection: true,
            throttled: reply.throttled(),
            err_code: reply.err_code(),
            row: self.row,
            fact: self.fact,
            alarm: self.alarm,
        }
    }

    /// The verdict of an answer that does not fit, or of none.
    fn unfit(self, misfit: &reply::Misfit) -> Verdict<F> {
        Verdict {
            keep_connection: false,
            throttled: misfit.throttled,
            err_code: misfit.err_code,
            alarm: self.alarm.or(misfit.alarm),
            row: self.row,
            fact: self.fact,
        }
    }
}

/// Codes that refuse our configuration or our program, not the payment (A15). Source: wechatpay-v2 §3.1.
fn is_configuration(err_code: &str) -> bool {
    matches!(
        err_code,
        "NOAUTH"
            | "PARAM_ERROR"
            | "LACK_PARAMS"
            | "SIGNERROR"
            | "XML_FORMAT_ERROR"
            | "REQUIRE_POST_METHOD"
            | "POST_DATA_EMPTY"
            | "NOT_UTF8"
    ) || err_code.starts_with("APPID_")
        || err_code.starts_with("MCHID_")
}
