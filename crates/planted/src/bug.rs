//! What can be planted, and the switch that plants it.

use std::sync::atomic::{AtomicU8, Ordering};

macro_rules! bugs {
    ($(#[doc = $doc:literal] $bug:ident = $name:literal, breaks $($rule:literal),+;)*) => {
        /// One bug. What it does is what its comment says; `breaks` names the rules that then do not hold.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Bug { $(#[doc = $doc] $bug,)* }

        impl Bug {
            /// Every bug.
            pub const ALL: &'static [Self] = &[$(Self::$bug,)*];

            /// Its name in reports and on the command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$bug => $name,)* }
            }

            /// The rules that it breaks, as in faults-and-invariants; a checker must name one of them.
            #[must_use]
            pub const fn breaks(self) -> &'static [&'static str] {
                match self { $(Self::$bug => &[$($rule),+],)* }
            }

            /// What it does, in one line.
            #[must_use]
            pub const fn what(self) -> &'static str {
                match self { $(Self::$bug => $doc.trim_ascii_start(),)* }
            }
        }
    };
}

bugs! {
    // The wallet's answers.

    /// the amount that an answer names is not compared with ours
    AmountNotCompared = "amount-not-compared", breaks "INV-03", "INV-04";
    /// an answer about another order is taken for this one's
    OtherOrderTaken = "other-orders-answer-taken", breaks "INV-04", "INV-25";
    /// the signature of an answer is not looked at
    SignatureNotChecked = "signature-not-checked", breaks "INV-25", "INV-10";
    /// a pay request without an answer is told as failed
    TimeoutAsFailed = "submit-timeout-as-failed", breaks "INV-06", "INV-10", "INV-28", "INV-11";
    /// a refusal without a signature is believed
    UnsignedBelieved = "unsigned-refusal-believed", breaks "INV-06", "INV-10", "INV-25";
    /// SYSTEMERROR to a pay request is taken for a refusal
    SystemErrorAsRefusal = "systemerror-as-refusal", breaks "INV-06", "INV-10", "INV-28";
    /// an err_code that nobody knows is taken for a refusal
    UnknownCodeAsRefusal = "unknown-code-as-refusal", breaks "INV-06", "INV-10", "INV-28";
    /// USERPAYING is taken for a refusal
    PasswordAsRefusal = "userpaying-as-refusal", breaks "INV-06", "INV-10", "INV-28";

    // Waiting for the outcome.

    /// one query without a usable answer ends the waiting
    OneFailedQueryEnds = "one-failed-query-ends-waiting", breaks "INV-10";
    /// a query that finds no order makes it FAILED
    NotFoundAsFailed = "not-found-as-failed", breaks "INV-06", "INV-11", "INV-28";
    /// PAYERROR of a query makes it FAILED
    PayErrorAsFailed = "payerror-as-failed", breaks "INV-06", "INV-28";
    /// REFUND of a query is taken for all the money, without adding up
    PartAsWhole = "partial-refund-as-whole", breaks "INV-06", "INV-12", "INV-28";
    /// money that is found after the end is left with the wallet
    LateSuccessDropped = "late-success-dropped", breaks "INV-06";
    /// a number that the wallet says is paid is reversed
    OrderPaidReversed = "orderpaid-reversed", breaks "UB-09";
    /// whatever lies under a number that is taken counts as ours
    ForeignMoneyTaken = "foreign-payment-taken", breaks "INV-04", "UB-09";
    /// each word that the customer is asked begins the waiting anew
    PollsForEver = "poll-loop-never-ends", breaks "INV-12", "INV-18";
    /// nobody asks a last time before the order is reversed
    GapBeforeReversal = "gap-before-reversal", breaks "INV-08", "INV-10";

    // Reversing.

    /// a reversal that was decided never leaves
    ReversalNeverSent = "reversal-never-sent", breaks "INV-09", "INV-12", "INV-18";
    /// the reversal's own SUCCESS counts as proof
    ReversalOwnProof = "reversal-success-as-proof", breaks "INV-09", "INV-06", "INV-11";
    /// recall=Y is read as done
    RecallIgnored = "recall-ignored", breaks "INV-09", "INV-06";
    /// a reversal of an order that is not there yet counts as proof
    AbsentAtOnce = "absence-proven-at-once", breaks "INV-11", "INV-09";
    /// after three reversals nobody tries again
    ReversalGivesUp = "reversal-gives-up", breaks "INV-09", "INV-12";
    /// the reversal leaves as soon as it is decided
    GuardIgnored = "reversal-too-early", breaks "INV-08";
    /// a paid order is reversed although nobody asked
    PaidReversed = "paid-order-reversed", breaks "INV-05", "INV-07";

    // Tills that do not come back.

    /// money that its merchant wants back if no till asks is kept at once
    AbsenceNotHeld = "absence-not-held", breaks "absent-till";
    /// what is held back for want of a till is forgotten: it is neither kept nor given back
    AbsenceForgotten = "absence-forgotten", breaks "INV-12", "INV-18";
    /// a till that asks about money that is held back does not count
    ClaimIgnored = "claim-ignored", breaks "absent-till", "INV-12";
    /// money that was held back is told as paid to the till that asks, and goes back all the same
    ClaimedGivenBack = "claimed-and-given-back", breaks "INV-05", "INV-07";
    /// a till that has hung up counts as one that listens
    HungUpListens = "hung-up-till-listens", breaks "absent-till";
    /// a second scan is sent although the first one may still be charged.
    RescanIgnored = "rescan-ignored", breaks "rescan";
    /// a second scan is sent as soon as the first one is to be reversed, and not when that is proven.
    RescanUnproven = "rescan-before-the-proof", breaks "rescan";
    /// a paid first scan is out of the way although no till has heard of it.
    RescanUnheard = "paid-scan-that-nobody-heard-of-is-over", breaks "rescan";

    // Record before act.

    /// tills are answered from what is not durable yet
    ToldBeforeDurable = "told-before-durable", breaks "INV-14";
    /// what is not durable yet is shown to everybody
    ShownBeforeDurable = "shown-before-durable", breaks "INV-14";
    /// the pay request leaves before the order is durable
    PaidBeforeDurable = "pay-before-durable", breaks "INV-14";
    /// the reversal leaves before its decision is durable
    ReversedBeforeDurable = "reversal-before-durable", breaks "INV-07", "INV-14", "INV-05";
    /// after a restart the pay request is sent again
    PayResent = "pay-sent-again-at-restart", breaks "INV-01", "INV-02";
    /// after a restart no order has a deadline any more
    DeadlineLost = "deadline-lost-at-restart", breaks "INV-12", "INV-18";
    /// after a restart T0 is reckoned by the wall clock
    WallClockAtRestart = "wall-clock-at-restart", breaks "INV-08", "INV-27";
    /// after a restart only orders that are not being reversed are taken up
    ReversingNotRecovered = "reversing-not-taken-up", breaks "INV-09", "INV-12";
    /// a reversal of a number that has not come yet is answered and forgotten
    OvertakingForgotten = "overtaking-reversal-forgotten", breaks "INV-14", "INV-13";
    /// a record that the store refused counts as written
    ConflictIgnored = "conflict-ignored", breaks "INV-02", "INV-15", "INV-13", "INV-14", "INV-03";
    /// the store writes over whatever is there
    LastWriteWins = "last-write-wins", breaks "INV-15", "INV-03", "INV-07";
    /// requests that waited when a number turned out to be known are not answered
    WaitersForgotten = "waiters-forgotten", breaks "INV-16";
    /// the pause before the next reversal has no timer
    TimerDropped = "timer-dropped", breaks "INV-12", "INV-18";

    // Budgets.

    /// the wallet's quotas are not kept
    BudgetIgnored = "budget-ignored", breaks "budget";
    /// a query that finds no room is not asked any more
    Starved = "starved-without-room", breaks "INV-12", "INV-18";

    // What tills are told.

    /// an open payment is told as failed
    OpenAsFailed = "open-told-as-failed", breaks "INV-16", "INV-10", "INV-13", "INV-06";
    /// the till's reversal is told as done while it goes on
    ReversalToldDone = "reversal-told-done-early", breaks "INV-16", "INV-09", "INV-06";
    /// a repeat with other content is answered as the same
    OtherContentTaken = "other-content-taken", breaks "INV-16";
    /// a merchant's number leads to another merchant's payment
    OtherTenantShown = "other-tenants-payment-shown", breaks "INV-20";

    // The store.

    /// commits are not synced (synchronous=OFF)
    SynchronousOff = "synchronous-off", breaks "INV-13", "INV-14";
    /// commits are synced at the next checkpoint only (synchronous=NORMAL)
    SynchronousNormal = "synchronous-normal", breaks "INV-13", "INV-14";
    /// a batch is acknowledged before it is committed
    AcknowledgedEarly = "acknowledged-before-commit", breaks "INV-13", "INV-14";
    /// a writer that another has replaced goes on writing
    FenceIgnored = "fence-ignored", breaks "INV-17";
    /// the checksum of a row is not looked at
    ChecksumNotChecked = "checksum-not-checked", breaks "DB-11";
    /// a row that is damaged is passed over in silence
    DamageHidden = "damage-hidden", breaks "DB-11", "PR-13";
}

