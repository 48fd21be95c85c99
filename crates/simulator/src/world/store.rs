//! The committer: batches of all shards go into one commit, which is durable a little later, or never.

use std::sync::Arc;

use state_machine::Record;
use state_machine::shard::{Batch, BatchId, Outcome};
use store::contract::CommitError;

use super::disk::Fate;
use super::kind::{Kind, Step};
use super::setup::Broken;
use super::tills::n_of;
use super::{Event, World};

/// The pause before a busy store is tried again. Source: store, committer.
const BUSY_PAUSE_MS: u64 = 200;
/// A clock that is as far ahead when a commit is durable was further ahead when its orders were accepted.
const CLOCK_AHEAD_MS: i64 = 60_000;

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
    /// The store has refused it at least once.
    was_refused: bool,
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
        let refused = [Kind::StoreBusy, Kind::DiskFull].into_iter().find(|kind| self.weather.is(*kind));
        if let Some(kind) = refused {
            self.judge.probes.other(if kind == Kind::DiskFull {
                "commit_on_full_disk"
            } else {
                "commit_while_busy"
            });
            self.switch.committer.was_refused = true;
            // Every shard hears, also those that have nothing in this commit.
            for share in self.switch.committer.shares.clone() {
                if let Some(seat) = self.switch.seats.get_mut(usize::from(share.shard)) {
                    seat.shard.failed(share.id);
                }
            }
            return self.later(BUSY_PAUSE_MS, Event::Retry { life });
        }
        if std::mem::take(&mut self.switch.committer.was_refused) {
            self.judge.probes.other("store_resumed");
        }
        match self.switch.disk.begin(&self.switch.committer.records) {
            Ok(()) => {}
            Err(why) => return self.store_gives_up(&why),
        }
        if self.weather.is(Kind::TornTail) {
            self.weather.clear(Kind::TornTail);
            self.judge.probes.other("commit_torn");
            let draw = self.rng.store.next_u64();
            self.die(false, Some(Fate::Torn(draw)));
            return self.start_later(50);
        }
        let sync_ms = if self.weather.is(Kind::StoreSlow) {
            self.judge.probes.other("commit_slow");
            500 + self.rng.store.below(1_000)
        } else {
            self.rng.store.below(4)
        };
        if self.setup.broken == Some(Broken::AcknowledgesEarly) {
            self.switch.committer.outcomes = self.switch.disk.promised();
            self.acknowledge();
            return self.later(sync_ms + 50, Event::Synced { life });
        }
        self.later(sync_ms, Event::Synced { life });
    }

    /// The store will never take this process's records again: the process ends, as the gateway's does.
    fn store_gives_up(&mut self, why: &CommitError) {
        match why {
            CommitError::Fenced { .. } => self.judge.probes.other("fenced"),
            CommitError::Fatal(_) | CommitError::Busy(_) => {
                let what = format!("the store fails where nothing was broken: {why}");
                self.judge.break_rule("INV-12", None, what);
            }
        }
        self.note_all(|| format!("the store refuses this process: {why}"));
        self.die(false, Some(Fate::Lost));
        self.start_later(50);
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
        if self.weather.is(Kind::SyncFails) {
            // Nobody knows whether it is durable; the process reads what is there when it starts again.
            self.weather.clear(Kind::SyncFails);
            let kept = self.rng.store.below(2) == 0;
            self.judge.probes.other(if kept { "sync_failed:durable" } else { "sync_failed:lost" });
            self.die(false, Some(if kept { Fate::Kept } else { Fate::Lost }));
            return self.start_later(500);
        }
        match self.switch.disk.sync() {
            Ok(outcomes) => self.switch.committer.outcomes = Some(outcomes),
            Err(why) => return self.store_gives_up(&why),
        }
        self.witness();
        if !self.passes(Step::Durable) && self.setup.broken != Some(Broken::AcknowledgesEarly) {
            self.acknowledge();
        } else if self.switch.life == life {
            self.end_commit();
        }
    }

    /// The judges see what has become durable.
    fn witness(&mut self) {
        let committer = &mut self.switch.committer;
        let Some(outcomes) = committer.outcomes.as_ref() else { return };
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
            let was = self.judge.durable(n).cloned();
            self.judge_absence(n, was.as_deref(), &record);
            self.judge.on_durable(n, &record);
            let ahead_ms = record.accepted_at.0.saturating_sub(self.true_ms());
            if record.version == 1
                && let Some(transit) = self.transit.get_mut(usize::try_from(n).unwrap_or(usize::MAX))
            {
                transit.clock_was_ahead = ahead_ms > CLOCK_AHEAD_MS;
            }
            self.judge_decision(n, &record);
        }
    }

    /// The process is dead: what it was committing is lost, unless all of it had reached the disk.
    pub(super) fn end_committer(&mut self, kept: Option<Vec<Outcome>>) {
        self.switch.committer.outcomes = kept;
        self.witness();
        self.switch.committer = Committer::default();
    }

    /// Whether a commit is under way.
    pub(super) const fn is_committing(&self) -> bool {
        !self.switch.committer.shares.is_empty()
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
            self.at(self.switch.frozen_until, Event::Acknowledged { life });
            return;
        }
        let now = self.clock();
        for (share, outcomes) in std::mem::take(&mut self.switch.committer.acknowledged) {
            let Some(seat) = self.switch.seats.get_mut(usize::from(share.shard)) else { return };
            self.events += 1;
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
