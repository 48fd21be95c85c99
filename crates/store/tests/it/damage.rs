//! Damage: cut and flipped files, older files, rows changed by hand. Recovered, set aside, or refused, never silent.

use std::sync::Arc;

use state_machine::Record;
use state_machine::record::State;
use state_machine::shard::Outcome;
use store::{OpenError, Options, SqliteReader, SqliteStore, Store, StoreError};

use crate::support::{Place, accepted, all, apply, key, moved, recovered, seal_key, with_suffix};

/// `count` orders in commits of their own, none of which is in the database.
fn in_the_log(place: &Place, count: u32) -> Vec<Record> {
    let mut store = place.open_unfolded();
    let records: Vec<Record> = (0..count).map(|at| accepted(1, &format!("order-{at:04}"))).collect();
    for record in &records {
        apply(&mut store, std::slice::from_ref(record));
    }
    let copy = place.snapshot();
    let mark = place.bytes("-mark");
    drop(store);
    for suffix in ["", "-wal", "-recent-0", "-recent-1"] {
        std::fs::copy(with_suffix(&copy.path(), suffix), with_suffix(&place.path(), suffix))
            .expect("put back");
    }
    std::fs::write(with_suffix(&place.path(), "-mark"), mark).expect("put back");
    records
}

fn open(place: &Place) -> Result<SqliteStore, OpenError> {
    SqliteStore::open(&place.path(), &seal_key(), Options::default())
}

fn flip(place: &Place, suffix: &str, at: usize) {
    let mut bytes = place.bytes(suffix);
    bytes[at] ^= 0x04;
    std::fs::write(with_suffix(&place.path(), suffix), bytes).expect("written");
}

fn without_mark(place: &Place) {
    std::fs::remove_file(with_suffix(&place.path(), "-mark")).expect("the mark was there");
}

#[test]
fn a_bad_frame_before_good_commits_is_damage() {
    let _covers = covers::covers(&["DB-10", "INV-13"]);
    let place = Place::new();
    in_the_log(&place, 12);
    let log = place.bytes("-recent-0").len();
    let files = |place: &Place| ["", "-wal", "-recent-0", "-recent-1"].map(|suffix| place.bytes(suffix));
    for from_end in [1_500, 3_000, log - 9] {
        let copy = place.snapshot();
        flip(&copy, "-recent-0", log - from_end);
        let before = files(&copy);
        let error = open(&copy).expect_err("commits are lost");
        assert!(matches!(error, OpenError::Lost { witness: "the file of recent records", .. }), "{error}");
        assert!(error.to_string().contains("money may have moved"), "{error}");
        assert_eq!(files(&copy), before, "the files stay for whoever looks into it");
        let mut reader = SqliteReader::open(&copy.path(), &seal_key()).expect("the database is well");
        assert!(matches!(reader.verify(&mut |_| ()), Err(StoreError::Contradicts(_))));
    }
}

#[test]
fn a_bad_frame_of_the_database_before_good_commits_is_damage() {
    let _covers = covers::covers(&["DB-10", "INV-13"]);
    let place = Place::new();
    let mut store = place.open_unfolded();
    for at in 0..12 {
        apply(&mut store, &[accepted(1, &format!("order-{at:04}"))]);
        store.fold().expect("the database takes it");
    }
    let copy = place.snapshot();
    drop(store);
    let log = copy.bytes("-wal").len();
    for from_end in [60_000, 90_000] {
        let copy = copy.snapshot();
        flip(&copy, "-wal", log - from_end);
        let error = open(&copy).expect_err("commits are lost");
        assert!(matches!(error, OpenError::Lost { witness: "the log", .. }), "{error}");
    }
    // Also where the log's own header is hit, and SQLite would take all of it for nothing.
    flip(&copy, "-wal", 9);
    assert!(matches!(open(&copy), Err(OpenError::Lost { .. })));
}

