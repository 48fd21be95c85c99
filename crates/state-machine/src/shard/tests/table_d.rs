//! Table D: the repair refund.

use super::{Line, check};

#[test]
fn repair_refunds() {
    check(LINES);
}

pub(super) const LINES: &[Line] = &[
    (
        "D1 D6 D7",
        "pay a:A7 +20s q:payerror r:expired q:paid mark f:accepted +10s l:processing +60s l:processing \
         +120s l:success",
        "refundquery@30000 refundquery@90000 refundquery@210000 REVERSED(B7,D7)/repair",
    ),
    (
        "D2",
        "pay a:A7 +20s q:payerror r:expired q:paid mark f:unclear +60s f:unclear +120s f:accepted +10s \
         l:success",
        "refund@80000 refund@200000 refundquery@210000 REVERSED(B7,D7)/repair",
    ),
    (
        "D3",
        "pay a:A7 +20s q:payerror r:expired q:paid mark f:notenough +60s f:accepted +10s l:success",
        "refund@80000 refundquery@90000 REVERSED(B7,D7)/repair",
    ),
    (
        "D4",
        "pay a:A7 +20s q:payerror r:expired q:paid mark f:throttled +60s f:accepted +10s l:success",
        "refund@80000 refundquery@90000 REVERSED(B7,D7)/repair",
    ),
    (
        "D5 found",
        "pay a:A7 +20s q:payerror r:expired q:paid mark f:refused +60s l:processing +120s l:success",
        "refundquery@80000 refundquery@200000 REVERSED(B7,D7)/repair",
    ),
    (
        "D5 failed",
        "pay a:A7 +20s q:payerror r:expired q:paid mark f:refused +60s l:unclear +120s l:none q:paid +240s l:none \
         q:paid +480s l:success",
        "refundquery@80000 refundquery@200000 query@200000 REVERSING(B7)/refund_failed/repair !refund_failed \
         refundquery@440000 query@440000 !reversal_slow refundquery@920000 REVERSED(B7,D7)/repair",
    ),
    (
        // A copy of the reversal arrived late: it was what refused the refund (world: 100,000 orders of seed 7).
        "D5 reversed all the same",
        "pay a:A7 +20s q:payerror r:expired q:paid mark f:refused +60s l:none q:revoked",
        "refundquery@80000 query@80000 REVERSED(B7,B8)/repair",
    ),
    (
        "D5 reversed, seen late",
        "pay a:A7 +20s q:payerror r:expired q:paid mark f:refused +60s l:none q:paid +120s l:none q:revoked",
        "refundquery@80000 query@80000 REVERSING(B7)/refund_failed/repair !refund_failed refundquery@200000 \
         query@200000 REVERSED(B7,B8)/repair",
    ),
    (
        // The wallet shows REFUND as soon as a refund is written down: nothing is reversed again for that.
        "D8 refunded in name",
        "pay a:A7 +20s q:payerror r:expired q:paid mark f:accepted +10s l:refundclose q:refund +60s l:unclear \
         +120s l:refundclose q:refund +240s l:success",
        "refundquery@30000 query@30000 REVERSING(B7)/refund_failed/repair !refund_failed refundquery@90000 \
         refundquery@210000 query@210000 refundquery@450000 REVERSED(B7,D7)/repair",
    ),
    (
        "D9 after three refused reversals",
        "pay a:A7 +20s q:payerror r:refused q:paid r*:refused q*:paid +630s q*: +5s q:paid mark f:accepted \
         +10s l:change q:refund +60s l:unclear +120s l:change q:unclear +240s",
        "refundquery@665000 query@665000 REVERSING(B7)/refund_failed/repair !refund_failed refundquery@725000 \
         refundquery@845000 query@845000 refundquery@1085000",
    ),
    (
        // The reversal that said done took effect late: REFUND, and no refund of anybody (C1).
        "D5 C1 reversed after all",
        "pay a:A7 +20s q:payerror r:done q:paid +5s r:expired q:paid mark f:refused +60s l:none q:refund +120s \
         l:none",
        "refundquery@85000 query@85000 refundquery@205000 REVERSED(B7,C1)/repair",
    ),
    (
        // A refund of somebody's is listed: that is no proof, and the order is the operator's.
        "D5 C1 REFUND for other reasons",
        "pay a:A7 +20s q:payerror r:done q:paid +5s r:expired q:paid mark f:refused +60s l:none q:refund +120s \
         l:part q:refund +240s l:full",
        "refundquery@85000 query@85000 refundquery@205000 query@205000 REVERSING(B7)/refund_failed/repair \
         !refund_failed refundquery@445000 REVERSED(B7,D7)/repair",
    ),
    (
        // Without a reversal that said done, REFUND says nothing about who returned what.
        "D5 REFUND without a reversal's word",
        "pay a:A7 +20s q:payerror r:expired q:paid mark f:refused +60s l:none q:refund +120s l:none q:refund",
        "refundquery@80000 query@80000 REVERSING(B7)/refund_failed/repair !refund_failed refundquery@200000 \
         query@200000",
    ),
    (
        "D5 C1 paid again meanwhile",
        "pay a:A7 +20s q:payerror r:done q:paid +5s r:expired q:paid mark f:refused +60s l:none q:refund +120s \
         l:unclear +240s l:part q:paid +480s l:none q:paid",
        "refundquery@85000 query@85000 refundquery@205000 refundquery@445000 query@445000 \
         REVERSING(B7)/refund_failed/repair !refund_failed !reversal_slow refundquery@925000 query@925000",
    ),
    (
        "D5 not known whether it was reversed",
        "pay a:A7 +20s q:payerror r:expired q:paid mark f:refused +60s l:none q:unclear +120s l:none q:revoked",
        "refundquery@80000 query@80000 refundquery@200000 query@200000 REVERSED(B7,B8)/repair",
    ),
    (
        // What is there is not this order's money: after a restart nothing is sent for it either.
        "D5 another's money, and a restart",
        "pay a:A7 +20s q:payerror r:expired q:paid f:refused +60s l:none q:paid:999 mark crash q:paid:999 +60s",
        "CRASH REVERSING(B7)/differs/repair query@80000 query@140000",
    ),
    (
        "D8",
        "pay a:A7 +20s q:payerror r:expired q:paid mark f:accepted +10s l:refundclose q:paid +60s l:success",
        "refundquery@30000 query@30000 REVERSING(B7)/refund_failed/repair !refund_failed refundquery@90000 \
         REVERSED(B7,D7)/repair",
    ),
    (
        "D9",
        "pay a:A7 +20s q:payerror r:expired q:paid mark f:accepted +10s l:change q:paid +60s l:change q:unclear +120s",
        "refundquery@30000 query@30000 REVERSING(B7)/refund_failed/repair !refund_failed refundquery@90000 \
         query@90000 refundquery@210000",
    ),
    (
        "D10",
        "pay a:A7 +20s q:payerror r:expired q:paid mark f:accepted +10s l:none +60s f:accepted +10s \
         l:success",
        "refundquery@30000 refund@90000 refundquery@100000 REVERSED(B7,D7)/repair",
    ),
    (
        "D7 returned by others",
        "pay a:A7 +20s q:payerror r:expired q:paid mark f:unclear +60s f:refused +120s l:full",
        "refund@80000 refundquery@200000 REVERSED(B7,D7)/repair",
    ),
    (
        "D a restart asks first",
        "pay a:A7 +20s q:payerror r:expired q:paid mark crash l:none +60s f:accepted +10s l:success",
        "CRASH REVERSING(B7)/repair refundquery@20000 refund@80000 refundquery@90000 REVERSED(B7,D7)/repair",
    ),
    (
        "D a restart of a failed one",
        "pay a:A7 +20s q:payerror r:expired q:paid f:refused +60s l:none q:paid mark crash l:none q:paid +60s \
         l:success",
        "CRASH REVERSING(B7)/refund_failed/repair refundquery@80000 query@80000 refundquery@140000 \
         REVERSED(B7,D7)/repair",
    ),
];
