//! A till's own question is evidence: its payment is asked about earlier, within the gap and the budget.

use super::check;
use super::rig::Rig;
use crate::planner::Quota;
use crate::shard::Call;

#[test]
fn a_question_moves_the_next_query_forward() {
    check(&[
        (
            "before the first query is due",
            "pay a:A7 +2s watch q:paid",
            "ACCEPTED SEND PENDING query@2000 PAID(B4) pay=SUCCESS watch=paid",
        ),
        (
            "a repeat of the pay request is a question too",
            "pay a:A2 +2s pay q:userpaying",
            "ACCEPTED SEND discard query@2000 PENDING",
        ),
        (
            "but not within the gap after the pay request",
            "pay a:A7 +400 watch +599 +1 q:userpaying",
            "ACCEPTED SEND PENDING query@1000",
        ),
        (
            "nor while that may still be under way",
            "pay left +2s watch +2999 +1 q:userpaying",
            "ACCEPTED SEND query@5000 PENDING",
        ),
        (
            "one question is one query: the next comes as planned",
            "pay a:A7 +2s watch q:userpaying +2999 +1 q:userpaying",
            "ACCEPTED SEND PENDING query@2000 query@5000",
        ),
        (
            "never within the gap after the query before, however many ask",
            "pay a:A7 +2s watch q:userpaying watch +999 +1 q:userpaying watch +999 +1",
            "ACCEPTED SEND PENDING query@2000 query@3000 query@4000",
        ),
        (
            "never beside a query under way",
            "pay a:A7 +2s watch +5s watch watch +1s q:userpaying",
            "ACCEPTED SEND PENDING query@2000 query@8000",
        ),
        (
            "nor does it bring the deadline or a reversal forward",
            "pay a:A7 q*:userpaying +44s mark watch +999 mark +1",
            "REVERSING(deadline) pay=ORDERREVERSED watch=reversing reverse@45000",
        ),
        (
            "a proof under way is not asked about more often",
            "pay a:A7 +20s q:payerror mark watch watch +4s",
            "watch=reversing watch=reversing",
        ),
    ]);
}

#[test]
fn who_waits_is_asked_about_first_and_the_budget_holds() {
    let mut rig = Rig::configured(|config| {
        config.orders_max = 1_000;
        config.quota = Quota { pay: 1_000, query: 2, reverse: 1_000, calls_max: 100 };
    });
    for order in 1..=30 {
        rig.run(&format!("@{order} pay a:A7"));
    }
    // All of them are due, and 2 in a second may be asked about: the tail of the queue is 15 s away.
    rig.run("+5s @29 watch @30 watch");
    rig.calls.clear();
    for order in [29, 30] {
        rig.run(&format!("+1050 @{order} mark q:paid"));
        assert_eq!(rig.words(), "PAID(B4) pay=SUCCESS watch=paid", "{order}");
    }
    let queries = rig.calls.iter().filter(|(_, call)| *call == Call::Query).count();
    assert_eq!(queries, 4, "the budget of two windows: {:?}", rig.calls);
}

#[test]
fn a_drain_keeps_nobody_until_the_customer_has_decided() {
    let _covers = covers::covers(&["PR-14"]);
    check(&[
        (
            "told what is durable; who comes later is told at once",
            "pay a:A7 watch drain watch",
            "ACCEPTED SEND PENDING pay=USERPAYING watch=awaiting_password watch=awaiting_password",
        ),
        (
            "the wallet's first word is still waited for",
            "pay watch drain a:A6",
            "ACCEPTED SEND PAID(A6) pay=SUCCESS watch=paid",
        ),
    ]);
}
