//! Worlds that are broken on purpose: a judge that cannot fail is worth nothing.

use super::super::{Broken, Kind, Setup, run};

/// The rules that must be seen broken in a few seeds.
fn caught(broken: Broken, rules: &[&str]) {
    let mut seen = Vec::new();
    for seed in 0..4 {
        let setup = Setup { broken: Some(broken), ..Setup::new(seed, 300) };
        let report = run(&setup);
        assert!(!report.violations.is_empty(), "{broken:?}: seed {seed} is green");
        seen.extend(report.violations.iter().map(|violation| violation.rule));
    }
    for rule in rules {
        assert!(seen.contains(rule), "{broken:?} does not break {rule}, only {seen:?}");
    }
}

#[test]
fn a_store_that_acknowledges_before_it_is_durable() {
    caught(Broken::AcknowledgesEarly, &["INV-14"]);
}

#[test]
fn a_network_that_tells_lost_answers_as_unsent() {
    caught(Broken::LostAsUnsent, &["INV-06"]);
}

#[test]
fn a_driver_that_pays_twice() {
    caught(Broken::PaysTwice, &["INV-02"]);
}

#[test]
fn a_driver_that_swallows_reversals() {
    caught(Broken::SwallowsReversals, &["INV-06"]);
}

#[test]
fn a_driver_that_reverses_by_itself() {
    caught(Broken::ReversesEarly, &["INV-07", "INV-08"]);
}

#[test]
fn a_switch_that_tells_success_too_soon() {
    caught(Broken::TellsPaid, &["INV-04", "INV-16"]);
}

#[test]
fn a_driver_that_forgets_replies() {
    caught(Broken::ForgetsReplies, &["INV-12"]);
}

#[test]
fn every_broken_world_is_sound_when_it_is_not_broken() {
    for seed in 0..4 {
        assert_eq!(run(&Setup::new(seed, 300)).violations, []);
        let only = Setup { only: Some(Kind::CrashAtStep), ..Setup::new(seed, 300) };
        assert_eq!(run(&only).violations, []);
    }
}
