//! The customers: the last four digits of a code (`BBSS`) say what customer and wallet do.
//!
//! One arm a customer in [`behaviour`], one line a customer in [`customers_table`]. Source: DESIGN §5. What
//! the table leaves open is chosen here: what a query shows after a refusal (the channel does not document
//! it) differs from customer to customer, so that nobody relies on one of the answers.

/// What one payment does at the wallet. Every `after_ms` is real time before [`crate::Options::speed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behaviour {
    /// The customer's number; for 99, that of the customer drawn.
    pub bb: u8,
    /// The customer's seconds or times; for 99, what was drawn.
    pub ss: u8,
    /// What happens to the money.
    pub purse: Purse,
    /// What the pay request is answered.
    pub answer: PayAnswer,
    /// What queries suffer.
    pub queries: Queries,
    /// What reversals suffer.
    pub reversals: Reversals,
    /// Fen that are charged and reported on top of what was asked for.
    pub surplus_fen: u64,
}

/// What happens to the customer's money when the pay request arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purse {
    /// Charged without a password.
    AtOnce,
    /// The customer is asked for the password.
    Dialog(Dialog),
    /// The bank is slow: NOTPAY, then charged without a password.
    BankLater {
        /// How long the bank takes.
        after_ms: i64,
    },
    /// A deferred debit: the first query says ACCEPT, the second a word nobody knows, the third finds it charged.
    Deferred,
    /// The order stands and is never charged: NOTPAY.
    NotPaid,
    /// The order stands and has failed: PAYERROR.
    Fails,
    /// There is no order.
    Refused,
    /// The pay request never arrives.
    Lost,
    /// The pay request arrives late and is then charged as [`Purse::AtOnce`].
    Late {
        /// How late.
        after_ms: i64,
    },
}

/// A password dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialog {
    /// How it ends.
    pub end: DialogEnd,
    /// When it ends. [`DialogEnd::TimesOut`] ends with the wallet's own limit instead, [`DialogEnd::Cancels`]
    /// with the sooner of both, [`DialogEnd::PaysOnReversal`] with the reversal.
    pub after_ms: i64,
}

/// How a password dialog ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialogEnd {
    /// The right password; an `after_ms` over the wallet's limit keeps the dialog open.
    Pays,
    /// The right password, and the money goes back by a refund on the wallet's platform at the same moment.
    PaysAndIsRefunded,
    /// The customer gives up, or enters a wrong password too often: PAYERROR.
    Cancels,
    /// Nothing is entered: PAYERROR.
    TimesOut,
    /// The wallet closes the order: CLOSED.
    Closes,
    /// The wallet revokes the order: REVOKED.
    Revokes,
    /// The right password at the moment the first reversal arrives.
    PaysOnReversal,
}

/// What the pay request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayAnswer {
    /// The truth: SUCCESS or USERPAYING.
    Honest,
    /// The truth, later.
    Delayed {
        /// How much later.
        after_ms: i64,
    },
    /// A signed refusal.
    Fails(Refusal),
    /// An unsigned `return_code=FAIL` with this text.
    Unsigned(&'static str),
    /// The truth with a wrong signature.
    WrongSignature,
    /// A valid SUCCESS of another order.
    OfAnotherOrder,
    /// The connection is closed.
    Dropped,
    /// HTTP 502 and a page.
    BadGateway,
    /// Nothing, ever.
    Hangs,
}

/// An `err_code` with its `err_code_des`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `err_code`.
    pub code: &'static str,
    /// `err_code_des`.
    pub text: &'static str,
}

/// What queries suffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queries {
    /// Nothing.
    Honest,
    /// ORDERNOTEXIST at first.
    HiddenFor {
        /// For how long after the pay request.
        after_ms: i64,
    },
    /// The first of them fail in turn: SYSTEMERROR, connection closed, page.
    FirstFail {
        /// How many.
        count: u8,
    },
}

/// What reversals suffer that reach the order outside an open dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reversals {
    /// How many of the first ones.
    pub count: u8,
    /// What they are answered; nothing is done.
    pub fault: ReversalFault,
}

/// The answer of a reversal that does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReversalFault {
    /// SUCCESS with `recall=Y`.
    CallAgain,
    /// SUCCESS with `recall=N`: a lie.
    SaysDone,
    /// FAIL SYSTEMERROR.
    SystemError,
    /// FAIL REVERSE_EXPIRE.
    Expired,
    /// FAIL INVALID_REQUEST.
    InvalidRequest,
    /// FAIL USERPAYING, although the dialog is over and the money taken.
    UserPaying,
}

const fn refusal(code: &'static str, text: &'static str) -> Refusal {
    Refusal { code, text }
}

