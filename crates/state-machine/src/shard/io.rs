//! What goes into a shard and what comes out of it.

use std::sync::Arc;

use protocol::Fen;
use protocol::fact::{PayFact, QueryFact, RefundFact, RefundsFact, ReverseFact, Row};
use timer_wheel::Tick;

use crate::key::{OrderKey, ProviderId, UnixMs};
use crate::record::{Held, Record};

/// Names one request of a till, chosen by the driver; an answer carries it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// An order's place in its shard: slot and generation, so that a late answer for an order that has left the
/// shard finds nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderRef {
    /// Slot.
    pub slot: u32,
    /// Generation of the slot.
    pub generation: u32,
}

/// What a till's request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The first word from the wallet: a definite outcome, or that the customer is being asked (relay mode).
    FirstWord,
    /// A definite outcome: PAID, FAILED, or REVERSING and after.
    Definite,
    /// Nothing: answer with the state as soon as it is durable.
    Nothing,
}

/// A request to pay, checked and authenticated by the driver, which keeps everything that the wallet must be
/// sent (`auth_code` included) under `ticket`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayRequest {
    /// Whom to answer.
    pub ticket: Ticket,
    /// Whose payment, which number.
    pub key: OrderKey,
    /// The provider id that carries it.
    pub provider: ProviderId,
    /// The amount.
    pub amount: Fen,
    /// Keyed digest of the content.
    pub digest: [u8; 16],
    /// [`protocol::fact::attach_digest`] of the `attach`.
    pub attach: u64,
    /// What the till waits for.
    pub wait: Wait,
    /// From here on, by the wall clock, the till does not want a payment that is not accepted yet.
    pub expires_at: Option<UnixMs>,
    /// Which till, as [`Record::till`] has it; 0 where payments are not held against each other.
    pub till: u64,
    /// How long it may wait for another payment of the same sale before it is taken, milliseconds.
    pub patience_ms: u64,
}

/// A request to reverse: answered when proven, or earlier with an open state if it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReverseRequest {
    /// Whom to answer.
    pub ticket: Ticket,
    /// Which payment.
    pub key: OrderKey,
    /// The provider id that carries the merchant.
    pub provider: ProviderId,
}

/// One call to the wallet about an order that was sent to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// Ask for the state.
    Query,
    /// Ask for the state; room for a reversal right after it is already reserved.
    LastQuery,
    /// Reverse.
    Reverse,
    /// Ask for the refunds, all pages.
    RefundQuery,
    /// Send the repair refund, always under [`Record::repair_refund_no`].
    Refund,
}

/// One input to a shard. Requests may be refused; replies never are: their room was reserved before the call
/// went out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A till wants to be paid.
    Pay(PayRequest),
    /// A till wants an order reversed.
    Reverse(ReverseRequest),
    /// A till waits for an open order's outcome (JSON `Prefer: wait`, long poll).
    Watch {
        /// Whom to answer.
        ticket: Ticket,
        /// Which payment.
        key: OrderKey,
        /// What for.
        wait: Wait,
    },
    /// The first byte of a pay request is being written; sent when the answer is not there within a second.
    /// Until it comes, the request counts as leaving at its last moment, and is asked about that much later.
    PayLeft {
        /// The order.
        order: OrderRef,
        /// When.
        at: Tick,
    },
    /// A pay request was answered, or given up. `left_at` is when its first byte may have left.
    PayReply {
        /// The order.
        order: OrderRef,
        /// When the first byte may have left; `None` if proven unsent.
        left_at: Option<Tick>,
        /// The row that classified the answer.
        row: Row,
        /// What it says.
        fact: PayFact,
    },
    /// A query was answered, or given up.
    QueryReply {
        /// The order.
        order: OrderRef,
        /// The call that this answers.
        call: u32,
        /// The row that classified the answer.
        row: Row,
        /// What it says.
        fact: QueryFact,
        /// Whether the wallet asked us to slow down.
        throttled: bool,
    },
    /// A reversal was answered, or given up.
    ReverseReply {
        /// The order.
        order: OrderRef,
        /// The call that this answers.
        call: u32,
        /// The row that classified the answer.
        row: Row,
        /// What it says.
        fact: ReverseFact,
        /// Whether the wallet asked us to slow down.
        throttled: bool,
    },
    /// A repair refund was answered, or given up.
    RefundReply {
        /// The order.
        order: OrderRef,
        /// The call that this answers.
        call: u32,
        /// The row that classified the answer.
        row: Row,
        /// What it says.
        fact: RefundFact,
    },
    /// The refunds of an order were listed, or not.
    RefundsReply {
        /// The order.
        order: OrderRef,
        /// The call that this answers.
        call: u32,
        /// What the list says.
        fact: RefundsFact,
    },
    /// A reply that may show money, from a driver that knows which tills are still there. Without it whoever waits
    /// counts as there, also tills that have hung up since.
    Attended {
        /// Requests that wait for the order ([`Shard::waiting`]) and whose tills have hung up or are not patient any
        /// more.
        ///
        /// [`Shard::waiting`]: super::Shard::waiting
        gone: Vec<Ticket>,
        /// Whether a till follows the payment without a request that waits.
        follows: bool,
        /// The reply.
        reply: Box<Self>,
    },
    /// The outcome of a payment is in a till's hands: the answer that says it has arrived there, as far as the driver
    /// can know. Only those with [`Record::till`] need it.
    Heard {
        /// Which payment.
        key: OrderKey,
    },
    /// Stop taking new payments; everything else goes on.
    Drain,
}

