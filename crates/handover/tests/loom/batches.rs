//! Shards that hand batches to a committer that commits, fails and ends.

use std::sync::Arc;

use handover::batches::{Work, hand_in, serve};
use handover::door::Door;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

use crate::channel::{Receiver, Sender, channel};
use crate::explore;

const SHARDS: usize = 2;

/// The disk: what a batch left there must be seen by whoever was told that it is durable. Relaxed, so that only the
/// hand-over orders it.
type Disk = Arc<[AtomicBool; SHARDS]>;

struct Committer {
    disk: Disk,
    answers: Vec<Sender<bool>>,
    /// Commits that succeed before one fails for good.
    good: usize,
    together: usize,
}

impl Work<usize> for Committer {
    fn has_room(&self, taken: &[usize]) -> bool {
        taken.len() < self.together
    }

    fn work(&mut self, taken: &mut Vec<usize>) -> bool {
        let good = self.good > 0;
        self.good = self.good.saturating_sub(1);
        for shard in taken.drain(..) {
            if good {
                self.disk[shard].store(true, Ordering::Relaxed);
            }
            self.answers[shard].send(good).expect("the shard waits");
        }
        good
    }

    fn refuse(&mut self, late: usize) {
        self.answers[late].send(false).expect("the shard waits");
    }
}

/// Each shard hands one batch over and waits for its answer; `good` commits succeed.
fn check(good: usize, together: usize) {
    explore(move || {
        let disk: Disk = Arc::new([const { () }; SHARDS].map(|()| AtomicBool::new(false)));
        let (door, (batches, inbox)) = (Door::new(), channel::<usize>());
        let (answers, answered): (Vec<_>, Vec<_>) = (0..SHARDS).map(|_| channel::<bool>()).unzip();
        let shards: Vec<_> = answered
            .into_iter()
            .enumerate()
            .map(|(shard, answer)| {
                let (door, batches, disk) = (door.clone(), batches.clone(), Arc::clone(&disk));
                thread::spawn(move || submit(shard, &door, batches, &answer, &disk))
            })
            .collect();
        drop(batches);
        let mut committer = Committer { disk: Arc::clone(&disk), answers, good, together };
        serve(&door, || inbox.receive(), || inbox.receive_now(), &mut committer);
        drop(inbox);
        drop(committer);
        shards.into_iter().for_each(|shard| shard.join().unwrap());
    });
}

fn submit(shard: usize, door: &Door, batches: Sender<usize>, answer: &Receiver<bool>, disk: &Disk) {
    let handed_in = hand_in(door, || batches.send(shard).is_ok());
    drop(batches);
    let heard: Vec<bool> = std::iter::from_fn(|| answer.receive()).collect();
    if handed_in {
        assert_eq!(heard.len(), 1, "a batch that was taken is answered exactly once");
    } else {
        assert!(heard.is_empty(), "a batch that was not taken is not answered");
    }
    if heard == [true] {
        assert!(disk[shard].load(Ordering::Relaxed), "told before it was durable");
    }
}

#[test]
fn every_batch_is_answered_after_it_is_durable() {
    let _covers = covers::covers(&["INV-14"]);
    check(usize::MAX, SHARDS);
}

#[test]
fn every_batch_is_answered_when_the_first_commit_fails() {
    let _covers = covers::covers(&["DB-09"]);
    check(0, 1);
}

#[test]
fn every_batch_is_answered_when_a_later_commit_fails() {
    check(1, 1);
}
