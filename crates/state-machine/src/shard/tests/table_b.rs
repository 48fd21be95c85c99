//! Table B: what becomes of a payment by the answers to queries.

use super::{Line, check};

#[test]
fn answers_to_queries() {
    let _covers = covers::covers(&["INV-11", "UB-02", "UB-03", "UB-10", "UB-11", "UB-13", "UB-14"]);
    check(LINES);
}

pub(super) const LINES: &[Line] = &[
    (
        "B1 the other host after two",
        "pay a:A8 +5s q:unclear +1s q:unclear +1s q:unclear +1s q:unclear +1s q:paid",
        "ACCEPTED SEND query@5000 query@6000 query'@7000 query'@8000 query@9000 PAID(B4) pay=SUCCESS",
    ),
    (
        "B1 at D",
        "pay a:A7 q*:unclear +44999 q*: +1 q:unclear",
        "ACCEPTED SEND PENDING lastquery@45000 REVERSING(deadline) pay=ORDERREVERSED reverse@45000",
    ),
    (
        "B2",
        "pay a:A8 +5s q:notfound q*:notfound +9s q*: +1s q:paid",
        "ACCEPTED SEND query@5000 query@15000 PAID(B4) pay=SUCCESS",
    ),
    (
        "B3 twice after T0+15 s",
        "pay a:A8 q*:notfound +14s q*: +1s q:notfound +1s q:notfound",
        "ACCEPTED SEND query@15000 query@16000 REVERSING(B3) pay=ORDERREVERSED reverse@16000",
    ),
    (
        "B3 in a row",
        "pay a:A8 q*:notfound +14s q*: +1s q:notfound +1s q:unpaid +1s q:notfound +1s q:notfound",
        "ACCEPTED SEND query@15000 query@16000 query@17000 query@18000 REVERSING(B3) pay=ORDERREVERSED \
         reverse@18000",
    ),
    (
        "B3 at D",
        "pay a:A8 q*:unpaid +44999 q*: +1 q:notfound",
        "ACCEPTED SEND lastquery@45000 REVERSING(B3) pay=ORDERREVERSED reverse@45000",
    ),
    (
        "B3 asked before T0+15 s, answered after",
        "pay a:A8 q*:unpaid +13999 q*: +1 +1010 q:notfound +1s q:notfound +1s q:paid",
        "ACCEPTED SEND query@14000 query@15010 query@16010 PAID(B4) pay=SUCCESS",
    ),
    ("B4", "pay left +5s q:paid a:A6", "ACCEPTED SEND query@5000 PAID(B4) pay=SUCCESS"),
    (
        "B4 C1 while reversing: not booked",
        "pay left +5s reverse q:paid +10s r:done q:revoked",
        "ACCEPTED SEND query@5000 REVERSING(till)/asked pay=ORDERREVERSED reverse@15000 query@15000 \
         REVERSED(till,B8)/done reverse=Done",
    ),
    (
        "B5",
        "pay a:A8 +5s q:paid:999 +60s q:paid:stranger +120s q:paid",
        "ACCEPTED SEND query@5000 ACCEPTED/differs !differs query@65000 query@185000 PAID(B4) pay=SUCCESS",
    ),
    (
        "B5 an earlier payment's",
        "pay a:A8 +5s q:paid:old +60s q:revoked",
        "ACCEPTED SEND query@5000 ACCEPTED/differs !differs query@65000 FAILED(B8) pay=ORDERCLOSED",
    ),
    (
        "B5 never reversed",
        "pay a:A8 +5s q:paid:999 reverse q*:paid:999 +7d",
        "ACCEPTED SEND query@5000 ACCEPTED/differs !differs ACCEPTED/differs/asked",
    ),
    (
        "B6 D exact",
        "pay a:A7 q*:userpaying +44999 q*: +1 q:userpaying",
        "ACCEPTED SEND PENDING lastquery@45000 REVERSING(deadline) pay=ORDERREVERSED reverse@45000",
    ),
    (
        "B6",
        "pay a:A8 +5s q:unpaid +1s q:odd +1s q:userpaying +1s q:paid",
        "ACCEPTED SEND query@5000 query@6000 query@7000 PENDING query@8000 PAID(B4) pay=SUCCESS",
    ),
    (
        "B7",
        "pay a:A7 +20s q:payerror r:done q:revoked",
        "ACCEPTED SEND PENDING query@5000 REVERSING(B7) pay=ORDERREVERSED reverse@20000 query@20000 \
         REVERSED(B7,B8)",
    ),
    (
        "B7 the guard of 15 s",
        "pay a:A7 +5s q:payerror +9999 +1 r:done q:closed",
        "ACCEPTED SEND PENDING query@5000 REVERSING(B7) pay=ORDERREVERSED reverse@15000 query@15000 \
         REVERSED(B7,B8)",
    ),
    (
        "B7 the guard by the last moment it can have left",
        "pay +4s left +1s reverse +13999 +1 r:done q:closed",
        "ACCEPTED SEND REVERSING(till)/asked pay=ORDERREVERSED reverse@19000 query@19000 \
         REVERSED(till,B8)/done reverse=Done",
    ),
    ("B8", "pay a:A7 +20s q:closed", "ACCEPTED SEND PENDING query@5000 FAILED(B8) pay=ORDERCLOSED"),
    (
        "B8 G5 paid after all, says the late answer",
        "pay left +5s q:revoked +1s a:A6 q:paid f:accepted +10s l:success",
        "ACCEPTED SEND query@5000 FAILED(B8) pay=ORDERCLOSED FAILED(B8)/looks1 query@6000 \
         FAILED(B8)/repair/looks1 !late_success !repair_refund refund@6000 refundquery@16000 \
         FAILED(B8,D7)/repair",
    ),
    (
        "B9 all",
        "pay a:A7 +20s q:refund l:full",
        "ACCEPTED SEND PENDING query@5000 refundquery@20000 FAILED(B9) pay=ORDERREVERSED !returned_upstream",
    ),
    (
        "B9 part",
        "pay a:A7 +20s q:refund l:part",
        "ACCEPTED SEND PENDING query@5000 refundquery@20000 PAID(B9) pay=SUCCESS !returned_upstream",
    ),
    (
        "B9 past D",
        "pay a:A7 +40s q:refund l:unclear +5s l:coming +10s l:full",
        "ACCEPTED SEND PENDING query@5000 refundquery@40000 refundquery@45000 refundquery@55000 FAILED(B9) \
         pay=ORDERREVERSED !returned_upstream",
    ),
    (
        "B9 contradiction",
        "pay a:A7 +20s q:refund l:none +5s l:none +10s l:none +20s l:full",
        "ACCEPTED SEND PENDING query@5000 refundquery@20000 refundquery@25000 refundquery@35000 \
         PENDING/differs !differs refundquery@55000 FAILED(B9) pay=ORDERREVERSED !returned_upstream",
    ),
    (
        "B9 another amount",
        "pay a:A7 +20s q:refund:999 +60s q:refund l:part",
        "ACCEPTED SEND PENDING query@5000 PENDING/differs !differs query@80000 refundquery@80000 PAID(B9) \
         pay=SUCCESS !returned_upstream",
    ),
    (
        "B9 part, and the till wants it reversed",
        "pay a:A7 +20s q:refund reverse l:part",
        "ACCEPTED SEND PENDING query@5000 refundquery@20000 PENDING/asked PAID(B9) pay=SUCCESS \
         reverse=TooOld !returned_upstream",
    ),
    (
        "B9 then the number turns out to be taken",
        "pay left +5s q:refund a:A12 +60s",
        "ACCEPTED SEND query@5000 refundquery@5000 ACCEPTED/contested/number_taken !number_taken \
         !number_taken",
    ),
];
