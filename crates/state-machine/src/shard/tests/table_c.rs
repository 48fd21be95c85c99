//! Table C: a reversal until it is proven.

use super::{Line, check};

#[test]
fn reversals() {
    let _covers = covers::covers(&["INV-09", "UB-15", "UB-16", "UB-17"]);
    check(LINES);
}

pub(super) const LINES: &[Line] = &[
    (
        "C1",
        "pay a:A7 +20s q:payerror r:done q:revoked",
        "ACCEPTED SEND PENDING query@5000 REVERSING(B7) pay=ORDERREVERSED reverse@20000 query@20000 \
         REVERSED(B7,B8)",
    ),
    (
        "C1 the reversal's own SUCCESS is no proof",
        "pay a:A7 +20s q:payerror mark r:done q:paid +5s r:done q:unpaid +10s r:done q:odd +20s r:done \
         q:userpaying +40s r:done q:unclear +80s r:done q:payerror +160s r:done q:closed",
        "query@20000 reverse@25000 query@25000 reverse@35000 query@35000 reverse@55000 query@55000 \
         reverse@95000 query@95000 reverse@175000 query@175000 reverse@335000 query@335000 \
         REVERSED(B7,B8)",
    ),
    (
        "C1 REFUND, all",
        "pay a:A7 +20s q:payerror mark r:done q:refund l:full",
        "query@20000 refundquery@20000 REVERSED(B7,C1)",
    ),
    (
        "C1 REFUND without refunds",
        "pay a:A7 +20s q:payerror mark r:done q:refund l:none",
        "query@20000 refundquery@20000 REVERSED(B7,C1)",
    ),
    (
        "C1 REFUND, not verified",
        "pay a:A7 +20s q:payerror mark r:done q:refund l:unclear +5s r:done q:revoked",
        "query@20000 refundquery@20000 reverse@25000 query@25000 REVERSED(B7,B8)",
    ),
    (
        "C1 REFUND, on its way",
        "pay a:A7 +20s q:payerror mark r:done q:refund l:coming +60s q:refund l:full",
        "query@20000 refundquery@20000 query@80000 refundquery@80000 REVERSED(B7,C1)",
    ),
    (
        "C1 REFUND, part: held",
        "pay a:A7 +20s q:payerror mark r:done q:refund l:part +60s q:paid +120s q:refund l:part +240s \
         q:revoked",
        "query@20000 refundquery@20000 REVERSING(B7)/partly_returned !partly_returned query@80000 \
         query@200000 refundquery@200000 query@440000 REVERSED(B7,B8)",
    ),
    (
        "C1 another's money: held",
        "pay a:A7 +20s q:payerror mark r:done q:paid:999 q*:paid:999 +7d",
        "query@20000 REVERSING(B7)/differs !differs !reversal_slow !reversal_stuck",
    ),
    (
        "C1 REFUND before a reversal said done",
        "pay a:A7 +20s q:payerror mark r:unclear +5s q:refund l:none +1 r:done q:refund l:none",
        "query'@25000 refundquery'@25000 reverse'@25001 query@25001 refundquery@25001 REVERSED(B7,C1)",
    ),
    (
        "C1 REFUND without refunds proves nothing if the order was absent",
        "pay a:A7 +20s q:payerror mark r:absent q:refund l:none +5s r:done q:revoked",
        "query@20000 refundquery@20000 reverse@25000 query@25000 REVERSED(B7,B8)",
    ),
    (
        "C7 two refusals do not do, however long",
        "pay a:A7 +20s q:payerror mark r:refused q:paid r*:unclear q*:paid +10m r*:refused +10m watch +1m",
        "!reversal_refused query@20000 !reversal_slow watch=reversing",
    ),
    (
        "C2",
        "pay a:A7 +20s q:payerror mark r:again +5s q:paid +1 r:again +10s q:paid +1 r:done q:revoked",
        "query@25000 reverse@25001 query@35001 reverse@35002 query@35002 REVERSED(B7,B8)",
    ),
    (
        "C3 the other host",
        "pay a:A7 +20s q:payerror mark r:unclear +5s q:paid +1 r:unclear +10s q:paid +1 r:unclear +20s \
         q:revoked",
        "query'@25000 reverse'@25001 query@35001 reverse@35002 query'@55002 REVERSED(B7,B8)",
    ),
    (
        "C4",
        "pay a:A7 +20s q:payerror mark r:systemerror q:unpaid +5s r:done q:revoked",
        "query@20000 reverse@25000 query@25000 REVERSED(B7,B8)",
    ),
    (
        "C5",
        "pay a:A7 +20s q:payerror mark r:dialog +5s q:userpaying +5s r:dialog +5s q:userpaying +5s \
         r:dialog +5s q:paid +5s r:done q:revoked",
        "query@25000 reverse@30000 query@35000 reverse@40000 query@45000 reverse@50000 query@50000 \
         REVERSED(B7,B8)",
    ),
    (
        "C6 repair refund D1 D7",
        "pay a:A7 +20s q:payerror mark r:expired q:paid f:accepted +10s l:success",
        "query@20000 REVERSING(B7)/repair !repair_refund refund@20000 refundquery@30000 \
         REVERSED(B7,D7)/repair",
    ),
    ("C6 proof", "pay a:A7 +20s q:payerror mark r:expired q:revoked", "query@20000 REVERSED(B7,B8)"),
    (
        "C6 unpaid",
        "pay a:A7 +20s q:payerror mark r:expired q:unpaid",
        "query@20000 REVERSED(B7,C6) !reversal_stuck",
    ),
    (
        "C6 still open: asked, never reversed",
        "pay a:A7 +20s q:payerror mark r:expired q:userpaying +60s q:unclear +120s q:payerror",
        "query@20000 query@80000 query@200000 REVERSED(B7,C6) !reversal_stuck",
    ),
    (
        "C7",
        "pay a:A7 +20s q:payerror mark r:refused q:paid r*:refused q*:paid +630s q*: +5s q:paid",
        "!reversal_refused query@20000 !reversal_slow query@655000 REVERSING(B7)/repair !repair_refund \
         refund@655000",
    ),
    (
        "C7 not after two",
        "pay a:A7 +20s q:payerror mark r:refused q:paid +5s r:refused q:paid +10s r:done q:revoked",
        "!reversal_refused query@20000 reverse@25000 query@25000 reverse@35000 query@35000 REVERSED(B7,B8)",
    ),
    (
        "C8",
        "pay a:A7 +20s q:payerror mark r:nocert +5s q:paid +1 r:nocert +10s q:paid +1 r:nocert @2 pay @1 \
         +20s q:paid +1 r:done @2 pay",
        "query@25000 reverse@25001 query@35001 reverse@35002 !reversal_refused refused=Suspended \
         query@55002 reverse@55003 query@55003 ACCEPTED SEND",
    ),
    (
        "C9",
        "pay a:A8 q*:notfound +15s mark +1s q*: r:done q:notfound +5s r:done q:notfound +10s r:done \
         q:notfound +20s r:done q:notfound +8999 +1 q:notfound",
        "REVERSING(B3) pay=ORDERREVERSED reverse@16000 query@16000 reverse@21000 query@21000 reverse@31000 \
         query@31000 reverse@51000 query@51000 query@60000 REVERSED(B3,C9)/looks2",
    ),
    (
        "C9 while the pay connection is open",
        "pay left q*:notfound r*:done +10m mark a:A2 +59s +2s",
        "!reversal_slow REVERSED(B3,C9)/looks2",
    ),
    (
        "C9 the reversal says so",
        "pay a:A8 q*:notfound +15s +1s mark r:absent r*:unclear +90s",
        "REVERSED(B3,C9)/looks2",
    ),
    (
        "C9 never without an answer",
        "pay a:A8 q*:notfound r*:unclear +9m",
        "ACCEPTED SEND REVERSING(B3) pay=ORDERREVERSED",
    ),
    (
        "C9 another word starts it again",
        "pay a:A8 q*:notfound r*:done +45s mark q*:unpaid +15s q*:notfound +60999 watch +1",
        "watch=reversing REVERSED(B3,C9)/looks2",
    ),
    (
        "C9 looked at again",
        "pay a:A8 q*:notfound r*:done +2m q*: mark +240s q:notfound +3300s q:notfound +1m",
        "query@360000 REVERSED(B3,C9)/looks1 query@3660000 REVERSED(B3,C9) retire",
    ),
    (
        "C9 G5 late success",
        "pay a:A8 q*:notfound r*:done +2m q*: mark +240s q:paid f:accepted +10s l:processing +1m l:success",
        "query@360000 REVERSED(B3,C9)/repair/looks2 !late_success !repair_refund refund@360000 \
         refundquery@370000 refundquery@430000 REVERSED(B3,D7)/repair",
    ),
    (
        "C9 G5 late, still open",
        "pay a:A8 q*:notfound r*:done +2m q*: mark +240s q:unpaid +1m q:userpaying +2m q:closed +1h",
        "query@360000 query@420000 query@540000 REVERSED(B3,C9) retire",
    ),
    (
        "C9 G5 late, never paid: not for ever",
        "pay a:A8 q*:notfound r*:done +2m q*:unpaid +6d mark +1d +2h",
        "REVERSED(B3,C9) retire",
    ),
    (
        "C9 G5 late, returned",
        "pay a:A8 q*:notfound r*:done +2m q*: mark +240s q:refund l:full +1h",
        "query@360000 REVERSED(B3,C9)/looks2 !late_success refundquery@360000 REVERSED(B3,C1) retire",
    ),
    (
        "C9 G5 late, partly returned",
        "pay a:A8 q*:notfound r*:done +2m q*: mark +240s q:refund l:part +1m q:revoked +1h",
        "query@360000 REVERSED(B3,C9)/looks2 !late_success refundquery@360000 \
         REVERSED(B3,C9)/partly_returned/looks2 !partly_returned query@420000 REVERSED(B3,B8) retire",
    ),
    (
        "C9 late, another's",
        "pay a:A8 q*:notfound r*:done +2m q*: mark +240s q:paid:999 +1m q:closed +1h",
        "query@360000 REVERSED(B3,C9)/differs/looks2 !differs query@420000 REVERSED(B3,C9) retire",
    ),
    (
        "C10",
        "pay a:A7 +20s q:payerror mark r:unclear q*:unclear r*:again +10m +1d q*:revoked +1h",
        "!reversal_slow !reversal_stuck REVERSED(B7,B8) retire",
    ),
    ("C10 nobody answers", "pay a:A7 +20s q:payerror mark +10m +1d", "!reversal_slow !reversal_stuck"),
    ("C10 C6 seven days", "pay a:A7 +20s q:payerror r*:again q*:paid +6d mark +1d", ""),
];
