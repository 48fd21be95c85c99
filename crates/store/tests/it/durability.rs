//! What survives: kills, power cuts, flipped bits, a full disk. Covers INV-13, DB-07, DB-11, DB-18, PR-13, INV-26, OP-09.

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use state_machine::Record;
use state_machine::record::State;
use state_machine::shard::Outcome;
use store::{CommitError, Damaged, Options, SqliteReader, Store, StoreError, stand_in};

use crate::support::{Place, accepted, all, apply, commit, key, moved, recovered, seal_key, with_suffix};

/// `n` orders, every second one paid.
fn orders(n: u32) -> Vec<Record> {
    (0..n)
        .flat_map(|at| {
            let first = accepted(1 + at % 7, &format!("order-{at:04}"));
            let second = moved(&first, if at % 2 == 0 { State::Paid } else { State::Pending });
            [first, second]
        })
        .collect()
}

#[test]
fn every_acknowledged_commit_survives_a_power_cut() {
    let place = Place::new();
    let mut store = place.open();
    let mut expected = Vec::new();
    for pair in orders(40).chunks(2) {
        apply(&mut store, pair);
        expected.push(pair[1].clone());
        if expected.len() % 8 == 0 {
            let copy = place.snapshot();
            let mut found = all(&mut copy.open());
            found.sort_by_key(|record| record.key.number);
            assert_eq!(found, expected);
        }
    }
}

#[test]
fn a_cut_log_recovers_to_whole_commits() {
    let place = Place::new();
    let mut store = place.open_unfolded();
    let records = orders(6);
    let mut lengths = vec![0];
    for pair in records.chunks(2) {
        apply(&mut store, pair);
        lengths.push(place.bytes("-recent-0").len());
    }
    let log = place.bytes("-recent-0");
    let mut counts = BTreeSet::new();
    for cut in (0..=log.len()).step_by(97).chain(lengths.iter().copied()) {
        let copy = place.snapshot();
        std::fs::write(with_suffix(&copy.path(), "-recent-0"), &log[..cut]).expect("a copy");
        let mut found = all(&mut copy.open());
        found.sort_by_key(|record| record.key.number);
        let whole = lengths.iter().filter(|length| **length <= cut).count() - 1;
        let expected: Vec<Record> = records.iter().skip(1).step_by(2).take(whole).cloned().collect();
        assert_eq!(found, expected, "cut at {cut}");
        counts.insert(whole);
    }
    assert_eq!(counts.len(), 7, "every number of commits was tried");
}

#[test]
fn a_writer_that_goes_away_leaves_the_store_to_the_next() {
    let place = Place::new();
    let mut first = place.open();
    apply(&mut first, &orders(3));
    let fence = first.fence();
    drop(first);
    for suffix in ["-wal", "-recent-0", "-recent-1"] {
        assert_eq!(place.bytes(suffix), [], "closing moves everything into the database");
    }
    let mut second = place.open();
    assert!(second.fence() > fence);
    assert_eq!(all(&mut second).len(), 3);
}

/// Flips one bit in the only place of the file that holds `needle`, `offset` bytes from its start.
fn flip(place: &Place, needle: &[u8], offset: usize) {
    let bytes = place.bytes("");
    let places: Vec<usize> = bytes
        .windows(needle.len())
        .enumerate()
        .filter(|(_, window)| *window == needle)
        .map(|(at, _)| at)
        .collect();
    let at = *places.last().expect("the bytes are in the file") + offset;
    let file = std::fs::OpenOptions::new().write(true).open(place.path()).expect("the file opens");
    file.write_all_at(&[bytes[at] ^ 0x01], at as u64).expect("a written byte");
}

