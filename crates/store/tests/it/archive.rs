//! Days that are over leave the database for files of their own, and nobody who asks sees a difference.

use rusqlite::Connection;
use state_machine::record::{Held, State};
use state_machine::shard::Outcome;
use state_machine::{MerchantId, Record, UnixMs};
use store::{
    Archived, CommitError, Day, EventQuery, Events, Filter, OpenError, Options, Progress, SqliteReader,
    SqliteStore, Store, StoreError,
};

use crate::support::{
    NOW_MS, Place, accepted, all, apply, commit, key, moved, recovered, seal_key, with_suffix,
};

const TODAY: Day = Day::of(UnixMs(NOW_MS));
const BEFORE: Day = Day(TODAY.0 - 2);

/// The payment `at` of `day`, in `state`.
fn payment(day: Day, merchant: u32, at: u32, state: State) -> Vec<Record> {
    let accepted = Record {
        accepted_at: UnixMs(day.start().0 + i64::from(at)),
        ..accepted(merchant, &format!("day{}-{at:04}", day.0))
    };
    if state == State::Accepted { vec![accepted] } else { vec![accepted.clone(), moved(&accepted, state)] }
}

/// A store with payments of two days; of the first, one is open and one is held.
fn filled(place: &Place) -> (SqliteStore, Vec<Record>) {
    let mut store = place.open();
    let mut records = Vec::new();
    for day in [BEFORE, TODAY] {
        for at in 0..40 {
            let state = [State::Paid, State::Failed][usize::from(at % 5 == 0)];
            records.extend(payment(day, 1 + at % 3, at, state));
        }
    }
    records.extend(payment(BEFORE, 1, 98, State::Accepted));
    let mut held = payment(BEFORE, 2, 99, State::Failed);
    held[1].held = Some(Held::Differs);
    records.extend(held);
    // Each version in a commit behind the one before.
    for version in [1, 2] {
        let some: Vec<Record> = records.iter().filter(|record| record.version == version).cloned().collect();
        apply(&mut store, &some);
    }
    store.fold().expect("a sound disk");
    (store, records)
}

/// Everything that can be asked of a store.
fn everything(store: &mut dyn Store) -> (Vec<Record>, Vec<Events>, Vec<Record>) {
    let mut pages = Vec::new();
    let mut filter = Filter { limit: 7, newest_first: true, ..Filter::default() };
    loop {
        let listing = store.list(&filter).expect("readable");
        pages.extend(listing.records);
        filter.after = listing.next;
        if filter.after.is_none() {
            break;
        }
    }
    let mut events = Vec::new();
    for merchant in 1..4 {
        for after in [0, 3, 11] {
            let query = EventQuery { merchant: MerchantId(merchant), number: None, after, limit: 9 };
            events.push(store.events(&query).expect("readable"));
        }
    }
    let found = pages.iter().map(|record| store.find(&record.key).expect("readable").expect("it is there"));
    let found = found.collect();
    (all(store), events, found)
}

fn archive(store: &SqliteStore) -> Vec<Archived> {
    let mut archivist = store.archivist().expect("a sound disk");
    let mut days = Vec::new();
    while let Progress::Day(day) = archivist.archive(TODAY, &mut || true).expect("a sound disk") {
        days.push(day);
    }
    days
}

fn file(place: &Place) -> std::path::PathBuf {
    with_suffix(&place.path(), "-day-20261121")
}

fn rows(place: &Place) -> i64 {
    place.sql().query_row("SELECT count(*) FROM payments", [], |row| row.get(0)).expect("readable")
}

