//! The books: what was asked of the wallet, what it did with the money, and which rules were broken.

use std::fmt::Write as _;

use compact_str::CompactString;

/// What names an order: numbers are unique per merchant number. Source: wechatpay-v2 §0.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The provider.
    pub mch_id: CompactString,
    /// The sub-merchant, or empty.
    pub sub_mch_id: CompactString,
    /// The merchant's number.
    pub out_trade_no: CompactString,
}

impl Key {
    /// The key of `out_trade_no` of this merchant.
    #[must_use]
    pub fn new(mch_id: &str, sub_mch_id: &str, out_trade_no: &str) -> Self {
        Self { mch_id: mch_id.into(), sub_mch_id: sub_mch_id.into(), out_trade_no: out_trade_no.into() }
    }
}

/// Where an order stands at the wallet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The pay request is still on its way; queries find nothing.
    InFlight,
    /// The pay request never arrived; queries find nothing.
    Lost,
    /// Refused without an order; queries find nothing.
    Refused,
    /// The password dialog is open.
    Paying,
    /// Accepted, not yet debited.
    Accepted,
    /// Known and not paid.
    NotPay,
    /// Paid.
    Paid,
    /// Paid, and at least one refund exists.
    Refund,
    /// The payment failed.
    PayError,
    /// Closed without money.
    Closed,
    /// Revoked; money, if any was taken, has gone back.
    Revoked,
}

impl State {
    /// Its name in reports: lower case with underscores.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InFlight => "in_flight",
            Self::Lost => "lost",
            Self::Refused => "refused",
            Self::Paying => "paying",
            Self::Accepted => "accepted",
            Self::NotPay => "not_pay",
            Self::Paid => "paid",
            Self::Refund => "refund",
            Self::PayError => "pay_error",
            Self::Closed => "closed",
            Self::Revoked => "revoked",
        }
    }

    /// Whether the wallet has an order that queries and reversals find.
    #[must_use]
    pub const fn stands(self) -> bool {
        !matches!(self, Self::InFlight | Self::Lost | Self::Refused)
    }
}

/// A rule that a caller broke. A network that delivers a request twice breaks some of them for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A reversal came sooner after the pay request than the guard allows (INV-08).
    EarlyReversal {
        /// How long after the last pay request, in milliseconds.
        after_ms: i64,
    },
    /// A second pay request with the same content (INV-02).
    PayRequestRepeated,
    /// A second pay request with other content (INV-02).
    ContentChanged,
    /// A pay request after a reversal of the same number.
    PayAfterReversal,
    /// A second capture under one number (INV-01). The wallet itself prevents it; this watches the wallet.
    DoubleCapture,
    /// A refund of more than what is left (INV-21).
    RefundOverCeiling,
}

impl Violation {
    /// Its name in reports: lower case with underscores.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EarlyReversal { .. } => "early_reversal",
            Self::PayRequestRepeated => "pay_request_repeated",
            Self::ContentChanged => "content_changed",
            Self::PayAfterReversal => "pay_after_reversal",
            Self::DoubleCapture => "double_capture",
            Self::RefundOverCeiling => "refund_over_ceiling",
        }
    }
}

/// One number's page in the books. Times are Unix milliseconds, amounts fen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which order.
    pub key: Key,
    /// The wallet's number; reported once paid.
    pub transaction_id: String,
    /// The customer in the code, `BBSS`.
    pub customer: u16,
    /// The customer who acted, `BBSS`: differs for 99.
    pub acted: u16,
    /// The payer: digits 3 to 8 of the code.
    pub payer: u32,
    /// What the first pay request asked for.
    pub amount_fen: u64,
    /// The first pay request's business fields without the code, as [`crate::Micropay::content`].
    pub content: String,
    /// Where it stands.
    pub state: State,
    /// Pay requests under this number, also lost and refused ones.
    pub pay_requests: u32,
    /// When the first pay request came.
    pub first_pay_at_ms: i64,
    /// When the last pay request came.
    pub last_pay_at_ms: i64,
    /// Charges under this number.
    pub captures: u32,
    /// What was charged.
    pub captured_fen: u64,
    /// What went back, by reversal or refund.
    pub returned_fen: u64,
    /// When it was charged.
    pub paid_at_ms: Option<i64>,
    /// The customer's last key press, or the charge where no password was asked for; `None` if neither was.
    pub customer_done_at_ms: Option<i64>,
    /// Queries that named this number.
    pub queries: u32,
    /// Reversals that named this number.
    pub reversals: u32,
    /// When the first reversal came.
    pub first_reverse_at_ms: Option<i64>,
    /// Refunds accepted, those of the platform too.
    pub refunds: u32,
    /// The rules broken.
    pub violations: Vec<Violation>,
}

