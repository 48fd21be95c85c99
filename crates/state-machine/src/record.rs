//! What is durable about a payment: one flat record, rewritten whole, version by version.
//!
//! A record is enough to answer a till, to go on after a crash, and to explain the end. `auth_code` is never
//! in it. What it holds of the payer (`paid.fields`) is sealed by the store.

use protocol::Fen;
use protocol::fact::{Paid, Refusal, Row};
use timer_wheel::Tick;

use crate::key::{BootId, Channel, Now, OrderKey, ProviderId, UnixMs};

/// The durable state of a payment. Source: faults-and-invariants, order states (SENT needs no record of its
/// own: a recovered ACCEPTED counts as sent).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// The intent is durable; the pay request may have left.
    Accepted,
    /// The customer is entering the password.
    Pending,
    /// Paid, and it stays paid.
    Paid,
    /// Not paid, and no money is kept.
    Failed,
    /// Will never be paid: the order is being closed, or its money returned.
    Reversing,
    /// Proven closed or returned.
    Reversed,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 6] =
        [Self::Accepted, Self::Pending, Self::Paid, Self::Failed, Self::Reversing, Self::Reversed];

    /// The number under which it is recorded; never reused.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Accepted => 1,
            Self::Pending => 2,
            Self::Paid => 3,
            Self::Failed => 4,
            Self::Reversing => 5,
            Self::Reversed => 6,
        }
    }

    /// The state recorded under `code`.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.code() == code)
    }

    /// Whether the payment is still undecided.
    #[must_use]
    pub const fn is_undecided(self) -> bool {
        matches!(self, Self::Accepted | Self::Pending)
    }

    /// Whether `next` may follow: the closed table of legal moves (INV-15). A state may always be recorded
    /// again with more detail.
    #[must_use]
    pub const fn may_become(self, next: Self) -> bool {
        match self {
            Self::Accepted => true,
            Self::Pending => !matches!(next, Self::Accepted),
            Self::Paid => matches!(next, Self::Paid),
            Self::Failed => matches!(next, Self::Failed),
            Self::Reversing => matches!(next, Self::Reversing | Self::Reversed),
            Self::Reversed => matches!(next, Self::Reversed),
        }
    }
}

/// Why a payment is where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// A row of the decision table.
    Row(Row),
    /// The give-up deadline passed without a clear answer.
    Deadline,
    /// The till asked for the reversal.
    Till,
    /// The till's reversal came before its payment: the number is closed (NM-00).
    Overtaken,
    /// Paid, and no till asked or listened for as long as its merchant allows (`absence`): the money goes back.
    AbsentTill,
    /// Given up before its deadline, since its cashier scanned again (`rescan`).
    Rescan,
}

impl Cause {
    /// The number under which it is recorded; never reused. Rows keep their own below 100.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Row(row) => row.code(),
            Self::Deadline => 100,
            Self::Till => 101,
            Self::Overtaken => 102,
            Self::AbsentTill => 103,
            Self::Rescan => 104,
        }
    }

    /// The cause recorded under `code`.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        match code {
            100 => Some(Self::Deadline),
            101 => Some(Self::Till),
            102 => Some(Self::Overtaken),
            103 => Some(Self::AbsentTill),
            104 => Some(Self::Rescan),
            row => Row::from_code(row).map(Self::Row),
        }
    }

    /// The word in logs and commands: a row id, or the name of the cause.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Row(row) => row.as_str(),
            Self::Deadline => "deadline",
            Self::Till => "till",
            Self::Overtaken => "overtaken",
            Self::AbsentTill => "absent_till",
            Self::Rescan => "rescan",
        }
    }
}

/// Why an order is held: open, alarmed, on the operator's list, and told as no outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Held {
    /// The wallet has another amount, merchant or time under this number (B5).
    Differs,
    /// Another payment sits under this number (A12, A13).
    NumberTaken,
    /// Part of the money was returned while the order was being reversed (C1).
    PartlyReturned,
    /// The repair refund did not go through (D5, D8, D9).
    RefundFailed,
}

impl Held {
    /// The number under which it is recorded; never reused.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Differs => 1,
            Self::NumberTaken => 2,
            Self::PartlyReturned => 3,
            Self::RefundFailed => 4,
        }
    }

    /// The reason recorded under `code`.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Differs),
            2 => Some(Self::NumberTaken),
            3 => Some(Self::PartlyReturned),
            4 => Some(Self::RefundFailed),
            _ => None,
        }
    }

    /// The word in logs and commands.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Differs => "differs",
            Self::NumberTaken => "number_taken",
            Self::PartlyReturned => "partly_returned",
            Self::RefundFailed => "refund_failed",
        }
    }
}

/// Whose payment a success under this number would be (A12, A13). Durable, so that "never reversed" survives
/// a crash (G4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Claim {
    /// Ours: nothing says otherwise.
    Ours,
    /// The wallet refused our request because of the number: only a success that is provably ours counts.
    Contested,
    /// The payer is known to be another (`BUYER_MISMATCH`): no success is ours.
    Foreign,
}

