//! A crash after every step of every script: what was told stays true, and every order still ends.

use std::collections::HashMap;

use super::all_lines;
use super::rig::Rig;
use crate::key::OrderKey;
use crate::record::{Claim, Record, State, TillReversal};
use crate::shard::Call;

/// What the wallet has under every number when the process comes back; from there it is calm and honest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Truth {
    Absent,
    Unpaid,
    Asking,
    Paid,
    PayError,
    Closed,
    /// Somebody else's payment.
    Stranger,
    Revoked,
    Refunded,
}

impl Truth {
    pub(super) const BEGINNINGS: [Self; 7] =
        [Self::Absent, Self::Unpaid, Self::Asking, Self::Paid, Self::PayError, Self::Closed, Self::Stranger];

    /// Answers a call and lets it act.
    pub(super) fn answer(&mut self, call: Call) -> &'static str {
        match (call, *self) {
            (Call::Query | Call::LastQuery, Self::Absent) => "notfound",
            (Call::Query | Call::LastQuery, Self::Unpaid) => "unpaid",
            (Call::Query | Call::LastQuery, Self::Asking) => "userpaying",
            (Call::Query | Call::LastQuery, Self::Paid) => "paid",
            (Call::Query | Call::LastQuery, Self::PayError) => "payerror",
            (Call::Query | Call::LastQuery, Self::Closed) => "closed",
            (Call::Query | Call::LastQuery, Self::Stranger) => "paid:999",
            (Call::Query | Call::LastQuery, Self::Revoked) => "revoked",
            (Call::Query | Call::LastQuery, Self::Refunded) => "refund",
            (Call::Reverse, Self::Unpaid | Self::Asking | Self::Paid | Self::PayError) => {
                *self = Self::Revoked;
                "done"
            }
            (Call::Reverse, Self::Absent | Self::Closed | Self::Revoked) => "done",
            (Call::Reverse, Self::Stranger | Self::Refunded) => "refused",
            (Call::Refund, Self::Paid | Self::Refunded) => {
                *self = Self::Refunded;
                "accepted"
            }
            (Call::Refund, _) => "refused",
            (Call::RefundQuery, Self::Refunded) => "success",
            (Call::RefundQuery, _) => "none",
        }
    }
}

/// Lets the wallet be calm for three hours and holds the end against what was durable before.
pub(super) fn ends_well(mut rig: Rig, truth: Truth, why: &str) {
    let before = rig.all_durable();
    let too_late = ["r:expired", "+6d"].iter().any(|word| rig.diary().contains(word));
    let mut truths: HashMap<OrderKey, Truth> = HashMap::new();
    let at_most = 3 * 3_600_000;
    rig.calm(at_most, |key, call| truths.entry(key).or_insert(truth).answer(call));
    for (was, is) in before.iter().zip(rig.all_durable()) {
        let held_by = *truths.get(&was.key).unwrap_or(&truth);
        let judge = judgement(was, &is, truth, held_by == Truth::Paid, too_late);
        assert!(judge.is_ok(), "{} {truth:?} {why}\n{was:?}\n{is:?}\n{}", judge.unwrap_err(), rig.diary());
    }
}

fn judgement(
    was: &Record,
    is: &Record,
    truth: Truth,
    money: bool,
    too_late: bool,
) -> Result<(), &'static str> {
    let told = !was.state.is_undecided();
    if told && was.state != State::Reversing && is.state != was.state {
        return Err("what was told is forgotten");
    }
    if was.state == State::Reversing && !matches!(is.state, State::Reversing | State::Reversed) {
        return Err("decided twice");
    }
    if is.held.is_some() {
        // Only what contradicts itself is held.
        let contradicts = truth == Truth::Stranger || was.held.is_some() || is.claim != Claim::Ours;
        return if contradicts || is.repair { Ok(()) } else { Err("held for nothing") };
    }
    // A record that says PAID, or that money is to be given back, where the wallet knows of none; or a dialog
    // that is open where nothing can be reversed any more (C6): only asked about.
    let impossible = truth != Truth::Paid && (was.state == State::Paid || was.repair)
        || truth == Truth::Asking && too_late;
    if is.state.is_undecided() || is.state == State::Reversing && !impossible {
        return Err("not ended");
    }
    if is.state == State::Paid && is.till_reversal == TillReversal::Asked && !impossible {
        return Err("the till's reversal is not proven");
    }
    if !told && is.state == State::Paid && is.till_reversal == TillReversal::None && !money {
        return Err("paid without money");
    }
    // What had ended before is not looked at again, but for the looks of C9.
    let watched = !told || was.is_open();
    let unpaid = matches!(is.state, State::Failed | State::Reversed);
    if watched && unpaid && money && is.claim == Claim::Ours {
        return Err("failed, and the money is kept");
    }
    Ok(())
}

#[test]
fn a_crash_at_any_step_still_ends_definitely() {
    let _covers =
        covers::covers(&["INV-12", "INV-13", "PR-01", "PR-02", "PR-03", "PR-04", "PR-05", "PR-06", "PR-07"]);
    for (rows, script, _) in all_lines() {
        let words = script.split_whitespace().collect::<Vec<_>>();
        for steps in 1..=words.len() {
            for crash in ["crash", "crash:torn", "reboot"] {
                for truth in Truth::BEGINNINGS {
                    let mut rig = Rig::new();
                    rig.run(&words[..steps - 1].join(" "));
                    // The last step's batch is still under way when the process dies.
                    rig.slow = crash == "crash:torn";
                    rig.word(words[steps - 1]);
                    rig.slow = false;
                    rig.word(crash);
                    ends_well(rig, truth, &format!("{rows}: {script}, {crash} after {steps}"));
                }
            }
        }
    }
}

#[test]
fn the_same_scripts_without_a_crash_end_too() {
    for (rows, script, _) in all_lines() {
        for truth in Truth::BEGINNINGS {
            let mut rig = Rig::new();
            rig.run(script);
            ends_well(rig, truth, &format!("{rows}: {script}"));
        }
    }
}

#[test]
fn no_row_acts_before_its_record_however_late_the_store_is() {
    let _covers = covers::covers(&["INV-14"]);
    // The rig itself asserts it at every action; here every batch becomes durable one step late.
    for (rows, script, words) in all_lines() {
        let mut rig = Rig::new();
        rig.slow = true;
        rig.run(&script.replace(" a:", " +0 a:"));
        rig.word("+0");
        let sorted = |text: &str| {
            let mut words = text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            words.sort_unstable();
            words
        };
        assert_eq!(sorted(&rig.words()), sorted(words), "{rows}: {script}\n{}", rig.diary());
    }
}
