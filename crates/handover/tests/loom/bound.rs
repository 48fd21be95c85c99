//! A limit that is kept, and no more than kept.

use std::sync::Arc;

use handover::bound::Bound;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use crate::explore;

#[test]
fn a_limit_is_never_exceeded_and_every_place_comes_back() {
    let _covers = covers::covers(&["INV-24"]);
    explore(|| {
        let bound = Bound::new(1);
        let inside = Arc::new(AtomicUsize::new(0));
        let enter = |bound: Bound, inside: Arc<AtomicUsize>| {
            move || {
                if let Some(place) = bound.enter() {
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two in one place");
                    inside.fetch_sub(1, Ordering::SeqCst);
                    drop(place);
                }
            }
        };
        let others = [(); 2].map(|()| thread::spawn(enter(bound.clone(), Arc::clone(&inside))));
        enter(bound.clone(), inside)();
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(bound.taken(), 0);
        assert!(bound.enter().is_some());
    });
}

#[test]
fn nobody_is_refused_by_somebody_who_is_refused() {
    explore(|| {
        let bound = Bound::new(1);
        let other = {
            let bound = bound.clone();
            thread::spawn(move || bound.enter())
        };
        let first = bound.enter().is_some();
        let second = bound.enter();
        let theirs = other.join().unwrap();
        // The first place was given back before the second try: only the other can have taken it.
        assert!(
            second.is_some() || theirs.is_some(),
            "refused although a place was free, first try: {first}"
        );
    });
}
