//! What each step does.

use std::cell::RefCell;
use std::sync::Arc;

use protocol::fact::{PayFact, Row};
use state_machine::key::Now;
use state_machine::record::State;
use state_machine::shard::{
    Action, Batch, Call, Input, Kept, OrderRef, Outcome, PayRequest, ReverseRequest, Shard, Ticket, Wait,
};
use state_machine::{Record, till};
use store::{CommitError, Recovered, Store as _};
use timer_wheel::{Tick, Wheel};

use crate::facts;
use crate::judge::{Breach, Broken, Rule, View};
use crate::machine::{Machine, PROVIDER, Step, is_reversal};
use crate::spoil::Spoil;
use crate::wallet::{Order, PayWord, Word};
use crate::world::{Again, CallLine, Handed, Line, Loose, PayLine, Process, Side, World};

/// A pay request that is not answered is given up after this, milliseconds.
const PAY_TIMEOUT_MS: u64 = 10_000;
/// Any other call.
const CALL_TIMEOUT_MS: u64 = 3_000;

thread_local! {
    /// The one wheel of a thread: shards are thawed one after another.
    static WHEEL: RefCell<Option<Wheel<OrderRef>>> = const { RefCell::new(None) };
}

/// What happened, in words, for people.
pub(crate) type Notes<'a> = Option<&'a mut Vec<String>>;

/// A step under way.
struct Stepping<'a, 'n> {
    machine: &'a Machine,
    world: World,
    broken: Broken,
    notes: Notes<'n>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
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
    fn note(&mut self, words: impl FnOnce() -> String) {
        if let Some(notes) = &mut self.notes {
            notes.push(words());
        }
    }

    fn side(&mut self, order: u8) -> &mut Side {
        self.side_at(usize::from(order))
    }

    fn side_at(&mut self, number: usize) -> &mut Side {
        #[expect(clippy::indexing_slicing, reason = "orders are numbered below the bound")]
        &mut self.world.sides[number]
    }

    fn process(&mut self, who: Who) -> Option<&mut Process> {
        match who {
            Who::Live => Some(&mut self.world.live),
            Who::Stale => self.world.stale.as_deref_mut(),
        }
    }

    fn line(&mut self, who: Who, number: usize) -> Option<&mut Line> {
        self.process(who)?.lines.get_mut(number)
    }

