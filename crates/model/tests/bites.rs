//! Each property bites: an automaton spoiled for it is found, within small bounds.

use model::{Bounds, Rule, Spoil, explore, explore_spoiled};

/// Bounds in which `spoil` shows.
fn check(spoil: Spoil, bounds: Bounds, rule: Rule) {
    let outcome = explore_spoiled(&bounds, spoil);
    let path =
        outcome.counterexample.unwrap_or_else(|| panic!("{spoil:?} is not found: {:?}", outcome.states));
    let broken = path.rules.iter().any(|(id, _)| id == rule.as_str());
    assert!(broken, "{spoil:?} breaks {:?}\n{}", path.rules, path.steps.join("\n"));
    let sound = explore(&bounds);
    assert!(sound.counterexample.is_none(), "not spoiled, and still: {:?}", sound.counterexample);
    assert!(sound.complete);
}

const CRASH: Bounds = Bounds { crashes: 1, ..Bounds::CALM };
const LOSS: Bounds = Bounds { losses: 1, ..Bounds::CALM };
const LATE: Bounds = Bounds { losses: 1, late: 1, ..Bounds::CALM };
const FAULT: Bounds = Bounds { faults: 1, ..Bounds::CALM };
const REVERSAL: Bounds = Bounds { reversals: 1, ..Bounds::CALM };
const REPEAT: Bounds = Bounds { repeats: 1, ..Bounds::CALM };
const ABSENCE: Bounds = Bounds { absences: 1, ..Bounds::CALM };
const RACE: Bounds = Bounds { takeovers: 1, ..Bounds::CALM };

macro_rules! bites {
    ($($name:ident: $spoil:ident, $bounds:expr, $rule:ident, [$($id:literal),*];)*) => {
        $(
            #[test]
            fn $name() {
                let _covers = covers::covers(&[$($id),*]);
                check(Spoil::$spoil, $bounds, Rule::$rule);
            }
        )*
        const SPOILED: &[Spoil] = &[$(Spoil::$spoil,)*];
        const BITTEN: &[Rule] = &[$(Rule::$rule,)*];
    };
}

bites! {
    a_time_out_is_no_refusal: TimeoutIsRefusal, LOSS, FailureTrue, ["INV-06", "NU-03"];
    a_time_out_is_no_refusal_of_a_late_request: TimeoutIsRefusal, LATE, NotFoundIsNotFailure, ["INV-11", "NU-05"];
    a_reversal_is_no_proof_of_itself: ReverseIsProof, LATE, NotFoundIsNotFailure, ["INV-09", "INV-11"];
    not_found_is_not_closed: NotFoundIsClosed, FAULT, NotFoundIsNotFailure, ["INV-11", "UB-11"];
    a_second_charge_is_seen: ResendAfterRecovery, CRASH, OneCharge, ["INV-01"];
    a_second_pay_request_is_seen: ResendAfterRecovery, CRASH, OnePayRequest, ["INV-02", "PR-02"];
    a_reversal_waits_for_its_decision: ReverseBeforeDurable, LOSS, DecideOnce, ["INV-07"];
    nothing_is_told_before_it_is_durable: AckBeforeDurable, CRASH, RecordBeforeAct, ["INV-14", "PR-01"];
    a_customer_who_is_asked_has_not_paid: AskingIsPaid, FAULT, SuccessSound, ["INV-04"];
    a_strangers_payment_is_not_ours: StrangerIsOurs, FAULT, SuccessSound, ["INV-04", "UB-09"];
    a_paid_order_stays: ReversePaid, REPEAT, SuccessStable, ["INV-05"];
    a_paid_order_is_told_as_paid: ToldOtherwise, REPEAT, SuccessStable, ["INV-05"];
    a_reversal_that_is_never_sent_is_seen: ReversalNeverSent, LOSS, Convergence, ["INV-09", "INV-12"];
    a_poll_loop_that_never_ends_is_seen: NoDeadline, REPEAT, Convergence, ["INV-12"];
    a_forgotten_order_is_seen: NoRecovery, CRASH, Convergence, ["INV-12", "PR-03"];
    an_early_reversal_is_seen: NoGuard, LOSS, NotEarly, ["INV-08"];
    a_stale_writer_is_refused: NoFence, RACE, OneActor, ["INV-17", "PR-09"];
    an_illegal_move_is_refused: NoCondition, REVERSAL, LegalMoves, ["INV-15"];
    an_overtaken_payment_stays_closed: OvertakenForgotten, REVERSAL, FailureTrue, ["NM-00", "INV-06"];
    a_success_is_not_dropped: SuccessIsClosed, CRASH, FailureTrue, ["INV-06", "PR-04"];
    a_taken_number_is_not_reversed: TakenIsReversed, FAULT, StrangersMoney, ["UB-09"];
    call_again_is_not_done: RecallIgnored, FAULT, ReversalFinished, ["INV-09"];
    a_till_that_hung_up_is_not_there: GoneIsThere, ABSENCE, AbsentTill, [];
    what_was_told_is_not_lost: SyncOff, CRASH, NothingForgotten, ["INV-13", "PR-05"];
}

#[test]
fn every_property_and_every_spoiling_is_tried() {
    for rule in Rule::ALL {
        assert!(BITTEN.contains(rule), "{rule:?} bites nobody");
    }
    for spoil in Spoil::ALL {
        assert!(SPOILED.contains(&spoil), "{spoil:?} is not tried");
    }
}
