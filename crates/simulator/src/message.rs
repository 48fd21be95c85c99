//! What is asked of the wallet and what it answers, without bytes.

use std::borrow::Cow;

use compact_str::CompactString;

/// Who asks. Every message carries these. Source: wechatpay-v2 §3, common request fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The provider's `appid`.
    pub appid: CompactString,
    /// The provider's `mch_id`.
    pub mch_id: CompactString,
    /// `sub_appid`, or empty.
    pub sub_appid: CompactString,
    /// `sub_mch_id`, or empty.
    pub sub_mch_id: CompactString,
}

/// A verified request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Who asks.
    pub caller: Caller,
    /// What for.
    pub call: Call,
}

/// One call of the API. Source: wechatpay-v2 §3.1–§3.5.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// `/pay/micropay`.
    Micropay(Micropay),
    /// `/pay/orderquery`.
    OrderQuery(Number),
    /// `/secapi/pay/reverse`.
    Reverse(Number),
    /// `/secapi/pay/refund`.
    Refund(Refund),
    /// `/pay/refundquery`.
    RefundQuery {
        /// Which refunds.
        number: RefundNumber,
        /// The first refund wanted, counted from 0; `None` if it was not sent.
        offset: Option<u32>,
    },
}

/// A pay request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Micropay {
    /// The merchant's number.
    pub out_trade_no: CompactString,
    /// The scanned code.
    pub auth_code: CompactString,
    /// Fen, at least 1.
    pub total_fee: u64,
    /// Comes back in answers and queries; may be empty.
    pub attach: CompactString,
    /// Comes back in answers; may be empty.
    pub device_info: CompactString,
    /// Every other business field that was sent (`body`, `detail`, …), for the comparison with a repeat.
    pub others: Vec<(String, String)>,
}

impl Micropay {
    /// A pay request with nothing but what it must have.
    #[must_use]
    pub fn new(out_trade_no: &str, auth_code: &str, total_fee: u64) -> Self {
        Self { out_trade_no: out_trade_no.into(), auth_code: auth_code.into(), total_fee, ..Self::default() }
    }

    /// Every business field but the code, sorted by name, as `name=value` joined by `&`. Two pay requests with
    /// the same text and the same code are the same. Source: DESIGN §4, *same content*.
    #[must_use]
    pub fn content(&self) -> String {
        let total_fee = self.total_fee.to_string();
        let mut pairs: Vec<(&str, &str)> =
            self.others.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        pairs.extend([
            ("out_trade_no", self.out_trade_no.as_str()),
            ("total_fee", &total_fee),
            ("attach", &self.attach),
            ("device_info", &self.device_info),
        ]);
        pairs.retain(|(_, value)| !value.is_empty());
        pairs.sort_unstable();
        let mut content = String::with_capacity(128);
        for (name, value) in pairs {
            let mark = if content.is_empty() { "" } else { "&" };
            [mark, name, "=", value].into_iter().for_each(|text| content.push_str(text));
        }
        content
    }
}

/// Which order is meant; `transaction_id` wins where both were sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Number {
    /// The merchant's number.
    OutTradeNo(CompactString),
    /// The wallet's number.
    TransactionId(CompactString),
}

/// A refund request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refund {
    /// Which order.
    pub number: Number,
    /// The merchant's number of the refund.
    pub out_refund_no: CompactString,
    /// What the order was, in fen.
    pub total_fee: u64,
    /// What to return, in fen.
    pub refund_fee: u64,
}

/// Which refunds are meant; the first that was sent, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefundNumber {
    /// The wallet's number of a refund.
    RefundId(CompactString),
    /// The merchant's number of a refund.
    OutRefundNo(CompactString),
    /// All refunds of an order.
    Order(Number),
}

/// What the caller gets, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// When it leaves the wallet, in Unix milliseconds; not before the request came.
    pub at_ms: i64,
    /// What leaves.
    pub reply: Reply,
}

/// What leaves the wallet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// An answer in HTTP 200.
    Answer(Answer),
    /// The connection is closed without an answer.
    Drop,
    /// Nothing, ever, until the caller gives up.
    Hang,
    /// Not the API's answer: a page of the machine in front of it.
    Http {
        /// The HTTP status.
        status: u16,
        /// The page.
        html: &'static str,
    },
}

/// The fields of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Names and values in the order in which they are written; without `sign`.
    pub fields: Vec<(Cow<'static, str>, CompactString)>,
    /// Whether and how it is signed.
    pub seal: Seal,
    /// Whether it speaks of another order than the one that was asked about.
    pub of_another_order: bool,
}

/// How an answer is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seal {
    /// With the caller's key and the request's method.
    Signed,
    /// Not at all.
    Unsigned,
    /// With a signature that does not fit.
    Forged,
}

impl Answer {
    /// The unsigned refusal: `return_code` FAIL and a text. Source: wechatpay-v2 §2.2.
    #[must_use]
    pub fn unsigned(return_msg: &str) -> Self {
        Self {
            fields: vec![
                (Cow::Borrowed("return_code"), CompactString::const_new("FAIL")),
                (Cow::Borrowed("return_msg"), return_msg.into()),
            ],
            seal: Seal::Unsigned,
            of_another_order: false,
        }
    }

    /// The value of the field `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn push(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<CompactString>) {
        self.fields.push((name.into(), value.into()));
    }
}

impl Reply {
    /// The answer, if it is one.
    #[must_use]
    pub const fn answer(&self) -> Option<&Answer> {
        match self {
            Self::Answer(answer) => Some(answer),
            Self::Drop | Self::Hang | Self::Http { .. } => None,
        }
    }
}
