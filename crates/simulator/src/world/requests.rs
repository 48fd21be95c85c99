//! What tills ask of the process that is judged: their requests while they wait, and what they are told.

use std::sync::Arc;

use protocol::fact::attach_digest;
use state_machine::shard::{Input, NotAccepted, PayRequest, ReverseRequest, Said, Ticket, Wait};
use state_machine::{Record, till};

use super::judge::Money;
use super::tills::{Ask, Till, key_of, provider_of};
use super::told::Told;
use super::{Event, World};

/// How long a till's request is held. Source: DESIGN §4.
pub(super) const HOLD_MS: u64 = 8_000;
/// What of it is left for the answer that a payment has waited in vain for another.
const ANSWER_MS: u64 = 500;
/// How long a question that waits for no outcome may take.
const QUESTION_MS: u64 = 1_000;

/// One request of a till that waits at the switch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    n: u32,
    turn: u16,
    ask: Ask,
    /// Nobody has answered it yet.
    unanswered: bool,
    /// What is to be sent is still kept.
    outgoing: bool,
    /// How many payments of its till had begun.
    begun: usize,
}

/// Requests by ticket: slot and generation.
#[derive(Debug, Default)]
pub(super) struct Tickets {
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

    /// Whether its till still waits for an answer.
    pub(super) fn is_unanswered(&self, ticket: Ticket) -> bool {
        let slot = usize::try_from(ticket.0 & 0xffff_ffff).unwrap_or(usize::MAX);
        self.slots.get(slot).is_some_and(|(generation, place)| {
            let is_it = u64::from(*generation) == ticket.0 >> 32;
            is_it && place.is_some_and(|waiting| waiting.unanswered)
        })
    }

    fn get(&mut self, ticket: Ticket) -> Option<&mut Waiting> {
        let slot = usize::try_from(ticket.0 & 0xffff_ffff).ok()?;
        let (generation, place) = self.slots.get_mut(slot)?;
        if u64::from(*generation) == ticket.0 >> 32 { place.as_mut() } else { None }
    }

