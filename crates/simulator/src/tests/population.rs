//! Customer 99.

use crate::{Behaviour, Code, Dialog, DialogEnd, Purse, behaviour, draw, population_table};

const SAMPLE: u64 = 40_000;

fn drawn() -> impl Iterator<Item = Behaviour> {
    (0..SAMPLE).map(|n| draw(42, &Code::for_customer(9900, n)))
}

/// Checks that `part` of the population is `percent`, give or take 0.6.
fn check(percent: u64, part: impl Fn(&Behaviour) -> bool) {
    let count = drawn().filter(part).count();
    let per_mille_10 = u64::try_from(count).expect("small") * 10_000 / SAMPLE;
    assert!(
        per_mille_10.abs_diff(percent * 100) <= 60,
        "{percent} % expected, {per_mille_10} / 10,000 drawn"
    );
}

#[test]
fn the_shares_are_those_of_the_table() {
    check(40, |b| b.bb == 0);
    check(40, |b| b.bb == 1);
    check(8, |b| b.bb == 2);
    check(4, |b| b.bb == 3);
    // 21 and 22 are refusals, and among the odd ones as well: 2 of 31, 0.3 %.
    check(3, |b| [5, 6, 7, 21, 22].contains(&b.bb));
    check(5, |b| (8..=39).contains(&b.bb) && ![21, 22].contains(&b.bb));
    assert!(population_table().contains("40 %  pays at once"));
}

#[test]
fn the_odd_ones_are_all_there_but_the_held_one() {
    for bb in 8..=39 {
        assert_eq!(drawn().any(|b| b.bb == bb), bb != 30, "{bb}");
    }
    assert!(drawn().filter(|b| (8..=39).contains(&b.bb)).all(|b| b.ss <= 5));
}

#[test]
fn passwords_take_a_log_normal_time() {
    let mut times: Vec<i64> = drawn()
        .filter(|b| b.bb == 1)
        .map(|b| {
            let Purse::Dialog(Dialog { end, after_ms }) = b.purse else { panic!("no dialog: {b:?}") };
            assert_eq!(end == DialogEnd::TimesOut, after_ms > 30_000, "{after_ms}");
            after_ms
        })
        .collect();
    times.sort_unstable();
    let quantile = |percent: usize| times[times.len() * percent / 100];
    assert!((7_800..8_200).contains(&quantile(50)), "{}", quantile(50));
    assert!((24_000..26_500).contains(&quantile(95)), "{}", quantile(95));
    assert!((1_000..3_500).contains(&quantile(5)), "{}", quantile(5));
}

#[test]
fn a_customer_is_the_same_whenever_drawn_and_another_under_another_seed() {
    let code = Code::for_customer(9900, 77);
    assert_eq!(draw(42, &code), draw(42, &code));
    let differs = (0..100).any(|n| {
        let code = Code::for_customer(9900, n);
        draw(42, &code) != draw(43, &code)
    });
    assert!(differs);
    assert_eq!(behaviour(99, 0).purse, Purse::AtOnce);
}
