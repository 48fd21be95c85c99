//! One order in a shard of its own, in the state in which an answer of the wallet finds it.

use std::sync::Arc;

use protocol::Fen;
use protocol::fact::{PayFact, QueryFact, ReverseFact, Row};
use state_machine::record::State;
use state_machine::shard::{
    Action, Batch, Call, Config, Input, OrderRef, Outcome, PayRequest, Shard, Ticket, Wait,
};
use state_machine::{BootId, MerchantId, Now, OrderKey, Policy, ProviderId, Tick, UnixMs};

use crate::targets::answer::{FEN, NUMBER};

const STARTED_MS: u64 = 1_000_000;
const WALL_MS: i64 = 1_795_400_000_000;

/// An order whose call to the wallet is under way.
#[derive(Debug)]
pub struct Order {
    shard: Shard,
    tick: u64,
    key: OrderKey,
    /// The pay request that was handed out.
    pay: Option<OrderRef>,
    /// The call that was handed out.
    call: Option<(OrderRef, u32, Call)>,
}

impl Order {
    /// Its pay request is at the wallet.
    ///
    /// # Panics
    ///
    /// When the shard does not send it.
    #[must_use]
    pub fn paying() -> Self {
        let config = Config {
            policy: Policy::default(),
            quota: state_machine::planner::Quota::default(),
            quotas: Vec::new(),
            orders_max: 4,
            waiters_max: 4,
            boot: BootId(1),
            absences: state_machine::absence::Absences::default(),
            rescans: state_machine::rescan::Rescans::default(),
        };
        let key = OrderKey { merchant: MerchantId(1), number: NUMBER.parse().expect("a number") };
        let shard = Shard::new(config, Tick::from_ms(STARTED_MS));
        let mut order = Self { shard, tick: STARTED_MS, key, pay: None, call: None };
        order.step(Some(Input::Pay(PayRequest {
            ticket: Ticket(1),
            key,
            provider: ProviderId(1),
            amount: Fen::new(FEN).expect("an amount"),
            digest: [1; 16],
            attach: 0,
            wait: Wait::Nothing,
            expires_at: None,
            till: 0,
            patience_ms: 0,
        })));
        assert!(order.pay.is_some(), "the pay request is sent");
        order
    }

    /// It is asked about; nothing is known of it.
    #[must_use]
    pub fn asked() -> Self {
        let mut order = Self::paying();
        order.pay_reply(Row::A2, PayFact::Unclear);
        order.until(|call| matches!(call, Call::Query | Call::LastQuery));
        order
    }

    /// Its time is over, and its reversal is at the wallet.
    #[must_use]
    pub fn reversing() -> Self {
        let mut order = Self::paying();
        order.pay_reply(Row::A2, PayFact::Unclear);
        order.until(|call| call == Call::Reverse);
        order
    }

    /// Its newest state; an order that has left the shard was paid or failed as its last record says.
    ///
    /// # Panics
    ///
    /// When the shard has lost it.
    #[must_use]
    pub fn state(&self) -> State {
        self.shard.record(&self.key).expect("the order is there").state
    }

    /// Answers the pay request.
    ///
    /// # Panics
    ///
    /// When none is under way.
    pub fn pay_reply(&mut self, row: Row, fact: PayFact) {
        let order = self.pay.take().expect("a pay request is under way");
        let left_at = Some(Tick::from_ms(STARTED_MS));
        self.step(Some(Input::PayReply { order, left_at, row, fact }));
    }

    /// Lets the wallet answer the next query with *no such order*, if the shard asks one within a second.
    pub fn confirm(&mut self) {
        let until = self.tick + 1_000;
        while self.call.is_none() {
            match self.shard.next_wake().map(Tick::as_ms) {
                Some(wake) if wake <= until => self.tick = wake.max(self.tick + 1),
                Some(_) | None => return,
            }
            self.step(None);
        }
        if matches!(self.call, Some((_, _, Call::Query | Call::LastQuery))) {
            self.query_reply(Row::B2, QueryFact::NotFound);
        }
    }

    /// Answers the query.
    ///
    /// # Panics
    ///
    /// When none is under way.
    pub fn query_reply(&mut self, row: Row, fact: QueryFact) {
        let (order, call, _) = self.call.take().expect("a query is under way");
        self.step(Some(Input::QueryReply { order, call, row, fact, throttled: false }));
    }

    /// Answers the reversal.
    ///
    /// # Panics
    ///
    /// When none is under way.
    pub fn reverse_reply(&mut self, row: Row, fact: ReverseFact) {
        let (order, call, _) = self.call.take().expect("a reversal is under way");
        self.step(Some(Input::ReverseReply { order, call, row, fact, throttled: false }));
    }

    /// Lets time pass until the shard makes a call that `wanted` wants; every other one stays unclear.
    fn until(&mut self, wanted: impl Fn(Call) -> bool) {
        for _ in 0..1_000 {
            if let Some((order, call, kind)) = self.call {
                if wanted(kind) {
                    return;
                }
                self.call = None;
                self.step(Some(Input::QueryReply {
                    order,
                    call,
                    row: Row::B1,
                    fact: QueryFact::Unclear,
                    throttled: false,
                }));
                continue;
            }
            let wake = self.shard.next_wake().map_or(self.tick + 1_000, Tick::as_ms);
            self.tick = wake.max(self.tick + 1);
            self.step(None);
        }
        panic!("the call never comes");
    }

    fn now(&self) -> Now {
        let since = i64::try_from(self.tick - STARTED_MS).expect("a short while");
        Now { tick: Tick::from_ms(self.tick), wall: UnixMs(WALL_MS + since) }
    }

    fn step(&mut self, input: Option<Input>) {
        let mut batch = self.shard.step(input, self.now());
        loop {
            self.drain();
            let Some(Batch { id, records }) = batch else { return };
            let outcomes = records.iter().map(|_| Outcome::Applied).collect();
            self.shard.committed(id, outcomes, self.now()).expect("nobody else writes");
            self.drain();
            batch = self.shard.poll_batch();
        }
    }

    fn drain(&mut self) {
        while let Some(action) = self.shard.poll_action() {
            match action {
                Action::SendPay { order, .. } => self.pay = Some(order),
                Action::Call { order, call, kind, record, .. } => {
                    assert_eq!(record.key, self.key);
                    self.call = Some((order, call, kind));
                }
                Action::Publish { record, .. } => assert!(Arc::strong_count(&record) > 0),
                Action::Answer { .. }
                | Action::Refuse { .. }
                | Action::RefuseFor { .. }
                | Action::Discard { .. }
                | Action::NotHere { .. }
                | Action::Retire { .. }
                | Action::Alarm { .. }
                | Action::Settled { .. } => {}
            }
        }
    }
}
