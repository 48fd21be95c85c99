//! The process that is judged: shards, what it has published, the requests that wait, its life and death.

use std::sync::Arc;

use state_machine::planner::Quota;
use state_machine::shard::{
    Config, Input, NotAccepted, PayRequest, ReverseRequest, Said, Shard, Ticket, Wait,
};
use state_machine::{BootId, Now, Policy, Record, Tick, UnixMs, till};

use super::disk::{Disk, Fate};
use super::judge::Money;
use super::kind::Kind;
use super::setup::Setup;
use super::store::Committer;
use super::tills::{Ask, Till, key_of, n_of, provider_of};
use super::told::Told;
use super::{Event, World};
use protocol::fact::attach_digest;
use timer_wheel::Handle;

/// How long a till's request is held. Source: DESIGN §4.
pub(super) const HOLD_MS: u64 = 8_000;
/// Ticks do not begin at 0: a machine has run before its process starts.
const TICK_BASE: u64 = 40_000;
/// Requests that wait for one order.
const WAITERS_MAX: usize = 16;

/// One request of a till that waits at the switch.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    n: u32,
    turn: u16,
    ask: Ask,
    /// Nobody has answered it yet.
    unanswered: bool,
    /// What is to be sent is still kept.
    outgoing: bool,
}

/// Requests by ticket: slot and generation.
#[derive(Debug, Default)]
struct Tickets {
    slots: Vec<(u32, Option<Waiting>)>,
    free: Vec<u32>,
}

impl Tickets {
    fn open(&mut self, waiting: Waiting) -> Ticket {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let Some((generation, place)) = self.slots.get_mut(slot as usize) else { return Ticket(u64::MAX) };
        *generation = generation.wrapping_add(1);
        *place = Some(waiting);
        Ticket(u64::from(*generation) << 32 | u64::from(slot))
    }

    fn get(&mut self, ticket: Ticket) -> Option<&mut Waiting> {
        let slot = usize::try_from(ticket.0 & 0xffff_ffff).ok()?;
        let (generation, place) = self.slots.get_mut(slot)?;
        if u64::from(*generation) == ticket.0 >> 32 { place.as_mut() } else { None }
    }

    /// Forgets a request once it is answered and nothing of it is to be sent.
    fn close_if_done(&mut self, ticket: Ticket) {
        if self.get(ticket).is_some_and(|waiting| !waiting.unanswered && !waiting.outgoing) {
            let slot = u32::try_from(ticket.0 & 0xffff_ffff).unwrap_or(u32::MAX);
            if let Some((_, place)) = self.slots.get_mut(slot as usize) {
                *place = None;
                self.free.push(slot);
            }
        }
    }
}

/// One shard with its inbox.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) shard: Shard,
    inbox: Vec<Input>,
    /// When it runs next, and where that is planned.
    run_at: u64,
    planned: Option<Handle>,
}

/// What can be read of a payment.
#[derive(Debug)]
enum Seen {
    Record(Arc<Record>),
    Nothing,
    /// There is something that cannot be trusted: nothing is said of it.
    Damaged,
}

impl Seen {
    /// The answer to a query, and the version that it is from.
    fn queried(&self) -> (Told, u32) {
        match self {
            Self::Record(record) => (Told::of_query(&till::query(record)), record.version),
            Self::Nothing => (Told::NotExist, 0),
            Self::Damaged => (Told::Lost, 0),
        }
    }
}

/// The process and its machine.
#[derive(Debug)]
pub(super) struct Switch {
    policy: Policy,
    quota: Quota,
    orders_max: u32,
    pub(super) seats: Vec<Seat>,
    published: Vec<Option<Arc<Record>>>,
    tickets: Tickets,
    pub(super) disk: Disk,
    pub(super) committer: Committer,
    /// Grows with each death; what belongs to an earlier life is void.
    pub(super) life: u32,
    pub(super) is_up: bool,
    boot: BootId,
    boot_at: u64,
    pub(super) frozen_until: u64,
}

