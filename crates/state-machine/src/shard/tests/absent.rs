//! Money that no till asks about: kept and said, or given back; and a till that was told PAID keeps it.

use super::crash::{Truth, ends_well};
use super::rig::Rig;
use crate::absence::{Absence, Absences, AbsentTill};
use crate::record::{Cause, State};

const AFTER_MS: u64 = 20_000;

fn rig(rule: AbsentTill) -> Rig {
    Rig::configured(|config| {
        config.absences = Absences::new(Absence { rule, after_ms: AFTER_MS }, []);
    })
}

/// Each line: what it shows, what happens, what comes out.
fn check(rule: AbsentTill, lines: &[(&str, &str, &str)]) {
    for (what, script, words) in lines {
        let mut rig = rig(rule);
        rig.run(script);
        assert_eq!(rig.words(), *words, "{what}: {script}\n{}", rig.diary());
    }
}

/// Money that goes back if no till asks, script by script.
const REVERSE: &[(&str, &str, &str)] = &[
    (
        "nobody asks: it goes back, and that is proven",
        "pay a:A7 gone +5s q:paid +19999 mark +1 r:done q:revoked",
        "REVERSING(absent_till) pay=ORDERREVERSED !absent_till reverse@25000 query@25000 REVERSED(absent_till,B8)",
    ),
    (
        "also where the answer to the pay request shows it",
        "pay left gone +3s a:A6 mark +20s",
        "REVERSING(absent_till) pay=ORDERREVERSED !absent_till reverse@23000",
    ),
    (
        "a till that listens is told at once",
        "pay a:A7 gone watch +5s q:paid",
        "ACCEPTED SEND PENDING query@1000 PAID(B4) pay=SUCCESS watch=paid",
    ),
    (
        "so is one with a stream",
        "pay a:A7 gone stream +5s q:paid",
        "ACCEPTED SEND PENDING query@5000 PAID(B4) pay=SUCCESS",
    ),
    (
        "a till that asks in time is told in this very answer, and it stays paid",
        "pay a:A7 gone +5s q:paid +19999 mark watch +60s +1h",
        "PAID(B4) pay=SUCCESS watch=paid retire",
    ),
    (
        "a repeat of the pay request is a question",
        "pay a:A7 gone +5s q:paid +19s mark pay:at-once",
        "discard PAID(B4) pay=SUCCESS pay=ORDERPAID",
    ),
    (
        "the same number for something else is not",
        "pay a:A7 gone +5s q:paid +19s pay:other mark +1s",
        "REVERSING(absent_till) pay=ORDERREVERSED !absent_till reverse@25000",
    ),
    (
        "a moment later it is too late, and nobody is told PAID",
        "pay a:A7 gone +5s q:paid +20s mark watch",
        "watch=reversing",
    ),
    (
        "the till's own reversal needs no absence",
        "pay a:A7 gone +16s q:paid +1s mark reverse r:done q:revoked +30s",
        "REVERSING(till)/asked pay=ORDERREVERSED reverse@17000 query@17000 REVERSED(till,B8)/done reverse=Done",
    ),
    (
        "nor does it come sooner than the guard",
        "pay left gone +1s a:A6 +1s mark reverse +12s mark +1s",
        "reverse@15000",
    ),
    (
        "the deadline of a password is none of money that is there",
        "pay a:A7 gone +44s q:paid mark +19s watch",
        "PAID(B4) pay=SUCCESS watch=paid",
    ),
    (
        "nor is a query that was under way",
        "pay left gone +5s a:A6 mark q:notfound +19s watch",
        "PAID(A6) pay=SUCCESS watch=paid",
    ),
];

#[test]
fn money_goes_back_unless_a_till_asks_in_time() {
    let _covers = covers::covers(&["INV-05", "INV-07", "INV-08", "INV-14"]);
    check(AbsentTill::Reverse, REVERSE);
}

#[test]
fn what_is_another_s_or_an_operator_s_is_not_given_back_for_absence() {
    check(
        AbsentTill::Reverse,
        &[
            (
                "a number that was contested, and is ours",
                "pay left gone +1s a:A12 +20s mark q:paid",
                "PAID(B4)/contested pay=SUCCESS",
            ),
            (
                "what is partly back already",
                "pay a:A7 gone +5s q:refund mark l:part",
                "PAID(B9) pay=SUCCESS !returned_upstream",
            ),
        ],
    );
}

