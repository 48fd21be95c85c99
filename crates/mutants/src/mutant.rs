//! What is run: a planted bug of the product, or a driver that is broken on purpose.

use planted::{Bug, Planted, plant};
use simulator::world::Broken;

/// The product, spoiled in one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// A bug in the product's code.
    Planted(Bug),
    /// A bug in what drives it: the world's own driver is spoiled, since the production driver is not what the
    /// world runs.
    Driver(Broken),
}

impl Mutant {
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let drivers = Broken::ALL.iter().copied().map(Self::Driver);
        Bug::ALL.iter().copied().map(Self::Planted).chain(drivers)
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::all().find(|mutant| mutant.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Planted(bug) => bug.name(),
            Self::Driver(broken) => driver(broken).0,
        }
    }

    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::Planted(bug) => bug.what(),
            Self::Driver(broken) => driver(broken).1,
        }
    }

    /// The rules that it breaks: what finds it must name one of them.
    pub(crate) fn breaks(self) -> &'static [&'static str] {
        match self {
            Self::Planted(bug) => bug.breaks(),
            Self::Driver(broken) => driver(broken).2,
        }
    }

    /// Plants it in this process, as long as what is returned lives. `None` if it is the driver's, or if another
    /// is planted.
    pub(crate) fn plant(self) -> Option<Planted> {
        match self {
            Self::Planted(bug) => plant(bug),
            Self::Driver(_) => None,
        }
    }

    pub(crate) const fn broken(self) -> Option<Broken> {
        match self {
            Self::Planted(_) => None,
            Self::Driver(broken) => Some(broken),
        }
    }
}

/// Name, what it does, and what it breaks.
type Words = (&'static str, &'static str, &'static [&'static str]);

const fn driver(broken: Broken) -> Words {
    match broken {
        Broken::AcknowledgesEarly => (
            "driver-acknowledges-early",
            "the driver tells the shards of a commit before it is durable",
            &["INV-13", "INV-14", "INV-07"],
        ),
        Broken::LostAsUnsent => (
            "driver-calls-lost-unsent",
            "the driver reports a lost answer as a request that was never sent",
            &["INV-06", "INV-10"],
        ),
        Broken::PaysTwice => {
            ("driver-pays-twice", "the driver sends a pay request twice", &["INV-02", "INV-01"])
        }
        Broken::SwallowsReversals => (
            "driver-swallows-reversals",
            "the driver answers reversals by itself and sends none",
            &["INV-06", "INV-09"],
        ),
        Broken::ReversesEarly => {
            ("driver-reverses-by-itself", "the driver reverses a second after it paid", &["INV-07", "INV-08"])
        }
        Broken::TellsPaid => (
            "driver-tells-paid",
            "the driver tells half of those who are to wait that they are paid",
            &["INV-04", "INV-16", "INV-13"],
        ),
        Broken::ForgetsReplies => {
            ("driver-forgets-replies", "the driver drops one answer in twenty", &["INV-12", "INV-18"])
        }
    }
}
