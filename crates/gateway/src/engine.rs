//! What the sockets ask of the engine: the shards, the state table and the store behind one trait.
//!
//! The northbound side and the admin side know nothing else of them. Every method returns at once; what
//! takes time comes back through a channel, so that a till that hangs up cancels nothing.

use std::sync::Arc;

use protocol::{AuthCode, Fen, Fields, TransactionId};
use state_machine::shard::{NotAccepted, Said, Wait};
use state_machine::{MerchantId, OrderKey, ProviderId, Record, UnixMs};
use store::{EventQuery, Events, Filter};
use thiserror::Error;
use tokio::sync::oneshot;

use crate::driver::Following;
use crate::metrics::Gauges;

/// A request to pay, checked and authenticated.
#[derive(Clone, Debug)]
pub struct NewPayment {
    /// Whose payment, which number.
    pub key: OrderKey,
    /// The provider id that carries the merchant.
    pub provider: ProviderId,
    /// The amount.
    pub amount: Fen,
    /// Keyed digest of the content. Source: DESIGN §4, *same content*.
    pub digest: [u8; 16],
    /// [`protocol::fact::attach_digest`] of the `attach`.
    pub attach: u64,
    /// Which till it comes from, as a keyed digest; 0 where its merchant does not have payments held against each other.
    pub till: u64,
    /// How long it may wait for an earlier payment of the same sale.
    pub patience: std::time::Duration,
    /// What the till waits for.
    pub wait: Wait,
    /// From here on the till does not want it any more, unless it was accepted before.
    pub expires_at: Option<UnixMs>,
    /// The payer's code; wiped when dropped, so keep it no longer than the request is being sent.
    pub auth_code: AuthCode,
    /// Every other business field for the wallet, in the till's own words (`body`, `total_fee`,
    /// `out_trade_no`, `attach`, …): no ids of a party, no code, no nonce, no signature.
    pub upstream: Fields,
}

/// What a till's request is told.
#[derive(Clone, Debug)]
pub enum Told {
    /// Answer from this durable state (`state_machine::till` says what).
    Answer {
        /// The durable state.
        record: Arc<Record>,
        /// How it relates to the request.
        said: Said,
    },
    /// Nothing was stored and nothing was sent.
    Refused(NotAccepted),
    /// The same, because of this earlier payment of the same till for the same amount (`till::unsettled`).
    Unsettled(Arc<Record>),
}

/// The store did not answer; nothing is known about what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the store does not answer")]
pub struct StoreDown;

/// What a lookup finds: at once from the state table, or later from the store.
#[derive(Debug)]
pub enum Lookup<T> {
    /// Found, or known to be absent.
    Now(T),
    /// The store has been asked; a sender that is dropped counts as [`StoreDown`].
    Later(oneshot::Receiver<Result<T, StoreDown>>),
}

impl<T> Lookup<T> {
    /// Waits for the answer.
    ///
    /// # Errors
    ///
    /// [`StoreDown`] when the store does not answer.
    pub async fn wait(self) -> Result<T, StoreDown> {
        match self {
            Self::Now(found) => Ok(found),
            Self::Later(answer) => answer.await.unwrap_or(Err(StoreDown)),
        }
    }
}

/// Which payments an operator wants to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Listing {
    /// Those that still need something done.
    #[default]
    Open,
    /// Those that are held, or whose reversal is not proven for long: the operator's list.
    Held,
    /// Every one, newest first.
    All,
}

/// A request for a list of payments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListRequest {
    /// Of one merchant only.
    pub merchant: Option<MerchantId>,
    /// Which.
    pub listing: Listing,
    /// At most so many, 1 to [`LIST_MAX`].
    pub limit: usize,
}

/// What a stream of events is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// All payments of a merchant.
    Merchant(MerchantId),
    /// One payment.
    Payment(OrderKey),
}

/// Payments that one list may hold.
pub const LIST_MAX: usize = 1_000;

/// Whether the engine works, as `/readyz` reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// Recovery has read every open order.
    pub recovered: bool,
    /// The store takes records.
    pub store: bool,
    /// The switch is stopping: no new payment is taken.
    pub draining: bool,
}

impl Health {
    /// Whether new payments should be sent here.
    #[must_use]
    pub const fn is_ready(self) -> bool {
        self.recovered && self.store && !self.draining
    }
}

/// The engine as the sockets see it.
pub trait Engine: Send + Sync + 'static {
    /// Takes a payment, or answers for one that exists. The receiver may be dropped at any time: the order
    /// goes on (NM-01).
    fn pay(&self, request: NewPayment) -> oneshot::Receiver<Told>;

    /// Takes a reversal; answered when proven, or at once where there is nothing to do.
    fn reverse(&self, key: OrderKey, provider: ProviderId) -> oneshot::Receiver<Told>;

    /// Waits for an open order; answered with its state as soon as `wait` is satisfied.
    fn watch(&self, key: OrderKey, wait: Wait) -> oneshot::Receiver<Told>;

    /// The outcome of a payment is in its till's hands, as far as can be known here: the bytes that say so have been
    /// acknowledged. Only payments with [`Record::till`] need it.
    fn heard(&self, _key: &OrderKey) {}

    /// The durable state of a payment.
    fn find(&self, key: &OrderKey) -> Lookup<Option<Arc<Record>>>;

    /// The durable state of a merchant's payment with the channel's number.
    fn find_by_transaction(&self, merchant: MerchantId, id: &TransactionId) -> Lookup<Option<Arc<Record>>>;

    /// Payments for the operator.
    fn list(&self, request: ListRequest) -> Lookup<Vec<Arc<Record>>>;

    /// Part of a merchant's payments; with [`Filter::merchant`] nobody else's.
    fn page(&self, filter: Filter) -> Lookup<store::Listing>;

    /// What a merchant may be told, in order.
    fn events(&self, query: EventQuery) -> Lookup<Events>;

    /// Wakes when there may be new events of `topic`: follow first, then read.
    fn follow(&self, topic: Topic) -> Following;

    /// Whether it works.
    fn health(&self) -> Health;

    /// What metrics show of it at this moment.
    fn gauges(&self) -> Gauges {
        Gauges::default()
    }

    /// Stops taking new payments; everything else goes on. Repeating it changes nothing.
    fn drain(&self);
}
