//! Calls under way: from the action that asks for one to the one reply that ends it.

use std::sync::Arc;

use protocol::Fen;
use protocol::fact::{PayFact, QueryFact, ReverseFact, Row};
use protocol::wechat_v2::verdict::{self, Exchange, Expected, Pages, Verdict};
use protocol::xml::{Message, Reader};
use state_machine::Record;
use state_machine::shard::{Call, Input, OrderRef};

use super::bytes::Client;
use super::judge::Wire;
use super::kind::{Kind, Step};
use super::network::Received;
use super::setup::Broken;
use super::tills::provider_of;
use super::{Event, World};

/// Names a call: slot and generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CallRef {
    slot: u32,
    generation: u32,
}

/// What a call asks of the wallet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Pay,
    Other(Call),
}

impl What {
    pub(super) const fn wire(self) -> Wire {
        match self {
            Self::Pay => Wire::Pay,
            Self::Other(Call::Query | Call::LastQuery) => Wire::Query,
            Self::Other(Call::Reverse) => Wire::Reverse,
            Self::Other(Call::Refund) => Wire::Refund,
            Self::Other(Call::RefundQuery) => Wire::RefundQuery,
        }
    }

    /// How long its answer is waited for. Source: wechatpay-v2 §1.4.
    const fn read_ms(self) -> u64 {
        match self {
            Self::Pay => 10_000,
            Self::Other(Call::Query | Call::LastQuery | Call::RefundQuery) => 5_000,
            Self::Other(Call::Reverse | Call::Refund) => 15_000,
        }
    }
}

/// One call.
#[derive(Debug)]
pub(super) struct Calling {
    shard: u16,
    order: OrderRef,
    /// Names the call to the shard.
    call: u32,
    pub(super) n: u32,
    pub(super) what: What,
    pub(super) record: Arc<Record>,
    leave_by: u64,
    left_at: Option<u64>,
    /// It reached the wallet, or never will.
    arrived: bool,
    /// It was answered or given up.
    ended: bool,
    received: Option<Received>,
    /// Pages of refunds read so far.
    pages: Option<Box<Pages>>,
}

impl Calling {
    /// The place at which the next page of refunds begins.
    pub(super) fn offset(&self) -> usize {
        self.pages.as_ref().map_or(0, |pages| pages.offset())
    }
}

/// The calls under way.
#[derive(Debug)]
pub(super) struct Calls {
    slots: Vec<(u32, Option<Calling>)>,
    free: Vec<u32>,
    count: usize,
    reader: Reader,
    typed: Reader,
    /// Real requests and signatures, if the run has them.
    pub(super) client: Option<Client>,
}

impl Calls {
    pub(super) fn new(bytes: bool) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            count: 0,
            reader: Reader::new(),
            typed: Reader::new(),
            client: bytes.then(Client::new),
        }
    }

    pub(super) const fn is_idle(&self) -> bool {
        self.count == 0
    }

    fn insert(&mut self, calling: Calling) -> CallRef {
        self.count += 1;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let mut generation = 0;
        if let Some(place) = self.slots.get_mut(slot as usize) {
            place.0 = place.0.wrapping_add(1);
            generation = place.0;
            place.1 = Some(calling);
        }
        CallRef { slot, generation }
    }

    pub(super) fn get(&mut self, call: CallRef) -> Option<&mut Calling> {
        let (generation, place) = self.slots.get_mut(call.slot as usize)?;
        if *generation == call.generation { place.as_mut() } else { None }
    }

    fn remove_if_over(&mut self, call: CallRef) {
        if self.get(call).is_some_and(|calling| calling.arrived && calling.ended)
            && let Some((_, place)) = self.slots.get_mut(call.slot as usize)
        {
            *place = None;
            self.count -= 1;
            self.free.push(call.slot);
        }
    }
}

impl World {
    /// Sends the pay request of an order, the one of the `n`-th payment.
    pub(super) fn send_pay(&mut self, shard: u16, order: OrderRef, of: (u32, &Arc<Record>), leave_by: u64) {
        self.begin_call(shard, order, 0, What::Pay, of, leave_by);
    }

    /// Makes any other call.
    pub(super) fn send_call(
        &mut self,
        shard: u16,
        order: OrderRef,
        call: u32,
        kind: Call,
        of: (u32, &Arc<Record>),
    ) {
        if kind == Call::Reverse && self.passes(Step::BeforeReverse) {
            return;
        }
        self.begin_call(shard, order, call, What::Other(kind), of, u64::MAX);
    }

    fn begin_call(
        &mut self,
        shard: u16,
        order: OrderRef,
        call: u32,
        what: What,
        (n, record): (u32, &Arc<Record>),
        leave_by: u64,
    ) {
        let provider = usize::try_from(provider_of(record.key.merchant).0).unwrap_or(0);
        self.judge.on_call(provider, what.wire());
        if what == What::Other(Call::Reverse) {
            self.judge.on_reversal_begun(n);
        }
        let calling = Calling {
            shard,
            order,
            call,
            n,
            what,
            record: Arc::clone(record),
            leave_by,
            left_at: None,
            arrived: false,
            ended: false,
            received: None,
            pages: (what == What::Other(Call::RefundQuery)).then(|| Box::new(Pages::new())),
        };
        let call = self.calls.insert(calling);
        self.connect(call, what, leave_by);
    }

