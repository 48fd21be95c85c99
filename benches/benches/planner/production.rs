//! The production shard (its payments, its planner, what it learns) over customers who are typing.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use protocol::fact::{Paid, PayFact, QueryFact, ReverseFact, Row};
use protocol::{Fen, Fields};
use state_machine::absence::Absences;
use state_machine::planner::{Learned, Quota};
use state_machine::shard::{
    Action, Batch, Call, Config, Input, OrderRef, Outcome, PayRequest, Shard, Ticket, Wait,
};
use state_machine::{BootId, MerchantId, Now, OrderKey, Policy, ProviderId, Record, Tick, UnixMs};

use crate::draw::Customer;
use crate::outcome::{LATENCY_MS, Tally};

/// Ticks do not begin at 0 in life either.
const START_MS: u64 = 1_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrives,
    PayAnswered(OrderRef),
    QueryAnswered(OrderRef, u32, usize, bool),
    ReversalAnswered(OrderRef, u32),
}

struct Run<'a> {
    shard: Shard,
    customers: &'a [Customer],
    reversed: Vec<bool>,
    found: Vec<bool>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    sequence: u64,
    settled: usize,
    tally: Tally,
    measured: (u64, u64),
}

/// Runs all customers; those that leave within `measured` (ms) count. `look` sees the shard's estimate every second.
pub(crate) fn run(
    customers: &[Customer],
    budget: u32,
    measured: (u64, u64),
    mut look: impl FnMut(u64, &Learned),
) -> Tally {
    let quota = Quota { pay: 1_000_000, query: budget, reverse: 1_000_000, calls_max: 1_000_000 };
    let config = Config {
        policy: Policy::default(),
        quota,
        quotas: Vec::new(),
        orders_max: 4_000_000,
        waiters_max: 4,
        boot: BootId(1),
        absences: Absences::default(),
        rescans: state_machine::rescan::Rescans::default(),
    };
    let mut run = Run {
        shard: Shard::new(config, Tick::from_ms(START_MS)),
        customers,
        reversed: vec![false; customers.len()],
        found: vec![false; customers.len()],
        events: BinaryHeap::new(),
        sequence: 0,
        settled: 0,
        tally: Tally::new(budget),
        measured,
    };
    let mut next = 0;
    if let Some(first) = customers.first() {
        run.at(first.left_ms, Event::Arrives);
    }
    let (mut looked, mut now) = (0, 0);
    while run.settled < customers.len() {
        let event = run.events.peek().map(|Reverse((at, _, _))| *at);
        let wake = run.shard.next_wake().map(|tick| tick.as_ms().saturating_sub(START_MS));
        let Some(next_at) = event.into_iter().chain(wake).min() else { break };
        now = now.max(next_at);
        let mut inputs = Vec::new();
        while run.events.peek().is_some_and(|Reverse((at, _, _))| *at <= now) {
            let Some(Reverse((_, _, event))) = run.events.pop() else { break };
            match event {
                Event::Arrives => {
                    inputs.push(pay(next, &customers[next]));
                    next += 1;
                    if let Some(customer) = customers.get(next) {
                        run.at(customer.left_ms, Event::Arrives);
                    }
                }
                Event::PayAnswered(_) | Event::QueryAnswered(..) | Event::ReversalAnswered(..) => {
                    inputs.push(run.reply(event, now));
                }
            }
        }
        let batch = run.shard.step(inputs, moment(now));
        run.carry_out(batch, now);
        if now >= looked + 1_000 {
            looked = now;
            look(now, run.shard.learned());
        }
    }
    run.tally
}

fn moment(now: u64) -> Now {
    let wall = i64::try_from(now).expect("hours");
    Now { tick: Tick::from_ms(START_MS + now), wall: UnixMs(1_795_400_000_000 + wall) }
}

fn pay(place: usize, customer: &Customer) -> Input {
    let number = format!("P{place:010}").parse().expect("a number");
    Input::Pay(PayRequest {
        ticket: Ticket(place as u64),
        key: OrderKey { merchant: MerchantId(customer.merchant), number },
        provider: ProviderId(1),
        amount: Fen::new(customer.fen).expect("an amount"),
        digest: [1; 16],
        attach: 0,
        wait: Wait::FirstWord,
        expires_at: None,
        till: 0,
        patience_ms: 0,
    })
}

