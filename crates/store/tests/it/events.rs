//! What merchants may be told: exact, in order, over reopenings, and never something that is not so.

use state_machine::record::{State, TillReversal};
use state_machine::till::{JsonState, json};
use state_machine::{MerchantId, Record};
use store::{Event, EventQuery, Events, SqliteReader, Store};

use crate::support::{Place, accepted, apply, key, moved, on_both, seal_key};

fn query(merchant: u32, after: u64) -> EventQuery {
    EventQuery { merchant: MerchantId(merchant), number: None, after, limit: 0 }
}

fn events(store: &mut dyn Store, query: EventQuery) -> Events {
    store.events(&query).expect("the store can be read")
}

/// `number:out_trade_no:state`, or why not.
fn words(events: &[Event]) -> Vec<String> {
    let words = |event: &Event| match &event.payment {
        Ok(record) => format!("{} {} {}", event.number, record.key.number, json(record).0.as_str()),
        Err(damaged) => format!("{} {}", event.number, damaged.why),
    };
    events.iter().map(words).collect()
}

/// Two orders of one merchant and one of another: what their merchants see changes seven times.
fn history(store: &mut dyn Store) {
    let (one, two, other) = (accepted(1, "order-1"), accepted(1, "order-2"), accepted(2, "order-1"));
    apply(store, &[one.clone(), other]);
    apply(store, std::slice::from_ref(&two));
    let asked = moved(&one, State::Pending);
    apply(store, std::slice::from_ref(&asked));
    // More detail that nobody sees.
    let detail = Record { refunded_fen: 3, ..moved(&asked, State::Pending) };
    apply(store, std::slice::from_ref(&detail));
    let paid = moved(&detail, State::Paid);
    apply(store, &[moved(&two, State::Failed), paid.clone()]);
    let undone = Record { till_reversal: TillReversal::Asked, ..moved(&paid, State::Paid) };
    apply(store, &[undone]);
}

const SEEN: [&str; 6] = [
    "1 order-1 processing",
    "2 order-2 processing",
    "3 order-1 awaiting_password",
    "4 order-2 failed",
    "5 order-1 paid",
    "6 order-1 reversing",
];

#[test]
fn a_merchant_is_told_each_state_once_in_the_order_of_the_commits() {
    on_both(|store| {
        history(store);
        let all = events(store, query(1, 0));
        assert_eq!((words(&all.events), all.last), (SEEN.map(str::to_owned).to_vec(), 6));
        for after in 0..8 {
            let place = usize::try_from(after).expect("small").min(6);
            assert_eq!(words(&events(store, query(1, after)).events), SEEN[place..], "after {after}");
            let few = events(store, EventQuery { limit: 2, ..query(1, after) });
            assert_eq!(words(&few.events), SEEN[place..(place + 2).min(6)]);
        }
        let only =
            |number: &str, after| EventQuery { number: Some(key(1, number).number), ..query(1, after) };
        assert_eq!(words(&events(store, only("order-2", 0)).events), [SEEN[1], SEEN[3]]);
        assert_eq!(words(&events(store, only("order-1", 3)).events), [SEEN[4], SEEN[5]]);
        assert_eq!(events(store, only("order-3", 0)), Events { events: vec![], last: 6 });
        let other = events(store, query(2, 0));
        assert_eq!((words(&other.events), other.last), (vec!["1 order-1 processing".to_owned()], 1));
        assert_eq!(events(store, query(3, 0)), Events::default());
    });
}

#[test]
fn an_event_shows_the_payment_as_it_was() {
    on_both(|store| {
        history(store);
        for event in events(store, query(1, 0)).events {
            let record = event.payment.expect("sound");
            let (state, failure) = json(&record);
            let undecided = matches!(state, JsonState::Processing | JsonState::AwaitingPassword);
            assert_eq!(record.decided_at.is_none(), undecided, "{record:?}");
            assert_eq!(record.paid.is_some(), matches!(state, JsonState::Paid | JsonState::Reversing));
            assert_eq!(failure.is_some(), state == JsonState::Failed);
        }
    });
}

#[test]
fn events_are_numbered_on_after_a_reopening() {
    let _covers = covers::covers(&["INV-13"]);
    let place = Place::new();
    history(&mut place.open());
    let mut store = place.open();
    apply(&mut store, &[accepted(1, "order-3")]);
    assert_eq!(
        words(&events(&mut store, query(1, 5)).events),
        ["6 order-1 reversing", "7 order-3 processing"]
    );
    // A reader beside the writer sees the same.
    let mut reader = SqliteReader::open(&place.path(), &seal_key()).expect("it opens");
    assert_eq!(reader.events(&query(1, 0)), Ok(events(&mut store, query(1, 0))));
    assert_eq!(reader.verify(&mut |damaged| panic!("{damaged}")), Ok(4));
}

#[test]
fn a_changed_or_missing_event_is_said_and_tells_no_state() {
    let _covers = covers::covers(&["DB-11"]);
    let mark = "its checksum does not match";
    let cases = [
        ("UPDATE events SET state = 3 WHERE merchant = 1 AND number = 4", 3, format!("4 event 4: {mark}")),
        ("UPDATE events SET at = at + 1 WHERE merchant = 1 AND number = 4", 3, format!("4 event 4: {mark}")),
        // The other payment of the merchant.
        ("UPDATE events SET payment = 1 WHERE merchant = 1 AND number = 4", 3, format!("4 event 4: {mark}")),
        ("UPDATE events SET checksum = x'00' WHERE number = 4", 3, format!("4 event 4: {mark}")),
        (
            "UPDATE events SET number = 40 WHERE merchant = 1 AND number = 6",
            5,
            "39 events 6 to 39 are missing".to_owned(),
        ),
        ("UPDATE payments SET state = 3 WHERE out_trade_no = 'order-2'", 1, format!("2 {mark}")),
        ("DELETE FROM events WHERE number = 4", 3, "4 events 4 to 4 are missing".to_owned()),
        // Nobody who reads on can see this; the full check does.
        ("DELETE FROM events WHERE merchant = 1 AND number = 6", 5, String::new()),
    ];
    for (sql, after, says) in cases {
        let place = Place::new();
        history(&mut place.open());
        place.sql().execute_batch("DROP TRIGGER events_stay").expect("by hand");
        place.sql().execute(sql, []).expect("by hand");
        let mut reader = SqliteReader::open(&place.path(), &seal_key()).expect("it opens");
        let found = words(&reader.events(&query(1, after)).expect("readable").events);
        assert_eq!(found.first().cloned().unwrap_or_default(), says, "{sql}");
        let mut told = 0;
        let sound = reader.verify(&mut |_| told += 1);
        assert!(sound.is_err() || told > 0, "{sql}: the full check is content");
    }
}
