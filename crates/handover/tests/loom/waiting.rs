//! Threads that answer one till, send its request and give it up, all at once.

use std::sync::Arc;

use handover::waiting::Waiting;
use loom::thread;

use crate::explore;

#[test]
fn a_till_is_told_once_and_its_request_sent_once() {
    let _covers = covers::covers(&["INV-02"]);
    explore(|| {
        let waiting = Arc::new(Waiting::<u8, &str, &str>::new());
        let ticket = waiting.open(7, "till", Some("outgoing"));
        let threads = [(); 2].map(|()| {
            let waiting = Arc::clone(&waiting);
            thread::spawn(move || (waiting.take_till(ticket), waiting.take_outgoing(ticket)))
        });
        let mut all = vec![(waiting.take_till(ticket), waiting.take_outgoing(ticket))];
        all.extend(threads.into_iter().map(|thread| thread.join().unwrap()));
        assert_eq!(all.iter().filter(|(till, _)| till.is_some()).count(), 1);
        assert_eq!(all.iter().filter(|(_, outgoing)| outgoing.is_some()).count(), 1);
        assert!(waiting.is_empty());
    });
}

#[test]
fn nothing_stays_behind_when_each_half_is_taken_by_another_thread() {
    explore(|| {
        let waiting = Arc::new(Waiting::<u8, &str, &str>::new());
        let ticket = waiting.open(7, "till", Some("outgoing"));
        let other = {
            let waiting = Arc::clone(&waiting);
            thread::spawn(move || waiting.take_outgoing(ticket).is_some())
        };
        assert!(waiting.take_till(ticket).is_some());
        assert!(other.join().unwrap());
        assert!(waiting.is_empty());
        assert_eq!(waiting.key(ticket), None);
    });
}

#[test]
fn a_request_that_is_given_up_is_told_at_most_once() {
    explore(|| {
        let waiting = Arc::new(Waiting::<u8, &str, &str>::new());
        let ticket = waiting.open(7, "till", None);
        let next = waiting.open(8, "next", None);
        let other = {
            let waiting = Arc::clone(&waiting);
            thread::spawn(move || waiting.close(ticket))
        };
        let told = waiting.take_till(ticket).is_some();
        other.join().unwrap();
        assert!(waiting.take_till(ticket).is_none(), "told before: {told}");
        assert_eq!((waiting.len(), waiting.key(next)), (1, Some(8)), "another request is untouched");
    });
}