/// Why a request was not taken. Nothing was stored and nothing was sent for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAccepted {
    /// The shard holds as many orders as it may.
    Full,
    /// The number is being recorded for another request, and as many requests wait for it as may. Its payment
    /// goes on, so this says nothing about money.
    Crowded,
    /// The pay quota of the provider id is used up for this second, or too many calls are under way.
    Throttled,
    /// The store does not take records at the moment.
    StoreBusy,
    /// The switch is stopping.
    Stopping,
    /// The wallet has refused this merchant or provider several times in a row.
    Suspended,
    /// The till asked for it too late, by its own word ([`PayRequest::expires_at`]).
    Expired,
}

/// What an operator must hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// An order is held.
    Held(Held),
    /// The wallet refused our pay request without a signature (A3).
    UnsignedRefusal,
    /// The wallet says that the number is taken (A12, A13).
    NumberTaken,
    /// The wallet refused our configuration (A15).
    Misconfigured,
    /// Money was returned upstream by somebody else (B9).
    ReturnedUpstream,
    /// A reversal was refused (C7), or our certificate was, three times in a row: no new payments for the
    /// provider until a reversal gets through (C8).
    ReversalRefused,
    /// A reversal is not proven after ten minutes (C10).
    ReversalSlow,
    /// A reversal is not proven after a day (C10), or came too late to close the order (C6): operator's list.
    ReversalStuck,
    /// Money was found under an order that was told as not paid (G5). If it is the order's own, the repair
    /// refund starts; else it is the operator's.
    LateSuccess,
    /// The repair refund starts (C6, C7, G5).
    RepairRefund,
    /// The order's row in the store cannot be trusted: nothing is done for it until somebody has looked.
    SetAside,
    /// Paid and kept, and no till has asked or listened since, for as long as its merchant has said.
    PaidUnheard,
    /// Paid, and no till asked or listened for so long: the money goes back.
    AbsentTill,
}

impl Alarm {
    /// All but those of tills that are not there, which are no trouble of the switch's and counted apart.
    pub const TROUBLES: [Self; 14] = [
        Self::Held(Held::Differs),
        Self::Held(Held::NumberTaken),
        Self::Held(Held::PartlyReturned),
        Self::Held(Held::RefundFailed),
        Self::UnsignedRefusal,
        Self::NumberTaken,
        Self::Misconfigured,
        Self::ReturnedUpstream,
        Self::ReversalRefused,
        Self::ReversalSlow,
        Self::ReversalStuck,
        Self::LateSuccess,
        Self::RepairRefund,
        Self::SetAside,
    ];

