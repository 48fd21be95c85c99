//! Exploring to completion, with `stateright`.

use std::time::{Duration, Instant};

use serde::Serialize;
use state_machine::Policy;
use stateright::{Checker, HasDiscoveries, Model, Property};

use crate::bounds::{self, Bounds};
use crate::judge::Rule;
use crate::machine::{Machine, Step};
use crate::probes::ALL as PROBES;
use crate::spoil::Spoil;
use crate::world::World;

/// What an exploration found.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// What bounded it.
    pub bounds: Bounds,
    /// Distinct states.
    pub states: usize,
    /// States generated, those seen before included.
    pub generated: usize,
    /// The longest path.
    pub depth: usize,
    /// How long it took, milliseconds.
    pub took_ms: u64,
    /// Whether every state within the bounds was visited.
    pub complete: bool,
    /// Which probes were reached: ends of payments, and moments that matter.
    pub reached: Vec<&'static str>,
    /// The first path on which a rule did not hold.
    pub counterexample: Option<Path>,
}

/// A path on which a rule does not hold.
#[derive(Clone, Debug, Serialize)]
pub struct Path {
    /// The rules, by their ids, and what was seen.
    pub rules: Vec<(String, &'static str)>,
    /// Each step, with what followed from it, in words.
    pub steps: Vec<String>,
}

/// Which way a graph is walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    /// Shortest paths first: a counterexample is as short as can be.
    Breadth,
    /// Deepest first: a frontier of a few hundred states instead of millions.
    Depth,
}

impl Model for Machine {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![self.start()]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        self.steps(world, steps);
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        Some(self.after(world, step))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        macro_rules! always {
            ($($rule:ident)*) => {
                vec![$(Property::always(Rule::$rule.as_str(), |_, world: &World| world.holds(Rule::$rule)),)*]
            };
        }
        let mut properties = always!(OneCharge OnePayRequest SuccessSound SuccessStable FailureTrue DecideOnce NotEarly ReversalFinished
            NotFoundIsNotFailure Convergence NothingForgotten RecordBeforeAct LegalMoves OneActor
            AbsentTill StrangersMoney);
        properties.extend(PROBES.iter().map(|probe| Property::sometimes(probe.name, probe.shows)));
        properties
    }
}

impl World {
    /// Whether `rule` held in the step that led here.
    #[must_use]
    pub fn holds(&self, rule: Rule) -> bool {
        self.breach().is_none_or(|breach| breach.rules.iter().all(|(broken, _)| *broken != rule))
    }
}

/// The probes that none of `outcomes` reached: bounds so narrow prove less than they seem to.
#[must_use]
pub fn unreached(outcomes: &[&Outcome]) -> Vec<&'static str> {
    let reached = |name: &str| outcomes.iter().any(|outcome| outcome.reached.contains(&name));
    PROBES.iter().map(|probe| probe.name).filter(|name| !reached(name)).collect()
}

/// Explores every interleaving within `bounds`, of the automaton as it is.
#[must_use]
pub fn explore(bounds: &Bounds) -> Outcome {
    explore_spoiled(bounds, Spoil::Nothing)
}

/// The same, of an automaton that is spoiled.
#[must_use]
pub fn explore_spoiled(bounds: &Bounds, spoil: Spoil) -> Outcome {
    explore_with(bounds, bounds::policy(), spoil, Walk::Breadth, 1)
}

/// Explores each set of bounds of the quick profile until one yields a counterexample: a few seconds. For a test
/// that changes the automaton itself (a planted bug that is switched on) and wants to know whether the model sees
/// it. A panic of the automaton is a counterexample too (INV-15).
///
/// Returns what each exploration found; only the last can have a counterexample.
#[must_use]
pub fn explore_quick() -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for configuration in crate::profile::QUICK {
        let outcome = explore(&configuration.bounds);
        let found = outcome.counterexample.is_some();
        outcomes.push(outcome);
        if found {
            break;
        }
    }
    outcomes
}

/// The same, with these clocks, this walk, and on so many threads.
#[must_use]
pub fn explore_with(bounds: &Bounds, policy: Policy, spoil: Spoil, walk: Walk, threads: usize) -> Outcome {
    #[expect(clippy::disallowed_methods, reason = "how long a run took is for people")]
    let started = Instant::now();
    let machine = Machine::new(*bounds, policy, spoil);
    let builder = machine.clone().checker().threads(threads).finish_when(HasDiscoveries::AnyFailures);
    match walk {
        Walk::Breadth => outcome(&machine, &builder.spawn_bfs().join(), started),
        Walk::Depth => outcome(&machine, &builder.spawn_dfs().join(), started),
    }
}

fn outcome(machine: &Machine, checker: &impl Checker<Machine>, started: Instant) -> Outcome {
    let (probed, broken): (Vec<_>, Vec<_>) = checker
        .discoveries()
        .into_iter()
        .partition(|(name, _)| PROBES.iter().any(|probe| probe.name == *name));
    let mut reached: Vec<_> = probed.into_iter().map(|(name, _)| name).collect();
    reached.sort_unstable();
    let broken = broken.into_iter().map(|(rule, path)| (path.into_actions(), rule));
    let shortest = broken.min_by_key(|(steps, rule)| (steps.len(), *rule));
    let counterexample = shortest.map(|(steps, _)| tell(machine, &steps));
    Outcome {
        bounds: *machine.bounds(),
        states: checker.unique_state_count(),
        generated: checker.state_count(),
        depth: checker.max_depth(),
        took_ms: u64::try_from(started.elapsed().max(Duration::from_millis(1)).as_millis())
            .unwrap_or(u64::MAX),
        reached,
        complete: counterexample.is_none() && checker.is_done(),
        counterexample,
    }
}

/// Goes the path again and writes down what happens.
fn tell(machine: &Machine, steps: &[Step]) -> Path {
    let mut world = machine.start();
    let start = world.now;
    let mut lines = Vec::new();
    for step in steps {
        let mut notes = Vec::new();
        world = machine.after_noted(&world, *step, Some(&mut notes));
        let at = world.now.ms_since(start);
        let money: Vec<_> = world.sides.iter().take(machine.orders()).map(|side| side.wallet.order).collect();
        lines.push(format!("{at:>8} ms  {step:?}; wallet {money:?}"));
        lines.extend(notes.into_iter().map(|note| format!("             {note}")));
    }
    let rules = world.breach().map(|breach| breach.rules.clone()).unwrap_or_default();
    Path {
        rules: rules.into_iter().map(|(rule, what)| (rule.as_str().to_owned(), what)).collect(),
        steps: lines,
    }
}