#[test]
fn a_flipped_bit_sets_its_order_aside_and_no_other() {
    let place = Place::new();
    let mut store = place.open();
    for at in 0..30 {
        let mut record = accepted(1, &format!("order-{at:04}"));
        record.digest = *blake(at);
        apply(&mut store, &[record]);
    }
    drop(store);
    flip(&place, blake(11), 3);

    let mut store = place.open();
    let (open, damaged) = recovered(&mut store);
    let hurt = key(1, "order-0011");
    assert_eq!(open.len(), 29);
    assert!(open.iter().all(|record| record.key != hurt));
    assert_eq!(damaged.iter().map(|damaged| damaged.key).collect::<Vec<_>>(), [Some(hurt)]);

    assert!(matches!(store.find(&hurt), Err(StoreError::Damaged(damaged)) if damaged.key == Some(hurt)));
    let listing = store.list(&store::Filter::default()).expect("readable");
    assert_eq!((listing.records.len(), listing.damaged.len()), (29, 1));

    // A till that comes again learns nothing, and its number is not taken for a new one.
    let again = accepted(1, "order-0011");
    let outcomes = commit(&mut store, &[again.clone(), accepted(1, "order-9999")]);
    assert_eq!(outcomes, [Outcome::Conflict(Box::new(stand_in(&again, 1))), Outcome::Applied]);
}

/// Sixteen bytes that occur once.
fn blake(at: u32) -> &'static [u8; 16] {
    let text = format!("digest-of-{at:06}");
    Box::leak(Box::new(text.into_bytes().try_into().expect("sixteen bytes")))
}

#[test]
fn any_flipped_bit_of_a_row_is_found() {
    let place = Place::new();
    let mut store = place.open();
    let record = moved(&accepted(1, "order-flip"), State::Paid);
    apply(&mut store, &[accepted(1, "order-flip"), record.clone()]);
    drop(store);
    let bytes = place.bytes("");
    // The row is the last copy of the number; its index entries are elsewhere.
    let at = bytes
        .windows(10)
        .enumerate()
        .filter(|(from, window)| *window == b"order-flip" && bytes[from + 10..].starts_with(&[7]))
        .map(|(at, _)| at)
        .next_back()
        .expect("the row is in the file");
    let mut refused = 0;
    for offset in 0..180 {
        let copy = place.snapshot();
        let file = std::fs::OpenOptions::new().write(true).open(copy.path()).expect("the file opens");
        file.write_all_at(&[bytes[at + offset] ^ 0x10], (at + offset) as u64).expect("a written byte");
        let mut reader = SqliteReader::open(&copy.path(), &seal_key()).expect("the store opens");
        let mut damaged = 0;
        let sound = reader.verify(&mut |_| damaged += 1);
        // In the number the index knows of it too.
        assert!(sound == Ok(0) && damaged >= 1, "offset {offset}: {sound:?}, {damaged} damaged");
        refused += 1;
    }
    assert_eq!(refused, 180);
}

#[test]
fn a_broken_list_of_open_orders_hides_nobody() {
    let place = Place::new();
    let mut store = place.open();
    apply(&mut store, &orders(8));
    let expected = recovered(&mut store);
    assert_eq!((expected.0.len(), expected.1.len()), (4, 0));
    drop(store);

    place.sql().execute_batch("DROP INDEX payments_open").expect("changed by hand");
    assert_eq!(recovered(&mut place.open()), expected);

    // The list names every row but shows wrong ones: bytes of its page are moved to other rows.
    place
        .sql()
        .execute_batch("CREATE INDEX payments_open ON payments (open) WHERE open = 1")
        .expect("made again");
    let root: u32 = place
        .sql()
        .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'payments_open'", [], |row| row.get(0))
        .expect("the index is there");
    place.sql().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").expect("one file");
    let from = (root as usize - 1) * 4_096;
    let mut page = place.bytes("")[from..from + 4_096].to_vec();
    // An entry: length, header length, types (1: 9, row number: 1 byte), row number. Row 2 is called row 1.
    let at = page.windows(5).position(|entry| entry == [4, 3, 9, 1, 2]).expect("the entry of row 2");
    page[at + 4] = 1;
    let file = std::fs::OpenOptions::new().write(true).open(place.path()).expect("the file opens");
    file.write_all_at(&page, from as u64).expect("written");
    assert_eq!(recovered(&mut place.open()), expected);
}

