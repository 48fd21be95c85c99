//! What breaks, when, and for how long.

use super::kind::{Kind, Step};
use super::{Event, World};
use crate::rng::Rng;

/// What is broken at the moment.
#[derive(Clone, Debug)]
pub(super) struct Weather {
    /// Faults of each kind that last.
    active: [u16; Kind::ALL.len()],
    /// The step at which the process is killed next, and how often it is passed before.
    pub(super) armed: Option<(Step, u64)>,
    /// How often single messages are lost now and then, besides; 0: never.
    pub(super) drizzle: u64,
    /// What bends the wall clock at the moment, by how much.
    steps_ms: [i64; 2],
}

impl Weather {
    pub(super) const fn new(drizzle: u64) -> Self {
        Self { active: [0; Kind::ALL.len()], armed: None, drizzle, steps_ms: [0; 2] }
    }

    pub(super) fn is(&self, kind: Kind) -> bool {
        self.active.get(kind.index()).is_some_and(|active| *active > 0)
    }

    fn count(&mut self, kind: Kind) -> Option<&mut u16> {
        self.active.get_mut(kind.index())
    }

    /// Ends a fault that acts once.
    pub(super) fn clear(&mut self, kind: Kind) {
        if let Some(active) = self.count(kind) {
            *active = 0;
        }
    }

    /// How far the wall clock is off.
    pub(super) const fn wall_offset_ms(&self) -> i64 {
        let [forward, back] = self.steps_ms;
        forward.saturating_add(back)
    }
}

/// One fault of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    pub(super) kind: Kind,
    pub(super) lasts_ms: u64,
}

impl World {
    /// Draws the faults of the run; all of them end before the calm does begin.
    pub(super) fn schedule_faults(&mut self, count: u64, calm_at: u64) {
        for _ in 0..count {
            let draw = self.rng.faults.below(u64::try_from(Kind::ALL.len()).unwrap_or(1));
            let drawn = Kind::ALL.get(usize::try_from(draw).unwrap_or(0)).copied().unwrap_or(Kind::Crash);
            let kind = self.setup.only.unwrap_or(drawn);
            let at = self.rng.faults.below(calm_at.max(1));
            let longest_ms = kind.longest_ms();
            // Short ones are as likely as long ones.
            let scale = [longest_ms, longest_ms / 8, longest_ms / 64];
            let scale = scale[usize::try_from(self.rng.faults.below(3)).unwrap_or(0)];
            let lasts_ms = (30 + self.rng.faults.below(scale + 1)).min(calm_at - at);
            self.at(at, Event::Fault(Fault { kind, lasts_ms }));
        }
    }

    /// The process dies when all payments have begun, and then the wallet is out of reach for half an hour. Returns
    /// when that is over.
    pub(super) fn schedule_outage(&mut self, all_begun_at: u64) -> u64 {
        let outage_ms = Kind::Outage.longest_ms();
        let (crash_at, outage_at) = (all_begun_at, all_begun_at + 4_000);
        self.at(crash_at, Event::Fault(Fault { kind: Kind::Crash, lasts_ms: 1_500 }));
        self.at(outage_at, Event::Fault(Fault { kind: Kind::Outage, lasts_ms: outage_ms }));
        outage_at + outage_ms + 1
    }

    pub(super) fn on_fault(&mut self, fault: Fault) {
        let Fault { kind, lasts_ms } = fault;
        self.judge.probes.fault(kind.as_str());
        self.note_all(|| format!("fault: {} for {lasts_ms} ms", kind.as_str()));
        match kind {
            Kind::Crash => self.crash(lasts_ms, false),
            Kind::Reboot => self.crash(lasts_ms + 5_000, true),
            Kind::DamagedRows => {
                self.damage_rows();
                self.crash(lasts_ms, false);
            }
            Kind::CrashAtStep => {
                let draw = self.rng.faults.below(u64::try_from(Step::ALL.len()).unwrap_or(1));
                let step = Step::ALL.get(usize::try_from(draw).unwrap_or(0)).copied();
                self.weather.armed = step.map(|step| (step, self.rng.faults.below(20)));
            }
            Kind::Restart => self.drain(lasts_ms),
            Kind::Freeze | Kind::Suspend => self.freeze(lasts_ms),
            Kind::ClockForward | Kind::ClockBack => {
                let step_ms = i64::try_from(self.rng.faults.below(3_600_000)).unwrap_or(0);
                let [forward, back] = &mut self.weather.steps_ms;
                if kind == Kind::ClockForward { *forward = step_ms } else { *back = -step_ms }
            }
            Kind::SecondWriter => self.usurp(),
            Kind::TornTail
            | Kind::SyncFails
            | Kind::StoreBusy
            | Kind::DiskFull
            | Kind::StoreSlow
            | Kind::LateTimers
            | Kind::WalletDown
            | Kind::Outage
            | Kind::RequestsLost
            | Kind::AnswersLost
            | Kind::Storm
            | Kind::LatePay
            | Kind::Duplicates
            | Kind::PayTwice
            | Kind::WalletSlow
            | Kind::Certificate
            | Kind::UnsignedRefusals
            | Kind::Pages
            | Kind::Corrupt
            | Kind::Crossed
            | Kind::Throttles
            | Kind::OddRefusals
            | Kind::StaleQueries
            | Kind::UnknownFields
            | Kind::OldKey
            | Kind::Crowd
            | Kind::Flood
            | Kind::RetryStorm
            | Kind::TillsLost => {}
        }
        if let Some(active) = self.weather.count(kind) {
            *active += 1;
        }
        self.later(lasts_ms, Event::Clears(kind));
    }

    pub(super) fn on_clears(&mut self, kind: Kind) {
        if let Some(active) = self.weather.count(kind) {
            *active = active.saturating_sub(1);
        }
        for (step_ms, of) in self.weather.steps_ms.iter_mut().zip([Kind::ClockForward, Kind::ClockBack]) {
            if kind == of && self.weather.active.get(of.index()) == Some(&0) {
                *step_ms = 0;
            }
        }
    }

    /// From here on nothing breaks any more.
    pub(super) fn on_calm(&mut self) {
        self.note_all(|| "calm".to_owned());
        self.weather = Weather::new(0);
        self.is_calm = true;
        self.reasons.on_calm(self.now);
    }

    /// Kills the process if this is the step that was chosen. Says whether it did.
    pub(super) fn passes(&mut self, step: Step) -> bool {
        match self.weather.armed {
            Some((armed, left)) if armed == step && left == 0 => {
                self.weather.armed = None;
                self.judge.probes.fault(step.as_str());
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
        let per_mille = if self.weather.is(Kind::TillsLost) { 300 } else { 4 * self.weather.drizzle };
        Self::happens(&mut self.rng.tills, per_mille)
    }
}