#[test]
fn a_day_that_is_over_moves_and_everything_is_still_answered() {
    let _covers = covers::covers(&["INV-29"]);
    let place = Place::new();
    let (mut store, _) = filled(&place);
    assert_eq!(BEFORE.to_string(), "2026-11-21");
    let before = everything(&mut store);
    assert_eq!(rows(&place), 82);
    let moved = archive(&store);
    // Forty were closed; today's payments come last for every merchant, so all of them could go.
    assert_eq!(moved, [Archived { day: BEFORE, payments: 40, away: 40 }]);
    assert_eq!(rows(&place), 42);
    assert!(file(&place).exists());
    assert_eq!(archive(&store), [], "once");
    assert_eq!(everything(&mut store), before);
    let mut beside = store.reader().expect("a reader");
    let mut outside = SqliteReader::open(&place.path(), &seal_key()).expect("a reader");
    for reader in [&mut beside, &mut outside] {
        for record in &before.0 {
            assert_eq!(reader.find(&record.key).expect("readable").as_ref(), Some(record));
        }
        assert_eq!(reader.list(&Filter::day_utc8(BEFORE.start())).expect("readable").records.len(), 42);
        assert_eq!(reader.verify(&mut |damaged| panic!("{damaged}")), Ok(82));
    }
    // A number of that day is still taken.
    let (again, version_2) = (accepted(1, "day20778-0003"), &before.0);
    assert!(version_2.iter().any(|record| record.key.number == again.key.number), "{version_2:?}");
    let again = Record { key: key(1, "day20778-0003"), ..again };
    let Outcome::Conflict(there) = &commit(&mut store, &[again])[0] else { panic!("taken") };
    assert_eq!(there.state, State::Paid);
    drop((store, beside, outside));
    let mut store = place.open();
    assert_eq!(everything(&mut store), before);
    assert_eq!(recovered(&mut store).0.len(), 1, "what is open is where it was");
}

#[test]
fn what_changes_later_comes_back_and_goes_on() {
    let place = Place::new();
    let (mut store, records) = filled(&place);
    archive(&store);
    let paid = records.iter().find(|record| record.state == State::Paid).expect("one");
    let reversing = moved(paid, State::Reversing);
    assert!(!matches!(commit(&mut store, &[reversing])[0], Outcome::Applied), "paid stays paid");
    let later = Record { version: 3, refunded_fen: 5, changed_at: UnixMs(NOW_MS), ..paid.clone() };
    for step in 0..4 {
        match step {
            0 => apply(&mut store, std::slice::from_ref(&later)),
            1 => store.fold().expect("a sound disk"),
            2 => assert_eq!(archive(&store), []),
            _ => {
                drop(store);
                store = place.open();
            }
        }
        assert_eq!(store.find(&paid.key), Ok(Some(later.clone())), "step {step}");
        let id = later.paid.as_ref().expect("paid").transaction_id;
        assert!(store.find_by_transaction(paid.key.merchant, &id).expect("readable").is_some());
        let listed =
            store.list(&Filter { merchant: Some(paid.key.merchant), ..Filter::default() }).expect("readable");
        let same: Vec<_> = listed.records.iter().filter(|record| record.key == paid.key).collect();
        assert_eq!(same, [&later], "step {step}");
        let query =
            EventQuery { merchant: paid.key.merchant, number: Some(paid.key.number), after: 0, limit: 0 };
        let told = store.events(&query).expect("readable").events;
        assert_eq!(told.len(), 2, "{told:?}");
        let mut reader = store.reader().expect("a reader");
        assert_eq!(reader.verify(&mut |damaged| panic!("{damaged}")), Ok(82), "step {step}");
    }
    let fourth = Record { version: 4, refunded_fen: 6, ..later };
    apply(&mut store, std::slice::from_ref(&fourth));
    assert_eq!(store.find(&paid.key), Ok(Some(fourth)));
}

#[test]
fn what_was_recent_when_it_was_archived_comes_back_for_good() {
    let place = Place::new();
    let (mut store, records) = filled(&place);
    // Nothing was committed since: what was folded last is in memory still.
    archive(&store);
    let paid = records.iter().find(|record| record.state == State::Paid && record.version == 2).expect("one");
    let mut latest = paid.clone();
    for round in 0..3 {
        latest = Record { version: latest.version + 1, refunded_fen: latest.refunded_fen + 1, ..latest };
        apply(&mut store, std::slice::from_ref(&latest));
        store.fold().expect("a sound disk");
        // From now on only the database has it.
        apply(&mut store, &payment(TODAY, 3, 1_000 + round, State::Accepted));
        store.fold().expect("a sound disk");
    }
    assert_eq!(store.find(&paid.key), Ok(Some(latest)));
}