    /// The payments and turns of the requests that nobody has answered.
    pub(super) fn into_unanswered(self) -> impl Iterator<Item = (u32, u16, usize)> {
        let waiting = self.slots.into_iter().filter_map(|(_, waiting)| waiting);
        waiting.filter(|waiting| waiting.unanswered).map(|waiting| (waiting.n, waiting.turn, waiting.begun))
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

/// What can be read of a payment.
#[derive(Debug)]
pub(super) enum Seen {
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

impl World {
    /// A process that stood still goes on, and finds a till's request; if it is another one, the connection has broken.
    pub(super) fn on_thawed(&mut self, n: u32, turn: u16, ask: Ask, life: u32) {
        if life == self.switch.life {
            self.on_request(n, turn, ask);
        } else {
            self.on_told(n, turn, Told::Lost, 3);
        }
    }

    /// A till's request reaches the switch.
    pub(super) fn on_request(&mut self, n: u32, turn: u16, ask: Ask) {
        if !self.switch.is_up {
            return self.on_told(n, turn, Told::Lost, 3);
        }
        if self.switch.frozen_until > self.now {
            let life = self.switch.life;
            self.at(self.switch.frozen_until, Event::Thawed { n, turn, ask, life });
            return;
        }
        self.mix(2, u64::from(n), u64::from(turn));
        self.note(n, || format!("till asks: {ask:?}"));
        let outgoing = matches!(ask, Ask::Pay(_) | Ask::PayOther);
        // The same number for something else is no question.
        let (begun, asks) = match ask {
            Ask::Pay(_) | Ask::PayOther => {
                let amount = self.amount_of(n, ask == Ask::PayOther);
                let is_its = |record: &Arc<Record>| record.amount.is_none_or(|one| one == amount);
                let asks = self.judge.durable(n).map_or(ask != Ask::PayOther, is_its);
                (self.stands_there(n, amount), asks)
            }
            Ask::Query | Ask::Watch => (0, true),
            Ask::Reverse => (0, false),
        };
        let waiting = Waiting { n, turn, ask, unanswered: true, outgoing, begun };
        let input = match ask {
            Ask::Query => {
                let found = self.switch.find(n);
                let is_open = matches!(&found, Seen::Record(record) if !record.is_definite());
                if !is_open {
                    let told = found.queried();
                    self.tell(n, turn, told.0, told.1);
                    return;
                }
                // Whoever asks about an open payment is evidence, and may be the till that is waited for.
                let ticket = self.switch.tickets.open(waiting);
                (ticket, Input::Watch { ticket, key: key_of(n), wait: Wait::Nothing })
            }
            Ask::Pay(wait) => self.pay_input(waiting, wait, false),
            Ask::PayOther => self.pay_input(waiting, Wait::FirstWord, true),
            Ask::Watch => {
                let ticket = self.switch.tickets.open(waiting);
                (ticket, Input::Watch { ticket, key: key_of(n), wait: Wait::Definite })
            }
            Ask::Reverse => {
                let ticket = self.switch.tickets.open(waiting);
                let key = key_of(n);
                let provider = provider_of(key.merchant);
                (ticket, Input::Reverse(ReverseRequest { ticket, key, provider }))
            }
        };
        let (ticket, input) = input;
        self.presence.on_request(n, asks, self.now);
        let hold_ms = if ask == Ask::Query { QUESTION_MS } else { HOLD_MS };
        self.later(hold_ms, Event::HoldEnds { ticket: ticket.0 });
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
            expires_at: None,
            till: self.counters.till(n),
            patience_ms: HOLD_MS - ANSWER_MS,
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
    /// Returns when the till has it in its hands, if it does.
    pub(super) fn answer(&mut self, ticket: Ticket, told: Told, version: u32) -> Option<u64> {
        let waiting = self.switch.tickets.get(ticket)?;
        let mut heard_at = None;
        if std::mem::replace(&mut waiting.unanswered, false) {
            let Waiting { n, turn, ask, begun, .. } = *waiting;
            self.presence.on_over(n, self.now);
            self.stood_there(n, begun);
            if matches!(ask, Ask::Pay(_) | Ask::PayOther) {
                let fen = self.amount_of(n, ask == Ask::PayOther).get();
                self.judge.on_pay_told(n, told, fen);
            }
            heard_at = self.tell(n, turn, told, version);
        }
        self.switch.tickets.close_if_done(ticket);
        heard_at
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

    /// Refuses a payment because of an earlier one of the same till for the same amount.
    pub(super) fn refuse_for(&mut self, ticket: Ticket, first: &Record) {
        let Some((n, ask)) = self.asked(ticket) else { return };
        let _ = self.take_outgoing(ticket);
        let told = match self.switch.find(n) {
            Seen::Record(record) => {
                let fen = self.amount_of(n, ask == Ask::PayOther);
                let same = record.amount.is_none_or(|amount| amount == fen);
                let said = if same { Said::Repeated } else { Said::OtherContent };
                (Told::of_pay(&till::pay(&record, said)), record.version)
            }
            Seen::Damaged => (Told::Lost, 0),
            Seen::Nothing => (Told::Unsettled, 0),
        };
        let heard_at = self.answer(ticket, told.0, told.1);
        if told.0 == Told::Unsettled {
            let amount = self.amount_of(n, ask == Ask::PayOther);
            self.refused_for(n, amount, first, heard_at);
        }
    }

    /// A watched order is not in memory: the store has its end, if it exists.
    pub(super) fn not_here(&mut self, ticket: Ticket) {
        let Some((n, _)) = self.asked(ticket) else { return };
        let told = self.switch.find(n).queried();
        self.answer(ticket, told.0, told.1);
    }

    /// Tells a till. What the network loses was not told.
    fn tell(&mut self, n: u32, turn: u16, told: Told, version: u32) -> Option<u64> {
        let told = if told != Told::Lost && self.till_network_loses() {
            self.judge.probes.fault("till_answer_lost");
            Told::Lost
        } else {
            told
        };
        self.note(n, || format!("till is told: {} (version {version})", told.as_str()));
        self.mix(3, u64::from(n), u64::from(version));
        if told == Told::Lost {
            self.on_told(n, turn, told, 10_000);
            return None;
        }
        let wallet = &mut self.wallet;
        let (now_ms, callers) = (self.drawn.start_ms + i64::try_from(self.now).unwrap_or(0), &self.callers);
        self.judge.on_told(n, told, version, || {
            wallet.advance(now_ms);
            wallet.entry(&super::network::ledger_key(callers, n)).map(Money::of)
        });
        let delay_ms = 1 + self.rng.tills.below(20);
        self.till_hears(n, told, self.now + delay_ms);
        self.on_told(n, turn, told, delay_ms);
        Some(self.now + delay_ms)
    }
}