#[test]
fn a_torn_last_commit_is_left_out_and_said_and_the_mark_knows_better() {
    let _covers = covers::covers(&["DB-10", "INV-13"]);
    let place = Place::new();
    let records = in_the_log(&place, 5);
    let last = place.bytes("-recent-0").len() - 100;
    flip(&place, "-recent-0", last);
    // Acknowledged, says the mark: lost, then.
    let error = open(&place).expect_err("the last commit is lost");
    assert!(matches!(error, OpenError::Lost { witness: "the mark", .. }), "{error}");
    // Without a mark it looks like a commit that a power cut interrupted.
    without_mark(&place);
    let mut store = open(&place).expect("the store opens");
    assert!(store.opening().dropped_frames > 0);
    assert_eq!(all(&mut store), records[..4]);
    // A torn mark is none.
    drop(store);
    std::fs::write(with_suffix(&place.path(), "-mark"), [7; 50]).expect("written");
    assert_eq!(all(&mut open(&place).expect("the store opens")).len(), 4);
}

#[test]
fn older_files_are_refused_until_the_gap_is_declared() {
    let _covers = covers::covers(&["DB-17"]);
    let place = Place::new();
    let mut store = place.open();
    apply(&mut store, &[accepted(1, "order-1")]);
    drop(store);
    let backup = place.snapshot();
    let mut store = place.open();
    apply(&mut store, &[accepted(1, "order-2")]);
    drop(store);
    std::fs::copy(backup.path(), place.path()).expect("restored");
    let error = open(&place).expect_err("an older store");
    assert!(matches!(error, OpenError::Lost { witness: "the mark", .. }), "{error}");
    assert!(error.to_string().contains("declare the gap"), "{error}");
    without_mark(&place);
    assert_eq!(all(&mut open(&place).expect("declared")).len(), 1);
}

#[test]
fn a_store_that_is_gone_is_not_made_anew() {
    let _covers = covers::covers(&["DB-17"]);
    let place = Place::new();
    in_the_log(&place, 3);
    std::fs::write(place.path(), b"").expect("emptied");
    assert!(matches!(open(&place), Err(OpenError::Lost { found: 0, .. })));
    without_mark(&place);
    let witness = "the file of recent records";
    assert!(matches!(open(&place), Err(OpenError::Lost { found: 0, witness: who, .. }) if who == witness));
    for suffix in ["-recent-0", "-recent-1"] {
        std::fs::remove_file(with_suffix(&place.path(), suffix)).expect("they were there");
    }
    assert!(matches!(open(&place), Err(OpenError::Lost { found: 0, witness: "the log", .. })));
    assert!(!place.bytes("-wal").is_empty(), "the log is not deleted");
    // Another store in its place.
    let other = Place::new();
    let mut store = other.open();
    for at in 0..20 {
        apply(&mut store, &[accepted(1, &format!("order-{at}"))]);
    }
    drop(store);
    let place = Place::new();
    drop(place.open());
    std::fs::copy(other.path(), place.path()).expect("another store");
    let error = open(&place).expect_err("another store");
    assert!(error.to_string().contains("another store's"), "{error}");
}

