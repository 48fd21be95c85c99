//! *Record before act*: batches held back, refused, failed, and met by other records.

use super::check;
use super::rig::{Rig, key};
use crate::key::UnixMs;
use crate::record::State;
use crate::shard::{
    Action, Alarm, Batch, Fenced, Input, Outcome, PayRequest, ReverseRequest, Shard, Ticket, Wait,
};
use timer_wheel::Tick;

#[test]
fn nothing_leaves_before_its_record() {
    let _covers = covers::covers(&["INV-14"]);
    check(&[
        ("ACCEPTED", "hold pay +1h mark commit", "ACCEPTED SEND"),
        ("PAID", "pay hold a:A6 watch +1h mark commit", "PAID(A6) pay=SUCCESS watch=paid"),
        ("FAILED", "pay hold a:A14 +1h mark commit", "FAILED(A14) pay=ORDERCLOSED"),
        (
            "PENDING: nothing is asked meanwhile",
            "pay:first hold a:A7 +1h mark commit",
            "PENDING pay=USERPAYING lastquery@3600000",
        ),
        (
            "REVERSING: no reversal",
            "pay a:A7 +20s hold q:payerror +1h mark commit",
            "REVERSING(B7) pay=ORDERREVERSED !reversal_slow reverse@3620000",
        ),
        (
            "the last query's reversal keeps its room",
            "pay a:A7 q*:userpaying +44s q*: +1s hold q:userpaying +1h mark commit",
            "REVERSING(deadline) pay=ORDERREVERSED reverse@3645000 !reversal_slow",
        ),
        (
            "REVERSED",
            "pay a:A7 +20s q:payerror r:done reverse hold q:revoked +1h mark commit",
            "REVERSED(B7,B8) reverse=Done",
        ),
        (
            "the repair refund",
            "pay a:A7 +20s q:payerror r:expired hold q:paid +1h mark commit",
            "REVERSING(B7)/repair !repair_refund !reversal_slow refund@3620000",
        ),
        (
            "the till's reversal of a PAID order",
            "pay a:A6 hold reverse +1h mark commit",
            "PAID(A6)/asked !reversal_slow reverse@3600000",
        ),
        (
            "held, and its alarm",
            "pay a:A8 +5s hold q:paid:999 +1h mark commit",
            "ACCEPTED/differs !differs query@3605000",
        ),
        (
            "what is decided while PENDING is not durable yet",
            "pay left +5s hold a:A7 q:paid mark commit commit",
            "PENDING PAID(B4) pay=SUCCESS",
        ),
        (
            "a queued query comes back after a record",
            "pay left +4999 hold a:A7 +1 mark commit q:paid commit",
            "PENDING query@5000 PAID(B4) pay=SUCCESS",
        ),
        (
            "the clocks run from the release",
            "hold pay +10m free left a:A7 q*:userpaying +44999 q*: +1 q:userpaying",
            "ACCEPTED SEND PENDING lastquery@645000 REVERSING(deadline) pay=ORDERREVERSED reverse@645000",
        ),
    ]);
}

#[test]
fn a_store_that_takes_no_records_closes_admission() {
    let _covers = covers::covers(&["DB-07", "INV-23"]);
    check(&[
        (
            "DB-07",
            "hold pay fail @2 pay reverse @1 +1h mark commit @2 pay commit",
            "ACCEPTED SEND ACCEPTED SEND",
        ),
        (
            "what is open goes on as far as it can",
            "pay hold a:A7 fail q*:unpaid +1h mark free +1s",
            "PENDING REVERSING(deadline) pay=ORDERREVERSED reverse@3600000",
        ),
    ]);
    let mut rig = Rig::new();
    rig.run("hold pay fail @2 pay reverse");
    assert_eq!(rig.words(), "refused=StoreBusy refused=StoreBusy");
}

