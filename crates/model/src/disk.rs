//! The store, and what a process loses and finds there.

use std::sync::Arc;

use state_machine::Record;
use state_machine::record::State;
use state_machine::shard::{Outcome, Shard};
use store::{CommitError, Recovered, Store as _};

use crate::judge::Rule;
use crate::process::{describe, name};
use crate::spoil::Spoil;
use crate::step::{Stepping, Who, view};
use crate::world::{Handed, Line, PayLine};

impl Stepping<'_, '_> {
    pub(crate) fn commit(&mut self) {
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

    pub(crate) fn acknowledge(&mut self, who: Who) {
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
    pub(crate) fn stale_commit(&mut self) {
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

    pub(crate) fn crash(&mut self, kept: bool, boot: bool) {
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

    pub(crate) fn take_over(&mut self) {
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
}