#[test]
fn rows_hidden_removed_or_played_back_by_hand_are_noticed() {
    let _covers = covers::covers(&["DB-18", "DB-11", "PR-13"]);
    let place = Place::new();
    let mut store = place.open();
    let orders: Vec<Record> = (0..6).map(|at| accepted(1, &format!("order-{at}"))).collect();
    apply(&mut store, &orders);
    drop(store);
    let earlier = place.snapshot();
    let mut store = place.open();
    apply(&mut store, &[moved(&orders[2], State::Paid), moved(&orders[3], State::Pending)]);
    drop(store);
    let after = |sql: &str| {
        let copy = place.snapshot();
        let shell = copy.sql();
        let attach = format!("ATTACH '{}' AS earlier", earlier.path().display());
        shell.execute_batch(&attach).expect("attached");
        shell.execute_batch(sql).expect(sql);
        drop(shell);
        copy
    };

    // Taken off the list of open orders: found by looking at every row, and named.
    let copy = after("UPDATE payments SET open = 0 WHERE seq = 5");
    let (open_orders, damaged) = recovered(&mut copy.open());
    assert_eq!(open_orders.len(), 4);
    assert_eq!(damaged.iter().map(|row| row.key).collect::<Vec<_>>(), [Some(key(1, "order-4"))]);

    // Each of these leaves only rows that are sound by themselves.
    for sql in [
        "DROP TRIGGER payments_stay; DELETE FROM payments WHERE seq = 5",
        "DROP TRIGGER payments_stay; DELETE FROM payments WHERE seq = 6",
        "DROP TRIGGER payments_stay; DELETE FROM payments WHERE seq = 3;
         INSERT INTO payments SELECT * FROM earlier.payments WHERE seq = 3",
        "DROP TRIGGER payments_stay; DELETE FROM payments WHERE seq = 4;
         INSERT INTO payments SELECT * FROM earlier.payments WHERE seq = 4",
        // An event that is gone is no reason to believe an old payment.
        "DROP TRIGGER payments_stay; DELETE FROM payments WHERE seq = 3;
         INSERT INTO payments SELECT * FROM earlier.payments WHERE seq = 3;
         DROP TRIGGER events_stay; DELETE FROM events WHERE number = 1",
    ] {
        let copy = after(sql);
        let error = copy.open().open_orders(&mut |_| ()).expect_err(sql);
        assert!(matches!(error, StoreError::Contradicts(_)), "{error}");
        let mut reader = SqliteReader::open(&copy.path(), &seal_key()).expect("readable");
        assert!(matches!(reader.verify(&mut |_| ()), Err(StoreError::Contradicts(_))), "{sql}");
    }

    // The store's own row: no bit of it may be changed.
    let tally = "tally = (SELECT tally FROM earlier.store)";
    for sql in ["fence = fence - 1", tally, "tally = x'00'", "folded = x'00'", "folded = tally"] {
        let copy = after(&format!("UPDATE store SET {sql}"));
        assert!(matches!(open(&copy), Err(OpenError::Contradicts { .. } | OpenError::Lost { .. })), "{sql}");
    }
}

#[test]
fn closing_a_reader_leaves_the_log_alone() {
    let place = Place::new();
    in_the_log(&place, 3);
    let before = (place.bytes(""), place.bytes("-wal"));
    let reader = SqliteReader::open(&place.path(), &seal_key()).expect("readable");
    drop(reader);
    assert_eq!((place.bytes(""), place.bytes("-wal")), before);
}

#[cfg(feature = "power-cut")]
mod blows {
    use store::power_cut::damage::{Blow, Damages, Files, Sample, Target};

    fn sound(damages: &Damages) {
        assert!(damages.violations.is_empty(), "{damages}");
    }

    #[test]
    fn every_byte_and_bit_of_the_last_frames() {
        let _covers = covers::covers(&["DB-10", "DB-11", "INV-13"]);
        let sample = Sample::new(1, 12, Files::Log);
        let log = sample.length(Target::Recent);
        let cuts = || (log - 500..log).map(|at| (Target::Recent, Blow::CutAt(at)));
        let flips = || ((log - 500) * 8..log * 8).step_by(7).map(|bit| (Target::Recent, Blow::Flip(bit)));
        for blows in [sample.strike(cuts(), 1), sample.strike(flips(), 1)] {
            sound(&blows);
            assert_eq!(blows.refused.get("Lost"), Some(&blows.cases), "the mark knows: {blows}");
        }
        let sample = sample.without_mark();
        for blows in [sample.strike(cuts(), 1), sample.strike(flips(), 1)] {
            sound(&blows);
            assert_eq!(blows.tail, blows.cases, "the last commit is left out, and said: {blows}");
        }
    }

    #[test]
    fn bits_all_over_and_pages_that_come_back_old() {
        let _covers = covers::covers(&["DB-10", "DB-11", "DB-18", "INV-13"]);
        for files in [Files::Both, Files::Database] {
            let sample = Sample::new(2, 60, files);
            let mut said = 0;
            for target in [Target::Database, Target::Log, Target::Recent, Target::Mark] {
                let bits = sample.length(target) * 8;
                let step = (bits / 300).max(1);
                let flips = (0..bits).step_by(step).map(|bit| (target, Blow::Flip(bit)));
                let old = (0..bits / 32_768).map(|page| (target, Blow::OldPage(page)));
                let burst = (0..bits).step_by(step * 5).map(|bit| (target, Blow::Scramble(bit, 64)));
                for blows in [sample.strike(flips, 2), sample.strike(old, 2), sample.strike(burst, 2)] {
                    sound(&blows);
                    said += blows.set_aside + blows.full_check + blows.refused.values().sum::<u64>();
                }
                let gone = [(target, Blow::OldFile), (target, Blow::Gone)];
                sound(&sample.strike(gone.into_iter(), 2));
            }
            assert!(said > 60, "{files:?}: blows hurt");
        }
    }

