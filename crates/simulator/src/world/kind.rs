//! The kinds of faults: one line each.

/// A kind of fault. Source: faults-and-invariants, NM, NU, UB, DB, PR, CK, OV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The process is killed at some moment (PR-03).
    Crash,
    /// Killed at a named step, such as before and after each send and each commit (PR-01 to PR-07, DB-01).
    CrashAtStep,
    /// The machine restarts: the tick clock begins again, under another boot.
    Reboot,
    /// The process drains and stops (PR-14).
    Restart,
    /// The process stands still for seconds (PR-09).
    Freeze,
    /// The machine is suspended for minutes (CK-05).
    Suspend,
    /// Killed in the middle of a commit, of which a part has reached the disk (DB-10).
    TornTail,
    /// The sync of a commit fails: whether it is durable is unknown, and the process ends (DB-01, DB-09).
    SyncFails,
    /// Another program holds the store (DB-12).
    StoreBusy,
    /// The disk is full (DB-07).
    DiskFull,
    /// Each commit takes about a second (DB-14).
    StoreSlow,
    /// After a crash some rows do not match their checksums (DB-11, PR-13).
    DamagedRows,
    /// A second process opens the store as its writer; the first is stale from then on (PR-16, INV-17).
    SecondWriter,
    /// Timers fire up to 5 s late, and inputs are taken as late (CK-07).
    LateTimers,
    /// Connections to the wallet are refused, or time out (NU-01).
    WalletDown,
    /// The same for half an hour (UB-20).
    Outage,
    /// Requests to the wallet vanish (NU-03, NU-09).
    RequestsLost,
    /// Answers of the wallet vanish (NU-03, NU-08, NU-09).
    AnswersLost,
    /// Half of everything is lost (NU-17).
    Storm,
    /// Pay requests arrive late, some after their connection was closed (NU-05).
    LatePay,
    /// Queries and reversals arrive twice, and out of order.
    Duplicates,
    /// Pay requests arrive twice, where a proxy on the way may repeat them (NU-06).
    PayTwice,
    /// The wallet takes seconds to answer (NU-11).
    WalletSlow,
    /// The client certificate is not accepted (NU-14).
    Certificate,
    /// Pay requests are refused without a signature (UB-06).
    UnsignedRefusals,
    /// Something in between answers with pages.
    Pages,
    /// Answers are cut off, changed, or lose their signature (NU-04).
    Corrupt,
    /// Answers are those of another request (NU-12).
    Crossed,
    /// The wallet throttles us (UB-19).
    Throttles,
    /// Refusals with codes that nobody has heard of, and orders that the wallet has closed by itself (UB-08).
    OddRefusals,
    /// Queries are answered by a copy that lags: paid, and still pending (UB-12).
    StaleQueries,
    /// Answers have fields that nobody has heard of (UB-23).
    UnknownFields,
    /// Answers are signed with the key before this one (UB-24).
    OldKey,
    /// The wall clock jumps forward by up to an hour, and back again (CK-01).
    ClockForward,
    /// The wall clock jumps back by up to an hour, and forward again (CK-02).
    ClockBack,
    /// Many customers at once (OV-01).
    Crowd,
    /// Many times what any quota allows (OV-01).
    Flood,
    /// Each till repeats itself dozens of times (OV-02, OV-05).
    RetryStorm,
    /// Connections to the tills break (NM-01).
    TillsLost,
}

/// What there is to know of a kind.
struct Line {
    /// Its name in reports and on the command line.
    name: &'static str,
    /// How long it lasts at most, in milliseconds.
    longest_ms: u64,
}