impl Entry {
    /// What the merchant holds of the customer's money, in fen.
    #[must_use]
    pub const fn held_fen(&self) -> u64 {
        self.captured_fen.saturating_sub(self.returned_fen)
    }

    /// The entry as one line of JSON, without a line break.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut json = String::with_capacity(640);
        json.push('{');
        text(&mut json, "mch_id", &self.key.mch_id);
        text(&mut json, "sub_mch_id", &self.key.sub_mch_id);
        text(&mut json, "out_trade_no", &self.key.out_trade_no);
        text(&mut json, "transaction_id", &self.transaction_id);
        text(&mut json, "customer", &format!("{:04}", self.customer));
        text(&mut json, "acted", &format!("{:04}", self.acted));
        text(&mut json, "payer", &format!("{:06}", self.payer));
        number(&mut json, "amount_fen", self.amount_fen);
        text(&mut json, "content", &self.content);
        text(&mut json, "state", self.state.as_str());
        number(&mut json, "pay_requests", self.pay_requests);
        number(&mut json, "first_pay_at_ms", self.first_pay_at_ms);
        number(&mut json, "last_pay_at_ms", self.last_pay_at_ms);
        number(&mut json, "captures", self.captures);
        number(&mut json, "captured_fen", self.captured_fen);
        number(&mut json, "returned_fen", self.returned_fen);
        optional(&mut json, "paid_at_ms", self.paid_at_ms);
        optional(&mut json, "customer_done_at_ms", self.customer_done_at_ms);
        number(&mut json, "queries", self.queries);
        number(&mut json, "reversals", self.reversals);
        optional(&mut json, "first_reverse_at_ms", self.first_reverse_at_ms);
        number(&mut json, "refunds", self.refunds);
        let broken: Vec<String> = self.violations.iter().map(|v| format!("\"{}\"", v.as_str())).collect();
        let _ = write!(json, "\"violations\":[{}]}}", broken.join(","));
        json
    }
}

fn number(json: &mut String, name: &str, value: impl std::fmt::Display) {
    let _ = write!(json, "\"{name}\":{value},");
}

fn optional(json: &mut String, name: &str, value: Option<i64>) {
    match value {
        Some(value) => number(json, name, value),
        None => number(json, name, "null"),
    }
}

fn text(json: &mut String, name: &str, value: &str) {
    let _ = write!(json, "\"{name}\":\"");
    for c in value.chars() {
        match c {
            '"' | '\\' => {
                json.push('\\');
                json.push(c);
            }
            '\0'..='\u{1f}' => {
                let _ = write!(json, "\\u{:04x}", u32::from(c));
            }
            _ => json.push(c),
        }
    }
    json.push_str("\",");
}

/// Sums over the books.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Numbers on the books.
    pub orders: u64,
    /// Charges.
    pub captures: u64,
    /// Fen charged.
    pub captured_fen: u64,
    /// Fen that went back.
    pub returned_fen: u64,
    /// Rules broken.
    pub violations: u64,
}

/// What passed through the wallet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Pay requests.
    pub pay_requests: u64,
    /// Order queries.
    pub queries: u64,
    /// Reversals.
    pub reversals: u64,
    /// Refund requests.
    pub refunds: u64,
    /// Refund queries.
    pub refund_queries: u64,
    /// Reversals of numbers that the wallet had no order for.
    pub unknown_reversals: u64,
    /// Requests whose signature did not fit.
    pub bad_signatures: u64,
    /// Requests that could not be read, or went nowhere.
    pub malformed: u64,
    /// Requests that lacked the client certificate.
    pub no_certificate: u64,
    /// Password dialogs open now.
    pub open_dialogs: u64,
    /// The most password dialogs open at once.
    pub peak_open_dialogs: u64,
}

impl Stats {
    /// The counters as one line of JSON, without a line break.
    #[must_use]
    pub fn to_json(&self) -> String {
        let pairs = [
            ("pay_requests", self.pay_requests),
            ("queries", self.queries),
            ("reversals", self.reversals),
            ("refunds", self.refunds),
            ("refund_queries", self.refund_queries),
            ("unknown_reversals", self.unknown_reversals),
            ("bad_signatures", self.bad_signatures),
            ("malformed", self.malformed),
            ("no_certificate", self.no_certificate),
            ("open_dialogs", self.open_dialogs),
            ("peak_open_dialogs", self.peak_open_dialogs),
        ];
        let fields: Vec<String> = pairs.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}", fields.join(","))
    }
}
