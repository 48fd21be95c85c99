//! Which checkers are run on which bug, and what came of it.

use std::time::Instant;

use clap::ValueEnum;
use planted::Bug;

use crate::checker::{Checker, Finding};
use crate::mutant::Mutant;

/// What finds nearly everything: a few hundred payments a seed.
const WORLD: Checker = Checker::World { orders: 300, bytes: false };
/// Few of them, for what never ends: a run is given up after so many steps for each.
const FEW: Checker = Checker::World { orders: 10, bytes: false };
/// More of them, until budgets run short.
const CROWDED: Checker = Checker::World { orders: 3_000, bytes: false };
/// The same world with real bytes.
const BYTES: Checker = Checker::World { orders: 300, bytes: true };

/// Everything that the product as it is must pass.
const ALL: [Checker; 7] = [WORLD, FEW, CROWDED, BYTES, Checker::Model, Checker::PowerCuts, Checker::Rows];

/// A checker, on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum By {
    /// The seeded world
    World,
    /// The seeded world with real XML and signatures
    Bytes,
    /// Every interleaving within small bounds
    Model,
    /// The store on a disk that loses what was not synced
    PowerCuts,
    /// The store with rows changed behind its back
    Rows,
}

impl By {
    const fn checkers(self) -> &'static [Checker] {
        match self {
            Self::World => &[FEW, WORLD, CROWDED],
            Self::Bytes => &[BYTES],
            Self::Model => &[Checker::Model],
            Self::PowerCuts => &[Checker::PowerCuts],
            Self::Rows => &[Checker::Rows],
        }
    }
}

/// One checker's work on one bug.
#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) checker: Checker,
    pub(crate) finding: Option<Finding>,
    pub(crate) ms: u128,
}

/// What became of one bug.
#[derive(Debug)]
pub(crate) struct Fate {
    pub(crate) mutant: Mutant,
    pub(crate) looks: Vec<Look>,
}

/// What became of all of them.
#[derive(Debug)]
pub(crate) struct Run {
    /// The product as it is.
    pub(crate) unspoiled: Vec<Look>,
    pub(crate) fates: Vec<Fate>,
}

impl Fate {
    /// The first finding that names a rule which the bug is known to break.
    pub(crate) fn found(&self) -> Option<(&Look, &Finding)> {
        self.looks.iter().find_map(|look| {
            let finding = look.finding.as_ref()?;
            self.mutant.breaks().contains(&finding.rule.as_str()).then_some((look, finding))
        })
    }
}

impl Run {
    /// Whether the product passed and every bug was found.
    pub(crate) fn passed(&self) -> bool {
        self.unspoiled.iter().all(|look| look.finding.is_none())
            && self.fates.iter().all(|fate| fate.found().is_some())
    }
}

/// The checkers that are run on a bug, in this order, until one finds it.
fn plan(mutant: Mutant) -> &'static [Checker] {
    match mutant {
        Mutant::Planted(Bug::SynchronousOff | Bug::SynchronousNormal | Bug::AcknowledgedEarly) => {
            &[Checker::PowerCuts]
        }
        Mutant::Planted(Bug::ChecksumNotChecked | Bug::DamageHidden | Bug::FenceIgnored) => &[Checker::Rows],
        // Rare: budgets that run short, and money that comes after the end.
        Mutant::Planted(Bug::Starved | Bug::LateSuccessDropped) => &[CROWDED],
        Mutant::Planted(Bug::PollsForEver | Bug::DeadlineLost) => &[FEW],
        // Payments of others under our number, and orders that a reversal does not find: the model has them.
        Mutant::Planted(Bug::OrderPaidReversed | Bug::ForeignMoneyTaken | Bug::AbsentAtOnce) => {
            &[Checker::Model]
        }
        // Where a few hundred payments a seed should not do, ten times as many.
        Mutant::Planted(_) | Mutant::Driver(_) => &[WORLD, CROWDED],
    }
}

#[expect(clippy::disallowed_methods, reason = "how fast a bug is found; nothing is decided by it")]
fn look(checker: Checker, mutant: Option<Mutant>, seeds: u64, jobs: usize) -> Look {
    let started = Instant::now();
    let finding = checker.find(mutant.and_then(Mutant::broken), seeds, jobs);
    Look { checker, finding, ms: started.elapsed().as_millis() }
}

/// Runs the product as it is, then every bug.
pub(crate) fn run(mutants: &[Mutant], seeds: u64, jobs: usize, by: Option<By>) -> Run {
    let all: &[Checker] = by.map_or(&ALL, By::checkers);
    let unspoiled = all.iter().map(|checker| look(*checker, None, seeds.min(16), jobs)).collect();
    let fates = mutants.iter().map(|mutant| fate(*mutant, seeds, jobs, by)).collect();
    Run { unspoiled, fates }
}

fn fate(mutant: Mutant, seeds: u64, jobs: usize, by: Option<By>) -> Fate {
    let _planted = mutant.plant();
    let mut fate = Fate { mutant, looks: Vec::new() };
    for checker in by.map_or_else(|| plan(mutant), By::checkers) {
        fate.looks.push(look(*checker, Some(mutant), seeds, jobs));
        if fate.found().is_some() {
            break;
        }
    }
    fate
}