    /// Gets a connection: at once out of the pool, a little later, or not at all.
    fn connect(&mut self, call: CallRef, what: What, leave_by: u64) {
        let certified = matches!(what, What::Other(Call::Reverse | Call::Refund));
        if certified && self.weather.is(Kind::Certificate) {
            let after_ms = self.rng.network.below(30);
            return self.receive(call, Received::NoCertificate, after_ms, true);
        }
        if self.weather.is(Kind::WalletDown) || self.weather.is(Kind::Outage) {
            // Refused at once, or no answer to the first packet: two hosts, two seconds each.
            let after_ms = if self.rng.network.below(2) == 0 { self.rng.network.below(20) } else { 4_000 };
            return self.receive(call, Received::Unsent, after_ms, true);
        }
        let connect_ms = match self.rng.network.below(100) {
            _ if !self.setup.faults => 0,
            // A slow connection to the wallet: the pay request may miss its moment (G3).
            0 if what == What::Pay && !self.is_calm => self.rng.network.below(7_000),
            1..=19 => self.rng.network.below(40),
            _ => 0,
        };
        if self.now + connect_ms >= leave_by {
            let after_ms = leave_by.saturating_sub(self.now);
            self.receive(call, Received::Unsent, after_ms, true);
        } else if connect_ms == 0 {
            self.on_leaves(call);
        } else {
            self.later(connect_ms, Event::Leaves(call));
        }
    }

    /// The first byte leaves.
    pub(super) fn on_leaves(&mut self, call: CallRef) {
        let (now, frozen_until) = (self.now, self.switch.frozen_until);
        let Some(calling) = self.calls.get(call) else { return };
        if calling.ended {
            return;
        }
        if frozen_until > now {
            let leave_by = calling.leave_by;
            if frozen_until >= leave_by {
                return self.receive(call, Received::Unsent, frozen_until - now, true);
            }
            self.at(frozen_until, Event::Leaves(call));
            return;
        }
        calling.left_at.get_or_insert(now);
        let (n, what) = (calling.n, calling.what);
        self.log_wire(n, what.wire());
        self.dispatch(call, n, what);
        let step = match what {
            What::Pay => Some(Step::AfterPay),
            What::Other(Call::Reverse) => Some(Step::AfterReverse),
            What::Other(Call::Query | Call::LastQuery | Call::Refund | Call::RefundQuery) => None,
        };
        if let Some(step) = step {
            self.passes(step);
        }
    }

    /// Plans the end of a call: `received` comes after `after_ms`, unless it is given up before.
    pub(super) fn receive(&mut self, call: CallRef, received: Received, after_ms: u64, arrived: bool) {
        let now = self.now;
        let Some(calling) = self.calls.get(call) else { return };
        calling.arrived |= arrived;
        if calling.ended {
            // The connection was closed, or its process is dead: nobody hears this.
            return self.calls.remove_if_over(call);
        }
        let answered_at = now.saturating_add(after_ms);
        let gives_up_at = calling.left_at.map_or(u64::MAX, |left| left + calling.what.read_ms());
        calling.received = Some(if answered_at < gives_up_at { received } else { Received::Lost });
        let ends_at = answered_at.min(gives_up_at).max(now);
        let late_at = calling.left_at.map(|left| left + 1_000);
        if let Some(late_at) = late_at.filter(|at| calling.what == What::Pay && *at >= now && *at < ends_at) {
            self.at(late_at, Event::Late(call));
        }
        self.at(ends_at, Event::Ends(call));
    }

    /// A pay request has been under way for a second: the shard hears when it left.
    pub(super) fn on_late(&mut self, call: CallRef) {
        let Some(calling) = self.calls.get(call).filter(|calling| !calling.ended) else { return };
        let (shard, order, left_at) = (calling.shard, calling.order, calling.left_at);
        if let Some(left_at) = left_at {
            let at = self.tick_of(left_at);
            self.input(usize::from(shard), Input::PayLeft { order, at });
        }
    }

    /// A call has its answer, or is given up: the shard hears once.
    pub(super) fn on_ends(&mut self, call: CallRef) {
        let Some(calling) = self.calls.get(call).filter(|calling| !calling.ended) else { return };
        let received = calling.received.take().unwrap_or(Received::Lost);
        let n = calling.n;
        if !matches!(received, Received::Unsent | Received::Lost) && self.passes(Step::AnswerHere) {
            return;
        }
        let Some((shard, input)) = self.judged(call, &received) else {
            return self.next_page(call);
        };
        if let Some(calling) = self.calls.get(call) {
            calling.ended = true;
        }
        self.calls.remove_if_over(call);
        if self.setup.broken == Some(Broken::ForgetsReplies) && n % 20 == 7 {
            return;
        }
        self.input(shard, input);
    }

