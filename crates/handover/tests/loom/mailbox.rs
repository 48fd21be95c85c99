//! A reader that sleeps while others put letters in: none is lost, and none leaves it asleep.

use std::time::Duration;

use handover::mailbox::mailbox;
use loom::thread;

use crate::explore;

#[test]
fn every_letter_is_read_and_the_last_sender_ends_it() {
    explore(|| {
        let (sender, reader) = mailbox();
        let senders = [1, 2].map(|letter| {
            let sender = sender.clone();
            thread::spawn(move || sender.send(letter).unwrap())
        });
        drop(sender);
        let mut read: Vec<i32> = std::iter::from_fn(|| reader.receive()).collect();
        read.sort_unstable();
        assert_eq!(read, [1, 2]);
        senders.into_iter().for_each(|sender| sender.join().unwrap());
    });
}

#[test]
fn who_waits_for_what_is_urgent_is_woken_by_it() {
    explore(|| {
        let (sender, reader) = mailbox();
        let other = {
            let sender = sender.clone();
            thread::spawn(move || sender.send(1).unwrap())
        };
        let urgent = thread::spawn(move || sender.send_urgent(2).unwrap());
        let mut read = Vec::new();
        // Time does not pass here: whoever is not woken sleeps for ever, and that is found.
        while !read.contains(&2) {
            reader.take(&mut read, 8, Duration::from_secs(1), true);
        }
        while read.len() < 2 {
            reader.take(&mut read, 8, Duration::from_secs(1), false);
        }
        assert!(read == [2, 1] || read == [1, 2], "{read:?}");
        other.join().unwrap();
        urgent.join().unwrap();
    });
}

#[test]
fn a_letter_is_read_or_comes_back_or_is_dropped_with_the_box() {
    explore(|| {
        let (sender, reader) = mailbox();
        let held = std::sync::Arc::new(());
        let sending = {
            let held = std::sync::Arc::clone(&held);
            thread::spawn(move || drop(sender.send(held)))
        };
        drop(reader);
        sending.join().unwrap();
        assert_eq!(std::sync::Arc::strong_count(&held), 1);
    });
}
