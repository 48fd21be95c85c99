//! What tills ask, in every state: same content, other content, reversals, numbers that were never seen.

use super::check;
use super::rig::{PROVIDER, Rig};
use crate::key::UnixMs;

#[test]
fn a_request_for_a_number_that_exists() {
    let _covers = covers::covers(&["INV-16"]);
    check(&[
        ("open: NM-02 INV-16", "pay pay:at-once", "ACCEPTED SEND pay=USERPAYING discard"),
        (
            "open: a repeat waits for the same end",
            "pay pay a:A6",
            "ACCEPTED SEND discard PAID(A6) pay=SUCCESS pay=ORDERPAID",
        ),
        ("open: other content", "pay pay:other", "ACCEPTED SEND pay=OUT_TRADE_NO_USED discard"),
        (
            "pending",
            "pay:first a:A7 mark pay:at-once pay:first",
            "pay=USERPAYING discard pay=USERPAYING discard",
        ),
        ("paid", "pay a:A6 mark pay pay:other", "pay=ORDERPAID discard pay=OUT_TRADE_NO_USED discard"),
        (
            "failed: the first refusal again",
            "pay a:A14 mark pay pay:other",
            "pay=ORDERCLOSED discard pay=OUT_TRADE_NO_USED discard",
        ),
        (
            "reversing",
            "pay a:A7 +5s q:payerror mark pay pay:other",
            "pay=ORDERREVERSED discard pay=OUT_TRADE_NO_USED discard",
        ),
        (
            "reversed",
            "pay a:A7 +20s q:payerror r:done q:revoked mark pay pay:other",
            "pay=ORDERREVERSED discard pay=OUT_TRADE_NO_USED discard",
        ),
        ("held", "pay a:A8 +5s q:paid:999 mark pay:first watch", "pay=USERPAYING discard"),
        ("evicted: paid", "pay a:A6 +60s mark pay", "discard PAID(A6) pay=ORDERPAID"),
        ("evicted: other content", "pay a:A6 +60s mark pay:other", "discard PAID(A6) pay=OUT_TRADE_NO_USED"),
        (
            "evicted: failed",
            "pay a:A14 +60s mark pay +60s pay",
            "discard FAILED(A14) pay=ORDERCLOSED retire discard FAILED(A14) pay=ORDERCLOSED",
        ),
        (
            "evicted: what waits meets what is there",
            "pay a:A6 +60s mark hold pay pay:other reverse watch free",
            "discard discard PAID(A6) pay=ORDERPAID pay=OUT_TRADE_NO_USED PAID(A6)/asked watch=reversing \
             reverse@60000",
        ),
    ]);
}

#[test]
fn a_request_that_comes_too_late_by_its_own_word() {
    let _covers = covers::covers(&["INV-16"]);
    check(&[
        ("stale: nothing is stored and nothing is sent", "pay:stale +60s", "refused=Expired"),
        ("in time", "pay:in-time +1s a:A6", "ACCEPTED SEND PAID(A6) pay=SUCCESS"),
        ("by the wall clock", "wall-1h pay:in-time wall+1h @2 pay:stale", "ACCEPTED SEND refused=Expired"),
        ("the number stays free", "pay:stale pay", "refused=Expired ACCEPTED SEND"),
        ("a repeat of a paid one", "pay a:A6 mark pay:stale", "pay=ORDERPAID discard"),
        (
            "a repeat of one that is not durable yet: never that nothing was charged",
            "hold pay pay:stale free a:A6",
            "discard ACCEPTED SEND PAID(A6) pay=SUCCESS pay=ORDERPAID",
        ),
        ("also while draining", "drain pay:stale pay", "refused=Expired refused=Stopping"),
    ]);
}