pub(crate) const CODE_USED: Refusal = refusal("AUTH_CODE_INVALID", "每个二维码仅限使用一次，请刷新再试");
pub(crate) const NOT_A_CODE: Refusal =
    refusal("AUTH_CODE_INVALID", "请扫描微信支付授权码(以10/11/12/13/14/15为前缀的18位数字)");
pub(crate) const REVERSED: Refusal = refusal("ORDERREVERSED", "订单已撤销");
const NOT_ENOUGH: Refusal = refusal("NOTENOUGH", "余额不足");
const EXPIRED: Refusal = refusal("AUTHCODEEXPIRE", "二维码已过期，请用户在微信上刷新后再试");
const INVALID: Refusal = refusal("AUTH_CODE_INVALID", "101 付款码无效，请重新扫码");
pub(crate) const SYSTEM_ERROR: Refusal = refusal("SYSTEMERROR", "系统超时");
const BANK_ERROR: Refusal = refusal("BANKERROR", "银行系统异常");
const TRADE_ERROR: Refusal = refusal("TRADE_ERROR", "103 暂无可用的支付方式,请绑定其它银行卡完成支付");
const CARD: Refusal = refusal("NOTSUPORTCARD", "不支持卡类型");
pub(crate) const ORDER_PAID: Refusal = refusal("ORDERPAID", "该订单已支付");
pub(crate) const NUMBER_USED: Refusal = refusal("OUT_TRADE_NO_USED", "商户订单号重复");
const DUPLICATE: Refusal = refusal("INVALID_REQUEST", "201 商户订单号重复");
const TOO_OFTEN: Refusal = refusal("FREQUENCY_LIMITED", "频率限制");
const NO_PERMISSION: Refusal = refusal("NOAUTH", "商户无权限使用该付款码");
const UNHEARD_OF: Refusal = refusal("PAYER_UNDER_REVIEW", "支付结果待确认");

/// The dialog's limit of wrong passwords: one more fails the payment. Source: DESIGN §5, customer 04.
const WRONG_PASSWORDS_MAX: u8 = 5;
/// How long entering a password takes. Source: DESIGN §5, customer 04.
const PASSWORD_ENTRY_MS: i64 = 2000;

const ASKED_NEVER_PAYS: Purse = dialog(DialogEnd::TimesOut, 0);

const fn dialog(end: DialogEnd, after_ms: i64) -> Purse {
    Purse::Dialog(Dialog { end, after_ms })
}

/// What the customer `bb` with `ss` does, 0 to 99 each. A number without a line in the table pays at once;
/// 99 is drawn by [`crate::draw`] and pays at once here.
///
/// Source: DESIGN §5.
#[must_use]
pub fn behaviour(bb: u8, ss: u8) -> Behaviour {
    let ss_ms = i64::from(ss) * 1000;
    let honest = PayAnswer::Honest;
    let (purse, answer) = match bb {
        1 | 15 => (dialog(DialogEnd::Pays, ss_ms), honest),
        2 | 14 | 17 | 36 | 37 | 38 => (ASKED_NEVER_PAYS, honest),
        3 => (dialog(DialogEnd::Cancels, ss_ms), honest),
        4 => (wrong_passwords(ss), honest),
        5 => (Purse::NotPaid, PayAnswer::Fails(NOT_ENOUGH)),
        6 => (Purse::Refused, PayAnswer::Fails(EXPIRED)),
        7 => (Purse::Refused, PayAnswer::Fails(INVALID)),
        8 => (Purse::AtOnce, PayAnswer::Fails(SYSTEM_ERROR)),
        9 => (Purse::NotPaid, PayAnswer::Fails(SYSTEM_ERROR)),
        10 => (Purse::BankLater { after_ms: ss_ms }, PayAnswer::Fails(BANK_ERROR)),
        11 => (Purse::AtOnce, PayAnswer::Dropped),
        12 => (Purse::Lost, PayAnswer::Dropped),
        13 => (Purse::AtOnce, PayAnswer::Delayed { after_ms: ss_ms }),
        16 => (dialog(DialogEnd::PaysOnReversal, 0), honest),
        18 => (Purse::AtOnce, PayAnswer::Unsigned("系统繁忙")),
        19 => (Purse::AtOnce, PayAnswer::WrongSignature),
        20 => (Purse::Late { after_ms: ss_ms.min(55_000) }, PayAnswer::Hangs),
        21 => (Purse::Fails, PayAnswer::Fails(TRADE_ERROR)),
        22 => (Purse::Refused, PayAnswer::Fails(CARD)),
        23 => (Purse::Refused, PayAnswer::Fails(ORDER_PAID)),
        24 => (Purse::Refused, PayAnswer::Fails(NUMBER_USED)),
        25 => (Purse::Refused, PayAnswer::Fails(DUPLICATE)),
        26 => (Purse::Refused, PayAnswer::Fails(TOO_OFTEN)),
        27 => (Purse::Refused, PayAnswer::Fails(NO_PERMISSION)),
        28 => (Purse::AtOnce, PayAnswer::Fails(UNHEARD_OF)),
        29 => (Purse::AtOnce, PayAnswer::OfAnotherOrder),
        31 => (dialog(DialogEnd::Pays, 3000), honest),
        32 => (Purse::Deferred, honest),
        33 => (dialog(DialogEnd::Closes, ss_ms), honest),
        34 => (dialog(DialogEnd::Revokes, ss_ms), honest),
        35 => (dialog(DialogEnd::PaysAndIsRefunded, ss_ms), honest),
        39 => (Purse::AtOnce, PayAnswer::BadGateway),
        // 00, 30, and every number without a line.
        _ => (Purse::AtOnce, honest),
    };
    Behaviour {
        bb,
        ss,
        purse,
        answer,
        queries: match bb {
            15 => Queries::HiddenFor { after_ms: 3000 },
            31 => Queries::FirstFail { count: ss },
            _ => Queries::Honest,
        },
        reversals: reversals(bb, ss),
        surplus_fen: u64::from(bb == 30),
    }
}

