//! The table against a model, at its limits, and under threads that do their worst.

use std::collections::HashMap;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use proptest::prelude::*;

use crate::{Full, Handle, Reader, Writer, table};

const SLOTS_MAX: u32 = 24;

#[derive(Clone, Debug)]
enum Step {
    Insert(u64),
    Update(usize),
    Remove(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..1_000_u64).prop_map(Step::Insert),
        3 => any::<usize>().prop_map(Step::Update),
        4 => any::<usize>().prop_map(Step::Remove),
    ]
}

/// A table of `[key, version]` and what should be in it.
struct Pair {
    writer: Writer<2>,
    reader: Reader<2>,
    /// Maps a key to its hash; a poor one makes long runs.
    hash: fn(u64) -> u64,
    values: HashMap<u64, (Handle, u64)>,
    /// Every handle ever given out, with its key.
    handles: Vec<(Handle, u64)>,
    versions: u64,
}

impl Pair {
    fn new(hash: fn(u64) -> u64) -> Self {
        let (writer, reader) = table(SLOTS_MAX);
        Self { writer, reader, hash, values: HashMap::new(), handles: Vec::new(), versions: 0 }
    }

    fn run(&mut self, step: &Step) {
        self.versions += 1;
        match *step {
            Step::Insert(key) if self.values.contains_key(&key) => {}
            Step::Insert(key) => {
                let inserted = self.writer.insert((self.hash)(key), &[key, self.versions]);
                if self.values.len() == SLOTS_MAX as usize {
                    assert_eq!(inserted, Err(Full));
                    return;
                }
                let handle = inserted.unwrap();
                assert!(
                    self.handles.iter().all(|&(other, _)| other != handle),
                    "a handle was given out twice"
                );
                self.values.insert(key, (handle, self.versions));
                self.handles.push((handle, key));
            }
            Step::Update(choice) => {
                let Some((handle, key)) = self.choose(choice) else { return };
                let current = self.is_current(handle, key);
                assert_eq!(self.writer.update(handle, &[key, self.versions]), current);
                if current {
                    self.values.insert(key, (handle, self.versions));
                }
            }
            Step::Remove(choice) => {
                let Some((handle, key)) = self.choose(choice) else { return };
                let current = self.is_current(handle, key);
                assert_eq!(self.writer.remove(handle), current);
                if current {
                    self.values.remove(&key);
                }
            }
        }
    }

    /// One of all the handles there ever were.
    fn choose(&self, choice: usize) -> Option<(Handle, u64)> {
        self.handles.get(choice % self.handles.len().max(1)).copied()
    }

    fn is_current(&self, handle: Handle, key: u64) -> bool {
        self.values.get(&key).is_some_and(|&(current, _)| current == handle)
    }

    fn compare(&self) {
        assert_eq!(self.writer.len(), self.values.len());
        assert_eq!(self.reader.len(), self.values.len());
        assert_eq!(self.reader.is_empty(), self.values.is_empty());
        for &(handle, key) in &self.handles {
            let value = self.values.get(&key).map(|&(handle, version)| (handle, [key, version]));
            assert_eq!(self.reader.find((self.hash)(key), |words| words[0] == key), value);
            assert_eq!(self.writer.find((self.hash)(key), |words| words[0] == key), value);
            let of_handle = value.filter(|&(current, _)| current == handle).map(|(_, words)| words);
            assert_eq!(self.reader.get(handle), of_handle);
            assert_eq!(self.writer.get(handle), of_handle);
        }
    }
}

