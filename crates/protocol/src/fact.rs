//! What a wallet's answer means, in words that belong to no wallet.
//!
//! The automata of `state-machine` know only these facts; a channel is a mapping from its wire to them
//! (`wechat_v2::verdict`). None of the `Unclear` facts says whether the payer was charged.

use std::fmt;

use crate::amount::Fen;
use crate::fields::Fields;
use crate::ids::{Text, TransactionId};

macro_rules! rows {
    ($($(#[$doc:meta])* $row:ident = $code:literal,)*) => {
        /// A row of the decision table. Source: wechatpay-v2 §4.5, tables A to D.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Row { $($(#[$doc])* $row = $code,)* }

        impl Row {
            /// Every row, in the order of the tables.
            pub const ALL: &'static [Self] = &[$(Self::$row,)*];

            /// Its id, as in the reference: `A9`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$row => stringify!($row),)* }
            }

            /// The number under which it is recorded; never reused.
            #[must_use]
            pub const fn code(self) -> u8 {
                match self { $(Self::$row => $code,)* }
            }

            /// The row recorded under `code`.
            #[must_use]
            pub const fn from_code(code: u8) -> Option<Self> {
                match code { $($code => Some(Self::$row),)* _ => None }
            }
        }
    };
}

rows! {
    /// Pay request proven unsent.
    A1 = 1,
    /// Pay answer lost, cut, not HTTP 200 or not XML.
    A2 = 2,
    /// Unsigned refusal: signature, parameter, XML or permission.
    A3 = 3,
    /// Unsigned refusal with any other text.
    A4 = 4,
    /// `return_code` SUCCESS, but not verified.
    A5 = 5,
    /// Paid.
    A6 = 6,
    /// The customer is asked for the password.
    A7 = 7,
    /// SYSTEMERROR, BANKERROR.
    A8 = 8,
    /// The code is refused.
    A9 = 9,
    /// A refusal of a request that may have been delivered twice.
    A10 = 10,
    /// The payment is declined.
    A11 = 11,
    /// The number is paid already.
    A12 = 12,
    /// The number may belong to an earlier order.
    A13 = 13,
    /// The number is closed or reversed.
    A14 = 14,
    /// Configuration refused.
    A15 = 15,
    /// Throttled.
    A16 = 16,
    /// An `err_code` that the table does not list, or none.
    A17 = 17,
    /// Query without a usable answer.
    B1 = 21,
    /// Not found, early.
    B2 = 22,
    /// Not found, late.
    B3 = 23,
    /// Paid.
    B4 = 24,
    /// Paid, but another amount, merchant or time.
    B5 = 25,
    /// Undecided.
    B6 = 26,
    /// PAYERROR.
    B7 = 27,
    /// Revoked or closed.
    B8 = 28,
    /// Paid, and refunds exist.
    B9 = 29,
    /// Reversal answered done.
    C1 = 41,
    /// Call again.
    C2 = 42,
    /// Reversal without a usable answer.
    C3 = 43,
    /// SYSTEMERROR.
    C4 = 44,
    /// The customer is in the password dialog.
    C5 = 45,
    /// Too old to reverse.
    C6 = 46,
    /// Reversal refused.
    C7 = 47,
    /// Client certificate or TLS fault.
    C8 = 48,
    /// The order is absent.
    C9 = 49,
    /// Not proven for long.
    C10 = 50,
    /// Refund accepted.
    D1 = 61,
    /// Refund without a usable answer.
    D2 = 62,
    /// The merchant's funds are insufficient.
    D3 = 63,
    /// Throttled.
    D4 = 64,
    /// Refund refused.
    D5 = 65,
    /// Refund PROCESSING.
    D6 = 66,
    /// Refund SUCCESS.
    D7 = 67,
    /// Refund REFUNDCLOSE.
    D8 = 68,
    /// Refund CHANGE.
    D9 = 69,
    /// REFUNDNOTEXIST.
    D10 = 70,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A verified refusal, with the channel's own words for the cashier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The channel's code (`err_code`), at most 32 bytes.
    pub code: Text<32>,
    /// The channel's text for people (`err_code_des`), never parsed.
    pub description: Box<str>,
}

/// Money that the wallet says it holds for a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paid {
    /// The whole amount of the payment (`total_fee`).
    pub amount: Fen,
    /// The channel's number.
    pub transaction_id: TransactionId,
    /// When it was paid, in Unix seconds (`time_end`, 1 s resolution), if told.
    pub time_end_s: Option<i64>,
    /// [`attach_digest`] of the `attach` that came back.
    pub attach: u64,
    /// Whether provider and sub-merchant are those that were asked about. An answer to a pay request with
    /// others is unclear (row A5) and never gets here.
    pub merchant_matches: bool,
    /// Every field that is handed on to the till. Holds `openid`: sealed wherever it is kept.
    pub fields: Fields,
}

