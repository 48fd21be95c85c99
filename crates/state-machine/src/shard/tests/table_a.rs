//! Table A: what becomes of a payment by the answer to its pay request.

use super::{Line, check};

#[test]
fn answers_to_the_pay_request() {
    let _covers = covers::covers(&["INV-02", "INV-07", "NU-01", "NU-03", "UB-05", "UB-06", "UB-07", "UB-09"]);
    check(LINES);
}

pub(super) const LINES: &[Line] = &[
    ("A1 G3", "pay a:A1", "ACCEPTED SEND FAILED(A1) pay=TRADE_ERROR"),
    (
        "A1 G3",
        "pay +2s reverse +1s a:A1",
        "ACCEPTED SEND REVERSING(till)/asked pay=ORDERREVERSED REVERSED(till,A1)/done reverse=Done",
    ),
    (
        "A2 B4",
        "pay left +8s a:A2 q:userpaying +1s q:paid",
        "ACCEPTED SEND query@5000 PENDING query@8000 PAID(B4) pay=SUCCESS",
    ),
    (
        "A2 the answer is lost and nobody says when it left",
        "pay q*:userpaying +9999 q*: +1 q:paid",
        "ACCEPTED SEND query@10000 PAID(B4) pay=SUCCESS",
    ),
    (
        "A3",
        "pay a:A3 q*:notfound +14999 q*: +1 q:unclear +1",
        "ACCEPTED SEND !unsigned_refusal lastquery@15000 REVERSING(A3) pay=ORDERREVERSED reverse@15000",
    ),
    (
        "A3 shown after all: D as usual",
        "pay a:A3 +5s q:unpaid q*:unpaid +39999 q*: +1 q:unpaid",
        "ACCEPTED SEND !unsigned_refusal query@5000 lastquery@45000 REVERSING(deadline) pay=ORDERREVERSED \
         reverse@45000",
    ),
    ("A4", "pay a:A4 +5s q:paid", "ACCEPTED SEND query@5000 PAID(B4) pay=SUCCESS"),
    ("A5 G1", "pay a:A5 +5s q:paid", "ACCEPTED SEND query@5000 PAID(B4) pay=SUCCESS"),
    (
        "A5 G1 another amount",
        "pay a:A6:999 +5s q:paid:999 +60s q:paid",
        "ACCEPTED SEND query@5000 ACCEPTED/differs !differs query@65000 PAID(B4) pay=SUCCESS",
    ),
    ("A6", "pay a:A6", "ACCEPTED SEND PAID(A6) pay=SUCCESS"),
    (
        "A6 G2 a later answer",
        "pay left +5s a:A6 q:payerror +60s",
        "ACCEPTED SEND query@5000 PAID(A6) pay=SUCCESS retire",
    ),
    (
        "A7",
        "pay:first a:A7 watch q*:userpaying +20s q*: +1s q:paid",
        "ACCEPTED SEND PENDING pay=USERPAYING query@21000 PAID(B4) watch=paid",
    ),
    (
        "A8",
        "pay a:A8 q*:unpaid +44999 q*: +1 q:unpaid",
        "ACCEPTED SEND lastquery@45000 REVERSING(deadline) pay=ORDERREVERSED reverse@45000",
    ),
    ("A9", "pay a:A9 q:notfound", "ACCEPTED SEND query@0 FAILED(A9) pay=AUTHCODEEXPIRE"),
    (
        "A9 confirm: limit 2 s, then G5",
        "pay a:A9 +1999 +1 q:paid f:accepted +10s l:success",
        "ACCEPTED SEND query@0 FAILED(A9) pay=AUTHCODEEXPIRE FAILED(A9)/repair/looks1 !late_success \
         !repair_refund refund@2000 refundquery@12000 FAILED(A9,D7)/repair",
    ),
    (
        "A9 confirm shows a dialog",
        "pay a:A9 q:userpaying +5s q:paid",
        "ACCEPTED SEND query@0 PENDING query@5000 PAID(B4) pay=SUCCESS",
    ),
    (
        "A9 asked before the refusal",
        "pay left +5s a:A9 q:notfound q:closed",
        "ACCEPTED SEND query@5000 query@5000 FAILED(A9) pay=AUTHCODEEXPIRE",
    ),
    ("A10", "pay a:A10 +5s q:payerror", "ACCEPTED SEND query@5000 REVERSING(B7) pay=ORDERREVERSED"),
    ("A11", "pay a:A11 q:payerror", "ACCEPTED SEND query@0 FAILED(A11) pay=NOTENOUGH"),
    ("A11 confirm shows money", "pay a:A11 q:paid", "ACCEPTED SEND query@0 PAID(B4) pay=SUCCESS"),
    (
        "A11 confirm shows a refund",
        "pay a:A11 q:refund l:full",
        "ACCEPTED SEND query@0 refundquery@0 FAILED(B9) pay=ORDERREVERSED !returned_upstream",
    ),
    (
        "A11 the till reverses meanwhile",
        "pay a:A11 reverse q:unclear",
        "ACCEPTED SEND query@0 ACCEPTED/asked FAILED(A11)/done pay=NOTENOUGH reverse=Done",
    ),
    (
        "A12 G4",
        "pay a:A12 +5s q:paid",
        "ACCEPTED SEND ACCEPTED/contested !number_taken query@5000 PAID(B4)/contested pay=SUCCESS",
    ),
    (
        "A12",
        "pay a:A12 +5s q:notfound q*:notfound +10s",
        "ACCEPTED SEND ACCEPTED/contested !number_taken query@5000 FAILED(A12)/contested \
         pay=OUT_TRADE_NO_USED",
    ),
    (
        // The first question was answered before the payment came: it shows nothing.
        "A12 after a question",
        "pay left q*:unpaid +14s q*: +1s a:A12 q:notfound +1s q:notfound +1s q:paid",
        "ACCEPTED SEND query@15000 ACCEPTED/contested !number_taken query@16000 query@17000 \
         PAID(B4)/contested pay=SUCCESS",
    ),
    (
        "A12 not ours",
        "pay a:A12 +5s q:paid:old +60s q:notfound +120s q:notfound",
        "ACCEPTED SEND ACCEPTED/contested !number_taken query@5000 ACCEPTED/contested/number_taken \
         !number_taken query@65000 query@185000 FAILED(A13)/contested pay=OUT_TRADE_NO_USED",
    ),
    (
        "A13 G4",
        "pay a:A13 +5s q:notfound q*:notfound +9999 q*: +1 q:notfound",
        "ACCEPTED SEND ACCEPTED/contested !number_taken query@5000 query@15000 FAILED(A13)/contested \
         pay=OUT_TRADE_NO_USED",
    ),
    (
        "A13 in a row",
        "pay a:A13 +14s q:unpaid +1s q:unclear +1s q:unpaid +1s q:unpaid",
        "ACCEPTED SEND ACCEPTED/contested !number_taken query@5000 query@14000 query@15000 query@16000 \
         FAILED(A13)/contested pay=OUT_TRADE_NO_USED",
    ),
    (
        "A13 at D",
        "pay a:A13 q*:userpaying +44999 +1 q*: reverse +60s q:payerror +120s q:closed",
        "ACCEPTED SEND ACCEPTED/contested !number_taken ACCEPTED/contested/number_taken !number_taken \
         ACCEPTED/contested/number_taken/asked query@105000 query@225000 FAILED(A13)/contested/done \
         pay=OUT_TRADE_NO_USED reverse=Done",
    ),
    (
        "A13 payer mismatch",
        "pay a:A13! +5s q:paid",
        "ACCEPTED SEND ACCEPTED/foreign !number_taken query@5000 ACCEPTED/foreign/number_taken !number_taken",
    ),
    (
        "A13 refund",
        "pay a:A13 +5s q:refund",
        "ACCEPTED SEND ACCEPTED/contested !number_taken query@5000 ACCEPTED/contested/number_taken \
         !number_taken",
    ),
    (
        "A13 after the till reversed",
        "pay left +1s reverse +1s a:A13 +60s q:unpaid +120s q:unpaid",
        "ACCEPTED SEND REVERSING(till)/asked pay=ORDERREVERSED \
         REVERSING(till)/contested/number_taken/asked !number_taken !number_taken query@62000 query@182000 \
         REVERSED(till,B8)/contested/done reverse=Done",
    ),
    (
        "A13 after the till reversed, and a restart",
        "pay left +1s reverse +1s a:A13 mark crash q:unpaid +60s q:unpaid",
        "CRASH REVERSING(till)/contested/number_taken/asked query@2000 query@62000 \
         REVERSED(till,B8)/contested/done",
    ),
    (
        // Sent twice by a proxy, the first charged: the money is this order's own, so the reversal goes on.
        "A12 after the till reversed, and it was paid",
        "pay left +1s reverse +1s a:A12 +60s q:paid +60s r:done q:refund l:full",
        "ACCEPTED SEND REVERSING(till)/asked pay=ORDERREVERSED \
         REVERSING(till)/contested/number_taken/asked !number_taken !number_taken query@62000 \
         REVERSING(till)/asked reverse@62000 query@122000 refundquery@122000 REVERSED(till,C1)/done reverse=Done",
    ),
    (
        "A12 after the till reversed, and it was returned",
        "pay left +1s reverse +1s a:A12 +60s q:refund l:full",
        "ACCEPTED SEND REVERSING(till)/asked pay=ORDERREVERSED \
         REVERSING(till)/contested/number_taken/asked !number_taken !number_taken query@62000 \
         REVERSING(till)/asked refundquery@62000 REVERSED(till,C1)/done reverse=Done",
    ),
    (
        "A12 after the till reversed, the money is not provably its own",
        "pay left +1s reverse +1s a:A12 +60s q:paid:old +120s q:refund:999 +240s q:paid:stranger",
        "ACCEPTED SEND REVERSING(till)/asked pay=ORDERREVERSED \
         REVERSING(till)/contested/number_taken/asked !number_taken !number_taken query@62000 query@182000 \
         query@422000",
    ),
    (
        "A13 after the till reversed, another payer's money",
        "pay left +1s reverse +1s a:A13! +60s q:paid +120s q:refund",
        "ACCEPTED SEND REVERSING(till)/asked pay=ORDERREVERSED \
         REVERSING(till)/foreign/number_taken/asked !number_taken !number_taken query@62000 query@182000",
    ),
    (
        "A12 after the till reversed, it was paid, and a restart",
        "pay left +1s reverse +1s a:A12 mark crash q:paid crash +15s r:done q:refund l:full",
        "CRASH REVERSING(till)/contested/number_taken/asked query@2000 REVERSING(till)/asked CRASH \
         REVERSING(till)/asked reverse@15000 query@17000 refundquery@17000 REVERSED(till,C1)/done",
    ),
    ("A14", "pay a:A14", "ACCEPTED SEND FAILED(A14) pay=ORDERCLOSED"),
    (
        "A14 G5 the money may be another's",
        "pay left +5s a:A14 q:paid",
        "ACCEPTED SEND query@5000 FAILED(A14) pay=ORDERCLOSED !late_success",
    ),
    ("A15", "pay a:A15", "ACCEPTED SEND FAILED(A15) pay=NOAUTH !misconfigured"),
    (
        "A15 G5",
        "pay left +5s a:A15 q:paid f:accepted +10s l:success",
        "ACCEPTED SEND query@5000 FAILED(A15) pay=NOAUTH !misconfigured FAILED(A15)/repair/looks1 \
         !late_success !repair_refund refund@5000 refundquery@15000 FAILED(A15,D7)/repair",
    ),
    (
        "A16",
        "pay a:A16 q*:unclear +44999 q*: +1 q:unclear",
        "ACCEPTED SEND lastquery@45000 REVERSING(deadline) pay=ORDERREVERSED reverse@45000",
    ),
    (
        "A17",
        "pay a:A17 q*:odd +44999 q*: +1 q:odd",
        "ACCEPTED SEND lastquery@45000 REVERSING(deadline) pay=ORDERREVERSED reverse@45000",
    ),
];
