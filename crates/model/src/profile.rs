//! Named sets of bounds: what CI explores, and what a long run does.

use crate::bounds::Bounds;

/// Bounds with a name.
#[derive(Clone, Copy, Debug)]
pub struct Configuration {
    /// What it is about.
    pub name: &'static str,
    /// What bounds it.
    pub bounds: Bounds,
}

const fn of(name: &'static str, bounds: Bounds) -> Configuration {
    Configuration { name, bounds }
}

const ONE: Bounds = Bounds::CALM;
const TWO: Bounds = Bounds { orders: 2, ..Bounds::CALM };

/// What CI explores: under a minute on two cores.
pub const CI: &[Configuration] = &[
    of("everything once", Bounds { crashes: 1, losses: 1, faults: 1, late: 1, reversals: 1, ..ONE }),
    of("a faulty wallet", Bounds { crashes: 1, faults: 3, reversals: 1, ..ONE }),
    of("reboots and a slow disk", Bounds { reboots: 1, stalls: 1, losses: 1, reversals: 1, ..ONE }),
    of("late and twice", Bounds { losses: 1, late: 1, duplicates: 1, reversals: 1, repeats: 1, ..ONE }),
    of("two actors", Bounds { takeovers: 1, losses: 1, reversals: 1, ..ONE }),
    of("an absent till", Bounds { absences: 1, repeats: 1, crashes: 1, reversals: 1, ..ONE }),
    of("two orders, a reversal", Bounds { reversals: 1, ..TWO }),
    of("two orders, a crash", Bounds { crashes: 1, ..TWO }),
    of("two orders, a fault", Bounds { faults: 1, ..TWO }),
];

/// What a long run explores: minutes.
pub const LONG: &[Configuration] = &[
    of(
        "everything once",
        Bounds { crashes: 1, losses: 1, faults: 1, late: 1, duplicates: 1, reversals: 1, repeats: 1, ..ONE },
    ),
    of("a faulty wallet", Bounds { crashes: 1, faults: 3, reversals: 1, ..ONE }),
    of("reboots and a slow disk", Bounds { reboots: 1, stalls: 1, losses: 1, reversals: 1, ..ONE }),
    of(
        "an absent till",
        Bounds { absences: 1, repeats: 1, crashes: 1, losses: 1, faults: 1, reversals: 1, ..ONE },
    ),
    of("two actors, an absent till", Bounds { absences: 1, takeovers: 1, repeats: 1, ..ONE }),
    of("two actors, a crash", Bounds { takeovers: 1, crashes: 1, reversals: 1, ..ONE }),
    of("two actors, a fault", Bounds { takeovers: 1, losses: 1, faults: 1, ..ONE }),
    of("two orders, a crash, a reversal", Bounds { crashes: 1, reversals: 1, ..TWO }),
    of("two orders, late, a reversal", Bounds { losses: 1, late: 1, reversals: 1, ..TWO }),
    of("two orders, a fault", Bounds { faults: 1, ..TWO }),
];

/// What a test explores: a second or two.
pub const QUICK: &[Configuration] = &[
    of("crash and reversal", Bounds { crashes: 1, reversals: 1, ..ONE }),
    of("loss and late", Bounds { losses: 1, late: 1, reversals: 1, ..ONE }),
    of("wallet", Bounds { faults: 1, reversals: 1, ..ONE }),
    of("till", Bounds { repeats: 1, reversals: 1, duplicates: 1, ..ONE }),
    of("race", Bounds { takeovers: 1, ..ONE }),
    of("absence", Bounds { absences: 1, repeats: 1, crashes: 1, ..ONE }),
    of("two orders", TWO),
];
