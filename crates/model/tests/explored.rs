//! Small bounds explored to completion: every rule holds in every state.

use model::check::{Walk, explore_with};
use model::profile::{self, Configuration};
use model::{Bounds, Outcome, Spoil, explore};

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

/// Whichever of the paths to a state comes first, what follows is the same: so nothing that a state forgets makes a
/// difference, and nothing hangs on where it lies in memory.
#[test]
fn every_walk_counts_the_same() {
    let one = Bounds::CALM;
    for bounds in [
        Bounds { crashes: 1, reversals: 1, ..one },
        Bounds { losses: 1, late: 1, reversals: 1, ..one },
        Bounds { faults: 2, reversals: 1, ..one },
        Bounds { duplicates: 1, repeats: 1, reversals: 1, ..one },
        Bounds { reboots: 1, stalls: 1, reversals: 1, ..one },
        Bounds { takeovers: 1, ..one },
        Bounds { orders: 2, ..one },
        Bounds { absences: 1, repeats: 1, crashes: 1, ..one },
    ] {
        let count = |walk, threads| {
            let outcome = explore_with(&bounds, model::bounds::policy(), Spoil::Nothing, walk, threads);
            (outcome.states, outcome.generated)
        };
        let first = count(Walk::Breadth, 1);
        assert_eq!(first, count(Walk::Depth, 1), "{bounds:?}");
        assert_eq!(first, count(Walk::Depth, 2), "{bounds:?}");
    }
}
