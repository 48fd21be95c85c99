//! A cashier who scans again: the second payment is sent only when the first cannot be charged any more.

use super::rig::Rig;
use crate::absence::{Absence, Absences, AbsentTill};
use crate::rescan::{Rescan, RescanRule, Rescans};

const WINDOW_MS: u64 = 90_000;

/// Each line: what it shows, what happens, what comes out.
fn check(rule: RescanRule, lines: &[(&str, &str, &str)]) {
    let mut wrong = String::new();
    for (what, script, words) in lines {
        let mut rig = Rig::configured(|config| {
            config.rescans = Rescans::new(Rescan { rule, window_ms: WINDOW_MS }, []);
        });
        rig.run(script);
        if rig.words() != *words {
            wrong +=
                &format!("{what}: {script}\n  expected {words}\n  came out {}\n{}", rig.words(), rig.diary());
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// The first is given up, and the second waits for the proof.
const SETTLE: &[(&str, &str, &str)] = &[
    (
        "the first is asked about once more, reversed, and proven; then the second is sent",
        "pay a:A7 +16s mark @2 pay @1 +1s q:userpaying q:userpaying r:done q:revoked",
        "lastquery@17000 REVERSING(rescan) pay=ORDERREVERSED reverse@17000 query@17000 REVERSED(rescan,B8) ACCEPTED SEND",
    ),
    (
        "not before the proof",
        "pay a:A7 +16s mark @2 pay @1 +1s q:userpaying q:userpaying r:done",
        "lastquery@17000 REVERSING(rescan) pay=ORDERREVERSED reverse@17000 query@17000",
    ),
    (
        "no sooner than the guard allows a reversal",
        "pay left a:A7 +6s mark @2 pay +1s @1 q:userpaying q:userpaying +7s mark +1s r:done q:revoked",
        "reverse@15000 query@15000 REVERSED(rescan,B8) ACCEPTED SEND",
    ),
    (
        "the first turns out paid: the second is not sent, and its till is told of the first",
        "pay a:A7 +16s mark @2 pay @1 +1s q:paid",
        "PAID(B4) pay=SUCCESS first=P0000001:paid",
    ),
    (
        "refused by the wallet: the second goes at once",
        "pay +1s mark @2 pay @1 left a:A9 q:notfound",
        "query@1000 FAILED(A9) pay=AUTHCODEEXPIRE ACCEPTED SEND",
    ),
    (
        "the first does not come to its end in time",
        "pay a:A7 +16s mark @2 pay @1 +1s q:userpaying q:userpaying r:again +20s",
        "lastquery@17000 REVERSING(rescan) pay=ORDERREVERSED reverse@17000 query@22000 first=P0000001:reversing",
    ),
    ("paid, and its till has not heard of it", "pay a:A6 mark @2 pay", "first=P0000001:paid"),
    (
        "paid, and heard of in this moment: it may have left before",
        "pay a:A6 heard +2999 mark @2 pay",
        "first=P0000001:paid",
    ),
    ("paid, and heard of: another sale", "pay a:A6 heard +3s mark @2 pay", "ACCEPTED SEND"),
    (
        "paid and unheard, but long ago",
        "pay a:A6 mark +89999 @2 pay +1 @3 pay",
        "first=P0000001:paid retire ACCEPTED SEND",
    ),
    ("it stays known for that long", "pay a:A6 mark +89999 mark +1", "retire"),
    ("another amount is another sale", "pay a:A7 mark @2 pay:dear", "ACCEPTED SEND"),
    ("so is one from another till", "pay a:A7 mark @2 pay:elsewhere", "ACCEPTED SEND"),
    (
        "a third scan takes the place of the second",
        "pay a:A7 +16s mark @2 pay @3 pay @1 +1s q:closed",
        "first=P0000001:awaiting_password FAILED(B8) pay=ORDERCLOSED ACCEPTED SEND",
    ),
    (
        "a repeat of the second waits beside it",
        "pay a:A7 +16s mark @2 pay pay @1 +1s q:closed",
        "FAILED(B8) pay=ORDERCLOSED discard ACCEPTED SEND",
    ),
    (
        "the second is reversed while it waits",
        "pay a:A7 +16s mark @2 pay reverse @1 +1s q:closed",
        "REVERSED(overtaken)/done reverse=Done FAILED(B8) pay=ORDERCLOSED pay=ORDERREVERSED discard",
    ),
    (
        "the process dies: nothing of the second has happened",
        "pay a:A7 +16s @2 pay crash @2 pay mark @1 +1s q:closed",
        "FAILED(B8) ACCEPTED SEND",
    ),
    ("and what was paid before it died is known", "pay a:A6 crash mark @2 pay", "first=P0000001:paid"),
    ("the switch stops", "pay a:A7 +16s mark @2 pay drain", "refused=Stopping pay=USERPAYING"),
    (
        "it is given up before its pay request is answered",
        "pay left +1s @2 pay mark @1 +4s",
        "lastquery@5000",
    ),
    (
        "it was refused, which a query does not confirm",
        "pay left +16s a:A9 @2 pay mark @1 q:userpaying q:userpaying",
        "query@16000 PENDING lastquery@16000",
    ),
    (
        "what is on the operator's list is not waited for",
        "pay left a:A6:999 +5s q:paid:999 mark @2 pay",
        "first=P0000001:processing",
    ),
    ("nor is it in the way for ever", "pay left a:A6:999 +5s q:paid:999 +85s mark @2 pay", "ACCEPTED SEND"),
    (
        "what is still undecided is, however long ago it came",
        "pay left a:A7 +100s mark @2 pay @1 q:closed",
        "FAILED(B8) pay=ORDERCLOSED ACCEPTED SEND",
    ),
    (
        "the first's own till reverses it",
        "pay a:A7 +16s reverse mark @2 pay @1 q:userpaying r:done q:revoked",
        "reverse@16000 query@16000 REVERSED(till,B8)/done reverse=Done ACCEPTED SEND",
    ),
    (
        "the first's money is on its way back",
        "pay a:A6 +16s reverse mark @2 pay @1 r:done q:revoked",
        "query@16000 PAID(A6,B8)/done reverse=Done ACCEPTED SEND",
    ),
    (
        "more repeats than may wait",
        "pay a:A7 +16s mark @2 pay pay pay pay pay",
        "first=P0000001:awaiting_password",
    ),
];

#[test]
fn the_second_waits_until_the_first_cannot_be_charged() {
    check(RescanRule::Settle, SETTLE);
}

#[test]
fn the_second_is_told_how_the_first_stands() {
    check(
        RescanRule::Refuse,
        &[
            (
                "the customer is asked for the password",
                "pay a:A7 mark @2 pay",
                "first=P0000001:awaiting_password",
            ),
            (
                "nothing is given up for it, and it is asked about sooner",
                "pay a:A7 @2 pay mark @1 +5s",
                "query@1000",
            ),
            ("the first is not answered yet", "pay mark @2 pay", "first=P0000001:processing"),
            (
                "it is being reversed",
                "pay a:A7 +16s reverse q:userpaying mark @2 pay",
                "first=P0000001:reversing",
            ),
            ("it is over", "pay a:A14 mark @2 pay", "ACCEPTED SEND"),
            ("it is paid and heard of", "pay a:A6 heard +3s mark @2 pay", "ACCEPTED SEND"),
            ("its own repeat is no second scan", "pay a:A7 mark pay:at-once", "pay=USERPAYING discard"),
        ],
    );
}

#[test]
fn payments_are_not_held_against_each_other_unless_their_merchant_wants_it() {
    check(RescanRule::Off, &[("two of one sale", "pay a:A7 mark @2 pay", "ACCEPTED SEND")]);
}

/// Who does not wait stands there no longer: money that comes to light later is nobody's.
#[test]
fn a_second_that_does_not_wait_is_no_till_that_listens() {
    let mut rig = Rig::configured(|config| {
        config.rescans = Rescans::new(Rescan { rule: RescanRule::Settle, window_ms: WINDOW_MS }, []);
        config.absences = Absences::new(Absence { rule: AbsentTill::Reverse, after_ms: 20_000 }, []);
    });
    rig.run("pay a:A7 gone +5s mark @2 pay:impatient gone @1 +1s q:paid +19999");
    assert_eq!(rig.words(), "first=P0000001:awaiting_password", "{}", rig.diary());
    rig.run("mark +1");
    assert!(rig.words().starts_with("REVERSING(absent_till)"), "{}", rig.diary());
}

/// A process that stops takes no payment; but the till that wants one stands there, and money that waits for a till is
/// kept.
#[test]
fn a_second_at_a_process_that_stops_is_a_till_all_the_same() {
    for rule in [RescanRule::Settle, RescanRule::Refuse] {
        let mut rig = Rig::configured(|config| {
            config.rescans = Rescans::new(Rescan { rule, window_ms: WINDOW_MS }, []);
            config.absences = Absences::new(Absence { rule: AbsentTill::Reverse, after_ms: 20_000 }, []);
        });
        rig.run("pay a:A7 gone +5s q:paid +19s mark drain @2 pay @1 +2s");
        assert_eq!(rig.words(), "pay=USERPAYING refused=Stopping PAID(B4)", "{rule:?}: {}", rig.diary());
    }
}