impl Claim {
    /// The number under which it is recorded; never reused.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Ours => 0,
            Self::Contested => 1,
            Self::Foreign => 2,
        }
    }

    /// The claim recorded under `code`.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Ours),
            1 => Some(Self::Contested),
            2 => Some(Self::Foreign),
            _ => None,
        }
    }
}

/// How far a till's wish to have the order reversed has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TillReversal {
    /// None was asked for.
    None,
    /// Asked for; not proven yet. On a PAID order this is the reversal's own decision, and it excludes
    /// refunds.
    Asked,
    /// Proven, or there was nothing to reverse: the order shows REVOKED.
    Done,
}

impl TillReversal {
    /// The number under which it is recorded; never reused.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Asked => 1,
            Self::Done => 2,
        }
    }

    /// The wish recorded under `code`.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::None),
            1 => Some(Self::Asked),
            2 => Some(Self::Done),
            _ => None,
        }
    }
}

/// Everything durable about one payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Whose payment, which number.
    pub key: OrderKey,
    /// The wallet's API.
    pub channel: Channel,
    /// The provider id that its calls are made under.
    pub provider: ProviderId,
    /// 1 for the insert; each later record is conditional on the one before.
    pub version: u32,
    /// Where it is.
    pub state: State,
    /// Why it was decided so.
    pub cause: Option<Cause>,
    /// What proved that no money is kept, once REVERSED or once the till's reversal is done.
    pub proof: Option<Row>,
    /// The amount; `None` only where a reversal closed a number that was never seen, and where the store shows
    /// something in place of a damaged row.
    pub amount: Option<Fen>,
    /// Keyed digest of the content, for "same number, same content".
    pub digest: [u8; 16],
    /// [`protocol::fact::attach_digest`] of the `attach`.
    pub attach: u64,
    /// Which till it came from, as a keyed digest: of the same till with the same amount it may be the same sale. 0
    /// where the merchant does not have payments held against each other (`rescan`).
    pub till: u64,
    /// When it was accepted.
    pub accepted_at: UnixMs,
    /// The same by the tick clock, valid in `boot` only.
    pub accepted_tick: Tick,
    /// The boot that the ticks belong to.
    pub boot: BootId,
    /// T0: the latest moment at which the pay request can have left, once it is known.
    pub left_tick: Option<Tick>,
    /// When this version was written.
    pub changed_at: UnixMs,
    /// When PAID, FAILED or REVERSING was decided.
    pub decided_at: Option<UnixMs>,
    /// The verified refusal, if there was one.
    pub refusal: Option<Box<Refusal>>,
    /// What the wallet said of the money, if it was paid; also where it went back because no till asked.
    pub paid: Option<Box<Paid>>,
    /// Fen returned upstream by refunds that are not ours (B9).
    pub refunded_fen: u64,
    /// Whose a success would be.
    pub claim: Claim,
    /// Held, and why.
    pub held: Option<Held>,
    /// The till's wish.
    pub till_reversal: TillReversal,
    /// Whether the repair refund may have been sent; from then on no reversal any more.
    pub repair: bool,
    /// How often an order that ended without money is still to be looked at (C9: 5 min, 1 h; G5). What a look
    /// found (a repair refund, an order that is held) keeps it above 0 until that is over.
    pub looks_left: u8,
}

impl Record {
    /// The first version of a payment that begins now: ACCEPTED, ours, and nothing in it but whose it is.
    #[must_use]
    pub const fn begun(key: OrderKey, provider: ProviderId, now: Now, boot: BootId) -> Self {
        Self {
            key,
            channel: Channel::WechatV2,
            provider,
            version: 1,
            state: State::Accepted,
            cause: None,
            proof: None,
            amount: None,
            digest: [0; 16],
            attach: 0,
            till: 0,
            accepted_at: now.wall,
            accepted_tick: now.tick,
            boot,
            left_tick: None,
            changed_at: now.wall,
            decided_at: None,
            refusal: None,
            paid: None,
            refunded_fen: 0,
            claim: Claim::Ours,
            held: None,
            till_reversal: TillReversal::None,
            repair: false,
            looks_left: 0,
        }
    }

    /// Whether something is still to be done for it: recovery resumes exactly these.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        match self.state {
            State::Accepted | State::Pending | State::Reversing => true,
            State::Paid => matches!(self.till_reversal, TillReversal::Asked),
            State::Reversed | State::Failed => self.looks_left > 0,
        }
    }

    /// Whether the till knows, or may be told, how it ends: PAID, FAILED, or REVERSING and after.
    #[must_use]
    pub const fn is_definite(&self) -> bool {
        !self.state.is_undecided()
    }

    /// The number of the repair refund: a reserved prefix and `out_trade_no`, at most 64 characters.
    /// Source: wechatpay-v2 §4.5, terms.
    #[must_use]
    pub fn repair_refund_no(&self) -> String {
        format!("HUFU-REPAIR-{}", self.key.number)
    }
}
