//! What a shard wants done is done here, as a driver does it.

use state_machine::Record;
use state_machine::shard::{Action, Said};
use state_machine::till;

use super::judge::Wire;
use super::kind::Step;
use super::setup::Broken;
use super::tills::{Ask, n_of};
use super::told::Told;
use super::{Event, World};

impl World {
    pub(super) fn act(&mut self, shard: u16, action: Action) {
        match action {
            Action::SendPay { order, record, ticket, leave_by } => {
                let n = n_of(&record.key);
                match self.take_outgoing(ticket) {
                    Some(Ask::Pay(_) | Ask::PayOther) => {}
                    Some(Ask::Query | Ask::Watch | Ask::Reverse) | None => {
                        self.judge.break_rule("INV-02", Some(n), "nothing is kept that could be sent");
                    }
                }
                if self.passes(Step::BeforePay) {
                    return;
                }
                let leave_by = self.moment_of(leave_by);
                self.send_pay(shard, order, (n, &record), leave_by);
                if self.setup.broken == Some(Broken::ReversesEarly) && n.is_multiple_of(20) {
                    self.later(1_000, Event::Rogue { n });
                }
                if self.setup.broken == Some(Broken::PaysTwice) && n.is_multiple_of(20) {
                    self.send_pay(shard, order, (n, &record), leave_by);
                }
            }
            Action::Call { order, call, kind, record, other_host: _ } => {
                let n = n_of(&record.key);
                self.reasons.on_call(n, kind, self.now);
                self.send_call(shard, order, call, kind, (n, &record));
            }
            Action::Answer { ticket, record, said } => {
                self.judge_tenant(ticket, &record);
                self.on_answer(ticket, &record, said);
            }
            Action::Refuse { ticket, why } => self.refuse(ticket, why),
            Action::RefuseFor { ticket, first } => self.refuse_for(ticket, &first),
            Action::Discard { ticket } => {
                if let Some((n, _)) = self.asked(ticket)
                    && self.take_outgoing(ticket).is_none()
                {
                    self.judge.break_rule("INV-02", Some(n), "discarded twice, or after it was sent");
                }
            }
            Action::NotHere { ticket } => self.not_here(ticket),
            Action::Publish { order: _, record } => {
                let n = n_of(&record.key);
                self.check_published(n, &record);
                self.switch.publish(n, Some(record));
            }
            Action::Retire { order: _, key } => self.switch.publish(n_of(&key), None),
            Action::Alarm { key, alarm } => {
                self.note(n_of(&key), || format!("alarm: {}", alarm.as_str()));
                self.judge.probes.other(alarm.as_str());
            }
            Action::Settled { .. } => {}
        }
    }

    /// Everybody may see what is published, so it must be durable (INV-14).
    fn check_published(&mut self, n: u32, record: &Record) {
        let durable = self.judge.durable(n).map_or(0, |durable| durable.version);
        if record.version > durable {
            let what = format!("version {} is published, durable is {durable}", record.version);
            self.judge.break_rule("INV-14", Some(n), what);
        }
    }

    fn on_answer(&mut self, ticket: state_machine::shard::Ticket, record: &Record, said: Said) {
        let Some((_, ask)) = self.asked(ticket) else { return };
        let told = match ask {
            Ask::Pay(_) | Ask::PayOther => Told::of_pay(&till::pay(record, said)),
            Ask::Query | Ask::Watch => Told::of_query(&till::query(record)),
            Ask::Reverse => Told::of_reverse(till::reverse(record, said)),
        };
        let lies = self.setup.broken == Some(Broken::TellsPaid) && n_of(&record.key).is_multiple_of(2);
        let told = if lies && told == Told::Open { Told::Paid } else { told };
        self.answer(ticket, told, record.version);
    }

    /// A request takes its place on the wire, before the judges' eyes.
    pub(super) fn log_wire(&mut self, n: u32, wire: Wire) {
        self.note(n, || format!("wire: {} leaves", wire.as_str()));
        self.mix(5, u64::from(n), u64::from(wire as u8));
        self.judge.on_wire(n, wire);
        self.reasons.on_wire(n, wire, self.now);
    }
}