#[test]
fn a_crash_before_the_record_is_durable_leaves_nothing() {
    let _covers = covers::covers(&["PR-01"]);
    check(&[
        ("PR-01", "hold pay crash free pay", "CRASH ACCEPTED SEND"),
        ("PR-02", "pay crash +5s q:notfound", "ACCEPTED SEND CRASH ACCEPTED query@5000"),
        (
            "PR-02: durable, and not released",
            "hold pay crash:torn +5s q:notfound",
            "CRASH ACCEPTED query@5000",
        ),
        (
            "PR-03",
            "pay left a:A7 crash +5s q:userpaying q*:userpaying +40s",
            "ACCEPTED SEND PENDING CRASH PENDING query@5000 REVERSING(deadline) reverse@45000",
        ),
        ("PR-04", "pay hold a:A6 crash free +5s q:paid", "ACCEPTED SEND CRASH ACCEPTED query@5000 PAID(B4)"),
        ("PR-05", "pay hold a:A6 crash:torn free pay", "ACCEPTED SEND CRASH discard PAID(A6) pay=ORDERPAID"),
        (
            "PR-06",
            "pay a:A7 +20s hold q:payerror crash:torn free r:done q:revoked",
            "ACCEPTED SEND PENDING query@5000 CRASH REVERSING(B7) reverse@20000 query@20000 REVERSED(B7,B8)",
        ),
        (
            "PR-07",
            "pay a:A7 +20s q:payerror r:done crash r:done q:revoked",
            "ACCEPTED SEND PENDING query@5000 REVERSING(B7) pay=ORDERREVERSED reverse@20000 query@20000 \
             CRASH REVERSING(B7) reverse@20000 query@20000 REVERSED(B7,B8)",
        ),
        (
            "a reboot loses T0: the guard starts again, D is due with it",
            "pay left a:A7 +14s reboot q:userpaying q*:userpaying +14999 q*: +1 q:userpaying",
            "ACCEPTED SEND PENDING query@5000 REBOOT PENDING query@14000 lastquery@29000 \
             REVERSING(deadline) reverse@29000",
        ),
        (
            "a restart keeps T0",
            "pay left a:A7 +14s crash q:userpaying q*:userpaying +30999 q*: +1 q:userpaying",
            "ACCEPTED SEND PENDING query@5000 CRASH PENDING query@14000 lastquery@45000 \
             REVERSING(deadline) reverse@45000",
        ),
        (
            "reversing, rebooted: the guard starts again",
            "pay a:A7 +20s q:payerror reboot +14999 +1 r:done q:revoked",
            "ACCEPTED SEND PENDING query@5000 REVERSING(B7) pay=ORDERREVERSED reverse@20000 REBOOT \
             REVERSING(B7) reverse@35000 query@35000 REVERSED(B7,B8)",
        ),
        (
            "contested, rebooted: two answers after the guard",
            "pay a:A13 reboot q:notfound q*:notfound +14s q*: +1s q:notfound",
            "ACCEPTED SEND ACCEPTED/contested !number_taken REBOOT ACCEPTED/contested query@0 query@15000 \
             FAILED(A13)/contested",
        ),
    ]);
}

fn request(number: u32) -> PayRequest {
    PayRequest {
        ticket: Ticket(u64::from(number)),
        key: key(number),
        provider: super::rig::PROVIDER,
        amount: protocol::Fen::new(super::facts::FEN).unwrap(),
        digest: [1; 16],
        attach: 0,
        wait: Wait::Definite,
        expires_at: None,
        till: 0,
        patience_ms: 0,
    }
}

/// A shard and the batch of its first payment.
fn begun() -> (Rig, Batch) {
    let mut rig = Rig::new();
    let now = rig.now();
    let batch = rig.shard.step([Input::Pay(request(1))], now).expect("the first record");
    (rig, batch)
}

fn drain(shard: &mut Shard) -> usize {
    std::iter::from_fn(|| shard.poll_action()).count()
}

#[test]
fn another_writer_fences_the_shard() {
    let _covers = covers::covers(&["INV-17"]);
    let (mut rig, batch) = begun();
    let now = rig.now();
    rig.shard.committed(batch.id, vec![Outcome::Applied], now).unwrap();
    let order = rig.shard.orders.find(&key(1)).expect("in memory");
    assert_eq!(drain(&mut rig.shard), 2, "published and sent");
    let (row, fact) = super::facts::pay("A6", now.wall);
    let reply = Input::PayReply { order, left_at: Some(now.tick), row, fact };
    let batch = rig.shard.step([reply], now).expect("PAID");
    let mut other = crate::Record::clone(&batch.records[0]);
    other.state = State::Reversing;
    let outcome = Outcome::Conflict(Box::new(other));
    assert_eq!(rig.shard.committed(batch.id, vec![outcome], now), Err(Fenced));
    assert_eq!(drain(&mut rig.shard), 0, "nothing is told or sent any more");
}

