//! The committer's thread with several shards' batches, and the checkpointer's beside it.

use std::sync::mpsc::{Receiver, Sender, channel};

use state_machine::Record;
use state_machine::shard::{Batch, BatchId, Outcome};

use super::Machine;
use super::life::{Life, Stop, is_fatal};
use crate::committer::{Committer, CommitterOptions, Observer, ShardIndex};
use crate::contract::{CommitError, Store};
use crate::sqlite::SqliteStore;

const SHARDS: usize = 4;

type Answer = (ShardIndex, BatchId, Result<Vec<Outcome>, CommitError>);

struct Answers(Sender<Answer>);

impl Observer for Answers {
    fn now_ns(&mut self) -> u64 {
        0
    }

    fn done(&mut self, shard: ShardIndex, batch: BatchId, result: Result<Vec<Outcome>, CommitError>) {
        // The receiver lives until every answer is in.
        let _ = self.0.send((shard, batch, result));
    }

    fn committed(&mut self, _records: usize, _took_ns: u64) {}

    fn stalled(&mut self, _why: &CommitError) {}

    fn resumed(&mut self) {}
}

/// Runs some rounds of one batch per shard, and closes the store.
pub(super) fn run(life: &mut Life, machine: &Machine, store: SqliteStore) -> Result<(), Stop> {
    let (told, answers) = channel();
    let started = Committer::spawn(store, Answers(told), CommitterOptions::default());
    let (committer, queue) = life.check(machine, started)?;
    let mut rounds = Ok(());
    for round in 0..1 + life.random.below(6) {
        let mut under_way: Vec<Vec<std::sync::Arc<Record>>> = Vec::new();
        for shard in 0..SHARDS {
            let records = life.orders.batch(&mut life.random, 4, shard, SHARDS);
            let batch = Batch { id: BatchId(round), records: records.clone() };
            if queue.submit(ShardIndex(shard), batch).is_err() {
                break;
            }
            under_way.push(records);
        }
        rounds = settle(life, machine, &answers, &under_way);
        if rounds.is_err() {
            break;
        }
    }
    drop(queue);
    drop(committer.join());
    rounds
}

/// Takes one answer for each batch, in the order in which they were committed.
fn settle(
    life: &mut Life,
    machine: &Machine,
    answers: &Receiver<Answer>,
    under_way: &[Vec<std::sync::Arc<Record>>],
) -> Result<(), Stop> {
    let mut failed = None;
    for _ in 0..under_way.len() {
        // No answer: handed over behind the committer's end, never tried.
        let Ok((ShardIndex(shard), _, result)) = answers.recv() else { break };
        let records = &under_way[shard];
        let expected = life.model.commit(records);
        match result {
            Ok(outcomes) if Ok(&outcomes) == expected.as_ref() => life.acknowledge(records.len()),
            Ok(outcomes) => {
                return Err(Stop::Wrong(format!("outcomes {outcomes:?} instead of {expected:?}")));
            }
            Err(error) if is_fatal(&error) => failed = Some(error),
            Err(error) => return Err(Stop::Wrong(error.to_string())),
        }
    }
    failed.map_or(Ok(()), |error| life.check(machine, Err(error)))
}