impl Switch {
    pub(super) fn new(policy: Policy, quota: Quota, orders_max: u32, setup: &Setup) -> Self {
        let Setup { orders, seed, .. } = *setup;
        Self {
            policy,
            quota,
            orders_max,
            seats: Vec::new(),
            published: vec![None; usize::try_from(orders).unwrap_or(0)],
            tickets: Tickets::default(),
            disk: Disk::new(&setup.storage, seed),
            committer: Committer::default(),
            life: 0,
            is_up: false,
            boot: BootId(seed ^ 0xb007),
            boot_at: 0,
            frozen_until: 0,
        }
    }

    pub(super) const fn give_up_ms(&self) -> u64 {
        self.policy.give_up_ms
    }

    /// The shard of a payment. Half of the shards of a run that restarts with another count change owners.
    pub(super) fn shard_of(&self, n: u32) -> usize {
        let hash = u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
        usize::try_from(hash).unwrap_or(0) % self.seats.len().max(1)
    }

    fn published(&mut self, n: u32) -> Option<&mut Option<Arc<Record>>> {
        self.published.get_mut(usize::try_from(n).unwrap_or(usize::MAX))
    }

    pub(super) fn publish(&mut self, n: u32, record: Option<Arc<Record>>) {
        if let Some(place) = self.published(n) {
            *place = record;
        }
    }

    /// What every thread can read of a payment: the table, else the store.
    fn find(&mut self, n: u32) -> Seen {
        if let Some(Some(record)) = self.published(n) {
            return Seen::Record(Arc::clone(record));
        }
        match self.disk.find(&key_of(n)) {
            Ok(Some(record)) => Seen::Record(Arc::new(record)),
            Ok(None) => Seen::Nothing,
            Err(_) => Seen::Damaged,
        }
    }

    fn config(&self, shards: u32) -> Config {
        let part = |whole: u32| (whole / shards).max(1);
        let Quota { pay, query, reverse, calls_max } = self.quota;
        Config {
            policy: self.policy,
            quota: Quota {
                pay: part(pay),
                query: part(query),
                reverse: part(reverse),
                calls_max: part(calls_max),
            },
            quotas: Vec::new(),
            orders_max: self.orders_max.div_ceil(shards),
            waiters_max: WAITERS_MAX,
            boot: self.boot,
        }
    }
}

impl World {
    /// The present, as the process sees it.
    pub(super) fn clock(&self) -> Now {
        let wall = self.drawn.start_ms + i64::try_from(self.now).unwrap_or(0) + self.weather.wall_offset_ms();
        Now { tick: self.tick_of(self.now), wall: UnixMs(wall) }
    }

    pub(super) fn tick_of(&self, at: u64) -> Tick {
        Tick::from_ms(TICK_BASE + at.saturating_sub(self.switch.boot_at))
    }

    pub(super) fn moment_of(&self, tick: Tick) -> u64 {
        self.switch.boot_at.saturating_add(tick.as_ms().saturating_sub(TICK_BASE))
    }

    /// The process starts: every open order is taken up where it stood.
    pub(super) fn on_start(&mut self, life: u32) {
        if life != self.switch.life || self.switch.is_up {
            return;
        }
        let shards = u32::try_from(1 + self.rng.store.below(self.drawn.shards_max)).unwrap_or(1);
        let now = self.clock();
        let config = self.switch.config(shards);
        let seat = |_| Seat {
            shard: Shard::new(config.clone(), now.tick),
            inbox: Vec::new(),
            run_at: u64::MAX,
            planned: None,
        };
        self.switch.seats = (0..shards).map(seat).collect();
        self.switch.is_up = true;
        self.reasons.on_start(self.now);
        self.switch.frozen_until = 0;
        let found = match self.switch.disk.recover() {
            Ok(found) => found,
            Err(why) => return self.judge.break_rule("INV-12", None, why.to_string()),
        };
        let (open, damaged) = (found.open, found.damaged);
        if open.len() >= 50_000 {
            self.judge.probes.other("recovered_many");
        }
        if damaged > 0 {
            self.judge.probes.other("row_damaged_at_start");
        }
        self.note_all(|| {
            format!("process starts: {shards} shards, {} open orders, {damaged} damaged", open.len())
        });
        self.mix(1, u64::from(shards), u64::try_from(open.len()).unwrap_or(0));
        if life > 0 {
            self.switch.seats.iter_mut().for_each(|seat| seat.shard.follow_another_process(now.tick));
        }
        for record in open {
            let place = self.switch.shard_of(n_of(&record.key));
            if let Some(seat) = self.switch.seats.get_mut(place) {
                seat.shard.recover(record, now);
            }
        }
        for shard in 0..u16::try_from(shards).unwrap_or(1) {
            self.nudge(shard, 0);
        }
    }

