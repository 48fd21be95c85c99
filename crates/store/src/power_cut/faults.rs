//! A disk that fills up or fails while the power is on: nothing is acknowledged that is not durable, and the store
//! goes on where it can.

use std::path::PathBuf;
use std::sync::Arc;

use state_machine::Record;

use super::disk::{Disk, Faults, Image};
use super::life::seal_key;
use super::orders::Orders;
use super::random::Random;
use super::vfs::Mount;
use super::{Machine, Spoiled};
use crate::contract::{CommitError, Filter, Store};
use crate::memory::CrashStore;
use crate::sqlite::layer::Layer;
use crate::sqlite::{Options, SqliteStore};

struct Bench {
    disk: Arc<Disk>,
    machine: Machine,
    random: Random,
    orders: Orders,
    model: CrashStore,
}

impl Bench {
    fn new(seed: u64, image: Image) -> Self {
        let disk = Disk::new(image, Random::new(seed));
        let machine = Machine { mount: Arc::new(Mount::new(Arc::clone(&disk))), spoiled: Spoiled::Nothing };
        let random = Random::new(seed);
        Self { disk, machine, random, orders: Orders::default(), model: CrashStore::new() }
    }

    fn open(&self) -> SqliteStore {
        let path = PathBuf::from(self.machine.mount.path() + "store.db");
        let options = Options { checkpoint_pages: u32::MAX, fold_records: u32::MAX, ..Options::default() };
        SqliteStore::open_on(Layer::Disk(self.machine.clone()), &path, &seal_key(), options)
            .expect("the store opens")
    }

    fn batch(&mut self) -> Vec<Arc<Record>> {
        self.orders.batch(&mut self.random, 8, 0, 1)
    }

    fn commit(&mut self, store: &mut SqliteStore, commits: u32) {
        for _ in 0..commits {
            let batch = self.batch();
            assert_eq!(store.commit(&batch), self.model.commit(&batch));
            self.model.sync();
        }
    }

    fn agree(&mut self, store: &mut SqliteStore) {
        assert_eq!(store.list(&Filter::default()), self.model.list(&Filter::default()));
        let reader = store.reader().expect("a reader").verify(&mut |damaged| unreachable!("{damaged}"));
        assert_eq!(reader.ok(), u64::try_from(self.model.durable().count()).ok());
    }
}

#[test]
fn a_full_disk_takes_nothing_and_needs_no_repair() {
    let _covers = covers::covers(&["DB-07", "INV-14"]);
    for seed in 0..20 {
        let mut bench = Bench::new(seed, Image::new());
        let mut store = bench.open();
        bench.commit(&mut store, 3 + u32::try_from(seed).unwrap_or(0));
        bench.disk.set_faults(Faults { full: true, ..Faults::default() });
        let batch = bench.batch();
        for _ in 0..4 {
            let error = store.commit(&batch).expect_err("no room");
            assert!(matches!(error, CommitError::Busy(_)), "{error}");
        }
        bench.agree(&mut store);
        // Nor does the database, which takes none of it,
        let _ = store.fold();
        bench.agree(&mut store);
        // nor a checkpoint, which needs room in the database, take anything away.
        let _ = store.checkpoint();
        bench.agree(&mut store);
        bench.disk.set_faults(Faults::default());
        assert_eq!(store.commit(&batch), bench.model.commit(&batch), "seed {seed}");
        bench.model.sync();
        bench.commit(&mut store, 5);
        bench.agree(&mut store);
        // What was acknowledged is durable, not only visible.
        let (image, _) = bench.disk.cut();
        drop(store);
        let mut again = Bench { model: bench.model.clone(), ..Bench::new(seed, image) };
        let mut store = again.open();
        again.agree(&mut store);
    }
}

