//! Tills that hand requests in while the thread that decides takes them and ends.

use std::sync::Arc;

use handover::bound::Bound;
use handover::request::{Handed, Refuse, Refused, hand_in};
use loom::sync::Mutex;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use crate::channel::{Receiver, Sender, channel};
use crate::explore;

const TILLS: usize = 2;

/// What each till heard.
#[derive(Clone)]
struct Tills {
    heard: Arc<Mutex<[Vec<Option<Refused>>; TILLS]>>,
    waiting: Arc<AtomicUsize>,
}

impl Tills {
    fn new() -> Self {
        Self {
            heard: Arc::new(Mutex::new([const { Vec::new() }; TILLS])),
            waiting: Arc::new(AtomicUsize::new(0)),
        }
    }

    fn tell(&self, till: usize, word: Option<Refused>) {
        self.heard.lock().unwrap()[till].push(word);
    }
}

impl Refuse<usize> for Tills {
    fn refuse(&self, till: usize, why: Refused) {
        self.tell(till, Some(why));
    }
}

type Message = Handed<usize, Tills>;

/// Each till hands one request in; `decide` is the thread that takes them.
fn check(max: usize, decide: impl Fn(&Tills, Receiver<Message>) + Sync + Send + Copy + 'static) {
    explore(move || {
        let tills = Tills::new();
        let bound = Bound::new(max);
        let (sender, receiver) = channel::<Message>();
        let threads: Vec<_> = (0..TILLS)
            .map(|till| {
                let (tills, bound, sender) = (tills.clone(), bound.clone(), Sender::clone(&sender));
                thread::spawn(move || {
                    hand_in(&bound, till, &tills, |handed| {
                        let before = tills.waiting.fetch_add(1, Ordering::SeqCst);
                        assert!(before < max, "more wait than may");
                        drop(sender.send(handed));
                    });
                })
            })
            .collect();
        drop(sender);
        decide(&tills, receiver);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        for heard in tills.heard.lock().unwrap().iter() {
            assert_eq!(heard.len(), 1, "every till hears exactly one word: {heard:?}");
        }
        assert_eq!(bound.taken(), 0, "a place was lost");
    });
}

fn answer(tills: &Tills, handed: Message) {
    tills.waiting.fetch_sub(1, Ordering::SeqCst);
    let till = handed.take().unwrap();
    tills.tell(till, None);
}

#[test]
fn every_request_is_answered_or_refused_once() {
    let _covers = covers::covers(&["INV-24"]);
    check(1, |tills, receiver| {
        while let Some(handed) = receiver.receive() {
            answer(tills, handed);
        }
    });
}

#[test]
fn a_request_that_meets_the_end_is_refused() {
    check(TILLS, |tills, receiver| {
        if let Some(handed) = receiver.receive() {
            answer(tills, handed);
        }
    });
}

#[test]
fn requests_that_were_received_and_not_taken_are_refused() {
    check(TILLS, |_, receiver| {
        let received: Vec<_> = std::iter::from_fn(|| receiver.receive_now()).collect();
        drop(receiver);
        drop(received);
    });
}
