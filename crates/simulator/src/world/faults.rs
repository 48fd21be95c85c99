//! What breaks, when, and for how long. Source: faults-and-invariants, NU, DB, PR, CK, OV.

use super::{Event, World};
use crate::rng::Rng;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The process is killed at some moment (PR-03).
    Crash,
    /// Killed at a named step: see [`Step`] (PR-01 to PR-07, DB-01).
    CrashAtStep,
    /// The machine restarts: the tick clock begins again, under another boot.
    Reboot,
    /// The process drains and stops (PR-14).
    Restart,
    /// The process, or the whole machine, stands still (PR-09, CK-05, CK-07).
    Freeze,
    /// The store takes no records (DB-07).
    StoreBusy,
    /// Each commit takes long (DB-14).
    StoreSlow,
    /// Connections to the wallet are refused, or time out (NU-01).
    WalletDown,
    /// Requests to the wallet vanish (NU-02).
    RequestsLost,
    /// Answers of the wallet vanish (NU-03).
    AnswersLost,
    /// Half of everything is lost (NU-17).
    Storm,
    /// Pay requests arrive late, some after their connection was closed (INV-11).
    LatePay,
    /// Queries and reversals arrive twice, and out of order.
    Duplicates,
    /// The wallet takes seconds to answer (NU-11).
    WalletSlow,
    /// The client certificate is not accepted (NU-14).
    Certificate,
    /// Pay requests are refused without a signature, because of it (A3).
    UnsignedRefusals,
    /// Something in between answers with pages (NU-07).
    Pages,
    /// The wall clock steps by up to an hour (CK-01, CK-02).
    ClockStep,
    /// Many customers at once (OV-01).
    Crowd,
    /// Connections to the tills break (NM-01).
    TillsLost,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 20] = [
        Self::Crash,
        Self::CrashAtStep,
        Self::Reboot,
        Self::Restart,
        Self::Freeze,
        Self::StoreBusy,
        Self::StoreSlow,
        Self::WalletDown,
        Self::RequestsLost,
        Self::AnswersLost,
        Self::Storm,
        Self::LatePay,
        Self::Duplicates,
        Self::WalletSlow,
        Self::Certificate,
        Self::UnsignedRefusals,
        Self::Pages,
        Self::ClockStep,
        Self::Crowd,
        Self::TillsLost,
    ];

    /// Its name in reports and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::CrashAtStep => "crash_at_step",
            Self::Reboot => "reboot",
            Self::Restart => "restart",
            Self::Freeze => "freeze",
            Self::StoreBusy => "store_busy",
            Self::StoreSlow => "store_slow",
            Self::WalletDown => "wallet_down",
            Self::RequestsLost => "requests_lost",
            Self::AnswersLost => "answers_lost",
            Self::Storm => "storm",
            Self::LatePay => "late_pay",
            Self::Duplicates => "duplicates",
            Self::WalletSlow => "wallet_slow",
            Self::Certificate => "certificate",
            Self::UnsignedRefusals => "unsigned_refusals",
            Self::Pages => "pages",
            Self::ClockStep => "clock_step",
            Self::Crowd => "crowd",
            Self::TillsLost => "tills_lost",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    const fn index(self) -> usize {
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

/// What is broken at the moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Weather {
    /// Faults of each kind that last.
    active: [u16; Kind::ALL.len()],
    /// The step at which the process is killed next, and how often it is passed before.
    pub(super) armed: Option<(Step, u64)>,
    /// Whether single losses happen now and then, besides.
    pub(super) drizzle: bool,
}

impl Weather {
    pub(super) fn new(drizzle: bool) -> Self {
        Self { drizzle, ..Self::default() }
    }

    pub(super) fn is(&self, kind: Kind) -> bool {
        self.active.get(kind.index()).is_some_and(|active| *active > 0)
    }
}

/// One fault of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    pub(super) kind: Kind,
    pub(super) lasts_ms: u64,
}

/// How long a fault of a kind lasts at most, in milliseconds.
const fn longest_ms(kind: Kind) -> u64 {
    match kind {
        Kind::Crash | Kind::CrashAtStep => 20_000,
        Kind::Reboot => 120_000,
        Kind::Restart => 5_000,
        Kind::Freeze => 30_000,
        Kind::StoreBusy => 40_000,
        Kind::StoreSlow | Kind::Pages => 60_000,
        Kind::WalletDown | Kind::RequestsLost | Kind::AnswersLost => 90_000,
        Kind::Storm | Kind::TillsLost => 60_000,
        Kind::LatePay | Kind::Duplicates => 120_000,
        Kind::WalletSlow | Kind::UnsignedRefusals => 30_000,
        Kind::Certificate => 300_000,
        Kind::ClockStep => 120_000,
        Kind::Crowd => 4_000,
    }
}

