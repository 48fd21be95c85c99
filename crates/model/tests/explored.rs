//! Small bounds explored to completion: every rule holds in every state.

use model::profile::{self, Configuration};
use model::{Bounds, Outcome, explore};

fn holds(bounds: &Bounds) -> Outcome {
    let outcome = explore(bounds);
    if let Some(path) = &outcome.counterexample {
        panic!("{:?} in\n{}", path.rules, path.steps.join("\n"));
    }
    assert!(outcome.complete);
    outcome
}

#[test]
fn the_quick_profile_holds() {
    for Configuration { name, bounds } in profile::QUICK {
        let outcome = holds(bounds);
        assert!(outcome.states > 1_000, "{name}: {}", outcome.states);
    }
}

/// Found by this model: a query that was answered before the payment came counted as one of the two that end a
/// payment whose number is taken. It takes two faults.
#[test]
fn not_found_before_the_payment_came_is_not_failure() {
    let _covers = covers::covers(&["UB-09", "UB-11", "INV-11"]);
    holds(&Bounds { faults: 2, ..Bounds::CALM });
}

/// Two runs of one machine count the same: nothing of a state hangs on where it lies in memory.
#[test]
fn a_count_is_a_count() {
    let bounds = Bounds { crashes: 1, reversals: 1, ..Bounds::CALM };
    let (first, second) = (holds(&bounds), holds(&bounds));
    assert_eq!((first.states, first.generated), (second.states, second.generated));
}