    /// The process dies. What is on the wire stays on the wire; everything else is gone.
    pub(super) fn crash(&mut self, down_ms: u64, reboots: bool) {
        let kept = self.is_committing() && self.rng.store.below(2) == 0;
        self.die(reboots, Some(if kept { Fate::Kept } else { Fate::Lost }));
        self.start_later(down_ms);
    }

    /// The process is started again after `down_ms`.
    pub(super) fn start_later(&mut self, down_ms: u64) {
        let life = self.switch.life;
        self.later(down_ms.max(20), Event::Start { life });
    }

    /// Ends the process; `fate` says what becomes of the commit under way, or that the store is closed in good
    /// order.
    pub(super) fn die(&mut self, reboots: bool, fate: Option<Fate>) {
        self.switch.life += 1;
        if reboots {
            self.switch.boot = BootId(self.switch.boot.0.wrapping_add(1));
            self.switch.boot_at = self.now;
        }
        if !self.switch.is_up {
            return;
        }
        self.note_all(|| format!("process dies{}", if reboots { ", machine reboots" } else { "" }));
        self.switch.is_up = false;
        self.switch.seats.clear();
        self.switch.published.fill(None);
        let kept = match fate {
            Some(fate) => self.switch.disk.crash(fate),
            None => self.switch.disk.close(),
        };
        self.end_committer(kept);
        self.hang_up_calls();
        // Every till that waits sees its connection break.
        let tickets = std::mem::take(&mut self.switch.tickets);
        for waiting in tickets.slots.into_iter().filter_map(|(_, waiting)| waiting) {
            if waiting.unanswered {
                let Waiting { n, turn, .. } = waiting;
                self.on_told(n, turn, Told::Lost, 2);
            }
        }
    }

    /// Rows of some payments, open ones if there are, are spoilt; the next start finds them.
    pub(super) fn damage_rows(&mut self) {
        if !self.switch.is_up {
            return;
        }
        let begun = u64::try_from(self.tills.len()).unwrap_or(0);
        for _ in 0..3 {
            let draws: Vec<u32> = (0..20)
                .map(|_| u32::try_from(self.rng.store.below(begun)).unwrap_or(0))
                // Of the first two merchants no byte in the file tells them apart.
                .filter(|n| self.judge.durable(*n).is_some_and(|record| record.key.merchant.0 > 1))
                .collect();
            let open = draws.iter().find(|n| self.judge.durable(**n).is_some_and(|record| record.is_open()));
            if let Some(n) = open.or(draws.first()).copied() {
                self.note(n, || "a bit of its row flips".to_owned());
                self.judge.on_damaged(n);
                self.switch.disk.damage(key_of(n));
            }
        }
    }

    /// A second process opens the store as its writer, and ends; the first is stale.
    pub(super) fn usurp(&mut self) {
        if !self.switch.is_up {
            return;
        }
        if let Err(what) = self.switch.disk.usurp() {
            self.judge.break_rule("INV-17", None, what);
        }
    }

    /// The process is told to stop: it takes no more payments, and ends a little later.
    pub(super) fn drain(&mut self, after_ms: u64) {
        for shard in 0..self.switch.seats.len() {
            self.input(shard, Input::Drain);
        }
        let life = self.switch.life;
        self.later(after_ms, Event::Stop { life });
    }

