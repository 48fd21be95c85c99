//! What bounds an exploration: how much of each thing may happen on one path.

use serde::Serialize;
use state_machine::Policy;

/// How often each thing may happen on one path, over all orders. Everything that costs nothing here (a customer
/// who pays, an answer that is slow, a commit that is late) may happen at any moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Bounds {
    /// Payments, 1 or 2.
    pub orders: u8,
    /// The process dies and comes back at once: what was not durable is lost, or reached the disk and its
    /// acknowledgement is lost.
    pub crashes: u8,
    /// The same, and the machine boots: no tick of before means anything any more.
    pub reboots: u8,
    /// A second process opens the store while the first goes on; the first writes once more.
    pub takeovers: u8,
    /// Time passes while a batch is on its way to the disk.
    pub stalls: u8,
    /// A request or its answer is lost, or a pay request is not sent in time (proven unsent).
    pub losses: u8,
    /// The wallet misbehaves: SYSTEMERROR with or without money, an unsigned refusal with or without money, a
    /// number taken by somebody else or said to be, not-found for what is there, `recall` Y, a dialog that
    /// stops a reversal, a reversal refused for its age, PAYERROR of a payment that took money.
    pub faults: u8,
    /// A pay request reaches the wallet after its connection was closed.
    pub late: u8,
    /// A pay request arrives twice, or an answer is handed to the shard twice, the second time whenever it likes.
    pub duplicates: u8,
    /// Reversals that tills ask for, also of numbers that were never seen.
    pub reversals: u8,
    /// Requests to pay that a till repeats.
    pub repeats: u8,
    /// Tills that hang up while they wait. With any, the merchant wants back what no till asks about.
    pub absences: u8,
}

impl Bounds {
    /// One order and nothing that breaks.
    pub const CALM: Self = Self {
        orders: 1,
        crashes: 0,
        reboots: 0,
        takeovers: 0,
        stalls: 0,
        losses: 0,
        faults: 0,
        late: 0,
        duplicates: 0,
        reversals: 0,
        repeats: 0,
        absences: 0,
    };

    /// Small bounds of one order in which most kinds of event occur: a second or two. For all kinds,
    /// [`crate::check::explore_quick`].
    #[must_use]
    pub const fn quick() -> Self {
        Self { crashes: 1, losses: 1, reversals: 1, ..Self::CALM }
    }

    /// Each with its name: for tables.
    #[must_use]
    pub const fn named(&self) -> [(&'static str, u8); 12] {
        [
            ("orders", self.orders),
            ("crashes", self.crashes),
            ("reboots", self.reboots),
            ("takeovers", self.takeovers),
            ("stalls", self.stalls),
            ("losses", self.losses),
            ("faults", self.faults),
            ("late", self.late),
            ("duplicates", self.duplicates),
            ("reversals", self.reversals),
            ("repeats", self.repeats),
            ("absences", self.absences),
        ]
    }

    /// The bound called `name`.
    pub fn named_mut(&mut self, name: &str) -> Option<&mut u8> {
        Some(match name {
            "orders" => &mut self.orders,
            "crashes" => &mut self.crashes,
            "reboots" => &mut self.reboots,
            "takeovers" => &mut self.takeovers,
            "stalls" => &mut self.stalls,
            "losses" => &mut self.losses,
            "faults" => &mut self.faults,
            "late" => &mut self.late,
            "duplicates" => &mut self.duplicates,
            "reversals" => &mut self.reversals,
            "repeats" => &mut self.repeats,
            "absences" => &mut self.absences,
            _ => return None,
        })
    }
}

/// How long a till of the model may be absent, milliseconds: over the guard, and under the deadline, so that each can
/// come first.
pub(crate) const ABSENT_AFTER_MS: u64 = 20_000;

/// The clocks of the model: those of production, but for the pause between two queries, so that an order is asked
/// three times before its deadline and not forty.
#[must_use]
pub fn policy() -> Policy {
    Policy { query_gap_ms: 20_000, ..Policy::default() }
}