/// A digest that tells whether an `attach` came back unchanged: FNV-1a, 64 bits; 0 for none.
#[must_use]
pub fn attach_digest(attach: &str) -> u64 {
    if attach.is_empty() {
        return 0;
    }
    attach
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// What an answer to a pay request says. Source: wechatpay-v2 §4.5 A.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PayFact {
    /// Not one byte of the request was written (A1).
    Unsent,
    /// Nothing can be told from it (A2, A4, A5, A8, A10, A16, A17).
    Unclear,
    /// An unsigned refusal that looks like our fault (A3).
    RefusedUnsigned,
    /// Paid (A6).
    Paid(Box<Paid>),
    /// The customer is asked for the password (A7).
    InProgress,
    /// Refused for good; one query confirms it before it is told (A9, A11).
    Refused(Refusal),
    /// Refused because of the number (A12, A13). `ours_possible` is false when the payer is known to be
    /// another (`BUYER_MISMATCH`): then no payment under this number is ours.
    NumberTaken {
        /// The channel's words.
        refusal: Refusal,
        /// Whether a payment found under the number can be ours.
        ours_possible: bool,
    },
    /// Refused for good, nothing to confirm (A14, A15).
    RefusedOutright(Refusal),
}

/// What an answer to a query says. Source: wechatpay-v2 §4.5 B.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryFact {
    /// Nothing can be told from it (B1).
    Unclear,
    /// No such order (B2, B3).
    NotFound,
    /// Paid (B4; B5 if the amount, merchant or time is not ours).
    Paid(Box<Paid>),
    /// The customer is asked, or the debit is under way (B6: USERPAYING, ACCEPT).
    InProgress,
    /// Known and not paid (B6: NOTPAY).
    Unpaid,
    /// A state this version has no word for (B6).
    UnknownState,
    /// The payment failed, which proves nothing about money (B7).
    PayError,
    /// Closed without money (B8: CLOSED).
    Closed,
    /// Revoked, money returned (B8: REVOKED).
    Revoked,
    /// Paid, and at least one refund exists (B9).
    Returned(Box<Paid>),
}

/// What an answer to a reversal says; never proof by itself. Source: wechatpay-v2 §4.5 C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReverseFact {
    /// Done, says the answer (C1).
    Done,
    /// Call again (C2).
    CallAgain,
    /// Nothing can be told from it (C3).
    Unclear,
    /// SYSTEMERROR (C4).
    SystemError,
    /// The customer is in the password dialog; not reversed (C5).
    InProgress,
    /// Too old (C6).
    Expired,
    /// Refused (C7).
    Refused,
    /// Our certificate was not accepted (C8).
    NoCertificate,
    /// No such order (C9).
    Absent,
}

/// What an answer to a refund request says. Source: wechatpay-v2 §4.5 D1–D5.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefundFact {
    /// Accepted, which moves no money yet (D1).
    Accepted,
    /// Nothing can be told from it (D2).
    Unclear,
    /// The merchant's funds are insufficient (D3).
    NotEnough,
    /// Throttled, not accepted (D4).
    Throttled,
    /// Refused; whether an earlier call was taken must be asked (D5).
    Refused(Refusal),
}

/// State of one refund. Source: wechatpay-v2 §3.5, `refund_status_$n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefundStatus {
    /// On its way (D6).
    Processing,
    /// The customer has the money (D7).
    Success,
    /// Closed: the money stays with the merchant (D8).
    Closed,
    /// Abnormal: to be paid out by hand (D9).
    Change,
}

/// What an answer to a refund query says. Source: wechatpay-v2 §4.5 B9, D6–D10.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefundsFact {
    /// Nothing can be told from it, or not every page was verified.
    Unclear,
    /// No refund exists (D10).
    None,
    /// Every refund of the payment, all pages.
    Listed {
        /// Fen returned for certain: the sum over SUCCESS.
        returned_fen: u64,
        /// Fen on their way back: the sum over PROCESSING.
        pending_fen: u64,
        /// The state of the refund whose number was asked about, if it is listed.
        ours: Option<RefundStatus>,
    },
}

#[cfg(test)]
mod tests {
    use super::{Row, attach_digest};

    #[test]
    fn row_codes_are_unique_and_reversible() {
        for row in Row::ALL {
            assert_eq!(Row::from_code(row.code()), Some(*row));
        }
        assert_eq!(Row::ALL.len(), 46);
        assert_eq!(Row::from_code(0), None);
    }

    #[test]
    fn attach_digest_tells_texts_apart() {
        assert_eq!(attach_digest(""), 0);
        assert_ne!(attach_digest("店员=07"), attach_digest("店员=08"));
    }
}
