//! The life table, against populations that are known.

use super::{KEPT, Lesson, ONE, Shape, Table, WHOLE, first_guess};
use crate::planner::tests::Draw;

/// How far the table may be off, in percent of all customers.
const OFF_MAX: u64 = 5;

/// Learns `count` payments whose times are drawn by `time`: asked every `every` ms from 5 s on, and given up at what
/// `give_up` draws. One in `fade` is a second after the one before.
fn learned(
    count: u64,
    every: u64,
    mut time: impl FnMut(&mut Draw) -> u64,
    mut give_up: impl FnMut(&mut Draw) -> u64,
    table: &mut Table,
) -> Shape {
    let mut draw = Draw::new(7);
    let mut shape = Shape::of(&table.rates(&first_guess()));
    for number in 1..=count {
        let (ends, until) = (time(&mut draw), give_up(&mut draw));
        let asked = |age: u64| age >= 5_000 && (age - 5_000).is_multiple_of(every);
        let seen_at = (ends..until).find(|age| asked(*age));
        let open_at = |before: u64| (0..before).rev().find(|age| asked(*age)).unwrap_or(0);
        table.learn(
            match seen_at {
                Some(by_ms) => Lesson::Ended { after_ms: open_at(by_ms), by_ms },
                None => Lesson::Open { until_ms: open_at(until) },
            },
            &shape,
        );
        if number % 20 == 0 {
            table.fade(1_000);
            shape = Shape::of(&table.rates(&first_guess()));
        }
    }
    shape
}

/// Compares from 5 s on, at the moments at which it was asked: nobody can know what lies between.
fn check(shape: &Shape, every: usize, survives: impl Fn(u64) -> u64) {
    for age_ms in (5_000..=30_000).step_by(every) {
        let (percent, truth) = (shape.survival(age_ms) * 100 / WHOLE, survives(age_ms));
        assert!(
            percent.abs_diff(truth) <= OFF_MAX,
            "at {age_ms}: {percent} % are open, and {truth} % should be"
        );
    }
}

/// Evenly between 6 and 16 s.
fn even(draw: &mut Draw) -> u64 {
    6_000 + draw.below(10_000)
}

fn even_survives(age_ms: u64) -> u64 {
    16_000_u64.saturating_sub(age_ms.max(6_000)) / 100
}

#[test]
fn ends_that_lie_between_two_questions_are_found() {
    for every in [1_000_u16, 2_000, 3_000] {
        let shape = learned(4_000, every.into(), even, |_| 45_000, &mut Table::default());
        check(&shape, every.into(), even_survives);
    }
}

#[test]
fn payments_that_are_given_up_neither_shorten_nor_lengthen_it() {
    // Two in five are given up at any age: who leaves them out finds quick customers only.
    let give_up = |draw: &mut Draw| if draw.below(5) < 2 { 5_001 + draw.below(12_000) } else { 45_000 };
    let shape = learned(8_000, 1_000, even, give_up, &mut Table::default());
    check(&shape, 1_000, even_survives);
}

#[test]
fn two_humps_are_two() {
    let time = |draw: &mut Draw| if draw.below(2) == 0 { 6_000 } else { 20_000 } + draw.below(2_000);
    let shape = learned(4_000, 1_000, time, |_| 45_000, &mut Table::default());
    // A step around an edge of a hump has a part of it throughout.
    for (age_ms, survives) in
        [(3_000, 100), (5_000, 100), (9_000, 50), (12_000, 50), (16_000, 50), (25_000, 0), (28_000, 0)]
    {
        let percent = shape.survival(age_ms) * 100 / WHOLE;
        assert!(percent.abs_diff(survives) <= OFF_MAX, "at {age_ms}: {percent} %");
    }
}

#[test]
fn five_minutes_after_a_change_the_new_times_are_known() {
    let mut table = Table::default();
    learned(6_000, 1_000, |draw| 20_000 + draw.below(8_000), |_| 45_000, &mut table);
    // 20 a second for five minutes.
    let shape = learned(6_000, 1_000, even, |_| 45_000, &mut table);
    // A step beyond 16 s has a part of what ends before.
    for age_ms in (5_000..30_000).step_by(1_000).filter(|age| *age != 16_000) {
        let percent = shape.survival(age_ms) * 100 / WHOLE;
        assert!(percent.abs_diff(even_survives(age_ms)) <= OFF_MAX, "at {age_ms}: {percent} %");
    }
}

#[test]
fn quiet_hours_forget_nothing_and_busy_ones_do_not_pile_up() {
    let mut table = Table::default();
    let before = learned(6_000, 1_000, even, |_| 45_000, &mut table);
    assert!(table.seen < 2_000 * ONE, "twenty a second, at a half-life of a minute");
    table.fade(u64::MAX);
    assert!(KEPT.abs_diff(table.seen) < ONE, "{}", table.seen);
    let after = Shape::of(&table.rates(&first_guess()));
    let far = |age| before.survival(age).abs_diff(after.survival(age)) > WHOLE / 8;
    assert_eq!((0..45_000).step_by(500).filter(|age| far(*age)).count(), 0);
}

#[test]
fn nothing_overflows_whatever_is_learned() {
    let shape = Shape::of(&first_guess());
    let mut table = Table::default();
    let ages = [0, 1, 63, 64, 5_000, 45_000, 1 << 20, u64::MAX];
    for after_ms in ages {
        for by_ms in ages {
            table.learn(Lesson::Ended { after_ms, by_ms }, &shape);
            table.learn(Lesson::Open { until_ms: by_ms }, &shape);
        }
    }
    assert_eq!(table.seen, 128 * ONE);
    assert!(table.ended.iter().sum::<u64>() == 64 * ONE, "an end is an end, wherever it lay");
    let shape = Shape::of(&table.rates(&first_guess()));
    for asked in ages {
        for age in ages {
            assert!(shape.unseen(asked, age) <= 1 << 30);
        }
    }
}

#[test]
fn what_may_be_unseen_grows_with_the_time_and_with_the_hazard() {
    let shape = learned(4_000, 1_000, even, |_| 45_000, &mut Table::default());
    let ms = |asked, age| shape.unseen(asked, age) / 1_024;
    assert!(ms(0, 5_000) < 60, "nobody is done before 6 s");
    assert!(ms(8_000, 10_000) > ms(8_000, 9_000) * 3, "with the square of the time");
    assert!(ms(12_000, 14_000) > ms(6_000, 8_000) * 3 / 2, "the fewer are left, the likelier is an end");
    // Evenly over the 4 s that are left: half of 2 s, twice half.
    assert!(ms(12_000, 14_000).abs_diff(500) < 100, "{}", ms(12_000, 14_000));
}
