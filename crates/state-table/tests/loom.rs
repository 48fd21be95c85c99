//! Every order in which a writer and a reader can meet, as far as loom can tell: small tables, few steps.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p state-table --release --test loom`
#![cfg(loom)]

use loom::thread;
use state_table::{Handle, Reader, Writer, table};

/// One hash for all keys: they share their home, so removing one moves the others.
const HASH: u64 = 5;

fn insert(writer: &mut Writer<2>, key: u64) -> Handle {
    writer.insert(HASH, &[key, key]).expect("there is room")
}

fn find(reader: &Reader<2>, key: u64) -> Option<Handle> {
    let (handle, words) = reader.find(HASH, |words| words[0] == key)?;
    assert_eq!(words, [key, key], "torn");
    Some(handle)
}

#[test]
fn a_value_is_read_whole_while_it_changes() {
    loom::model(|| {
        let (mut writer, reader) = table::<2>(1);
        let handle = insert(&mut writer, 1);
        let reads = thread::spawn(move || {
            let [left, right] = reader.get(handle).expect("it stays");
            assert_eq!(left, right, "torn");
        });
        assert!(writer.update(handle, &[2, 2]));
        assert!(writer.update(handle, &[3, 3]));
        reads.join().expect("no panic");
    });
}

#[test]
fn a_value_does_not_go_back() {
    loom::model(|| {
        let (mut writer, reader) = table::<2>(1);
        let handle = insert(&mut writer, 1);
        let reads = thread::spawn(move || {
            let first = reader.get(handle).expect("it stays");
            let second = reader.get(handle).expect("it stays");
            assert!(first == [1, 1] || first == [2, 2], "torn");
            assert!(second == [2, 2] || second == first, "torn, or went back");
        });
        assert!(writer.update(handle, &[2, 2]));
        reads.join().expect("no panic");
    });
}

#[test]
fn a_slot_that_is_used_again_is_told_apart() {
    loom::model(|| {
        let (mut writer, reader) = table::<2>(1);
        let old = insert(&mut writer, 1);
        let reads = thread::spawn(move || {
            if let Some(words) = reader.get(old) {
                assert_eq!(words, [1, 1], "another value under the handle of the first");
            }
        });
        assert!(writer.remove(old));
        let new = insert(&mut writer, 2);
        assert_ne!(old, new);
        reads.join().expect("no panic");
    });
}

#[test]
fn a_search_does_not_take_a_slot_of_old_for_what_it_holds_now() {
    loom::model(|| {
        let (mut writer, reader) = table::<2>(1);
        let old = insert(&mut writer, 1);
        let reads = thread::spawn(move || {
            assert!(find(&reader, 1).is_none_or(|handle| handle == old));
        });
        assert!(writer.remove(old));
        let new = insert(&mut writer, 2);
        assert_ne!(old, new);
        reads.join().expect("no panic");
    });
}

#[test]
fn a_value_that_stays_is_found_while_one_before_it_is_removed() {
    loom::model(|| {
        let (mut writer, reader) = table::<2>(2);
        let before = insert(&mut writer, 1);
        let stays = insert(&mut writer, 2);
        let reads = thread::spawn(move || assert_eq!(find(&reader, 2), Some(stays)));
        assert!(writer.remove(before));
        reads.join().expect("no panic");
    });
}

#[test]
fn it_is_found_while_another_takes_the_place_that_it_left() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let (mut writer, reader) = table::<2>(2);
        let before = insert(&mut writer, 1);
        let stays = insert(&mut writer, 2);
        let reads = thread::spawn(move || assert_eq!(find(&reader, 2), Some(stays)));
        assert!(writer.remove(before));
        insert(&mut writer, 3);
        reads.join().expect("no panic");
    });
}

#[test]
fn it_is_found_while_it_moves_twice() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let (mut writer, reader) = table::<2>(3);
        let first = insert(&mut writer, 1);
        let second = insert(&mut writer, 2);
        let stays = insert(&mut writer, 3);
        let reads = thread::spawn(move || assert_eq!(find(&reader, 3), Some(stays)));
        assert!(writer.remove(first));
        assert!(writer.remove(second));
        reads.join().expect("no panic");
    });
}

#[test]
fn it_is_found_while_another_moves_into_the_place_that_it_left() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let (mut writer, reader) = table::<2>(3);
        let first = insert(&mut writer, 1);
        let stays = insert(&mut writer, 2);
        insert(&mut writer, 3);
        let reads = thread::spawn(move || assert_eq!(find(&reader, 2), Some(stays)));
        assert!(writer.remove(first));
        reads.join().expect("no panic");
    });
}

/// Not an interleaving: these tests are the ones that run with the release profile, whose arithmetic users get.
#[test]
fn a_release_build_checks_its_arithmetic() {
    let (most, one) = (std::hint::black_box(u64::MAX), std::hint::black_box(1));
    let sum = std::panic::catch_unwind(move || most + one);
    assert!(sum.is_err(), "overflow-checks must be on in the release profile");
}