    pub(super) fn on_stop(&mut self, life: u32) {
        if life == self.switch.life && self.switch.is_up {
            // The store is closed whole: what it was given is durable.
            self.die(false, None);
            let down_ms = 20 + self.rng.faults.below(2_000);
            self.start_later(down_ms);
        }
    }

    /// The process stands still; its sockets fill up meanwhile.
    pub(super) fn freeze(&mut self, for_ms: u64) {
        self.switch.frozen_until = self.switch.frozen_until.max(self.now + for_ms);
    }

    /// Puts something into a shard's inbox.
    pub(super) fn input(&mut self, shard: usize, input: Input) {
        let Some(seat) = self.switch.seats.get_mut(shard) else { return };
        self.events += 1;
        seat.inbox.push(input);
        // A shard takes what has gathered: the more it has to do, the more at once.
        let lag_ms = match self.setup.faults {
            true if self.weather.is(Kind::LateTimers) => self.rng.store.below(5_000),
            true => self.rng.store.below(3),
            false => 0,
        };
        self.nudge(u16::try_from(shard).unwrap_or(0), lag_ms);
    }

    /// Has a shard run after `after_ms` at the latest.
    pub(super) fn nudge(&mut self, shard: u16, after_ms: u64) {
        let at = (self.now + after_ms).max(self.switch.frozen_until);
        self.run_by(shard, at);
    }

    fn run_by(&mut self, shard: u16, at: u64) {
        let Some(seat) = self.switch.seats.get_mut(usize::from(shard)) else { return };
        if at < seat.run_at {
            seat.run_at = at;
            if let Some(planned) = seat.planned.take() {
                self.queue.cancel(planned);
            }
            let planned = self.at(at, Event::Run { shard });
            if let Some(seat) = self.switch.seats.get_mut(usize::from(shard)) {
                seat.planned = Some(planned);
            }
        }
    }

    /// A shard runs: it takes its inputs, fires its timers, and its actions are carried out.
    pub(super) fn on_run(&mut self, shard: u16) {
        let (now, moment, frozen_until) = (self.clock(), self.now, self.switch.frozen_until);
        let Some(seat) = self.switch.seats.get_mut(usize::from(shard)) else { return };
        if seat.run_at != moment {
            return;
        }
        seat.run_at = u64::MAX;
        seat.planned = None;
        if frozen_until > moment {
            return self.run_by(shard, frozen_until);
        }
        let mut inputs = std::mem::take(&mut seat.inbox);
        // Nothing but its timer wakes it: the moment is the input.
        self.events += u64::from(inputs.is_empty());
        let batch = seat.shard.step(inputs.drain(..), now);
        seat.inbox = inputs;
        if let Some(batch) = batch {
            self.submit(shard, batch);
        }
        self.act_all(shard);
    }

    /// Carries out a shard's actions, and plans when it runs next.
    pub(super) fn act_all(&mut self, shard: u16) {
        let life = self.switch.life;
        while self.switch.life == life
            && let Some(seat) = self.switch.seats.get_mut(usize::from(shard))
            && let Some(action) = seat.shard.poll_action()
        {
            self.act(shard, action);
        }
        if self.switch.life != life {
            return;
        }
        let wake = self.switch.seats.get(usize::from(shard)).and_then(|seat| seat.shard.next_wake());
        if let Some(wake) = wake {
            let mut at = self.moment_of(wake).max(self.now + 1);
            if self.weather.is(Kind::LateTimers) {
                let late_ms = self.rng.store.below(5_001);
                at += late_ms;
                if late_ms >= 4_000 {
                    self.judge.probes.other("timer_late");
                }
            }
            self.run_by(shard, at);
        }
    }

