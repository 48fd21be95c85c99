//! What each step does.

use protocol::fact::{PayFact, Row};
use state_machine::key::Now;
use state_machine::shard::{Input, OrderRef, PayRequest, ReverseRequest, Ticket, Wait};
use timer_wheel::Tick;

use crate::bounds::ABSENT_AFTER_MS;
use crate::facts;
use crate::judge::{Breach, Broken, Rule, View};
use crate::machine::{Machine, PROVIDER, Step, WALL_MS, is_reversal};
use crate::spoil::Spoil;
use crate::wallet::{Order, PayWord, Word};
use crate::world::{Again, CallLine, Line, Loose, PayLine, Process, Side, World};

/// A pay request that is not answered is given up after this, milliseconds.
const PAY_TIMEOUT_MS: u64 = 10_000;

/// What happened, in words, for people.
pub(crate) type Notes<'a> = Option<&'a mut Vec<String>>;

/// A step under way.
pub(crate) struct Stepping<'a, 'n> {
    pub(crate) machine: &'a Machine,
    pub(crate) world: World,
    pub(crate) broken: Broken,
    notes: Notes<'n>,
}

/// Which process.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Live,
    Stale,
}

impl Machine {
    /// What comes of `step` in `world`.
    #[must_use]
    pub fn after(&self, world: &World, step: Step) -> World {
        self.after_noted(world, step, None)
    }

    /// The same, and in words what happened.
    pub(crate) fn after_noted(&self, world: &World, step: Step, notes: Notes<'_>) -> World {
        let run = std::panic::AssertUnwindSafe(|| {
            let mut stepping = Stepping { machine: self, world: world.clone(), broken: Broken::new(), notes };
            stepping.run(step);
            stepping.finish()
        });
        std::panic::catch_unwind(run).unwrap_or_else(|_| {
            let mut world = world.clone();
            let rules = vec![(Rule::LegalMoves, "the automaton panicked")];
            world.breach = Some(Box::new(Breach { rules }));
            world.seal(self);
            world
        })
    }
}

impl Stepping<'_, '_> {
    pub(crate) fn note(&mut self, words: impl FnOnce() -> String) {
        if let Some(notes) = &mut self.notes {
            notes.push(words());
        }
    }

    pub(crate) fn side(&mut self, order: u8) -> &mut Side {
        self.side_at(usize::from(order))
    }

    pub(crate) fn side_at(&mut self, number: usize) -> &mut Side {
        #[expect(clippy::indexing_slicing, reason = "orders are numbered below the bound")]
        &mut self.world.sides[number]
    }

    pub(crate) fn process(&mut self, who: Who) -> Option<&mut Process> {
        match who {
            Who::Live => Some(&mut self.world.live),
            Who::Stale => self.world.stale.as_deref_mut(),
        }
    }

    pub(crate) fn line(&mut self, who: Who, number: usize) -> Option<&mut Line> {
        self.process(who)?.lines.get_mut(number)
    }

    pub(crate) fn now(&self) -> Now {
        self.machine.now(&self.world)
    }