/// 0: none; else the planted bug's place in [`Bug::ALL`], from 1.
static PLANTED: AtomicU8 = AtomicU8::new(0);

/// Whether this bug is planted.
#[must_use]
#[inline]
pub fn is_planted(bug: Bug) -> bool {
    PLANTED.load(Ordering::Relaxed) == (bug as u8).wrapping_add(1)
}

/// A bug that is planted in the whole process as long as this lives.
#[derive(Debug)]
pub struct Planted(());

/// Plants a bug in the whole process. `None` while another is planted.
#[must_use]
pub fn plant(bug: Bug) -> Option<Planted> {
    let place = (bug as u8).wrapping_add(1);
    PLANTED.compare_exchange(0, place, Ordering::SeqCst, Ordering::SeqCst).ok().map(|_| Planted(()))
}

impl Drop for Planted {
    fn drop(&mut self) {
        PLANTED.store(0, Ordering::SeqCst);
    }
}

impl Bug {
    /// The bug of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|bug| bug.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Bug, is_planted, plant};

    #[test]
    fn names_are_unique_and_lead_back() {
        let names: BTreeSet<&str> = Bug::ALL.iter().map(|bug| bug.name()).collect();
        assert_eq!(names.len(), Bug::ALL.len());
        assert!(Bug::ALL.len() >= 30);
        for bug in Bug::ALL {
            assert_eq!(Bug::named(bug.name()), Some(*bug));
        }
    }

    #[test]
    fn one_at_a_time_and_none_by_itself() {
        let none = |except: Option<Bug>| Bug::ALL.iter().all(|bug| Some(*bug) == except || !is_planted(*bug));
        assert!(none(None));
        {
            let _planted = plant(Bug::TimeoutAsFailed).unwrap();
            assert!(is_planted(Bug::TimeoutAsFailed) && none(Some(Bug::TimeoutAsFailed)));
            assert!(plant(Bug::RecallIgnored).is_none());
        }
        assert!(none(None));
    }
}
