//! The committer: batches of all shards go into one commit, which is durable a little later, or never.

use std::sync::Arc;

use state_machine::Record;
use state_machine::shard::{Batch, BatchId, Outcome};
use store::contract::{CommitError, Store};

use super::faults::{Kind, Step};
use super::setup::Broken;
use super::tills::n_of;
use super::{Event, World};

/// The pause before a busy store is tried again. Source: store, committer.
const BUSY_PAUSE_MS: u64 = 200;

/// One batch in a commit.
#[derive(Clone, Copy, Debug)]
struct Share {
    shard: u16,
    id: BatchId,
    records: usize,
}

/// What waits for the store, and what it is doing.
#[derive(Debug, Default)]
pub(super) struct Committer {
    waiting: Vec<(u16, Batch)>,
    /// The commit under way: its batches and records.
    shares: Vec<Share>,
    records: Vec<Arc<Record>>,
    /// What it came to, once the store has taken it.
    outcomes: Option<Vec<Outcome>>,
    /// The commit that the shards hear of next.
    acknowledged: Vec<(Share, Vec<Outcome>)>,
}

impl World {
    /// A shard hands a batch over.
    pub(super) fn submit(&mut self, shard: u16, batch: Batch) {
        self.switch.committer.waiting.push((shard, batch));
        if self.switch.committer.shares.is_empty() {
            self.begin_commit();
        }
        self.passes(Step::HandedOver);
    }

    fn begin_commit(&mut self) {
        let committer = &mut self.switch.committer;
        for (shard, batch) in committer.waiting.drain(..) {
            committer.shares.push(Share { shard, id: batch.id, records: batch.records.len() });
            committer.records.extend(batch.records);
        }
        if !committer.shares.is_empty() {
            self.try_commit();
        }
    }

    fn try_commit(&mut self) {
        let life = self.switch.life;
        if self.weather.is(Kind::StoreBusy) {
            self.switch.store.fail_next(CommitError::Busy("disk full".to_owned()));
        }
        let Ok(outcomes) = self.switch.store.commit(&self.switch.committer.records) else {
            // Every shard hears, also those that have nothing in this commit.
            for share in self.switch.committer.shares.clone() {
                if let Some(seat) = self.switch.seats.get_mut(usize::from(share.shard)) {
                    seat.shard.failed(share.id);
                }
            }
            return self.later(BUSY_PAUSE_MS, Event::Retry { life });
        };
        self.switch.committer.outcomes = Some(outcomes);
        let slow = self.weather.is(Kind::StoreSlow);
        let sync_ms = if slow { 200 + self.rng.store.below(3_000) } else { self.rng.store.below(4) };
        if self.setup.broken == Some(Broken::AcknowledgesEarly) {
            self.acknowledge();
            return self.later(sync_ms + 50, Event::Synced { life });
        }
        self.later(sync_ms, Event::Synced { life });
    }

    pub(super) fn on_retry(&mut self, life: u32) {
        if life == self.switch.life {
            self.try_commit();
        }
    }

    /// The commit is on the disk.
    pub(super) fn on_synced(&mut self, life: u32) {
        if life != self.switch.life {
            return;
        }
        self.switch.store.sync();
        self.witness(usize::MAX);
        if !self.passes(Step::Durable) && self.setup.broken != Some(Broken::AcknowledgesEarly) {
            self.acknowledge();
        } else if self.switch.life == life {
            self.end_commit();
        }
    }

    /// The judges see what has become durable.
    fn witness(&mut self, commits: usize) {
        let committer = &mut self.switch.committer;
        let Some(outcomes) = committer.outcomes.as_ref().filter(|_| commits > 0) else { return };
        let applied: Vec<Arc<Record>> = committer
            .records
            .iter()
            .zip(outcomes)
            .filter(|(_, outcome)| matches!(outcome, Outcome::Applied))
            .map(|(record, _)| Arc::clone(record))
            .collect();
        for record in applied {
            let n = n_of(&record.key);
            self.note(n, || describe(&record));
            self.mix(4, u64::from(n), u64::from(record.version));
            self.judge.on_durable(n, &record);
            self.judge_decision(n, &record);
        }
    }

    /// The process is dead: what it was committing is lost, but for what had reached the disk.
    pub(super) fn lose_commits(&mut self, kept: usize) {
        self.witness(kept);
        self.switch.committer = Committer::default();
    }

    fn acknowledge(&mut self) {
        let committer = &mut self.switch.committer;
        let early = self.setup.broken == Some(Broken::AcknowledgesEarly);
        let outcomes = if early { committer.outcomes.clone() } else { committer.outcomes.take() };
        let mut outcomes = outcomes.unwrap_or_default().into_iter();
        let shares = committer.shares.clone();
        for share in shares {
            let part = outcomes.by_ref().take(share.records).collect();
            committer.acknowledged.push((share, part));
        }
        let life = self.switch.life;
        let lag_ms = if self.setup.faults { self.rng.store.below(2) } else { 0 };
        self.later(lag_ms, Event::Acknowledged { life });
        if !early {
            self.end_commit();
        }
    }

    fn end_commit(&mut self) {
        let committer = &mut self.switch.committer;
        committer.shares.clear();
        committer.records.clear();
        committer.outcomes = None;
        self.begin_commit();
    }

    /// The shards hear that their batches are durable.
    pub(super) fn on_acknowledged(&mut self, life: u32) {
        if life != self.switch.life {
            return;
        }
        if self.switch.frozen_until > self.now {
            return self.at(self.switch.frozen_until, Event::Acknowledged { life });
        }
        let now = self.clock();
        for (share, outcomes) in std::mem::take(&mut self.switch.committer.acknowledged) {
            let Some(seat) = self.switch.seats.get_mut(usize::from(share.shard)) else { return };
            if seat.shard.committed(share.id, outcomes, now).is_err() {
                self.judge.break_rule("INV-17", None, "fenced, and there is only one writer");
            }
            if self.passes(Step::Acknowledged) {
                return;
            }
            let next = self.switch.seats.get_mut(usize::from(share.shard)).and_then(|s| s.shard.poll_batch());
            if let Some(batch) = next {
                self.submit(share.shard, batch);
            }
            if self.switch.life != life {
                return;
            }
            self.act_all(share.shard);
            if self.switch.life != life {
                return;
            }
            self.nudge(share.shard, 0);
        }
    }
}

fn describe(record: &Record) -> String {
    let cause = record.cause.map_or("-", state_machine::record::Cause::as_str);
    let proof = record.proof.map_or("-", protocol::fact::Row::as_str);
    let held = record.held.map_or(String::new(), |held| format!(", held: {}", held.as_str()));
    format!(
        "durable: version {} {} cause {cause} proof {proof} till's reversal {:?}{held}{}",
        record.version,
        super::probes::state_name(record.state),
        record.till_reversal,
        if record.repair { ", repair refund" } else { "" },
    )
}
