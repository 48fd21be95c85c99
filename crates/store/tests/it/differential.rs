//! The simulation's store and the real one are the same store: random records, conflicts, reopenings.

use std::sync::Arc;

use protocol::Fen;
use state_machine::record::{Held, State, TillReversal};
use state_machine::till::JsonState;
use state_machine::{MerchantId, Record, UnixMs};
use store::memory::CrashStore;
use store::{Cursor, Day, EventQuery, Filter, Progress, SqliteReader, Store};

use crate::support::{NOW_MS, Place, accepted, all, moved, paid, recovered, seal_key};

/// SplitMix64: one seed, one run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        let at = usize::try_from(self.below(from.len() as u64)).expect("an index");
        from[at].clone()
    }
}

/// Days before today on which orders were accepted.
const DAYS: [i64; 5] = [0, 0, 0, 1, 3];

/// A record that may or may not follow what is there.
fn offered(random: &mut Random, known: &[Record]) -> Record {
    let fresh =
        accepted(1 + u32::try_from(random.below(3)).expect("small"), &format!("order-{}", random.below(12)));
    let mut record = if known.is_empty() || random.one_in(3) {
        Record {
            accepted_at: UnixMs(
                NOW_MS - random.pick(&DAYS) * Day::MS + i64::try_from(random.below(4)).expect("small"),
            ),
            ..fresh
        }
    } else {
        moved(&random.pick(known), random.pick(&State::ALL))
    };
    if random.one_in(4) {
        record.version = u32::try_from(random.below(6)).expect("small");
    }
    if random.one_in(3) {
        record.held = random.pick(&[None, Some(Held::Differs), Some(Held::RefundFailed)]);
    }
    if random.one_in(3) {
        record.till_reversal = random.pick(&[TillReversal::None, TillReversal::Asked, TillReversal::Done]);
        record.looks_left = u8::try_from(random.below(3)).expect("small");
    }
    if random.one_in(5) {
        record.amount = random.pick(&[None, Fen::new(1).ok(), Fen::new(Fen::MAX).ok()]);
        record.refunded_fen = random.below(u64::MAX);
    }
    if random.one_in(4) {
        let id = random.pick(&["T1", "T2"]);
        record.paid = random.pick(&[None, Some(Box::new(paid(id, "o")))]);
    }
    if random.one_in(20) {
        record.accepted_at = UnixMs(record.accepted_at.0 + 1);
    }
    record
}

fn agree(
    random: &mut Random,
    model: &mut CrashStore,
    real: &mut dyn Store,
    reader: &mut SqliteReader,
    seed: u64,
) {
    let everything = all(model);
    assert_eq!(all(real), everything, "seed {seed}");
    for record in &everything {
        assert_eq!(real.find(&record.key), model.find(&record.key), "seed {seed}");
        assert_eq!(reader.find(&record.key), model.find(&record.key), "seed {seed}");
    }
    for merchant in 1..4 {
        for id in ["T1", "T2", "420000123420261123"] {
            let id = id.parse().expect("a number");
            let found = model.find_by_transaction(MerchantId(merchant), &id);
            assert_eq!(real.find_by_transaction(MerchantId(merchant), &id), found, "seed {seed}");
            assert_eq!(reader.find_by_transaction(MerchantId(merchant), &id), found, "seed {seed}");
        }
    }
    for merchant in 1..4 {
        let query = EventQuery {
            merchant: MerchantId(merchant),
            number: everything.first().filter(|_| random.one_in(2)).map(|record| record.key.number),
            after: random.below(8),
            limit: u32::try_from(random.below(6)).expect("small"),
        };
        assert_eq!(real.events(&query), model.events(&query), "seed {seed}: {query:?}");
        assert_eq!(reader.events(&query), model.events(&query), "seed {seed}: {query:?}");
    }
    let filter = Filter {
        merchant: random.one_in(2).then_some(MerchantId(2)),
        from: random.one_in(2).then_some(UnixMs(NOW_MS - random.pick(&DAYS) * Day::MS + 1)),
        until: random.one_in(2).then_some(UnixMs(NOW_MS + 3)),
        state: random.one_in(2).then(|| random.pick(&State::ALL)),
        shows: random.one_in(3).then(|| random.pick(&JsonState::ALL)),
        held_only: random.one_in(4),
        open_only: random.one_in(4),
        newest_first: random.one_in(2),
        limit: u32::try_from(random.below(4)).expect("small"),
        after: everything.get(everything.len() / 2).filter(|_| random.one_in(2)).map(Cursor::of),
    };
    assert_eq!(real.list(&filter), model.list(&filter), "seed {seed}: {filter:?}");
    assert_eq!(reader.list(&filter), model.list(&filter), "seed {seed}: {filter:?}");
    assert_eq!(
        reader.verify(&mut |damaged| panic!("seed {seed}: {damaged}")),
        Ok(everything.len() as u64),
        "seed {seed}"
    );
    // Last: it puts everything into the database.
    assert_eq!(recovered(real), recovered(model), "seed {seed}");
}