    /// What an answer means, by the production tables; `None` if another page of refunds must be asked for.
    fn judged(&mut self, call: CallRef, received: &Received) -> Option<(usize, Input)> {
        let broken = self.setup.broken;
        let believed;
        let (n, left_at) = self.calls.get(call).map(|calling| (calling.n, calling.left_at))?;
        let (left_tick, delivered_once) = (left_at.map(|at| self.tick_of(at)), self.delivered_once(n));
        let Self { calls, callers, judge, .. } = self;
        let Calls { slots, reader, typed, client, .. } = calls;
        let (_, place) = slots.get_mut(call.slot as usize)?;
        let calling = place.as_mut()?;
        let key = calling.record.key;
        let caller = callers.get(usize::try_from(key.merchant.0).unwrap_or(usize::MAX))?;
        let provider = usize::try_from(provider_of(key.merchant).0).unwrap_or(0);
        let expects = |amount: Option<Fen>| Expected {
            appid: &caller.appid,
            mch_id: &caller.mch_id,
            sub_appid: None,
            sub_mch_id: Some(&caller.sub_mch_id),
            out_trade_no: &key.number,
            amount,
            delivered_once,
        };
        let exchange = received.exchange(typed);
        let verify = |message: &Message<'_>| received.signature(client.as_mut(), provider, message);
        let (order, call, amount) = (calling.order, calling.call, calling.record.amount);
        let shard = usize::from(calling.shard);
        let input = match calling.what {
            What::Pay => {
                let Verdict { row, fact, keep_connection, .. } =
                    verdict::micropay(&exchange, &expects(amount), reader, verify);
                judge.probes.row(row);
                believed = keep_connection;
                let lies = broken == Some(Broken::LostAsUnsent) && matches!(exchange, Exchange::Lost);
                if lies {
                    Input::PayReply { order, left_at: None, row: Row::A1, fact: PayFact::Unsent }
                } else {
                    let left_at = left_tick.filter(|_| !matches!(exchange, Exchange::Unsent));
                    Input::PayReply { order, left_at, row, fact }
                }
            }
            What::Other(Call::Query | Call::LastQuery) => {
                let Verdict { row, fact, throttled, keep_connection, .. } =
                    verdict::orderquery(&exchange, &expects(None), reader, verify);
                judge.probes.row(row);
                believed = keep_connection;
                let lies = broken == Some(Broken::SwallowsReversals)
                    && calling.record.state == state_machine::record::State::Reversing;
                let fact = if lies { QueryFact::Revoked } else { fact };
                Input::QueryReply { order, call, row, fact, throttled }
            }
            What::Other(Call::Reverse) => {
                let Verdict { row, fact, throttled, keep_connection, .. } =
                    verdict::reverse(&exchange, &expects(None), reader, verify);
                judge.probes.row(row);
                believed = keep_connection;
                let fact = if broken == Some(Broken::SwallowsReversals) { ReverseFact::Done } else { fact };
                Input::ReverseReply { order, call, row, fact, throttled }
            }
            What::Other(Call::Refund) => {
                let number = calling.record.repair_refund_no();
                let Verdict { row, fact, keep_connection, .. } =
                    verdict::refund(&exchange, &expects(amount), &number, reader, verify);
                judge.probes.row(row);
                believed = keep_connection;
                Input::RefundReply { order, call, row, fact }
            }
            What::Other(Call::RefundQuery) => {
                let number = calling.record.repair.then(|| calling.record.repair_refund_no());
                let Verdict { row, fact: page, keep_connection, .. } =
                    verdict::refundquery(&exchange, &expects(amount), number.as_deref(), reader, verify);
                judge.probes.row(row);
                believed = keep_connection;
                let pages = calling.pages.get_or_insert_with(Box::default);
                // None: another page must be asked for.
                let fact = pages.add(page, number.as_deref())?;
                Input::RefundsReply { order, call, fact }
            }
        };
        self.judge_belief(n, received, believed);
        Some((shard, input))
    }

    /// Asks for the refunds that the pages so far did not hold.
    fn next_page(&mut self, call: CallRef) {
        if let Some(calling) = self.calls.get(call) {
            calling.arrived = false;
            calling.left_at = None;
            let (what, leave_by) = (calling.what, calling.leave_by);
            self.connect(call, what, leave_by);
        }
    }

    /// With the process its connections are gone. What has left still arrives.
    pub(super) fn hang_up_calls(&mut self) {
        for slot in 0..self.calls.slots.len() {
            let Some((generation, Some(calling))) = self.calls.slots.get_mut(slot) else { continue };
            calling.ended = true;
            calling.arrived |= calling.left_at.is_none();
            let call = CallRef { slot: u32::try_from(slot).unwrap_or(u32::MAX), generation: *generation };
            self.calls.remove_if_over(call);
        }
    }
}
