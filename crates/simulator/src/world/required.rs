//! What the seeds of the test command must meet at least once, and what they then have shown.

use super::kind::{Kind, Step};
use super::report::Summary;

/// A way to run the seeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Messages as values.
    Typed,
    /// XML written, signed, parsed and verified, both ways.
    Bytes,
    /// The embedded store.
    Sqlite,
    /// Everybody at once.
    Crowd,
}

impl Profile {
    /// Its name in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Typed => "typed",
            Self::Bytes => "bytes",
            Self::Sqlite => "sqlite",
            Self::Crowd => "crowd",
        }
    }
}

/// Pending payments that the crowd must come to.
pub const CROWD_PENDING_MIN: u64 = 50_000;

const STATES: [&str; 6] = ["ACCEPTED", "PENDING", "PAID", "FAILED", "REVERSING", "REVERSED"];

pub(super) const CAUSES: [&str; 19] = [
    "A1",
    "A3",
    "A6",
    "A9",
    "A11",
    "A12",
    "A13",
    "A14",
    "A15",
    "B3",
    "B4",
    "B7",
    "B8",
    "B9",
    "deadline",
    "till",
    "overtaken",
    "absent_till",
    "rescan",
];

pub(super) const PROOFS: [&str; 6] = ["A1", "B8", "C1", "C6", "C9", "D7"];

pub(super) const ROWS: [&str; 34] = [
    "A1", "A2", "A3", "A4", "A5", "A6", "A7", "A8", "A9", "A10", "A11", "A12", "A13", "A14", "A15", "A16",
    "A17", "B1", "B2", "B4", "B5", "B6", "B7", "B8", "B9", "C1", "C2", "C3", "C5", "C6", "C7", "C8", "D1",
    "D7",
];

pub(super) const TOLD: [&str; 19] = [
    "SUCCESS",
    "ORDERPAID",
    "REFUND",
    "USERPAYING",
    "PAYERROR",
    "ORDERREVERSED",
    "REVOKED",
    "OUT_TRADE_NO_USED",
    "ORDERNOTEXIST",
    "reverse:done",
    "reverse:call_again",
    "reverse:not_accepted",
    "reverse:too_old",
    "not_accepted:full",
    "not_accepted:throttled",
    "not_accepted:store_busy",
    "not_accepted:stopping",
    "not_accepted:suspended",
    "not_accepted:unsettled",
];

const OTHERS: [&str; 43] = [
    "answer_cut",
    "answer_not_verified",
    "answer_of_another_request",
    "commit_on_full_disk",
    "commit_slow",
    "commit_torn",
    "commit_while_busy",
    "debited_after_payerror",
    "differs",
    "fenced",
    "late_success",
    "next_customer",
    "next_customer_refused:paid",
    "looked_again",
    "misconfigured",
    "number_taken",
    "overtaken",
    "paid_unheard",
    "partly_refunded_on_platform",
    "partly_returned",
    "pay_delivered_twice",
    "repair_refund",
    "retried_dozens_of_times",
    "returned_upstream",
    "reversal_refused",
    "reversal_slow",
    "reversal_stuck",
    "reversal_swallowed_for_a_week",
    "row_damaged_at_start",
    "scan_refused:open",
    "scan_refused:paid",
    "scan_waited",
    "scanned_again",
    "set_aside",
    "stale_query",
    "store_resumed",
    "sync_failed:durable",
    "sync_failed:lost",
    "throttled",
    "timer_late",
    "unheard_of_code",
    "unknown_fields",
    "unsigned_refusal",
];

/// What `profile` must meet in its seeds and did not.
#[must_use]
pub fn missed(profile: Profile, summary: &Summary) -> Vec<String> {
    let probes = &summary.probes;
    let mut missed = Vec::new();
    let mut must = |family: &str, names: &[&'static str], met: &dyn Fn(&str) -> bool| {
        missed.extend(names.iter().filter(|name| !met(name)).map(|name| format!("{family} {name}")));
    };
    match profile {
        Profile::Typed => {
            must("fault", &Kind::ALL.map(Kind::as_str), &|name| probes.faults.contains_key(name));
            must("fault", &Step::ALL.map(Step::as_str), &|name| probes.faults.contains_key(name));
            must("state", &STATES, &|name| probes.states.contains_key(name));
            must("cause", &CAUSES, &|name| probes.causes.contains_key(name));
            must("proof", &PROOFS, &|name| probes.proofs.contains_key(name));
            must("row", &ROWS, &|name| probes.rows.contains_key(name));
            must("told", &TOLD, &|name| probes.told.contains_key(name));
            must("case", &OTHERS, &|name| probes.others.contains_key(name));
            missed.extend(
                (0..40).filter(|bb| !probes.customers.contains_key(bb)).map(|bb| format!("customer {bb:02}")),
            );
        }
        Profile::Bytes => {
            let cases = [
                "unknown_fields",
                "old_key",
                "answer_cut",
                "answer_not_verified",
                "answer_of_another_request",
            ];
            must("case", &cases, &|name| probes.others.contains_key(name));
        }
        Profile::Sqlite => {
            let cases = [
                "commit_torn",
                "sync_failed:durable",
                "sync_failed:lost",
                "fenced",
                "row_damaged_at_start",
                "set_aside",
            ];
            must("case", &cases, &|name| probes.others.contains_key(name));
        }
        Profile::Crowd => {
            must("case", &["recovered_many"], &|name| probes.others.contains_key(name));
            if summary.peak_pending < CROWD_PENDING_MIN {
                missed.push(format!("{CROWD_PENDING_MIN} pending, only {}", summary.peak_pending));
            }
        }
    }
    if profile != Profile::Crowd && summary.again == 0 {
        missed.push("a seed that is run twice".to_owned());
    }
    missed
}

/// What is shown where `profile` held every rule and met every case: the run would have failed if the expectation
/// of one of these had not held.
#[must_use]
pub const fn ids(profile: Profile) -> &'static [&'static str] {
    match profile {
        Profile::Typed => &[
            "INV-01", "INV-02", "INV-03", "INV-04", "INV-05", "INV-06", "INV-07", "INV-08", "INV-09",
            "INV-10", "INV-11", "INV-12", "INV-13", "INV-14", "INV-15", "INV-16", "INV-17", "INV-23",
            "INV-25", "INV-27", "INV-30", "NM-00", "NM-01", "NM-02", "NU-01", "NU-03", "NU-04", "NU-05",
            "NU-06", "NU-07", "NU-08", "NU-09", "NU-11", "NU-12", "NU-17", "UB-01", "UB-02", "UB-03",
            "UB-05", "UB-06", "UB-07", "UB-08", "UB-09", "UB-10", "UB-11", "UB-12", "UB-13", "UB-14",
            "UB-15", "UB-16", "UB-17", "UB-19", "UB-21", "DB-01", "DB-07", "DB-09", "DB-11", "DB-12",
            "DB-14", "PR-01", "PR-02", "PR-03", "PR-04", "PR-05", "PR-06", "PR-07", "PR-09", "PR-13",
            "PR-14", "PR-16", "CK-01", "CK-02", "CK-05", "CK-07", "OV-02", "OV-05",
        ],
        Profile::Bytes => &["INV-03", "INV-25", "UB-23", "UB-24", "NU-04", "NU-12"],
        Profile::Sqlite => &["INV-13", "INV-14", "INV-17", "DB-09", "DB-10", "DB-11", "PR-13", "PR-16"],
        Profile::Crowd => &["INV-12", "INV-23", "UB-20", "PR-15", "OV-04"],
    }
}