    /// A till's request reaches the switch.
    pub(super) fn on_request(&mut self, n: u32, turn: u16, ask: Ask) {
        if !self.switch.is_up {
            return self.on_told(n, turn, Told::Lost, 3);
        }
        if self.switch.frozen_until > self.now {
            self.at(self.switch.frozen_until, Event::Request { n, turn, ask });
            return;
        }
        self.mix(2, u64::from(n), u64::from(turn));
        self.note(n, || format!("till asks: {ask:?}"));
        let key = key_of(n);
        let outgoing = matches!(ask, Ask::Pay(_) | Ask::PayOther);
        let waiting = Waiting { n, turn, ask, unanswered: true, outgoing };
        let input = match ask {
            Ask::Query => {
                let told = self.switch.find(n).queried();
                return self.tell(n, turn, told.0, told.1);
            }
            Ask::Pay(wait) => self.pay_input(waiting, wait, false),
            Ask::PayOther => self.pay_input(waiting, Wait::FirstWord, true),
            Ask::Watch => {
                let ticket = self.switch.tickets.open(waiting);
                (ticket, Input::Watch { ticket, key, wait: Wait::Definite })
            }
            Ask::Reverse => {
                let ticket = self.switch.tickets.open(waiting);
                let provider = provider_of(key.merchant);
                (ticket, Input::Reverse(ReverseRequest { ticket, key, provider }))
            }
        };
        let (ticket, input) = input;
        self.later(HOLD_MS, Event::HoldEnds { ticket: ticket.0 });
        self.input(self.switch.shard_of(n), input);
    }

    fn pay_input(&mut self, waiting: Waiting, wait: Wait, other: bool) -> (Ticket, Input) {
        let n = waiting.n;
        let key = key_of(n);
        let ticket = self.switch.tickets.open(waiting);
        let amount = self.amount_of(n, other);
        let mut digest = [u8::from(other); 16];
        for (to, from) in digest.iter_mut().zip(n.to_le_bytes()) {
            *to = from;
        }
        let request = PayRequest {
            ticket,
            key,
            provider: provider_of(key.merchant),
            amount,
            digest,
            attach: attach_digest(Till::attach(n)),
            wait,
        };
        (ticket, Input::Pay(request))
    }

    /// A request has been held long enough: it is answered with what everybody can read.
    pub(super) fn on_hold_ends(&mut self, ticket: u64) {
        let Some(waiting) = self.switch.tickets.get(Ticket(ticket)).copied() else { return };
        if !waiting.unanswered {
            return;
        }
        if self.switch.frozen_until > self.now {
            self.at(self.switch.frozen_until, Event::HoldEnds { ticket });
            return;
        }
        self.judge_patience(waiting.n, waiting.ask);
        let found = self.switch.find(waiting.n);
        let told = match (waiting.ask, found) {
            // It may be on its way into the store: nothing can be said.
            (Ask::Pay(_) | Ask::PayOther | Ask::Reverse, Seen::Nothing | Seen::Damaged) => (Told::Lost, 0),
            (Ask::Watch | Ask::Query, found) => found.queried(),
            (Ask::Pay(_) | Ask::PayOther, Seen::Record(record)) => {
                let fen = self.amount_of(waiting.n, waiting.ask == Ask::PayOther);
                let told = match record.amount {
                    Some(amount) if amount != fen => Told::NumberUsed,
                    // A decided payment is answered by the shard; if that stands still, nothing is said.
                    Some(_) | None if record.is_definite() => Told::Lost,
                    Some(_) | None => Told::of_query(&till::query(&record)),
                };
                (told, record.version)
            }
            (Ask::Reverse, Seen::Record(record)) => {
                let answer = till::reverse(&record, Said::Reversal);
                (Told::of_reverse(answer), record.version)
            }
        };
        self.answer(Ticket(ticket), told.0, told.1);
    }

    /// Answers a request, if nobody has done so.
    pub(super) fn answer(&mut self, ticket: Ticket, told: Told, version: u32) {
        let Some(waiting) = self.switch.tickets.get(ticket) else { return };
        if std::mem::replace(&mut waiting.unanswered, false) {
            let Waiting { n, turn, ask, .. } = *waiting;
            if matches!(ask, Ask::Pay(_) | Ask::PayOther) {
                let fen = self.amount_of(n, ask == Ask::PayOther).get();
                self.judge.on_pay_told(n, told, fen);
            }
            self.tell(n, turn, told, version);
        }
        self.switch.tickets.close_if_done(ticket);
    }

