//! What must be reached, or the bounds are too narrow to prove anything: each end of a payment, by its cause or
//! its proof.

use protocol::fact::Row;
use state_machine::Record;
use state_machine::record::{Cause, Held, State, TillReversal};

use crate::machine::Machine;
use crate::world::World;

/// Something that some state shows.
pub(crate) struct Probe {
    /// What.
    pub(crate) name: &'static str,
    /// Whether this state does.
    pub(crate) shows: fn(&Machine, &World) -> bool,
}

fn any(world: &World, shows: impl Fn(&Record) -> bool) -> bool {
    world.sides.iter().filter_map(|side| side.page.durable.as_deref()).any(shows)
}

fn decided(world: &World, state: State, cause: Cause) -> bool {
    any(world, |record| record.state == state && record.cause == Some(cause))
}

fn proven(world: &World, proof: Row) -> bool {
    any(world, |record| record.state == State::Reversed && record.proof == Some(proof))
}

macro_rules! probes {
    ($($name:literal: |$world:ident| $shows:expr,)*) => {
        /// Every probe.
        pub(crate) const ALL: &[Probe] = &[$(Probe { name: $name, shows: |_, $world| $shows },)*];
    };
}

probes! {
    "paid by the answer (A6)": |world| decided(world, State::Paid, Cause::Row(Row::A6)),
    "paid by a query (B4)": |world| decided(world, State::Paid, Cause::Row(Row::B4)),
    "failed unsent (A1)": |world| decided(world, State::Failed, Cause::Row(Row::A1)),
    "failed by a refusal (A9)": |world| decided(world, State::Failed, Cause::Row(Row::A9)),
    "failed, number taken (A12)": |world| decided(world, State::Failed, Cause::Row(Row::A12)),
    "reversing, unsigned refusal (A3)": |world| decided(world, State::Reversing, Cause::Row(Row::A3)),
    "reversing, not found (B3)": |world| decided(world, State::Reversing, Cause::Row(Row::B3)),
    "reversing, PAYERROR (B7)": |world| decided(world, State::Reversing, Cause::Row(Row::B7)),
    "reversing, deadline": |world| decided(world, State::Reversing, Cause::Deadline),
    "reversing, absent till": |world| decided(world, State::Reversing, Cause::AbsentTill),
    "reversing, till": |world| decided(world, State::Reversing, Cause::Till),
    "closed before its payment came": |world| decided(world, State::Reversed, Cause::Overtaken),
    "reversed, unsent (A1)": |world| proven(world, Row::A1),
    "reversed, shown (B8)": |world| proven(world, Row::B8),
    "reversed, too old and unpaid (C6)": |world| proven(world, Row::C6),
    "reversed by absence (C9)": |world| proven(world, Row::C9),
    "repair refund proven (D7)": |world| proven(world, Row::D7),
    "paid, and reversed by its till": |world| any(world, |record| {
        record.state == State::Paid && record.till_reversal == TillReversal::Done
    }),
    "held, number taken": |world| any(world, |record| record.held == Some(Held::NumberTaken)),
    "a process writes that lost the store": |world| world.stale.as_ref().is_some_and(|stale| {
        stale.batch.as_ref().is_some_and(|batch| batch.outcomes.is_none())
    }),
    "paid while it is being reversed (UB-03)": |world| world.sides.iter().any(|side| {
        side.wallet.holds_money() && side.page.state() == Some(State::Reversing)
    }),
    "money came after the answer was given up": |world| world.sides.iter().any(|side| {
        side.wallet.holds_money() && side.fog.is_some_and(|fog| fog < timer_wheel::Tick::MAX)
            && side.page.state().is_some_and(State::is_undecided)
    }),
}