#[test]
fn a_destroyed_page_sets_its_rows_aside_and_no_others() {
    let place = Place::new();
    let mut store = place.open();
    let records: Vec<Record> = (0..400).map(|at| accepted(1, &format!("order-{at:04}"))).collect();
    apply(&mut store, &records);
    drop(store);
    // A leaf page of the table in the middle of the file.
    let bytes = place.bytes("");
    let page = bytes
        .chunks(4_096)
        .enumerate()
        .filter(|(_, page)| page[0] == 13 && page.windows(10).any(|window| window == b"order-0200"))
        .map(|(at, _)| at)
        .next_back()
        .expect("a page of the table");
    let file = std::fs::OpenOptions::new().write(true).open(place.path()).expect("the file opens");
    file.write_all_at(&[0xff; 4_096], page as u64 * 4_096).expect("written");

    let mut store = place.open();
    let (open, damaged) = recovered(&mut store);
    assert!(open.len() > 350 && !damaged.is_empty(), "{} open, {} damaged", open.len(), damaged.len());
    assert_eq!(open.len() + damaged.len(), 400);
    assert!(damaged.iter().all(|Damaged { key, why }| key.is_none() && why.contains("cannot be read")));
}

#[test]
fn a_full_disk_is_busy_and_nothing_is_written() {
    let _covers = covers::covers(&["DB-07"]);
    let place = Place::new();
    let pages = |pages_max| Options {
        pages_max: Some(pages_max),
        fold_records: u32::MAX,
        backlog_max: 100,
        ..Options::default()
    };
    let mut store = place.open_with(pages(64));
    let mut stored = 0;
    let refused = loop {
        let records: Vec<Arc<Record>> =
            (0..50).map(|at| Arc::new(accepted(1, &format!("order-{stored:04}-{at:02}")))).collect();
        match store.commit(&records) {
            Ok(_) => stored += 1,
            Err(CommitError::Busy(why)) => {
                assert!(why.contains("full"), "{why}");
                break records;
            }
            Err(other) => panic!("{other}"),
        }
        assert!(stored < 1_000, "64 pages are never full");
    };
    // Nothing of the batch is there, everything before it is, and the same batch goes through once there is room.
    assert_eq!(all(&mut store).len(), stored * 50);
    assert!(matches!(store.commit(&refused), Err(CommitError::Busy(_))));
    drop(store);
    let mut store = place.open_with(pages(10_000));
    assert_eq!(store.commit(&refused).map(|outcomes| outcomes.len()), Ok(50));
    assert_eq!(all(&mut store).len(), (stored + 1) * 50);
}

#[test]
fn another_program_that_holds_the_file_makes_it_busy() {
    let _covers = covers::covers(&["DB-12"]);
    let place = Place::new();
    let mut store = place.open_with(Options {
        busy_timeout: std::time::Duration::ZERO,
        fold_records: 2,
        backlog_max: 2,
        ..Options::default()
    });
    let shell = place.sql();
    shell.execute_batch("BEGIN IMMEDIATE").expect("the shell takes the lock");
    // What is recent waits beside the database, as much as may wait.
    let order = |at: u32| [Arc::new(accepted(1, &format!("order-{at}")))];
    for at in 0..2 {
        assert_eq!(store.commit(&order(at)), Ok(vec![Outcome::Applied]));
    }
    let error = store.commit(&order(2)).expect_err("no more may wait");
    assert!(matches!(&error, CommitError::Busy(why) if why.contains("2 recent records wait")), "{error}");
    assert_eq!(all(&mut store).len(), 2);
    shell.execute_batch("ROLLBACK").expect("the shell lets go");
    store.fold().expect("room again");
    assert_eq!(store.commit(&order(2)), Ok(vec![Outcome::Applied]));
}

#[test]
fn the_log_does_not_grow_without_bound() {
    let _covers = covers::covers(&["DB-16"]);
    let place = Place::new();
    let options = Options { checkpoint_pages: 64, fold_records: 16, backlog_max: 64, ..Options::default() };
    let mut store = place.open_with(options);
    let mut reader = store.reader().expect("a reader");
    let (mut longest, mut recent) = (0, 0);
    for at in 0..600 {
        apply(&mut store, &[accepted(1, &format!("order-{at:06}"))]);
        assert!(reader.find(&key(1, &format!("order-{at:06}"))).expect("readable").is_some());
        longest = longest.max(place.bytes("-wal").len());
        recent = recent.max(place.bytes("-recent-0").len().max(place.bytes("-recent-1").len()));
    }
    // 600 records alone would be twice as long, in either; the thread that moves them may lag behind, not give up.
    assert!(longest < 1_500 * 4_120, "{longest} bytes");
    assert!(recent < 65 * 1_000, "{recent} bytes");
    drop(store);
}

