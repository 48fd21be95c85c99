use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::super::guard::{Link, Useless};
use super::{CANDIDATES, Door};

/// A connection that came `age_ms` before `NOW_MS`.
fn link(age_ms: u64, neighbour: bool) -> Arc<Link> {
    let epoch =
        Instant::now().checked_sub(Duration::from_millis(NOW_MS - age_ms)).expect("up for long enough");
    Arc::new(Link::new(epoch, neighbour))
}

/// A till's, idle for so long.
fn till(idle_ms: u64) -> Arc<Link> {
    let link = link(idle_ms, true);
    link.opened();
    link.prove();
    link
}

const NOW_MS: u64 = 20_000;

/// Who goes, one after another.
fn order(door: &mut Door, all: &[Arc<Link>]) -> Vec<(Useless, usize)> {
    std::iter::from_fn(|| {
        let (why, chosen) = door.choose(NOW_MS, || all.iter().cloned())?;
        chosen.leave(why);
        Some((why, all.iter().position(|link| Arc::ptr_eq(link, &chosen)).expect("one of all")))
    })
    .collect()
}

#[test]
fn strangers_go_first_and_then_tills_that_do_nothing() {
    let _covers = covers::covers(&["NM-05", "NM-07"]);
    let slow_till = link(5_000, true);
    slow_till.prove();
    let answered = till(9_000);
    answered.begun();
    let all = [
        till(4_000),
        till(15_000),
        link(9_000, true),
        link(3_000, false),
        link(8_000, false),
        link(500, false),
        slow_till,
        answered,
    ];
    let mut door = Door::new(4_000, 500);
    assert_eq!(
        order(&mut door, &all),
        [
            (Useless::Stranger, 4),
            (Useless::Stranger, 3),
            (Useless::Neighbour, 2),
            (Useless::Slow, 6),
            (Useless::Idle, 1),
            (Useless::Idle, 0),
        ],
        "who has just come, and who is being answered, stays"
    );
}

#[test]
fn whoever_has_changed_since_it_was_looked_at_is_left_alone() {
    let mut door = Door::new(4_000, 500);
    let mut all = vec![link(9_000, false), link(8_000, false), link(7_000, false), link(6_000, false)];
    assert!(door.choose(NOW_MS, || all.iter().cloned()).is_some_and(|(_, link)| Arc::ptr_eq(&link, &all[0])));
    all[1].prove();
    all.remove(2);
    assert!(door.choose(NOW_MS, || all.iter().cloned()).is_some_and(|(_, link)| Arc::ptr_eq(&link, &all[2])));
}

#[test]
fn many_are_looked_at_once_for_many_newcomers() {
    let all: Vec<_> = (0..1_000).map(|n| link(2_000 + n, false)).collect();
    let mut door = Door::new(4_000, 500);
    let mut looks = 0;
    for _ in 0..2 * CANDIDATES {
        let chosen = door.choose(NOW_MS, || {
            looks += 1;
            all.iter().cloned()
        });
        let (why, link) = chosen.expect("all may go");
        link.leave(why);
    }
    assert_eq!(looks, 2);
}

#[test]
fn strangers_and_neighbours_of_tills_have_a_rate_each() {
    let _covers = covers::covers(&["INV-24"]);
    for (places, configured, at_once, a_second) in
        [(4_000, 500, 25, 500), (100, 500, 2, 25), (1, 500, 1, 1), (4_000, 8, 1, 8)]
    {
        let door = Door::new(places, configured);
        let admitted = |neighbour, now_us| (0..1_000).filter(|_| door.admits(neighbour, now_us)).count();
        assert_eq!(admitted(false, 10_000_000), at_once, "{places} {configured}");
        assert_eq!(admitted(true, 10_000_000), at_once, "{places} {configured}");
        let all: usize = (1..=1_000).map(|ms| admitted(false, 10_000_000 + ms * 1_000)).sum();
        assert_eq!(all, a_second, "{places} {configured}: in the second after that");
    }
}

#[test]
fn that_newcomers_are_turned_away_is_said_once_a_second() {
    let mut door = Door::new(4_000, 500);
    assert_eq!(door.turned_away(1_000), Some(1));
    for at in 1_001..2_000 {
        assert_eq!(door.turned_away(at), None);
    }
    assert_eq!(door.turned_away(2_000), Some(1_000));
}

#[test]
fn a_siege_is_over_a_second_after_the_last_was_turned_away() {
    let mut door = Door::new(4_000, 500);
    assert!(!door.is_besieged(0));
    door.turned_away(5_000);
    door.turned_away(6_000);
    assert!(door.is_besieged(6_999) && !door.is_besieged(7_000));
}