const fn wrong_passwords(count: u8) -> Purse {
    if count > WRONG_PASSWORDS_MAX {
        dialog(DialogEnd::Cancels, (WRONG_PASSWORDS_MAX as i64 + 1) * PASSWORD_ENTRY_MS)
    } else {
        dialog(DialogEnd::Pays, (count as i64 + 1) * PASSWORD_ENTRY_MS)
    }
}

const fn reversals(bb: u8, ss: u8) -> Reversals {
    let (count, fault) = match bb {
        14 => (ss, ReversalFault::CallAgain),
        16 => (ss, ReversalFault::UserPaying),
        17 => (ss, ReversalFault::SaysDone),
        36 => (ss, ReversalFault::SystemError),
        37 => (1, ReversalFault::Expired),
        38 => (1, ReversalFault::InvalidRequest),
        _ => (0, ReversalFault::CallAgain),
    };
    Reversals { count, fault }
}

/// The table of customers, for people: one line a customer.
#[must_use]
pub const fn customers_table() -> &'static str {
    "\
The last four digits of an 18-digit code (first two 10 to 15) choose the customer: BBSS, SS seconds or times.
Digits 3 to 8 are the payer.
  00  pays at once, no password
  01  asked; right password after SS s (over 30 s keeps the dialog open)
  02  asked; never answers
  03  asked; cancels after SS s: PAYERROR
  04  asked; SS wrong passwords, 2 s each, then right after 2 s more; over 5: PAYERROR
  05  NOTENOUGH; queries say NOTPAY
  06  AUTHCODEEXPIRE
  07  AUTH_CODE_INVALID
  08  SYSTEMERROR, charged
  09  SYSTEMERROR, not charged; queries say NOTPAY
  10  BANKERROR, paid after SS s; queries say NOTPAY until then
  11  connection dropped, charged
  12  request lost, not charged
  13  answer delayed SS s, charged
  14  asked, never pays; first SS reversals answer SUCCESS with recall=Y
  15  as 01, but queries say ORDERNOTEXIST for the first 3 s
  16  asked; pays at the very moment that the reversal arrives; first SS reversals answer USERPAYING
  17  asked, never pays; first SS reversals say SUCCESS and do nothing
  18  charged; unsigned return_code=FAIL 系统繁忙
  19  charged; answer with a wrong signature
  20  pay request arrives SS s late (at most 55), after queries said ORDERNOTEXIST
  21  TRADE_ERROR; queries say PAYERROR
  22  NOTSUPORTCARD
  23  ORDERPAID; there is no such order
  24  OUT_TRADE_NO_USED; there is no such order
  25  INVALID_REQUEST; there is no such order
  26  FREQUENCY_LIMITED
  27  NOAUTH
  28  an err_code nobody knows, charged
  29  charged; answer of another order
  30  charged one fen more; answer and queries say so
  31  as 01 after 3 s; the first SS queries fail (SYSTEMERROR, connection closed, HTML) in turn
  32  queries say ACCEPT, then a word nobody knows, then it is charged: SUCCESS
  33  asked; the wallet closes it itself after SS s
  34  asked; the wallet revokes it itself after SS s
  35  asked; pays after SS s, and the money goes back on the wallet's platform at once
  36  asked, never pays; first SS reversals: SYSTEMERROR
  37  asked, never pays; first reversal: REVERSE_EXPIRE
  38  asked, never pays; first reversal: INVALID_REQUEST
  39  HTTP 502 with HTML, charged
  99  drawn from a seeded population
A dialog ends after 30 s. Over 1,000 CNY, or from the eleventh free payment of a payer in a day on, whoever would
pay without a password is asked and enters it after 6 s. A code pays once.
"
}