#[track_caller]
fn agrees_with_a_map(hash: fn(u64) -> u64, steps: &[Step]) {
    let mut pair = Pair::new(hash);
    for step in steps {
        pair.run(step);
        pair.compare();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_table_agrees_with_a_map(steps in prop::collection::vec(step(), 1..150)) {
        agrees_with_a_map(|key| key.wrapping_mul(0x9e37_79b9_7f4a_7c15), &steps);
    }

    #[test]
    fn it_does_with_hashes_that_collide(steps in prop::collection::vec(step(), 1..150)) {
        agrees_with_a_map(|key| key % 3, &steps);
    }

    #[test]
    fn it_does_with_hashes_that_all_collide(steps in prop::collection::vec(step(), 1..150)) {
        agrees_with_a_map(|_| u64::MAX, &steps);
    }

    #[test]
    fn a_handle_survives_being_a_word(slot in any::<u32>(), generation in 1..=u32::MAX) {
        let word = (u64::from(generation) << 32) | u64::from(slot);
        let handle = Handle::from_u64(word).unwrap();
        prop_assert_eq!(handle.to_u64(), word);
        prop_assert_eq!(Handle::from_u64(u64::from(slot)), None);
    }
}

#[test]
fn slots_max_values_fit_and_no_more() {
    for slots_max in [0, 1, 2, 5, 1_000] {
        let (mut writer, reader) = table::<1>(slots_max);
        let mut handles: Vec<_> =
            (0..slots_max).map(|key| writer.insert(key.into(), &[7]).unwrap()).collect();
        assert_eq!(writer.insert(u64::MAX, &[8]), Err(Full));
        assert_eq!(reader.len(), slots_max as usize);
        assert_eq!(reader.find(u64::MAX, |_| true), None);
        let Some(handle) = handles.pop() else { continue };
        assert!(writer.remove(handle));
        assert!(writer.insert(u64::MAX, &[8]).is_ok());
        assert_eq!(writer.insert(u64::MAX, &[9]), Err(Full));
    }
}

#[test]
#[should_panic(expected = "SLOTS_MAX")]
fn a_table_that_is_too_large_is_a_bug() {
    drop(table::<1>(crate::SLOTS_MAX + 1));
}

#[test]
fn the_slot_freed_last_is_used_first_and_fresh_ones_from_the_low_end() {
    let (mut writer, _) = table::<1>(10);
    let handles: Vec<_> = (0..4).map(|key| writer.insert(key, &[key]).unwrap()).collect();
    assert_eq!(handles.iter().map(|handle| handle.slot).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert!(writer.remove(handles[1]));
    assert!(writer.remove(handles[2]));
    let slots: Vec<_> = (4..7).map(|key| writer.insert(key, &[key]).unwrap().slot).collect();
    assert_eq!(slots, [2, 1, 4]);
}

#[test]
fn a_stale_handle_reaches_nothing() {
    let (mut writer, reader) = table::<1>(1);
    let old = writer.insert(1, &[10]).unwrap();
    assert!(writer.remove(old));
    assert!(!writer.remove(old));
    let new = writer.insert(1, &[20]).unwrap();
    assert_eq!(old.slot, new.slot);
    assert!(!writer.update(old, &[30]));
    assert!(!writer.remove(old));
    assert_eq!((reader.get(old), reader.get(new)), (None, Some([20])));
    let beyond = Handle { slot: 1, ..new };
    assert_eq!(reader.get(beyond), None);
    assert!(!writer.update(beyond, &[40]));
    let of_an_empty_slot = Handle::from_u64(2 << 32).unwrap();
    assert!(writer.remove(new));
    assert_eq!(reader.get(of_an_empty_slot), None);
    assert!(!writer.remove(of_an_empty_slot));
}

#[test]
fn values_of_one_hash_are_told_apart() {
    let (mut writer, reader) = table::<2>(3);
    for key in 0..3 {
        writer.insert(99, &[key, key * 100]).unwrap();
    }
    for key in 0..3 {
        assert_eq!(reader.find(99, |words| words[0] == key).unwrap().1, [key, key * 100]);
    }
    assert_eq!(reader.find(99, |words| words[0] == 3), None);
}

/// Words for the stress: the key, a version, and six more that follow from them.
fn words(key: u64, version: u64) -> [u64; 8] {
    let mut words = [key, version, 0, 0, 0, 0, 0, 0];
    for word in 2..8 {
        words[word] = (words[word - 1] ^ words[word - 2].rotate_left(17)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    words
}

/// Hashes that collide often, so that removals keep moving entries.
fn poor_hash(key: u64) -> u64 {
    key % 7
}

/// Keys under this one stay in the table throughout.
const LASTING: u32 = 16;
const KEYS: u64 = 64;

/// Looks up every key over and over; what it finds must be whole, and what lasts must be found and never go back.
fn look(reader: &Reader<8>, lasting: &[Handle], rounds: usize) {
    let mut latest = [0; LASTING as usize];
    for round in 0..rounds {
        let key = (round as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let key = key % KEYS;
        let found = reader.find(poor_hash(key), |words| words[0] == key);
        if let Some((handle, found)) = found {
            assert_eq!(found, words(key, found[1]), "torn");
            if let Some(again) = reader.get(handle) {
                assert_eq!(again, words(key, again[1]), "torn, or another value under this handle");
                assert!(again[1] >= found[1], "went back");
            }
        }
        let index = usize::try_from(key).unwrap();
        if index < lasting.len() {
            let (handle, found) = found.expect("it was there all the time");
            assert_eq!(handle, lasting[index]);
            assert!(found[1] >= latest[index], "went back");
            latest[index] = found[1];
        }
    }
}

#[test]
fn readers_never_miss_and_never_tear() {
    const READERS: usize = 3;
    let (mut writer, reader) = table::<8>(40);
    let lasting: Vec<_> = (0..LASTING)
        .map(u64::from)
        .map(|key| writer.insert(poor_hash(key), &words(key, 0)).unwrap())
        .collect();
    let mut passing: HashMap<u64, Handle> = HashMap::new();
    let (start, done) = (Barrier::new(READERS + 1), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..READERS {
            let (reader, lasting, start, done) = (reader.clone(), &lasting, &start, &done);
            scope.spawn(move || {
                // Counts even if it panics, or the writer below would go on for ever.
                let _done = Done(done);
                start.wait();
                look(&reader, lasting, 200_000);
            });
        }
        start.wait();
        let mut random = 1_u64;
        for version in 1.. {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let key = (random >> 33) % KEYS;
            if let Some(&handle) = lasting.get(usize::try_from(key).unwrap()) {
                assert!(writer.update(handle, &words(key, version)));
            } else if let Some(handle) = passing.remove(&key) {
                assert!(writer.remove(handle));
            } else if let Ok(handle) = writer.insert(poor_hash(key), &words(key, version)) {
                passing.insert(key, handle);
            }
            if done.load(Ordering::Relaxed) == READERS {
                break;
            }
        }
    });
    assert_eq!(reader.len(), lasting.len() + passing.len());
}

struct Done<'a>(&'a AtomicUsize);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