fn run(seed: u64) {
    let mut random = Random(seed);
    let place = Place::new();
    // Every third one has its thread, which puts recent records into the database when it likes.
    let open = || if seed.is_multiple_of(3) { place.open_eager() } else { place.open_unfolded() };
    let (mut model, mut real) = (CrashStore::new(), open());
    let mut reader = SqliteReader::open(&place.path(), &seal_key()).expect("a reader");
    let mut known: Vec<Record> = Vec::new();
    for _ in 0..40 {
        let records: Vec<Arc<Record>> = (0..=random.below(5))
            .map(|_| {
                let record = offered(&mut random, &known);
                known.retain(|other| other.key != record.key || random.one_in(2));
                known.push(record.clone());
                Arc::new(record)
            })
            .collect();
        let expected = model.commit(&records);
        model.sync();
        assert_eq!(real.commit(&records), expected, "seed {seed}: {records:#?}");
        if random.one_in(6) {
            agree(&mut random, &mut model, &mut real, &mut reader, seed);
        }
        if random.one_in(6) {
            real.fold().expect("a sound disk");
        }
        if random.one_in(8) {
            // In pieces too: what was begun is gone on with, also behind a reopening.
            let mut archivist = real.archivist().expect("a sound disk");
            let mut pieces = random.below(4);
            let mut go_on = || {
                pieces = pieces.saturating_sub(1);
                pieces > 0
            };
            while let Progress::Day(_) =
                archivist.archive(Day::of(UnixMs(NOW_MS + Day::MS)), &mut go_on).expect("a sound disk")
            {
            }
        }
        if random.one_in(12) {
            drop(real);
            model.crash(0);
            real = open();
            assert_eq!(real.fence(), model.fence(), "seed {seed}");
        }
    }
    agree(&mut random, &mut model, &mut real, &mut reader, seed);
}

#[test]
fn both_stores_do_the_same() {
    for seed in 0..60 {
        run(seed);
    }
}

#[test]
fn what_is_not_synced_is_lost_in_order() {
    let first = accepted(1, "order-1");
    let (second, third) = (moved(&first, State::Pending), moved(&first, State::Pending));
    let third = Record { version: 3, ..third };
    for kept in 0..4 {
        let mut model = CrashStore::new();
        for record in [&first, &second, &third] {
            model.commit(&[Arc::new(record.clone())]).expect("no fault is set");
        }
        // Reads show what is durable; the next commit follows what is staged.
        assert_eq!((model.find(&first.key), model.staged()), (Ok(None), 3));
        let fence = model.fence();
        model.crash(kept);
        let expected = [None, Some(&first), Some(&second), Some(&third)][kept];
        assert_eq!(model.find(&first.key), Ok(expected.cloned()), "{kept} kept");
        assert!(model.fence() > fence && model.staged() == 0);
    }
}