#[test]
fn kept_money_that_nobody_hears_of_is_said_once() {
    check(
        AbsentTill::Keep,
        &[
            (
                "PAID at once, and said when no till has asked for so long",
                "pay a:A7 gone +5s q:paid mark +19999 mark +1 mark +1h",
                "retire",
            ),
            ("the word itself", "pay a:A7 gone +5s q:paid mark +20s", "!paid_unheard"),
            (
                "a till that asks has heard",
                "pay a:A7 gone +5s q:paid mark +19s watch +1h",
                "watch=paid retire",
            ),
            (
                "and one that wants it back knows",
                "pay a:A7 gone +16s q:paid mark +1s reverse r:done q:revoked +1h",
                "PAID(B4)/asked reverse@17000 query@17000 PAID(B4,B8)/done reverse=Done retire",
            ),
            ("who listened has heard", "pay a:A6 mark +1h", "retire"),
        ],
    );
}

#[test]
fn a_merchant_that_changes_its_mind_in_time_keeps_its_money() {
    let mut rig = rig(AbsentTill::Reverse);
    rig.run("pay a:A7 gone +5s q:paid +10s mark");
    rig.shard.set_absences(Absences::default());
    rig.run("+10s");
    assert_eq!(rig.words(), "PAID(B4) pay=SUCCESS", "{}", rig.diary());
}

#[test]
fn either_the_till_or_the_absence_wins_however_late_the_store_is() {
    let _covers = covers::covers(&["INV-07", "INV-14"]);
    for (what, script, state) in [
        ("asked while PAID is under way", "watch +30s watch commit +1h", State::Paid),
        ("asked while REVERSING is under way", "+20s watch watch commit", State::Reversing),
    ] {
        let mut rig = rig(AbsentTill::Reverse);
        rig.run("pay a:A7 gone +5s q:paid mark hold");
        rig.run(script);
        rig.run("free");
        let record = rig.durable(1).expect("a payment");
        assert_eq!(record.state, state, "{what}\n{}", rig.diary());
        let reverses = rig.words().contains("reverse@");
        assert_eq!(reverses, state == State::Reversing, "{what}\n{}", rig.diary());
    }
}

#[test]
fn after_a_crash_it_is_proven_again_and_the_time_begins_anew() {
    let _covers = covers::covers(&["PR-02", "INV-12"]);
    for crash in ["crash", "reboot"] {
        let mut rig = rig(AbsentTill::Reverse);
        rig.run(&format!("pay a:A7 gone +5s q:paid +15s {crash} mark q:paid mark +19s"));
        assert_eq!(rig.words(), "", "{}", rig.diary());
        let mut heard = rig;
        heard.run("watch");
        assert_eq!(heard.words(), "PAID(B4) watch=paid", "{}", heard.diary());
    }
}

#[test]
fn a_crash_after_every_step_still_ends_with_one_truth() {
    let _covers = covers::covers(&["INV-07", "INV-12", "INV-13", "PR-01", "PR-02", "PR-03", "PR-06"]);
    for (what, script, _) in REVERSE {
        let words = script.split_whitespace().collect::<Vec<_>>();
        for steps in 1..=words.len() {
            for crash in ["", "crash", "crash:torn", "reboot"] {
                let mut rig = rig(AbsentTill::Reverse);
                rig.run(&words[..steps - 1].join(" "));
                rig.slow = crash == "crash:torn";
                rig.word(words[steps - 1]);
                rig.slow = false;
                if !crash.is_empty() {
                    rig.word(crash);
                }
                let why = format!("{what}: {script}, {crash} after {steps}");
                ends_well(rig, Truth::Paid, &why);
            }
        }
    }
}

#[test]
fn what_goes_back_is_in_the_books() {
    let mut rig = rig(AbsentTill::Reverse);
    rig.run("pay a:A7 gone +5s q:paid +20s r:done q:revoked");
    let record = rig.durable(1).expect("a payment");
    assert_eq!((record.state, record.cause), (State::Reversed, Some(Cause::AbsentTill)));
    assert!(record.paid.is_some(), "which money it was");
}