    #[test]
    fn a_database_cut_anywhere() {
        let _covers = covers::covers(&["DB-10"]);
        let sample = Sample::new(3, 12, Files::Database);
        let cuts =
            (0..sample.length(Target::Database)).step_by(199).map(|at| (Target::Database, Blow::CutAt(at)));
        sound(&sample.strike(cuts, 3));
    }
}

#[test]
fn an_opening_that_doubts_the_log_waits_for_who_reads_it() {
    let _covers = covers::covers(&["DB-03", "DB-09", "INV-13"]);
    let place = Place::new();
    let records = in_the_log(&place, 3);
    // Killed before the mark was written: the last commit is made durable at the opening, and the log begins anew.
    without_mark(&place);
    let reader = place.sql();
    let rows: i64 = reader
        .execute_batch("BEGIN")
        .and_then(|()| reader.query_row("SELECT count(*) FROM payments", [], |row| row.get(0)))
        .expect("a reader in the middle of its work");
    assert_eq!(rows, 0, "they are recent");
    let hurried = Options { settle_max: std::time::Duration::from_millis(50), ..Options::default() };
    let error = SqliteStore::open(&place.path(), &seal_key(), hurried).expect_err("nothing is appended");
    assert!(matches!(error, OpenError::Unavailable { .. }), "{error}");
    assert!(error.to_string().contains("end that program"), "{error}");
    let waiting = std::thread::scope(|scope| {
        let opening = scope.spawn(|| open(&place));
        reader.execute_batch("COMMIT").expect("it ends its work");
        opening.join().expect("no panic")
    });
    let mut store = waiting.expect("it was waited for");
    assert!(place.bytes("-wal").len() < 40_000, "the log has begun anew: nothing but the new fence is in it");
    assert_eq!(all(&mut store), records);
}

#[test]
fn a_row_billions_of_places_away_is_refused_at_once() {
    let _covers = covers::covers(&["DB-11", "INV-13"]);
    let place = Place::new();
    in_the_log(&place, 4);
    drop(open(&place).expect("the store opens"));
    place.sql().execute("UPDATE payments SET seq = 1 << 62 WHERE seq = 4", []).expect("a row far away");
    let mut store = open(&place).expect("the store opens");
    // Walking there would take years.
    let error = store.open_orders(&mut |_| ()).expect_err("a row is not where it was committed");
    assert!(matches!(error, StoreError::Contradicts(_)), "{error}");
}

#[test]
fn nothing_is_written_over_a_damaged_row_and_the_others_stay() {
    let _covers = covers::covers(&["DB-11"]);
    let place = Place::new();
    let mut store = place.open();
    let orders: Vec<Record> = (0..4).map(|at| accepted(1, &format!("order-{at}"))).collect();
    apply(&mut store, &orders);
    drop(store);
    let mut store = place.open();
    place
        .sql()
        .execute_batch("UPDATE payments SET checksum = zeroblob(16) WHERE out_trade_no = 'order-2'")
        .expect("changed behind its back");

    let updates: Vec<Arc<Record>> =
        orders.iter().map(|order| Arc::new(moved(order, State::Pending))).collect();
    let outcomes = store.commit(&updates).expect("taken");
    assert!(matches!(outcomes[2], Outcome::Conflict(_)), "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Applied)).count(), 3);
    drop(store);

    let (open_orders, damaged) = recovered(&mut place.open());
    assert_eq!(open_orders.len(), 3);
    assert_eq!(damaged.iter().map(|row| row.key).collect::<Vec<_>>(), [Some(key(1, "order-2"))]);
}