    /// What a till asks for; another content is one fen more.
    fn amount_of(&self, n: u32, other: bool) -> protocol::Fen {
        let index = usize::try_from(n).unwrap_or(usize::MAX);
        #[expect(clippy::indexing_slicing, reason = "only payments that have begun ask")]
        let amount = self.tills[index].amount;
        if other { protocol::Fen::new(amount.get() + 1).unwrap_or(amount) } else { amount }
    }

    /// Which payment a request is about, and what it asks.
    pub(super) fn asked(&mut self, ticket: Ticket) -> Option<(u32, Ask)> {
        self.switch.tickets.get(ticket).map(|waiting| (waiting.n, waiting.ask))
    }

    /// Takes what is kept to be sent under a ticket; `None` if it was taken before.
    pub(super) fn take_outgoing(&mut self, ticket: Ticket) -> Option<Ask> {
        let waiting = self.switch.tickets.get(ticket)?;
        let ask = waiting.ask;
        let kept = std::mem::replace(&mut waiting.outgoing, false);
        self.switch.tickets.close_if_done(ticket);
        kept.then_some(ask)
    }

    /// Refuses a request. That nothing was charged may be said only of a number that the store does not know.
    pub(super) fn refuse(&mut self, ticket: Ticket, why: NotAccepted) {
        let Some((n, ask)) = self.asked(ticket) else { return };
        let _ = self.take_outgoing(ticket);
        let told = match (ask, self.switch.find(n)) {
            (Ask::Pay(_) | Ask::PayOther, Seen::Record(record)) => {
                let fen = self.amount_of(n, ask == Ask::PayOther);
                let same = record.amount.is_none_or(|amount| amount == fen);
                let said = if same { Said::Repeated } else { Said::OtherContent };
                (Told::of_pay(&till::pay(&record, said)), record.version)
            }
            (Ask::Pay(_) | Ask::PayOther, Seen::Damaged) => (Told::Lost, 0),
            (Ask::Reverse, _) => (Told::ReverseRefused, 0),
            // Whoever only asks is answered with what can be read.
            (Ask::Query | Ask::Watch, found) => found.queried(),
            (Ask::Pay(_) | Ask::PayOther, Seen::Nothing) => (Told::NotAccepted(why), 0),
        };
        self.judge.probes.other(Told::NotAccepted(why).as_str());
        self.answer(ticket, told.0, told.1);
    }

    /// A watched order is not in memory: the store has its end, if it exists.
    pub(super) fn not_here(&mut self, ticket: Ticket) {
        let Some((n, _)) = self.asked(ticket) else { return };
        let told = self.switch.find(n).queried();
        self.answer(ticket, told.0, told.1);
    }

    /// Tells a till. What the network loses was not told.
    fn tell(&mut self, n: u32, turn: u16, told: Told, version: u32) {
        let told = if told != Told::Lost && self.till_network_loses() {
            self.judge.probes.fault("till_answer_lost");
            Told::Lost
        } else {
            told
        };
        self.note(n, || format!("till is told: {} (version {version})", told.as_str()));
        self.mix(3, u64::from(n), u64::from(version));
        if told == Told::Lost {
            return self.on_told(n, turn, told, 10_000);
        }
        let wallet = &mut self.wallet;
        let (now_ms, callers) = (self.drawn.start_ms + i64::try_from(self.now).unwrap_or(0), &self.callers);
        self.judge.on_told(n, told, version, || {
            wallet.advance(now_ms);
            wallet.entry(&super::network::ledger_key(callers, n)).map(Money::of)
        });
        let delay_ms = 1 + self.rng.tills.below(20);
        self.on_told(n, turn, told, delay_ms);
    }
}