#[test]
fn an_archive_that_was_begun_is_gone_on_with() {
    let place = Place::new();
    let (mut store, _) = filled(&place);
    let before = everything(&mut store);
    let mut archivist = store.archivist().expect("a sound disk");
    // While it copies; and once it is named.
    for asks in [0, 1] {
        let mut left = asks;
        let stopped = archivist.archive(TODAY, &mut || std::mem::replace(&mut left, 0) > 0);
        assert_eq!(stopped, Ok(Progress::Stopped), "{asks}");
        assert_eq!(everything(&mut store), before, "{asks}");
    }
    drop((archivist, store));
    let mut store = place.open();
    assert_eq!(everything(&mut store), before);
    assert_eq!(archive(&store).len(), 1);
    assert_eq!((rows(&place), everything(&mut store)), (42, before));
}

#[test]
fn an_archive_is_given_up_by_deleting_its_file() {
    let place = Place::new();
    let (mut store, records) = filled(&place);
    archive(&store);
    let mut archivist = store.archivist().expect("a sound disk");
    assert_eq!(archivist.give_up(BEFORE), Ok(vec![]), "that day is kept");
    assert_eq!(archivist.give_up(Day(BEFORE.0 + 1)), Ok(vec![BEFORE]));
    assert_eq!(archivist.give_up(Day(BEFORE.0 + 1)), Ok(vec![]), "once");
    assert!(!file(&place).exists());
    assert_eq!(all(&mut store).len(), 42);
    assert_eq!(store.reader().expect("a reader").verify(&mut |damaged| panic!("{damaged}")), Ok(42));
    drop((archivist, store));
    let mut store = place.open();
    assert_eq!(all(&mut store).len(), 42);
    assert_eq!(store.find(&records[0].key), Ok(None));
    // Other days go on.
    let more = payment(Day(BEFORE.0 + 1), 1, 7, State::Failed);
    more.iter().for_each(|record| apply(&mut store, std::slice::from_ref(record)));
    assert_eq!(all(&mut store).len(), 43);
}

#[test]
fn a_missing_or_foreign_archive_is_refused_before_anything_is_served() {
    let _covers = covers::covers(&["DB-17"]);
    let place = Place::new();
    let (store, _) = filled(&place);
    archive(&store);
    drop(store);
    let whole = std::fs::read(file(&place)).expect("an archive");
    let other = Place::new();
    let (store, _) = filled(&other);
    archive(&store);
    drop(store);
    let foreign = std::fs::read(file(&other)).expect("an archive");
    for bytes in [None, Some(&foreign), Some(&whole[..whole.len() / 2].to_vec()), Some(&Vec::new())] {
        std::fs::remove_file(file(&place)).expect("it was there");
        if let Some(bytes) = bytes {
            std::fs::write(file(&place), bytes).expect("written");
        }
        let error = SqliteStore::open(&place.path(), &seal_key(), Options::default()).expect_err("refused");
        assert!(matches!(&error, OpenError::Archive { day, .. } if *day == BEFORE), "{error}");
        assert!(error.to_string().contains("2026-11-21"), "{error}");
        if bytes.is_none() {
            std::fs::write(file(&place), b"").expect("written");
        }
    }
    std::fs::write(file(&place), &whole).expect("put back");
    assert_eq!(all(&mut place.open()).len(), 82);
}

#[test]
fn a_damaged_row_in_an_archive_is_set_aside_and_found() {
    let _covers = covers::covers(&["PR-13", "DB-11"]);
    let place = Place::new();
    let (store, records) = filled(&place);
    archive(&store);
    drop(store);
    let conn = Connection::open(file(&place)).expect("an archive");
    let number = records[3].key.number.to_string();
    let changed = conn.execute("UPDATE payments SET amount_fen = 1 WHERE out_trade_no = ?1", [&number]);
    assert_eq!(changed, Ok(1));
    drop(conn);
    let mut store = place.open();
    assert!(matches!(store.find(&records[3].key), Err(StoreError::Damaged(_))));
    assert!(store.find(&records[4].key).expect("readable").is_some());
    let again = Record { key: records[3].key, ..accepted(1, "unused") };
    let Outcome::Conflict(shown) = &commit(&mut store, &[again])[0] else { panic!("taken") };
    assert_eq!(shown.held, Some(Held::NumberTaken));
    let mut wrong = Vec::new();
    assert_eq!(
        store.reader().expect("a reader").verify(&mut |damaged| wrong.push(damaged.to_string())),
        Ok(81)
    );
    assert!(wrong.iter().any(|wrong| wrong.contains(&number)), "{wrong:?}");
}