impl World {
    /// Draws the faults of the run; all of them end before the calm does begin.
    pub(super) fn schedule_faults(&mut self, count: u64, calm_at: u64) {
        for _ in 0..count {
            let draw = self.rng.faults.below(u64::try_from(Kind::ALL.len()).unwrap_or(1));
            let drawn = Kind::ALL.get(usize::try_from(draw).unwrap_or(0)).copied().unwrap_or(Kind::Crash);
            let kind = self.setup.only.unwrap_or(drawn);
            let at = self.rng.faults.below(calm_at.max(1));
            let longest_ms = longest_ms(kind);
            // Short ones are as likely as long ones.
            let scale = [longest_ms, longest_ms / 8, longest_ms / 64];
            let scale = scale[usize::try_from(self.rng.faults.below(3)).unwrap_or(0)];
            let lasts_ms = (30 + self.rng.faults.below(scale + 1)).min(calm_at - at);
            self.at(at, Event::Fault(Fault { kind, lasts_ms }));
        }
    }

    pub(super) fn on_fault(&mut self, fault: Fault) {
        let Fault { kind, lasts_ms } = fault;
        self.probes_fault(kind.as_str());
        self.note_all(|| format!("fault: {} for {lasts_ms} ms", kind.as_str()));
        match kind {
            Kind::Crash => self.crash(lasts_ms, false),
            Kind::Reboot => self.crash(lasts_ms + 5_000, true),
            Kind::CrashAtStep => {
                let draw = self.rng.faults.below(u64::try_from(Step::ALL.len()).unwrap_or(1));
                let step = Step::ALL.get(usize::try_from(draw).unwrap_or(0)).copied();
                self.weather.armed = step.map(|step| (step, self.rng.faults.below(20)));
            }
            Kind::Restart => self.drain(lasts_ms),
            Kind::Freeze => self.freeze(lasts_ms),
            Kind::ClockStep => {
                let step_ms = i64::try_from(self.rng.faults.below(7_200_000)).unwrap_or(0) - 3_600_000;
                self.wall_offset_ms = step_ms;
            }
            Kind::StoreBusy
            | Kind::StoreSlow
            | Kind::WalletDown
            | Kind::RequestsLost
            | Kind::AnswersLost
            | Kind::Storm
            | Kind::LatePay
            | Kind::Duplicates
            | Kind::WalletSlow
            | Kind::Certificate
            | Kind::UnsignedRefusals
            | Kind::Pages
            | Kind::Crowd
            | Kind::TillsLost => {}
        }
        if let Some(active) = self.weather.active.get_mut(kind.index()) {
            *active += 1;
        }
        self.later(lasts_ms, Event::Clears(kind));
    }

    pub(super) fn on_clears(&mut self, kind: Kind) {
        if let Some(active) = self.weather.active.get_mut(kind.index()) {
            *active = active.saturating_sub(1);
        }
        if kind == Kind::ClockStep && !self.weather.is(kind) {
            self.wall_offset_ms = 0;
        }
    }

    /// From here on nothing breaks any more.
    pub(super) fn on_calm(&mut self) {
        self.note_all(|| "calm".to_owned());
        self.weather = Weather::default();
        self.wall_offset_ms = 0;
        self.is_calm = true;
        self.reasons.on_calm(self.now);
    }

    /// Kills the process if this is the step that was chosen. Says whether it did.
    pub(super) fn passes(&mut self, step: Step) -> bool {
        match self.weather.armed {
            Some((armed, left)) if armed == step && left == 0 => {
                self.weather.armed = None;
                self.probes_fault(step.as_str());
                let down_ms = 30 + self.rng.faults.below(3_000);
                self.crash(down_ms, false);
                true
            }
            Some((armed, left)) if armed == step => {
                self.weather.armed = Some((armed, left - 1));
                false
            }
            Some(_) | None => false,
        }
    }

    /// Whether something happens that has a chance of `per_mille` in a thousand.
    pub(super) fn happens(rng: &mut Rng, per_mille: u64) -> bool {
        per_mille > 0 && rng.below(1_000) < per_mille
    }

    /// Whether the network between a till and the switch loses a message.
    pub(super) fn till_network_loses(&mut self) -> bool {
        let per_mille = if self.weather.is(Kind::TillsLost) {
            300
        } else if self.weather.drizzle {
            4
        } else {
            0
        };
        Self::happens(&mut self.rng.tills, per_mille)
    }
}