#[test]
fn a_failed_sync_ends_the_writer_and_is_never_taken_for_a_sync() {
    let _covers = covers::covers(&["DB-09", "DB-01", "INV-14"]);
    for seed in 0..40 {
        let mut bench = Bench::new(seed, Image::new());
        let mut store = bench.open();
        bench.commit(&mut store, 6);
        bench.disk.set_faults(Faults { syncs_fail: 1, ..Faults::default() });
        let batch = bench.batch();
        let error = store.commit(&batch).expect_err("the sync failed");
        assert!(matches!(error, CommitError::Fatal(_)), "{error}");
        // The disk is well again, and the writer takes nothing more: what it knows of the disk may be wrong.
        assert_eq!(store.commit(&batch), Err(error));
        drop(store);
        // The next opening reads what is there: all that was acknowledged, and the last commit whole or not at all.
        let without = bench.model.clone();
        bench.model.commit(&batch).expect("no fault is set");
        bench.model.sync();
        let (image, _) = bench.disk.cut();
        let mut again = Bench::new(seed, image);
        let mut store = again.open();
        let found = store.list(&Filter::default());
        if found != bench.model.list(&Filter::default()) {
            bench.model = without;
        }
        again.model = bench.model;
        again.agree(&mut store);
    }
}

#[test]
fn a_failed_write_ends_the_writer_and_nothing_of_it_is_there() {
    let _covers = covers::covers(&["DB-09", "INV-14"]);
    for seed in 0..40 {
        let mut bench = Bench::new(seed, Image::new());
        let mut store = bench.open();
        bench.commit(&mut store, 6);
        bench.disk.set_faults(Faults { writes_fail: 1, ..Faults::default() });
        let batch = bench.batch();
        assert!(matches!(store.commit(&batch), Err(CommitError::Fatal(_))));
        drop(store);
        let (image, _) = bench.disk.cut();
        let mut again = Bench { model: bench.model.clone(), ..Bench::new(seed, image) };
        let mut store = again.open();
        again.agree(&mut store);
    }
}

/// After a failed sync the page cache shows what the disk does not hold. A process that starts again before the
/// machine does must not take it for durable, and tell tills so, when the next power cut takes it away.
#[test]
fn what_a_failed_sync_left_in_memory_is_made_durable_before_it_is_served() {
    let _covers = covers::covers(&["DB-09", "INV-13"]);
    let mut shown = 0;
    for seed in 0..40 {
        let mut bench = Bench::new(seed, Image::new());
        let mut store = bench.open();
        bench.commit(&mut store, 6);
        bench.disk.set_faults(Faults { syncs_fail: 1, ..Faults::default() });
        let batch = bench.batch();
        assert!(matches!(store.commit(&batch), Err(CommitError::Fatal(_))));
        drop(store);
        let mut store = bench.open();
        let served = store.list(&Filter::default());
        bench.model.commit(&batch).expect("no fault is set");
        bench.model.sync();
        shown += usize::from(served == bench.model.list(&Filter::default()));
        let (image, _) = bench.disk.cut();
        drop(store);
        let again = Bench::new(seed, image);
        assert_eq!(again.open().list(&Filter::default()), served, "seed {seed}");
    }
    assert!(shown > 10, "the last commit was read from memory {shown} times");
}

/// A failure anywhere in a checkpoint is the checkpoint's alone: commits go on, and nothing is lost by a cut.
#[test]
fn a_checkpoint_that_fails_harms_nothing() {
    let _covers = covers::covers(&["DB-09", "INV-13"]);
    for seed in 0..60_u32 {
        let mut bench = Bench::new(seed.into(), Image::new());
        let mut store = bench.open();
        bench.commit(&mut store, 8);
        let faults = if seed % 2 == 0 {
            Faults { syncs_fail: 1 + seed / 20, ..Faults::default() }
        } else {
            Faults { writes_fail: 1, ..Faults::default() }
        };
        store.fold().expect("a sound disk");
        bench.disk.set_faults(faults);
        assert!(store.checkpoint().is_err(), "seed {seed}");
        bench.disk.set_faults(Faults::default());
        bench.commit(&mut store, 3);
        if seed % 3 == 0 {
            store.checkpoint().expect("the disk is well again");
        }
        bench.agree(&mut store);
        let (image, _) = bench.disk.cut();
        drop(store);
        let mut again = Bench { model: bench.model.clone(), ..Bench::new(seed.into(), image) };
        let mut store = again.open();
        again.agree(&mut store);
    }
}