    /// The word in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Held(held) => held.as_str(),
            Self::UnsignedRefusal => "unsigned_refusal",
            Self::NumberTaken => "number_taken",
            Self::Misconfigured => "misconfigured",
            Self::ReturnedUpstream => "returned_upstream",
            Self::ReversalRefused => "reversal_refused",
            Self::ReversalSlow => "reversal_slow",
            Self::ReversalStuck => "reversal_stuck",
            Self::LateSuccess => "late_success",
            Self::RepairRefund => "repair_refund",
            Self::SetAside => "set_aside",
            Self::PaidUnheard => "paid_unheard",
            Self::AbsentTill => "absent_till",
        }
    }
}

/// What the driver has to do. Nothing comes out before the record that explains it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send the pay request kept under `ticket`, once; its first byte leaves before `leave_by` or not at all.
    SendPay {
        /// The order.
        order: OrderRef,
        /// What is durable about it.
        record: Arc<Record>,
        /// Where the driver keeps what is to be sent.
        ticket: Ticket,
        /// The last moment.
        leave_by: Tick,
    },
    /// Make a call; exactly one reply input answers it.
    Call {
        /// The order.
        order: OrderRef,
        /// Names this call; its reply carries it back.
        call: u32,
        /// Which.
        kind: Call,
        /// What is durable about the order.
        record: Arc<Record>,
        /// Whether to prefer the other host this time (B1, C3).
        other_host: bool,
    },
    /// Answer a till from `record` (`till::…` says what).
    Answer {
        /// Whom.
        ticket: Ticket,
        /// The durable state to answer from.
        record: Arc<Record>,
        /// How the answer relates to the request.
        said: Said,
    },
    /// Tell a till that nothing was taken; the driver forgets what it keeps under `ticket`.
    Refuse {
        /// Whom.
        ticket: Ticket,
        /// Why.
        why: NotAccepted,
    },
    /// Tell a till that its payment was not taken, since an earlier one of the same sale is not at its end, or is paid
    /// (`till::unsettled` says what); the driver forgets what it keeps under `ticket`. If `first` is paid, its till hears
    /// of it by this answer.
    RefuseFor {
        /// Whom.
        ticket: Ticket,
        /// The earlier payment.
        first: Arc<Record>,
    },
    /// Wipe what is kept to be sent under `ticket`: it will not be sent. The answer comes separately. Each
    /// pay input ends in exactly one of `SendPay`, `Refuse`, `RefuseFor` and `Discard`.
    Discard {
        /// Whose.
        ticket: Ticket,
    },
    /// A watched order is not in memory: if it exists, the store has its final state.
    NotHere {
        /// Whom.
        ticket: Ticket,
    },
    /// A new durable state: everybody may see it.
    Publish {
        /// The order.
        order: OrderRef,
        /// The state.
        record: Arc<Record>,
    },
    /// The order is settled and leaves memory; it is in the store.
    Retire {
        /// The order.
        order: OrderRef,
        /// Whose it was.
        key: OrderKey,
    },
    /// Tell the operator.
    Alarm {
        /// About which payment.
        key: OrderKey,
        /// What.
        alarm: Alarm,
    },
    /// A payment was decided or a reversal proven: what the metrics need to know.
    Settled {
        /// The durable state.
        record: Arc<Record>,
        /// Queries asked so far.
        queries: u32,
        /// Wall time at which the switch learned it.
        learned_at: UnixMs,
    },
}

/// How an answer relates to the request it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// The answer to the request that made the payment.
    Fresh,
    /// A repeat with the same content.
    Repeated,
    /// A repeat with other content: nothing was changed and nothing was sent.
    OtherContent,
    /// The answer to a reversal.
    Reversal,
    /// The answer to a watch.
    Watched,
    /// A reversal that cannot be taken any more: older than 7 days.
    TooOld,
}

/// Names a batch of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(pub u64);

/// Records that become durable together. One batch of a shard is under way at a time.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Its name.
    pub id: BatchId,
    /// The records, in order; an order may appear more than once, with growing versions.
    pub records: Vec<Arc<Record>>,
}

/// What became of one record of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is durable.
    Applied,
    /// Its condition did not hold; this is what is durable instead.
    Conflict(Box<Record>),
}

/// Another writer is at work on this shard's orders: the process must stop acting at once (INV-17).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("another writer changed an order of this shard; stop, and let recovery decide")]
pub struct Fenced;
