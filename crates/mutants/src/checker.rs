//! The checkers, each run until its first finding.

use std::any::Any;
use std::panic::catch_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use simulator::world::{Broken, Setup, run};
use store::power_cut;

use crate::rows;

/// One checker, with what it is run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checker {
    /// The seeded world.
    World {
        /// Payments of each seed.
        orders: u32,
        /// Real XML and signatures.
        bytes: bool,
    },
    /// Every interleaving within small bounds.
    Model,
    /// The store on a disk that loses what was not synced.
    PowerCuts,
    /// The store with rows that are changed behind its back.
    Rows,
}

/// What a checker found.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    /// Where: `seed 3`, `life 7 after 2 cuts`.
    pub(crate) place: String,
    /// How much it had looked at by then: `812 events`.
    pub(crate) effort: String,
    /// The rule that did not hold, or `assert` where the product itself refused to go on.
    pub(crate) rule: String,
    /// What was seen.
    pub(crate) what: String,
}

impl Checker {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::World { bytes: false, .. } => "world",
            Self::World { bytes: true, .. } => "world, bytes",
            Self::Model => "model",
            Self::PowerCuts => "power cuts",
            Self::Rows => "changed rows",
        }
    }

    /// What it finds first; `None` if every rule holds.
    pub(crate) fn find(self, broken: Option<Broken>, seeds: u64, jobs: usize) -> Option<Finding> {
        match self {
            Self::World { orders, bytes } => first(seeds, jobs, &|seed| {
                let stops_at_first = true;
                world(&Setup { bytes, broken, stops_at_first, ..Setup::new(seed, orders) })
            }),
            Self::Model => modelled(),
            Self::PowerCuts => power_cuts(jobs),
            Self::Rows => rows::check().map(|(rule, what)| Finding {
                place: "script".to_owned(),
                effort: format!("{} rows", rows::ROWS),
                rule: rule.to_owned(),
                what,
            }),
        }
    }
}

/// The finding of the lowest seed that has one, whatever the number of threads.
fn first(seeds: u64, jobs: usize, check: &(dyn Fn(u64) -> Option<Finding> + Sync)) -> Option<Finding> {
    let (next, found) = (AtomicU64::new(0), Mutex::new(None::<(u64, Finding)>));
    let lowest = |bound: u64| match found.lock() {
        Ok(found) => found.as_ref().map_or(bound, |(seed, _)| *seed),
        Err(_) => 0,
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= lowest(seeds) {
                        return;
                    }
                    let Some(finding) = check(seed) else { continue };
                    if let Ok(mut found) = found.lock()
                        && found.as_ref().is_none_or(|(lowest, _)| seed < *lowest)
                    {
                        *found = Some((seed, finding));
                    }
                }
            });
        }
    });
    found.into_inner().ok().flatten().map(|(_, finding)| finding)
}

fn world(setup: &Setup) -> Option<Finding> {
    let place = format!("seed {} of {} orders", setup.seed, setup.orders);
    match catch_unwind(|| run(setup)) {
        Ok(report) => report.violations.first().map(|violation| Finding {
            place,
            effort: format!("{} events", violation.events),
            rule: violation.rule.to_owned(),
            what: violation.line(),
        }),
        Err(panic) => Some(Finding {
            place,
            effort: String::new(),
            rule: "assert".to_owned(),
            what: words(panic.as_ref()),
        }),
    }
}

/// What a panic said.
fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic").to_owned()
}

fn modelled() -> Option<Finding> {
    let outcomes = model::explore_quick();
    let states: usize = outcomes.iter().map(|outcome| outcome.states).sum();
    let counterexample = outcomes.into_iter().find_map(|outcome| outcome.counterexample)?;
    let (rule, what) = counterexample.rules.first().cloned()?;
    Some(Finding {
        place: format!("{} steps", counterexample.steps.len()),
        effort: format!("{states} states"),
        rule,
        what: what.to_owned(),
    })
}

fn power_cuts(jobs: usize) -> Option<Finding> {
    let setup = power_cut::Setup { cuts: 400, jobs, first_only: true, ..power_cut::Setup::default() };
    let report = match catch_unwind(|| power_cut::run(&setup)) {
        Ok(report) => report,
        Err(panic) => {
            return Some(Finding {
                place: format!("seed {}", setup.seed),
                effort: String::new(),
                rule: "assert".to_owned(),
                what: words(panic.as_ref()),
            });
        }
    };
    report.violations.first().map(|violation| Finding {
        place: format!("life {}", violation.seed),
        effort: format!("{} cuts", violation.cuts),
        rule: "INV-13".to_owned(),
        what: violation.what.clone(),
    })
}