fn place(record: &Record) -> usize {
    record.key.number.as_str().get(1..).and_then(|digits| digits.parse().ok()).expect("a number of ours")
}

impl Run<'_> {
    fn at(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((at, self.sequence, event)));
    }

    fn is_measured(&self, place: usize) -> bool {
        (self.measured.0..self.measured.1).contains(&self.customers[place].left_ms)
    }

    /// An answer reaches the switch.
    fn reply(&mut self, event: Event, now: u64) -> Input {
        match event {
            Event::Arrives => unreachable!("not an answer"),
            Event::PayAnswered(order) => {
                let left_at = Some(Tick::from_ms(START_MS + now - LATENCY_MS));
                Input::PayReply { order, left_at, row: Row::A7, fact: PayFact::InProgress }
            }
            Event::QueryAnswered(order, call, place, is_over) => {
                let customer = self.customers[place];
                let (row, fact) = if self.reversed[place] {
                    (Row::B8, QueryFact::Revoked)
                } else if is_over {
                    if !std::mem::replace(&mut self.found[place], true) && self.is_measured(place) {
                        self.tally.delays.push((customer.left_ms, now - customer.ends_ms));
                    }
                    (Row::B4, QueryFact::Paid(Box::new(paid(customer.fen))))
                } else {
                    (Row::B6, QueryFact::InProgress)
                };
                Input::QueryReply { order, call, row, fact, throttled: false }
            }
            Event::ReversalAnswered(order, call) => {
                Input::ReverseReply { order, call, row: Row::C1, fact: ReverseFact::Done, throttled: false }
            }
        }
    }

    /// Commits what there is to commit, and makes the calls.
    fn carry_out(&mut self, mut batch: Option<Batch>, now: u64) {
        loop {
            while let Some(action) = self.shard.poll_action() {
                self.act(&action, now);
            }
            let Some(Batch { id, records }) = batch.take() else { return };
            let outcomes = records.iter().map(|_| Outcome::Applied).collect();
            self.shard.committed(id, outcomes, moment(now)).expect("one writer");
            batch = self.shard.poll_batch();
        }
    }

    fn act(&mut self, action: &Action, now: u64) {
        match action {
            Action::SendPay { order, .. } => self.at(now + LATENCY_MS, Event::PayAnswered(*order)),
            Action::Call { order, call, kind, record, .. } => {
                let place = place(record);
                match kind {
                    Call::Query | Call::LastQuery => {
                        self.tally.query(now, self.is_measured(place));
                        let is_over = self.customers[place].ends_ms <= now + LATENCY_MS / 2;
                        self.at(now + LATENCY_MS, Event::QueryAnswered(*order, *call, place, is_over));
                    }
                    Call::Reverse => {
                        self.reversed[place] = true;
                        self.at(now + LATENCY_MS, Event::ReversalAnswered(*order, *call));
                    }
                    Call::RefundQuery | Call::Refund => unreachable!("nobody refunds here"),
                }
            }
            Action::Retire { .. }
            | Action::Publish { .. }
            | Action::Answer { .. }
            | Action::Discard { .. }
            | Action::Alarm { .. } => {}
            Action::Settled { record, .. } => {
                if record.state != state_machine::record::State::Reversing {
                    self.settled += 1;
                    self.tally.resolved += u64::from(self.is_measured(place(record)));
                }
            }
            Action::Refuse { .. } | Action::RefuseFor { .. } | Action::NotHere { .. } => {
                unreachable!("nothing goes wrong here: {action:?}")
            }
        }
    }
}

fn paid(fen: u64) -> Paid {
    Paid {
        amount: Fen::new(fen).expect("an amount"),
        transaction_id: "4200000001202611230000000001".parse().expect("digits"),
        time_end_s: None,
        attach: 0,
        merchant_matches: true,
        fields: Fields::new([]),
    }
}