    fn finish(mut self) -> World {
        for number in 0..self.machine.orders() {
            let view = view(self.machine, &self.world, number);
            if let Some(side) = self.world.sides.get(number) {
                side.page.continuous(view, &mut self.broken);
            }
        }
        self.world.judge_rest(self.machine, &mut self.broken);
        if !self.broken.is_empty() {
            self.world.breach = Some(Box::new(Breach { rules: std::mem::take(&mut self.broken) }));
        }
        self.world.seal(self.machine);
        self.world
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Pay(order) => self.till_pays(order, Wait::Definite),
            Step::Repeat(order) => {
                self.world.left.repeats -= 1;
                self.till_pays(order, Wait::Nothing);
            }
            Step::Reverse(order) => self.till_reverses(order),
            Step::HangUp(order) => {
                self.world.left.absences -= 1;
                let now = self.world.now;
                let side = self.side(order);
                side.gone = side.waiting;
                side.page.there_at = Some(now);
            }
            Step::PayLeaves(order) => self.pay_leaves(order),
            Step::PayArrives(order, word, copied) => self.pay_arrives(order, word, copied),
            Step::PayAnswered(order, twice) => {
                self.world.left.duplicates -= u8::from(twice);
                self.pay_answered(Who::Live, order, twice);
            }
            Step::LateArrives(order, asking) => {
                if std::mem::take(&mut self.side(order).loose) == Loose::Late {
                    self.world.left.late -= 1;
                }
                let word = if asking { PayWord::Asking } else { PayWord::Paid };
                self.side(order).wallet.pay(word);
            }
            Step::CallArrives(order, word) => self.call_arrives(order, word),
            Step::CallAnswered(order, twice) => {
                self.world.left.duplicates -= u8::from(twice);
                self.call_answered(Who::Live, order, twice);
            }
            Step::Again(order) => {
                let again = self.line(Who::Live, usize::from(order)).and_then(|line| line.again.take());
                self.feed(Who::Live, again.map(|again| again.input).into_iter().collect());
            }
            Step::CustomerPays(order) => self.side(order).wallet.customer_pays(),
            Step::CustomerFails(order, taken) => {
                self.world.left.faults -= u8::from(taken);
                self.side(order).wallet.customer_fails(taken);
            }
            Step::Commit => self.commit(),
            Step::Acknowledge => self.acknowledge(Who::Live),
            Step::Crash { kept, boot } => self.crash(kept, boot),
            Step::TakeOver => self.take_over(),
            Step::StaleAnswered(order) => {
                let pay = self.line(Who::Stale, usize::from(order)).map(|line| line.pay);
                if matches!(pay, Some(PayLine::Out { word: Some(_), .. })) {
                    self.pay_answered(Who::Stale, order, false);
                } else {
                    self.call_answered(Who::Stale, order, false);
                }
            }
            Step::StaleAcknowledge => self.acknowledge(Who::Stale),
            Step::StaleCommit => self.stale_commit(),
            Step::Time => self.time(),
        }
    }

    // Tills.

    fn ticket(&mut self, order: u8, reverses: bool) -> Ticket {
        let side = self.side(order);
        let number = side.tickets;
        side.tickets = number.saturating_add(1);
        side.waiting |= 1_u32.checked_shl(u32::from(number)).unwrap_or(0);
        Ticket(u64::from(number) << 2 | u64::from(reverses) << 1 | u64::from(order))
    }

    fn till_pays(&mut self, order: u8, wait: Wait) {
        let ticket = self.ticket(order, false);
        let wall_s = self.now().wall.0.div_euclid(1_000);
        let now = self.world.now;
        let side = self.side(order);
        side.asked_s.get_or_insert(wall_s);
        (side.page.asked_at, side.page.there_at) = (Some(now), Some(now));
        let request = PayRequest {
            ticket,
            key: *self.machine.key(usize::from(order)),
            provider: PROVIDER,
            amount: facts::amount(),
            digest: [1; 16],
            attach: 0,
            wait,
            expires_at: None,
            till: 0,
            patience_ms: 0,
        };
        self.feed(Who::Live, vec![Input::Pay(request)]);
    }

    fn till_reverses(&mut self, order: u8) {
        self.world.left.reversals -= 1;
        self.side(order).page.ordered = true;
        if self.machine.spoil == Spoil::OvertakenForgotten && self.side(order).asked_s.is_none() {
            self.side(order).page.told_reversed = true;
            return;
        }
        let ticket = self.ticket(order, true);
        let key = *self.machine.key(usize::from(order));
        self.feed(Who::Live, vec![Input::Reverse(ReverseRequest { ticket, key, provider: PROVIDER })]);
    }

    // The network and the wallet.

    fn pay_leaves(&mut self, order: u8) {
        let now = self.world.now;
        let Some(line) = self.line(Who::Live, usize::from(order)) else { return };
        let PayLine::Ready { order: place, .. } = line.pay else { return };
        let ends = now.saturating_add(PAY_TIMEOUT_MS);
        line.pay = PayLine::Out { order: place, left_at: now, ends, word: None };
        let side = self.side(order);
        side.page.pay_left(now);
        side.fog = Some(Tick::MAX);
        self.feed(Who::Live, vec![Input::PayLeft { order: place, at: now }]);
    }

    fn pay_arrives(&mut self, order: u8, word: PayWord, copied: bool) {
        if PayWord::FAULTS.contains(&word) {
            self.world.left.faults -= 1;
        }
        self.world.left.duplicates -= u8::from(copied);
        let side = self.side(order);
        side.wallet.pay(word);
        if copied {
            side.loose = Loose::Copy;
        }
        if let Some(Line { pay: PayLine::Out { word: heard, .. }, .. }) =
            self.line(Who::Live, usize::from(order))
        {
            *heard = Some(word);
        }
    }

    fn pay_answered(&mut self, who: Who, order: u8, twice: bool) {
        let Some(line) = self.line(who, usize::from(order)) else { return };
        let PayLine::Out { order: place, left_at, word, .. } = std::mem::take(&mut line.pay) else { return };
        line.heard_taken |= word.is_some_and(PayWord::says_taken);
        let input = self.pay_given_up(who, order, place, Some(left_at), word);
        if twice && let Some(line) = self.line(who, usize::from(order)) {
            line.again = Some(Again { input: input.clone(), pay: word, call: None });
        }
        self.feed(who, vec![input]);
    }

    /// The pay request's connection closes, with an answer or without.
    pub(crate) fn pay_given_up(
        &mut self,
        who: Who,
        order: u8,
        place: OrderRef,
        left_at: Option<Tick>,
        word: Option<PayWord>,
    ) -> Input {
        if who == Who::Live {
            self.connection_closes(order, left_at.is_some() && word.is_none());
        }
        let accepted_s = self.side(order).asked_s.unwrap_or_default();
        let (row, fact) = match left_at {
            Some(_) => facts::pay(word, accepted_s, self.machine.spoil),
            None => (Row::A1, PayFact::Unsent),
        };
        facts::pay_reply(place, left_at, row, fact)
    }

    /// From here a pay request that is still on its way has a minute to arrive.
    pub(crate) fn connection_closes(&mut self, order: u8, on_its_way: bool) {
        let until = self.world.now.saturating_add(self.machine.policy().absent_grace_ms);
        let late = self.world.left.late > 0;
        let side = self.side(order);
        side.fog = side.fog.map(|fog| fog.min(until));
        if on_its_way && late && side.wallet.order == Order::Unseen {
            side.loose = Loose::Late;
        }
    }

    fn call_arrives(&mut self, order: u8, word: Word) {
        let number = usize::from(order);
        let Some(kind) = self.line(Who::Live, number).and_then(|line| line.call).map(|call| call.kind) else {
            return;
        };
        let now = self.world.now;
        let side = self.side(order);
        let in_fog = side.in_fog(now);
        let is_fault = !side.wallet.words(kind, in_fog).0.contains(&word);
        side.wallet.arrives(kind, word);
        self.world.left.faults -= u8::from(is_fault);
        if let Some(call) = self.line(Who::Live, number).and_then(|line| line.call.as_mut()) {
            call.word = Some(word);
        }
    }

    fn call_answered(&mut self, who: Who, order: u8, twice: bool) {
        let Some(call) = self.line(who, usize::from(order)).and_then(|line| line.call.take()) else { return };
        let input = self.reply(who, order, call);
        if twice && let Some(line) = self.line(who, usize::from(order)) {
            line.again = Some(Again { input: input.clone(), pay: None, call: Some((call.kind, call.word)) });
        }
        self.feed(who, vec![input]);
    }

    pub(crate) fn reply(&mut self, who: Who, order: u8, call: CallLine) -> Input {
        let spoil = self.machine.spoil;
        let accepted_s = self.side(order).asked_s.unwrap_or_default();
        let mut word = call.word;
        if let Some(line) = self.line(who, usize::from(order)) {
            let said_done = match word {
                Some(Word::Done) => spoil == Spoil::ReverseIsProof,
                Some(Word::CallAgain) => spoil == Spoil::RecallIgnored,
                _ => false,
            };
            if is_reversal(call.kind) {
                line.believes = said_done;
            } else if line.believes {
                word = Some(Word::Shows(Order::Revoked));
            }
        }
        facts::reply(call.kind, word, call.order, call.call, accepted_s, spoil)
    }

    fn time(&mut self) {
        let Some(to) = self.machine.next_moment(&self.world) else { return };
        if self.world.live.batch.is_some() {
            self.world.left.stalls -= 1;
        }
        let passes = to.ms_since(self.world.now);
        self.note(|| format!("{passes} ms pass"));
        self.world.now = to.max(self.world.now);
        let mut inputs = Vec::new();
        for order in 0..self.machine.bounds().orders {
            let Some(line) = self.line(Who::Live, usize::from(order)) else { continue };
            let call = line.call.take_if(|call| call.ends <= to);
            let pay = match line.pay {
                PayLine::Ready { order: place, by } if by <= to => Some((place, None)),
                PayLine::Out { order: place, left_at, ends, .. } if ends <= to => {
                    Some((place, Some(left_at)))
                }
                PayLine::Idle | PayLine::Ready { .. } | PayLine::Out { .. } => None,
            };
            if let Some((place, left_at)) = pay {
                line.pay = PayLine::Idle;
                self.world.left.losses -= 1;
                inputs.push(self.pay_given_up(Who::Live, order, place, left_at, None));
            }
            if let Some(call) = call {
                self.world.left.losses -= 1;
                inputs.push(self.reply(Who::Live, order, CallLine { word: None, ..call }));
            }
        }
        self.feed(Who::Live, inputs);
        self.feed(Who::Stale, Vec::new());
    }
}

/// What the judge of one payment sees.
pub(crate) fn view<'a>(machine: &Machine, world: &'a World, number: usize) -> View<'a> {
    #[expect(clippy::indexing_slicing, reason = "orders are numbered below the bound")]
    let side = &world.sides[number];
    let in_hand = world
        .live
        .lines
        .get(number)
        .is_some_and(|line| matches!(line.pay, PayLine::Ready { .. } | PayLine::Out { word: None, .. }));
    View {
        now: world.now,
        guard_ms: state_machine::Policy::default().reversal_guard_ms.min(guard(machine)),
        wallet: &side.wallet,
        heard_taken: world.live.lines.get(number).is_some_and(|line| line.heard_taken),
        reverse_after_ms: (machine.bounds().absences > 0).then_some(ABSENT_AFTER_MS),
        listens: side.is_listening(),
        wall_ms: WALL_MS,
        on_its_way: side.wallet.order == Order::Unseen && in_hand || world.may_still_arrive(number),
    }
}

/// The guard that is judged by: of the clocks that the model was given, whatever a spoiled automaton makes of them.
fn guard(machine: &Machine) -> u64 {
    if machine.spoil == Spoil::NoGuard { u64::MAX } else { machine.policy().reversal_guard_ms }
}