#[test]
fn only_what_an_archive_has_can_be_deleted() {
    let place = Place::new();
    let (store, _) = filled(&place);
    drop(store);
    for table in ["payments", "events"] {
        let refused = place.sql().execute(&format!("DELETE FROM {table}"), []).expect_err("refused");
        assert!(refused.to_string().contains("is never deleted"), "{refused}");
    }
    archive(&place.open());
    // Of that day only what is open or held is left.
    let refused = place.sql().execute("DELETE FROM payments WHERE out_trade_no LIKE 'day20778%'", []);
    assert!(refused.expect_err("refused").to_string().contains("is never deleted"));
}

#[test]
fn a_file_that_has_more_than_the_database_is_never_made_anew() {
    let place = Place::new();
    let (store, _) = filled(&place);
    archive(&store);
    drop(store);
    // Beside another database, of which nobody has archived this day: an old copy, say.
    let other = Place::new();
    let mut store = other.open();
    for record in payment(BEFORE, 1, 7, State::Failed) {
        apply(&mut store, &[record]);
    }
    apply(&mut store, &payment(TODAY, 1, 7, State::Accepted));
    store.fold().expect("a sound disk");
    std::fs::copy(file(&place), file(&other)).expect("a copy");
    let mut archivist = store.archivist().expect("a sound disk");
    let error = archivist.archive(TODAY, &mut || true).expect_err("refused");
    assert!(matches!(&error, CommitError::Busy(why) if why.contains("-day-20261121")), "{error}");
    assert_eq!(
        std::fs::read(file(&other)).expect("it is there"),
        std::fs::read(file(&place)).expect("it is there")
    );
    std::fs::remove_file(file(&other)).expect("moved away");
    assert!(matches!(archivist.archive(TODAY, &mut || true), Ok(Progress::Day(_))));
}

#[test]
fn an_entry_that_was_changed_ends_archiving_before_it_touches_a_file() {
    let _covers = covers::covers(&["DB-17"]);
    let place = Place::new();
    let (store, records) = filled(&place);
    archive(&store);
    let whole = std::fs::read(file(&place)).expect("an archive");
    assert_eq!(place.sql().execute("UPDATE archives SET away = away + 1", []), Ok(1));
    let mut archivist = store.archivist().expect("a sound disk");
    assert!(archivist.archive(TODAY, &mut || true).is_err());
    assert!(archivist.give_up(TODAY).is_err());
    assert_eq!(std::fs::read(file(&place)).expect("it is there"), whole);
    let mut outside = SqliteReader::open(&place.path(), &seal_key()).expect("a reader");
    assert!(outside.find(&records[3].key).is_err(), "what is not found is not called absent");
    drop((archivist, store));
    let error = SqliteStore::open(&place.path(), &seal_key(), Options::default()).expect_err("refused");
    assert!(matches!(error, OpenError::Contradicts { .. }), "{error}");
}

#[test]
fn many_archives_are_read_with_few_descriptors() {
    let _covers = covers::covers(&["INV-24"]);
    let place = Place::new();
    let mut store = place.open();
    let days: Vec<Day> = (3..20).map(|ago| Day(TODAY.0 - ago)).collect();
    let mut records = Vec::new();
    for day in days.iter().rev() {
        for record in payment(*day, 1, 1, State::Failed) {
            apply(&mut store, std::slice::from_ref(&record));
            records.push(record);
        }
    }
    apply(&mut store, &payment(TODAY, 1, 1, State::Accepted));
    apply(&mut store, &payment(TODAY, 1, 2, State::Accepted));
    store.fold().expect("a sound disk");
    assert_eq!(archive(&store).len(), days.len());
    let mut reader = store.reader().expect("a reader");
    for _ in 0..2 {
        for record in records.iter().filter(|record| record.version == 2) {
            assert_eq!(reader.find(&record.key), Ok(Some(record.clone())));
        }
        assert_eq!(reader.list(&Filter::default()).expect("readable").records.len(), days.len() + 2);
    }
    let folder = place.dir.path().canonicalize().expect("a folder");
    let open = std::fs::read_dir("/proc/self/fd").expect("Linux").flatten();
    let open = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    let archives = open.filter(|path| path.starts_with(&folder) && path.to_string_lossy().contains("-day-"));
    assert_eq!(archives.count(), 12);
}