#[test]
fn a_reversal_in_every_state() {
    let _covers = covers::covers(&["NM-00", "OP-02"]);
    check(&[
        (
            "unknown: closes the number (NM-00)",
            "reverse pay pay:other",
            "REVERSED(overtaken)/done reverse=Done pay=ORDERREVERSED discard pay=ORDERREVERSED discard",
        ),
        (
            "unknown, evicted, then the payment comes",
            "reverse +60s pay",
            "REVERSED(overtaken)/done reverse=Done retire discard REVERSED(overtaken)/done pay=ORDERREVERSED",
        ),
        (
            "the payment comes while the reversal is not durable yet",
            "hold reverse pay commit",
            "discard REVERSED(overtaken)/done reverse=Done pay=ORDERREVERSED",
        ),
        (
            "before the pay request left",
            "hold pay reverse commit commit",
            "ACCEPTED discard REVERSING(till)/asked REVERSED(till,A1)/done pay=ORDERREVERSED reverse=Done",
        ),
        (
            "open",
            "pay left +2s reverse +12999 +1 a:A2 r:done q:closed reverse",
            "ACCEPTED SEND REVERSING(till)/asked pay=ORDERREVERSED reverse@15000 query@15000 \
             REVERSED(till,B8)/done reverse=Done reverse=Done",
        ),
        (
            "pending",
            "pay:first a:A7 reverse +15s r:done q:revoked",
            "ACCEPTED SEND PENDING pay=USERPAYING REVERSING(till)/asked reverse@15000 query@15000 \
             REVERSED(till,B8)/done reverse=Done",
        ),
        (
            "reversing by our own decision",
            "pay a:A7 +20s q:payerror mark reverse r:done q:revoked",
            "query@20000 REVERSED(B7,B8) reverse=Done",
        ),
        (
            "paid",
            "pay a:A6 mark reverse watch +15s r:done q:revoked pay reverse",
            "PAID(A6)/asked watch=reversing reverse@15000 query@15000 PAID(A6,B8)/done reverse=Done \
             pay=ORDERREVERSED discard reverse=Done",
        ),
        (
            "paid: a query that misses it proves nothing",
            "pay a:A6 reverse mark +15s r:done q:notfound r*:done q*:notfound +1h q*:unpaid +1h q*:refund \
             l*:full +1h",
            "reverse@15000 query@15000 !reversal_slow PAID(A6,C1)/done reverse=Done retire",
        ),
        (
            "paid: refused for ten minutes, then refunded",
            "pay a:A6 reverse r*:refused q*:paid f*:accepted l*:success mark +1h",
            "!reversal_refused !reversal_slow PAID(A6)/asked/repair !repair_refund PAID(A6,D7)/done/repair \
             reverse=Done retire",
        ),
        (
            "paid, evicted",
            "pay a:A6 +1h mark reverse r:done q:revoked",
            "PAID(A6) PAID(A6)/asked reverse@3600000 query@3600000 PAID(A6,B8)/done reverse=Done",
        ),
        (
            "paid, one millisecond short of seven days",
            "pay a:A6 +6d +86399999 mark reverse",
            "PAID(A6) PAID(A6)/asked reverse@604799999",
        ),
        ("paid, seven days old", "pay a:A6 +7d mark reverse", "PAID(A6) reverse=TooOld"),
        (
            "failed: shows as revoked",
            "pay a:A14 mark reverse reverse watch",
            "FAILED(A14)/done reverse=Done reverse=Done watch=failed",
        ),
        ("failed, evicted", "pay a:A14 +60s mark reverse", "FAILED(A14) FAILED(A14)/done reverse=Done"),
        ("reversed", "pay a:A7 +20s q:payerror r:done q:revoked mark reverse", "reverse=Done"),
        (
            "reversed by absence, still looked at",
            "pay a:A8 q*:notfound r*:done +2m mark reverse",
            "reverse=Done",
        ),
        (
            "confirmed refusal",
            "pay a:A9 mark reverse q:notfound",
            "ACCEPTED/asked FAILED(A9)/done pay=AUTHCODEEXPIRE reverse=Done",
        ),
        (
            "a refusal that shows money: paid, then reversed",
            "pay a:A9 mark reverse q:paid +15s r:done q:revoked",
            "ACCEPTED/asked PAID(B4)/asked pay=SUCCESS reverse@15000 query@15000 PAID(B4,B8)/done \
             reverse=Done",
        ),
        (
            "a refusal that shows a dialog",
            "pay a:A9 mark reverse q:userpaying",
            "ACCEPTED/asked REVERSING(till)/asked pay=ORDERREVERSED",
        ),
        (
            "contested, then ours",
            "pay a:A12 mark reverse +5s q:paid +10s r:done q:revoked",
            "ACCEPTED/contested/asked query@5000 PAID(B4)/contested/asked pay=SUCCESS reverse@15000 \
             query@15000 PAID(B4,B8)/contested/done reverse=Done",
        ),
        (
            "remembered over a restart",
            "pay a:A9 reverse mark crash +5s q:unpaid",
            "CRASH ACCEPTED/asked query@5000 REVERSING(till)/asked",
        ),
    ]);
}

