//! Stores of earlier schemas: what was in them stays as it was.

use state_machine::record::State;
use state_machine::{MerchantId, UnixMs};
use store::merchant::{Mode, Status};
use store::{Event, EventQuery, OpenError, Settings, SqliteReader, Store as _};

use crate::support::{NOW_MS, Place, accepted, all, apply, moved, recovered, seal_key};

/// Made by the last program of schema 2: five payments, and three merchants, of which the second is disabled and
/// the third damaged.
const SCHEMA_2: &[u8] = include_bytes!("vectors/schema-2.db");

#[test]
fn a_store_of_schema_2_keeps_every_payment_and_merchant() {
    let _covers = covers::covers(&["INV-29", "CF-09"]);
    let place = Place::new();
    std::fs::write(place.path(), SCHEMA_2).expect("a copy");
    let refused = SqliteReader::open(&place.path(), &seal_key()).expect_err("only the writer changes it");
    assert_eq!(refused, OpenError::OlderSchema { found: 2, known: 4 });

    let mut store = place.open();
    let states = [State::Accepted, State::Pending, State::Paid, State::Failed, State::Reversing];
    let expected: Vec<_> = (0..)
        .zip(states)
        .map(|(at, state)| {
            let record = accepted(1, &format!("SCHEMA2-{at}"));
            if state == State::Accepted { record } else { moved(&record, state) }
        })
        .collect();
    assert_eq!(all(&mut store), expected);
    let (open, damaged) = recovered(&mut store);
    assert_eq!((open.len(), damaged), (expected.iter().filter(|record| record.is_open()).count(), vec![]));
    apply(&mut store, &[moved(&expected[0], State::Paid)]);
    // What changes from now on is told.
    let query = EventQuery { merchant: MerchantId(1), number: None, after: 0, limit: 0 };
    let events = store.events(&query).expect("readable").events;
    assert_eq!(events, [Event { number: 1, payment: Ok(Box::new(moved(&expected[0], State::Paid))) }]);

    let mut book = store.merchant_book().expect("a book");
    let read = book.merchants().expect("readable");
    assert_eq!(
        read.damaged.iter().map(|one| one.id).collect::<Vec<_>>(),
        [3],
        "what was closed stays closed"
    );
    let [first, second] = &read.rows[..] else { panic!("{:?}", read.rows) };
    assert_eq!((first.status, second.status), (Status::Active, Status::Disabled));
    assert_eq!(
        (first.mode, first.settings, first.created_at),
        (Mode::Relay, Settings::default(), UnixMs(NOW_MS))
    );
    let settings = Settings { hold_ms: Some(20_000), long_poll_ms: Some(0), ..Settings::default() };
    book.set_answering(MerchantId(2), Mode::Hold, &settings).expect("changed");
    drop((book, store));

    // Once more: there is nothing left to bring up.
    let mut store = place.open();
    assert_eq!(store::Store::fence(&store).0, 3);
    assert_eq!(all(&mut store)[0].state, State::Paid);
    let read = store.merchant_book().expect("a book").merchants().expect("readable");
    assert_eq!((read.rows[1].mode, read.rows[1].settings), (Mode::Hold, settings));
    drop(store);
    SqliteReader::open(&place.path(), &seal_key()).expect("the present schema");
}

/// Made by the last program of schema 3: five payments with their events, and two merchants, of which the second is
/// disabled.
const SCHEMA_3: &[u8] = include_bytes!("vectors/schema-3.db");

#[test]
fn a_store_of_schema_3_keeps_every_payment_and_event() {
    let _covers = covers::covers(&["INV-29", "CF-09"]);
    let place = Place::new();
    std::fs::write(place.path(), SCHEMA_3).expect("a copy");
    let refused = SqliteReader::open(&place.path(), &seal_key()).expect_err("only the writer changes it");
    assert_eq!(refused, OpenError::OlderSchema { found: 3, known: 4 });

    let mut store = place.open();
    let states = [State::Accepted, State::Pending, State::Paid, State::Failed, State::Reversing];
    let expected: Vec<_> = (0..)
        .zip(states)
        .map(|(at, state)| {
            let record = accepted(1, &format!("SCHEMA3-{at}"));
            if state == State::Accepted { record } else { moved(&record, state) }
        })
        .collect();
    assert_eq!(all(&mut store), expected);
    let query = EventQuery { merchant: MerchantId(1), number: None, after: 0, limit: 0 };
    assert_eq!(store.events(&query).expect("readable").events.len(), 9);
    let (open, damaged) = recovered(&mut store);
    assert_eq!((open.len(), damaged), (expected.iter().filter(|record| record.is_open()).count(), vec![]));
    let paid = moved(&expected[0], State::Paid);
    apply(&mut store, std::slice::from_ref(&paid));
    let read = store.merchant_book().expect("a book").merchants().expect("readable");
    let [first, second] = &read.rows[..] else { panic!("{:?}", read.rows) };
    assert_eq!((first.status, second.status), (Status::Active, Status::Disabled));
    assert_eq!(first.settings, Settings { hold_ms: Some(20_000), ..Settings::default() });
    drop(store);

    let mut reader = SqliteReader::open(&place.path(), &seal_key()).expect("the present schema");
    assert_eq!(reader.verify(&mut |damaged| panic!("{damaged}")), Ok(5));
    assert_eq!(reader.find(&paid.key), Ok(Some(paid)));
    assert_eq!(reader.events(&query).expect("readable").last, 10);
}