const fn line(name: &'static str, longest_ms: u64) -> Line {
    Line { name, longest_ms }
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 39] = [
        Self::Crash,
        Self::CrashAtStep,
        Self::Reboot,
        Self::Restart,
        Self::Freeze,
        Self::Suspend,
        Self::TornTail,
        Self::SyncFails,
        Self::StoreBusy,
        Self::DiskFull,
        Self::StoreSlow,
        Self::DamagedRows,
        Self::SecondWriter,
        Self::LateTimers,
        Self::WalletDown,
        Self::Outage,
        Self::RequestsLost,
        Self::AnswersLost,
        Self::Storm,
        Self::LatePay,
        Self::Duplicates,
        Self::PayTwice,
        Self::WalletSlow,
        Self::Certificate,
        Self::UnsignedRefusals,
        Self::Pages,
        Self::Corrupt,
        Self::Crossed,
        Self::Throttles,
        Self::OddRefusals,
        Self::StaleQueries,
        Self::UnknownFields,
        Self::OldKey,
        Self::ClockForward,
        Self::ClockBack,
        Self::Crowd,
        Self::Flood,
        Self::RetryStorm,
        Self::TillsLost,
    ];

    const fn line(self) -> Line {
        match self {
            Self::Crash => line("crash", 20_000),
            Self::CrashAtStep => line("crash_at_step", 20_000),
            Self::Reboot => line("reboot", 120_000),
            Self::Restart => line("restart", 5_000),
            Self::Freeze => line("freeze", 30_000),
            Self::Suspend => line("suspend", 600_000),
            Self::TornTail => line("torn_tail", 20_000),
            Self::SyncFails => line("sync_fails", 20_000),
            Self::StoreBusy => line("store_busy", 40_000),
            Self::DiskFull => line("disk_full", 300_000),
            Self::StoreSlow => line("store_slow", 60_000),
            Self::DamagedRows => line("damaged_rows", 20_000),
            Self::SecondWriter => line("second_writer", 5_000),
            Self::LateTimers => line("late_timers", 60_000),
            Self::WalletDown => line("wallet_down", 90_000),
            Self::Outage => line("outage", 1_800_000),
            Self::RequestsLost => line("requests_lost", 90_000),
            Self::AnswersLost => line("answers_lost", 90_000),
            Self::Storm => line("storm", 60_000),
            Self::LatePay => line("late_pay", 120_000),
            Self::Duplicates => line("duplicates", 120_000),
            Self::PayTwice => line("pay_twice", 120_000),
            Self::WalletSlow => line("wallet_slow", 30_000),
            Self::Certificate => line("certificate", 300_000),
            Self::UnsignedRefusals => line("unsigned_refusals", 30_000),
            Self::Pages => line("pages", 60_000),
            Self::Corrupt => line("corrupt", 60_000),
            Self::Crossed => line("crossed", 60_000),
            Self::Throttles => line("throttles", 120_000),
            Self::OddRefusals => line("odd_refusals", 30_000),
            Self::StaleQueries => line("stale_queries", 60_000),
            Self::UnknownFields => line("unknown_fields", 120_000),
            Self::OldKey => line("old_key", 120_000),
            Self::ClockForward => line("clock_forward", 120_000),
            Self::ClockBack => line("clock_back", 120_000),
            Self::Crowd => line("crowd", 4_000),
            Self::Flood => line("flood", 2_000),
            Self::RetryStorm => line("retry_storm", 5_000),
            Self::TillsLost => line("tills_lost", 60_000),
        }
    }

    /// Its name in reports and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.line().name
    }

    /// How long a fault of this kind lasts at most, in milliseconds.
    pub(super) const fn longest_ms(self) -> u64 {
        self.line().longest_ms
    }

    /// The kind of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

/// A step at which the process can be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A batch was handed to the store, which has not synced it.
    HandedOver,
    /// The batch is durable; nobody was told.
    Durable,
    /// The shard heard that it is durable; none of its actions was carried out.
    Acknowledged,
    /// A pay request is about to leave.
    BeforePay,
    /// A pay request has just left.
    AfterPay,
    /// A reversal is about to leave.
    BeforeReverse,
    /// A reversal has just left.
    AfterReverse,
    /// An answer of the wallet is here and has not been looked at.
    AnswerHere,
}

impl Step {
    pub(super) const ALL: [Self; 8] = [
        Self::HandedOver,
        Self::Durable,
        Self::Acknowledged,
        Self::BeforePay,
        Self::AfterPay,
        Self::BeforeReverse,
        Self::AfterReverse,
        Self::AnswerHere,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::HandedOver => "crash:handed_over",
            Self::Durable => "crash:durable",
            Self::Acknowledged => "crash:acknowledged",
            Self::BeforePay => "crash:before_pay",
            Self::AfterPay => "crash:after_pay",
            Self::BeforeReverse => "crash:before_reverse",
            Self::AfterReverse => "crash:after_reverse",
            Self::AnswerHere => "crash:answer_here",
        }
    }
}