#[test]
fn a_watch() {
    check(&[
        ("of a number that is not here", "watch", "not-here"),
        (
            "until the end",
            "pay:at-once watch +1s a:A6 watch",
            "ACCEPTED SEND pay=USERPAYING PAID(A6) watch=paid watch=paid",
        ),
        (
            "of an order whose first record is not durable",
            "hold pay watch free a:A15",
            "ACCEPTED SEND FAILED(A15) pay=NOAUTH watch=failed !misconfigured",
        ),
    ]);
}

#[test]
fn late_and_repeated_replies_change_nothing() {
    let _covers = covers::covers(&["INV-15", "NU-07"]);
    check(&[
        (
            "",
            "pay left a:A7 again +5s q:userpaying again +1s q:paid again reverse +10s r:done again \
             q:revoked again",
            "ACCEPTED SEND PENDING query@5000 query@6000 PAID(B4) pay=SUCCESS PAID(B4)/asked reverse@15000 \
             query@16000 PAID(B4,B8)/done reverse=Done",
        ),
        (
            "after the order has left and its slot is another's",
            "pay a:A6 +60s @2 pay again a:A7 again",
            "ACCEPTED SEND PAID(A6) pay=SUCCESS retire ACCEPTED SEND PENDING",
        ),
        (
            "repeated refusals are one for the breaker (A3)",
            "pay a:A3 again again again @2 pay",
            "ACCEPTED SEND !unsigned_refusal ACCEPTED SEND",
        ),
        ("left is heard after the answer", "pay a:A7 +2s", "ACCEPTED SEND PENDING"),
    ]);
}

#[test]
fn a_wall_clock_that_jumps_moves_nothing() {
    let _covers = covers::covers(&["CK-01", "CK-02", "INV-27"]);
    // INV-27, CK-01, CK-02: the same ticks, whatever the wall says.
    for jump in ["wall+1h", "wall-1h"] {
        let script =
            format!("pay a:A7 {jump} q*:userpaying +44999 q*: +1 q:userpaying {jump} r:done q:revoked");
        let mut rig = Rig::new();
        rig.run(&script);
        assert_eq!(
            rig.words(),
            "ACCEPTED SEND PENDING lastquery@45000 REVERSING(deadline) pay=ORDERREVERSED reverse@45000 \
             query@45000 REVERSED(deadline,B8)"
        );
    }
}

#[test]
fn an_open_record_that_only_the_store_knew_is_taken_up() {
    // A damaged row is shown as held, foreign and of no content (DB-11): asked about, never reversed, told to
    // nobody as done, nor as not charged because another's content is under its number.
    let mut rig = Rig::new();
    rig.run("pay a:A7");
    let record = rig.durable(1).unwrap().clone();
    let mut rig = Rig::new();
    let held = crate::record::Held::NumberTaken;
    rig.plant(crate::Record {
        held: Some(held),
        claim: crate::record::Claim::Foreign,
        accepted_at: UnixMs(0),
        amount: None,
        ..record
    });
    rig.run("pay:first pay:other +1s q:paid +60s q:notfound +120s q:notfound");
    assert_eq!(
        rig.words(),
        "discard PENDING/foreign/number_taken pay=USERPAYING query@0 discard query@61000 query@181000 \
         FAILED(A13)/foreign pay=TRADE_ERROR"
    );
    assert_eq!(rig.durable(1).unwrap().provider, PROVIDER);
}
