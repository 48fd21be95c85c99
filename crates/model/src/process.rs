//! A process: its shard thawed, stepped and frozen, and its actions carried out as the driver does.

use std::cell::RefCell;

use state_machine::key::Now;
use state_machine::record::State;
use state_machine::shard::{Action, Batch, Call, Input, Kept, OrderRef, Shard, Ticket};
use state_machine::{Record, till};
use timer_wheel::Wheel;

use crate::judge::Rule;
use crate::machine::is_reversal;
use crate::spoil::Spoil;
use crate::step::{Stepping, Who, view};
use crate::wallet::Word;
use crate::world::{CallLine, Handed, PayLine};

/// Any call but a pay request is given up after this, milliseconds.
const CALL_TIMEOUT_MS: u64 = 3_000;

thread_local! {
    /// The one wheel of a thread: shards are thawed one after another.
    static WHEEL: RefCell<Option<Wheel<OrderRef>>> = const { RefCell::new(None) };
}

impl Stepping<'_, '_> {
    /// Feeds `inputs` to a shard and carries out what follows.
    pub(crate) fn feed(&mut self, who: Who, inputs: Vec<Input>) {
        let inputs: Vec<Input> = inputs.into_iter().map(|input| self.attended(input)).collect();
        self.step_shard(who, |shard, now| Ok(shard.step(inputs, now)));
    }

    /// A reply, with the tills that have hung up: as a driver says it, if any may.
    fn attended(&self, input: Input) -> Input {
        let is_reply =
            matches!(input, Input::PayReply { .. } | Input::QueryReply { .. } | Input::RefundsReply { .. });
        if !is_reply || self.machine.bounds().absences == 0 || self.machine.spoil == Spoil::GoneIsThere {
            return input;
        }
        let gone = self.world.sides.iter().zip(0_u64..).flat_map(|(side, order)| {
            let bits = (0..u32::BITS).filter(move |bit| side.gone.checked_shr(*bit).unwrap_or(0) & 1 == 1);
            // A reversal's ticket has one bit more.
            bits.flat_map(move |bit| [0, 2].map(|kind| Ticket(u64::from(bit) << 2 | kind | order)))
        });
        Input::Attended { gone: gone.collect(), follows: false, reply: Box::new(input) }
    }

    /// Thaws a shard, lets it act, and carries out what follows.
    pub(crate) fn step_shard(
        &mut self,
        who: Who,
        act: impl FnOnce(&mut Shard, Now) -> Result<Option<Batch>, ()>,
    ) {
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
    pub(crate) fn settle(&mut self, who: Who, mut shard: Shard, acted: Result<Option<Batch>, ()>) {
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
            Action::Refuse { ticket, .. } | Action::RefuseFor { ticket, .. } if who == Who::Live => {
                self.heard(ticket);
            }
            Action::Refuse { .. }
            | Action::RefuseFor { .. }
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
        let now = self.world.now;
        let side = self.side_at(number);
        if side.waiting & !side.gone & bit != 0 {
            side.page.there_at = Some(now);
        }
        side.waiting &= !bit;
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

pub(crate) fn describe(record: &Record) -> String {
    let cause = record.cause.map_or(String::new(), |cause| format!(" ({})", cause.as_str()));
    let held = record.held.map_or(String::new(), |held| format!(", held: {}", held.as_str()));
    format!("{:?}{cause}{held}", record.state)
}