#[test]
fn a_batch_that_is_not_under_way_changes_nothing() {
    let (mut rig, batch) = begun();
    let now = rig.now();
    let other = crate::shard::BatchId(batch.id.0 + 7);
    rig.shard.failed(other);
    rig.shard.committed(other, vec![], now).unwrap();
    assert_eq!(drain(&mut rig.shard), 0);
    assert!(rig.shard.poll_batch().is_none(), "one batch at a time");
    rig.shard.failed(batch.id);
    rig.shard.failed(other);
    assert!(rig.shard.step([Input::Pay(request(2))], now).is_none());
    assert_eq!(drain(&mut rig.shard), 1, "refused: the store is still busy with the first");
    rig.shard.committed(batch.id, vec![Outcome::Applied], now).unwrap();
    assert_eq!(drain(&mut rig.shard), 2, "published and sent");
    rig.shard.committed(batch.id, vec![Outcome::Applied], now).unwrap();
    assert_eq!(drain(&mut rig.shard), 0, "once");
}

#[test]
#[should_panic(expected = "one outcome per record")]
fn outcomes_that_do_not_fit_their_batch_are_a_bug() {
    let (mut rig, batch) = begun();
    let now = rig.now();
    let _ = rig.shard.committed(batch.id, Vec::new(), now);
}

#[test]
fn ticks_of_another_boot_are_not_compared() {
    let _covers = covers::covers(&["INV-08", "INV-27"]);
    // The first boot had run for a year; the second has just begun.
    let mut rig = Rig::new();
    rig.run("pay left a:A7");
    let mut record = rig.durable(1).unwrap().clone();
    record.left_tick = Some(Tick::from_ms(u64::MAX / 2));
    record.accepted_tick = Tick::from_ms(u64::MAX / 2);
    record.accepted_at = UnixMs(0);
    let mut rig = Rig::new();
    rig.plant(record);
    rig.run("reboot q:userpaying q*:userpaying +14999 q*: +1 q:userpaying");
    assert_eq!(rig.words(), "REBOOT PENDING query@0 lastquery@15000 REVERSING(deadline) reverse@15000");
}

/// DB-11: a row that went bad under an open order stops that order, not the shard.
#[test]
fn a_damaged_row_stands_aside() {
    let _covers = covers::covers(&["DB-11", "PR-13"]);
    let (mut rig, batch) = begun();
    let now = rig.now();
    rig.shard.committed(batch.id, vec![Outcome::Applied], now).unwrap();
    let order = rig.shard.orders.find(&key(1)).expect("in memory");
    drain(&mut rig.shard);
    let (row, fact) = super::facts::pay("A6", now.wall);
    let reply = Input::PayReply { order, left_at: Some(now.tick), row, fact };
    let batch = rig.shard.step([reply], now).expect("PAID");
    // What the store shows for a row it cannot read: open, held, at the version that the row says.
    let stands_in = crate::Record {
        version: 1,
        held: Some(crate::record::Held::Differs),
        ..crate::Record::clone(&batch.records[0])
    };
    let stands_in = crate::Record { state: State::Pending, paid: None, cause: None, ..stands_in };
    rig.shard.committed(batch.id, vec![Outcome::Conflict(Box::new(stands_in))], now).unwrap();
    let actions: Vec<_> = std::iter::from_fn(|| rig.shard.poll_action()).collect();
    let told = actions.iter().filter(|action| matches!(action, Action::Answer { .. })).count();
    let alarmed = actions.iter().any(|a| matches!(a, Action::Alarm { alarm: Alarm::SetAside, .. }));
    assert!(alarmed && told == 0, "nobody is told that it is paid: {actions:?}");
    // A till that wants it reversed records nothing more, and others go on.
    let reversal = ReverseRequest { ticket: Ticket(9), key: key(1), provider: super::rig::PROVIDER };
    assert!(rig.shard.step([Input::Reverse(reversal)], now).is_none());
    assert!(rig.shard.step([Input::Pay(request(2))], now).is_some());
}