#[test]
fn a_reader_sees_each_commit_and_nothing_before_it() {
    let place = Place::new();
    let mut store = place.open();
    let mut reader = store.reader().expect("a reader");
    let first = accepted(1, "order-1");
    assert_eq!(reader.find(&first.key), Ok(None));
    apply(&mut store, std::slice::from_ref(&first));
    let thread = std::thread::spawn(move || {
        let found = reader.find(&key(1, "order-1"));
        (reader, found)
    });
    let (mut reader, found) = thread.join().expect("the reader's thread ends well");
    assert_eq!(found, Ok(Some(first.clone())));
    let paid = moved(&first, State::Paid);
    apply(&mut store, std::slice::from_ref(&paid));
    let id = paid.paid.as_ref().expect("paid").transaction_id;
    assert_eq!(reader.find_by_transaction(first.key.merchant, &id), Ok(Some(paid.clone())));
    assert_eq!(reader.list(&store::Filter::default()).map(|listing| listing.records), Ok(vec![paid]));
    assert_eq!(reader.verify(&mut |damaged| panic!("{damaged}")), Ok(1));
}

#[test]
fn no_openid_is_readable_in_the_files() {
    let _covers = covers::covers(&["INV-26", "OP-09"]);
    let place = Place::new();
    let mut store = place.open();
    let first = accepted(1, "order-1");
    let paid = moved(&first, State::Paid);
    apply(&mut store, &[first, paid.clone()]);
    let found = |bytes: &[u8], text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    let check = |place: &Place| {
        let mut seen = false;
        for suffix in ["", "-wal", "-recent-0", "-recent-1"] {
            let bytes = place.bytes(suffix);
            for secret in [&b"canary"[..], b"openid", b"oUpF8uMuAJO", &[0x5a; 32]] {
                assert!(!found(&bytes, secret), "{suffix}: {}", String::from_utf8_lossy(secret));
            }
            seen |= found(&bytes, b"420000123420261123");
        }
        assert!(seen, "what operators look for is readable");
    };
    check(&place);
    drop(store);
    check(&place);
    assert_eq!(place.open().find(&paid.key), Ok(Some(paid)));
}

#[test]
fn rows_changed_by_hand_are_refused() {
    let _covers = covers::covers(&["DB-18"]);
    let place = Place::new();
    let mut store = place.open();
    let first = accepted(1, "order-1");
    let second = accepted(2, "order-2");
    apply(&mut store, &[first.clone(), moved(&first, State::Paid)]);
    apply(&mut store, &[second.clone(), moved(&second, State::Paid)]);
    drop(store);
    let sound = |place: &Place| {
        let mut reader = SqliteReader::open(&place.path(), &seal_key()).expect("the store opens");
        reader.verify(&mut |_| ()).expect("readable")
    };
    assert_eq!(sound(&place), 2);
    for column in [
        "merchant = 9",
        "out_trade_no = 'order-9'",
        "channel = 2",
        "provider = 8",
        "version = 3",
        "fence = 2",
        "state = 6",
        "cause = 1",
        "proof = 1",
        "held = 1",
        "open = 1",
        "amount_fen = 1",
        "accepted_at = 1",
        "changed_at = 1",
        "decided_at = 1",
        "transaction_id = 'T9'",
        "paid_fen = 1",
        "paid_at_s = 1",
        "refunded_fen = 1",
        "refusal_code = 'X'",
        "refusal_text = 'X'",
        "claim = 1",
        "till_reversal = 2",
        "repair = 1",
        "looks_left = 1",
        "detail = x'00'",
        "paid_fields = NULL",
        "checksum = x'00'",
        // Sealed for another order: moved here with everything that belongs to it.
        "paid_fields = (SELECT paid_fields FROM payments WHERE seq = 2)",
        "checksum = (SELECT checksum FROM payments WHERE seq = 2)",
    ] {
        let copy = place.snapshot();
        let sql = format!("UPDATE payments SET {column} WHERE seq = 1");
        assert_eq!(copy.sql().execute(&sql, []), Ok(1), "{sql}");
        assert_eq!(sound(&copy), 1, "{sql}");
    }
    let error = place.sql().execute("DELETE FROM payments", []).expect_err("refused");
    assert!(error.to_string().contains("never deleted"), "{error}");
}