    fn now(&self) -> Now {
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
        self.side(order).asked_s.get_or_insert(wall_s);
        let request = PayRequest {
            ticket,
            key: *self.machine.key(usize::from(order)),
            provider: PROVIDER,
            amount: facts::amount(),
            digest: [1; 16],
            attach: 0,
            wait,
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
        line.heard_taken |= matches!(word, Some(PayWord::TakenPaid | PayWord::TakenStranger));
        let input = self.pay_given_up(who, order, place, Some(left_at), word);
        if twice && let Some(line) = self.line(who, usize::from(order)) {
            line.again = Some(Again { input: input.clone(), pay: word, call: None });
        }
        self.feed(who, vec![input]);
    }

    /// The pay request's connection closes, with an answer or without.
    fn pay_given_up(
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
    fn connection_closes(&mut self, order: u8, on_its_way: bool) {
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
        let (now, machine) = (self.world.now, self.machine);
        let side = self.side(order);
        let in_fog = side.in_fog(now, machine.policy());
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

    fn reply(&mut self, who: Who, order: u8, call: CallLine) -> Input {
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

    // The process.

    /// Feeds `inputs` to a shard and carries out what follows.
    fn feed(&mut self, who: Who, inputs: Vec<Input>) {
        self.step_shard(who, |shard, now| Ok(shard.step(inputs, now)));
    }

    /// Thaws a shard, lets it act, and carries out what follows.
    fn step_shard(&mut self, who: Who, act: impl FnOnce(&mut Shard, Now) -> Result<Option<Batch>, ()>) {
        let now = self.now();
        let config = self.machine.config_of(self.world.boot);
        let Some(process) = self.process(who) else { return };
        let Some(frozen) = process.shard.take() else { return };
        let wheel = WHEEL.take().unwrap_or_else(|| Wheel::new(now.tick));
        let mut shard = frozen.thaw(Kept { config, wheel }, now.tick);
        let acted = act(&mut shard, now);
        self.settle(who, shard, acted);
    }

    /// Takes what a shard wants done, freezes it, and does it.
    fn settle(&mut self, who: Who, mut shard: Shard, acted: Result<Option<Batch>, ()>) {
        let actions: Vec<Action> = std::iter::from_fn(|| shard.poll_action()).collect();
        let wakes = shard.next_wake();
        let (frozen, kept) = shard.freeze();
        WHEEL.set(Some(kept.wheel));
        if wakes.is_some_and(|wake| wake <= self.world.now) {
            self.broken.push((Rule::Convergence, "the shard wants to be woken at once, for ever"));
        }
        let Some(process) = self.process(who) else { return };
        process.shard = Some(frozen);
        let Ok(batch) = acted else {
            // Fenced: the process ends, and another carries on.
            if who == Who::Stale {
                self.world.stale = None;
            } else {
                self.broken.push((Rule::OneActor, "the one process there is was fenced"));
            }
            return;
        };
        if let Some(Batch { id, records }) = batch {
            process.batch = Some(Handed { id, records, outcomes: None });
            self.handed_over(who);
        }
        for action in actions {
            self.carry_out(who, action);
        }
    }

    /// A spoiled driver does not wait for the store.
    fn handed_over(&mut self, who: Who) {
        if self.machine.spoil != Spoil::ReverseBeforeDurable {
            return;
        }
        let records =
            self.process(who).and_then(|process| process.batch.as_ref()).map(|batch| batch.records.clone());
        for record in records.into_iter().flatten().filter(|record| record.state == State::Reversing) {
            self.reversal_leaves(&record);
        }
    }

    fn carry_out(&mut self, who: Who, action: Action) {
        match action {
            Action::SendPay { order, record, leave_by, .. } => {
                let number = self.machine.number_of(&record);
                if who == Who::Stale {
                    return; // What was not sent before the store was lost is not sent.
                }
                self.note(|| format!("the pay request of {} may leave", name(number)));
                let mut broken = std::mem::take(&mut self.broken);
                self.side_at(number).page.pay_released(&record, &mut broken);
                self.broken = broken;
                if let Some(line) = self.line(who, number) {
                    line.pay = PayLine::Ready { order, by: leave_by };
                }
            }
            Action::Call { order, call, kind, record, .. } => {
                let number = self.machine.number_of(&record);
                if who == Who::Stale {
                    return;
                }
                self.note(|| format!("{} of {} leaves", call_name(kind), name(number)));
                let never = is_reversal(kind) && self.machine.spoil == Spoil::ReversalNeverSent;
                if is_reversal(kind) && !never {
                    self.judge_reversal(&record);
                }
                let mut broken = std::mem::take(&mut self.broken);
                self.side_at(number).page.call_left(&record, &mut broken);
                self.broken = broken;
                let ends = self.world.now.saturating_add(CALL_TIMEOUT_MS);
                let word = never.then_some(Word::Done);
                if let Some(line) = self.line(who, number) {
                    line.call = Some(CallLine { order, call, kind, ends, word });
                }
            }
            // What a process tells that lost the store was durable before: a message that comes late, and that
            // nobody can take back.
            Action::Answer { record, .. } if who == Who::Stale => {
                let number = self.machine.number_of(&record);
                let mut broken = std::mem::take(&mut self.broken);
                self.side_at(number).page.told_from(&record, &mut broken);
                self.broken = broken;
            }
            Action::Answer { ticket, record, said } => self.answer(ticket, &record, said),
            Action::Publish { record, .. } => {
                let number = self.machine.number_of(&record);
                self.note(|| format!("{} shows {}", name(number), describe(&record)));
                let mut broken = std::mem::take(&mut self.broken);
                self.side_at(number).page.told_from(&record, &mut broken);
                self.broken = broken;
                if self.machine.spoil == Spoil::ReversePaid && record.state == State::Paid {
                    self.reversal_leaves(&record);
                }
            }
            Action::Refuse { ticket, .. } if who == Who::Live => self.heard(ticket),
            Action::Refuse { .. }
            | Action::Discard { .. }
            | Action::NotHere { .. }
            | Action::Retire { .. }
            | Action::Settled { .. } => {}
            Action::Alarm { alarm, .. } => self.note(|| format!("alarm: {}", alarm.as_str())),
        }
    }

    fn heard(&mut self, ticket: Ticket) {
        let number = usize::from(ticket.0 & 1 == 1);
        let bit = 1_u32.checked_shl(u32::try_from(ticket.0 >> 2).unwrap_or(32)).unwrap_or(0);
        self.side_at(number).waiting &= !bit;
    }

    fn answer(&mut self, ticket: Ticket, record: &Record, said: state_machine::shard::Said) {
        self.heard(ticket);
        let number = self.machine.number_of(record);
        let mut broken = std::mem::take(&mut self.broken);
        let spoilt = self.machine.spoil == Spoil::ToldOtherwise && record.state == State::Paid;
        let side = self.side_at(number);
        side.page.told_from(record, &mut broken);
        let told = if ticket.0 & 2 == 2 {
            let answer = till::reverse(record, said);
            if answer == till::ReverseAnswer::Done {
                side.page.told_reversed(&side.wallet, &mut broken);
            }
            format!("{answer:?}")
        } else {
            match till::pay(record, said) {
                till::PayAnswer::Paid(_) => {
                    side.page.told_paid(&side.wallet, &mut broken);
                    "SUCCESS".to_owned()
                }
                till::PayAnswer::Fail(fail) => {
                    let is_open = matches!(fail.code, "USERPAYING");
                    let is_paid = matches!(fail.code, "ORDERPAID") && !spoilt;
                    if !is_open && !is_paid {
                        side.page.told_failed(&mut broken);
                    }
                    fail.code.to_owned()
                }
            }
        };
        self.broken = broken;
        self.note(|| format!("the till of {} hears {told}", name(number)));
    }

    /// A reversal that a spoiled driver sends.
    fn reversal_leaves(&mut self, record: &Record) {
        self.judge_reversal(record);
        let mut broken = std::mem::take(&mut self.broken);
        let number = self.machine.number_of(record);
        self.side_at(number).page.call_left(record, &mut broken);
        self.side_at(number).wallet.arrives(Call::Reverse, Word::Done);
        self.broken = broken;
    }

    fn judge_reversal(&mut self, record: &Record) {
        let number = self.machine.number_of(record);
        let view = view(self.machine, &self.world, number);
        if let Some(side) = self.world.sides.get(number) {
            side.page.reversal_left(view, &mut self.broken);
        }
    }

    // The store.

    fn commit(&mut self) {
        let Some(mut batch) = self.world.live.batch.take() else { return };
        batch.outcomes = Some(self.write(&batch.records));
        self.world.live.batch = Some(batch);
    }

    /// The production store's conditions decide; what it applies is durable at once.
    fn write(&mut self, records: &[Arc<Record>]) -> Vec<Outcome> {
        let mut outcomes = self.world.store.commit(records).unwrap_or_default();
        if self.machine.spoil != Spoil::SyncOff {
            self.world.store.sync();
        }
        for (record, outcome) in records.iter().zip(&mut outcomes) {
            if self.machine.spoil == Spoil::NoCondition {
                *outcome = Outcome::Applied;
            }
            if *outcome == Outcome::Applied {
                self.acknowledged(record);
            }
        }
        if outcomes.len() != records.len() {
            self.broken.push((Rule::OneActor, "the newest writer was refused"));
        }
        outcomes
    }

    fn acknowledged(&mut self, record: &Arc<Record>) {
        let number = self.machine.number_of(record);
        self.note(|| format!("durable: {} {}, version {}", name(number), describe(record), record.version));
        let mut page = std::mem::take(&mut self.side_at(number).page);
        page.acknowledged(record, view(self.machine, &self.world, number), &mut self.broken);
        self.side_at(number).page = page;
    }

    fn acknowledge(&mut self, who: Who) {
        let Some(batch) = self.process(who).and_then(|process| process.batch.take()) else { return };
        let Handed { id, records, outcomes } = batch;
        // Without outcomes only where the driver is spoiled.
        let outcomes = outcomes.unwrap_or_else(|| vec![Outcome::Applied; records.len()]);
        self.step_shard(who, |shard, now| {
            shard.committed(id, outcomes, now).map_err(|_| ())?;
            let next = shard.poll_batch();
            Ok(next.or(shard.step([], now)))
        });
    }

    /// The process that lost the store offers its batch: the fence refuses it, and it ends.
    fn stale_commit(&mut self) {
        let Some(batch) = self.world.stale.as_mut().and_then(|stale| stale.batch.take()) else { return };
        let mut handle = self.world.store.clone();
        if self.machine.spoil != Spoil::NoFence {
            handle.usurp();
        }
        match handle.commit(&batch.records) {
            Err(CommitError::Fenced { .. }) => self.world.stale = None,
            Err(CommitError::Busy(_) | CommitError::Fatal(_)) => {}
            Ok(outcomes) => {
                handle.sync();
                self.world.store = handle;
                for (record, outcome) in batch.records.iter().zip(&outcomes) {
                    if *outcome == Outcome::Applied {
                        self.broken.push((Rule::OneActor, "a process that lost the store wrote to it"));
                        self.acknowledged(record);
                    }
                }
                let outcomes = Some(outcomes);
                if let Some(stale) = &mut self.world.stale {
                    stale.batch = Some(Handed { outcomes, ..batch });
                }
            }
        }
    }

    // Ends and beginnings.

    fn crash(&mut self, kept: bool, boot: bool) {
        if boot {
            self.world.left.reboots -= 1;
            self.world.boot = self.world.boot.saturating_add(1);
        } else {
            self.world.left.crashes -= 1;
        }
        if kept && let Some(batch) = self.world.live.batch.take() {
            // It reaches the disk, and its acknowledgement dies with the process.
            let _ = self.write(&batch.records);
        }
        self.world.store.crash(0);
        self.connections_die();
        self.begin_anew();
    }

    fn take_over(&mut self) {
        self.world.left.takeovers -= 1;
        self.world.store.crash(0);
        let lines = self.world.live.lines.clone();
        self.connections_die();
        let mut stale = self.world.live.clone();
        stale.lines = lines.map(|line| Line {
            pay: match line.pay {
                PayLine::Out { word: Some(_), .. } => line.pay,
                PayLine::Idle | PayLine::Ready { .. } | PayLine::Out { .. } => PayLine::Idle,
            },
            call: line.call.filter(|call| call.word.is_some()),
            ..Line::default()
        });
        self.world.stale = Some(Box::new(stale));
        self.begin_anew();
    }

    /// With the process its connections close, and its tills hear nothing more.
    fn connections_die(&mut self) {
        for order in 0..self.machine.bounds().orders {
            let Some(line) = self.line(Who::Live, usize::from(order)) else { continue };
            let on_its_way = matches!(line.pay, PayLine::Out { word: None, .. });
            *line = Line::default();
            self.connection_closes(order, on_its_way);
            self.side(order).waiting = 0;
        }
    }

    /// A process opens the store and takes up what is open.
    fn begin_anew(&mut self) {
        let now = self.now();
        let mut shard = Shard::new(self.machine.config_of(self.world.boot), now.tick);
        let mut open = Vec::new();
        let listed = self.world.store.open_orders(&mut |found| {
            if let Recovered::Open(record) = found {
                open.push(*record);
            }
        });
        assert!(listed.is_ok(), "the model's store can be read");
        for number in 0..self.machine.orders() {
            let key = self.machine.key(number);
            let found = self.world.store.durable().find(|record| record.key == *key).cloned();
            let mut broken = std::mem::take(&mut self.broken);
            self.side_at(number).page.after_crash(found.as_ref(), &mut broken);
            self.broken = broken;
        }
        for record in open {
            if self.machine.spoil == Spoil::ResendAfterRecovery && record.state == State::Accepted {
                let number = self.machine.number_of(&record);
                let side = self.side_at(number);
                side.page.pay_left(now.tick);
                side.wallet.pay_anew();
            }
            if self.machine.spoil != Spoil::NoRecovery {
                shard.recover(record, now);
            }
        }
        self.world.live.batch = None;
        let batch = shard.step([], now);
        self.settle(Who::Live, shard, Ok(batch));
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

fn view<'a>(machine: &Machine, world: &'a World, number: usize) -> View<'a> {
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
        on_its_way: side.wallet.order == Order::Unseen && in_hand || world.may_still_arrive(number),
    }
}

/// The guard that is judged by: of the clocks that the model was given, whatever a spoiled automaton makes of them.
fn guard(machine: &Machine) -> u64 {
    if machine.spoil == Spoil::NoGuard { u64::MAX } else { machine.policy().reversal_guard_ms }
}

/// An order's name.
pub(crate) fn name(number: usize) -> &'static str {
    if number == 0 { "payment 1" } else { "payment 2" }
}

const fn call_name(kind: Call) -> &'static str {
    match kind {
        Call::Query => "a query",
        Call::LastQuery => "the last query",
        Call::Reverse => "a reversal",
        Call::RefundQuery => "a refund query",
        Call::Refund => "the repair refund",
    }
}

fn describe(record: &Record) -> String {
    let cause = record.cause.map_or(String::new(), |cause| format!(" ({})", cause.as_str()));
    let held = record.held.map_or(String::new(), |held| format!(", held: {}", held.as_str()));
    format!("{:?}{cause}{held}", record.state)
}
