//! A state of the model: store, processes, wallet, tills, and the books.

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use state_machine::Record;
use state_machine::record::State;
use state_machine::shard::{BatchId, Call, Frozen, Input, OrderRef, Outcome, canonical_record};
use store::memory::CrashStore;
use timer_wheel::Tick;

use crate::bounds::{ABSENT_AFTER_MS, Bounds};
use crate::judge::{Breach, Page};
use crate::machine::Machine;
use crate::wallet::{PayWord, Wallet, Word};

/// The most orders of a model.
pub(crate) const ORDERS_MAX: usize = 2;

/// The pay request of one order, in one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum PayLine {
    /// None is under way.
    #[default]
    Idle,
    /// Released: its first byte leaves until then, or not at all.
    Ready { order: OrderRef, by: Tick },
    /// It left. `word` once the wallet has it.
    Out { order: OrderRef, left_at: Tick, ends: Tick, word: Option<PayWord> },
}

/// A call of one order, in one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallLine {
    pub(crate) order: OrderRef,
    pub(crate) call: u32,
    pub(crate) kind: Call,
    /// When it is given up.
    pub(crate) ends: Tick,
    /// What the wallet answered, once it has it.
    pub(crate) word: Option<Word>,
}

/// An answer that was given once.
#[derive(Clone, Debug)]
pub(crate) struct Again {
    pub(crate) input: Input,
    pub(crate) pay: Option<PayWord>,
    pub(crate) call: Option<(Call, Option<Word>)>,
}

/// What one process has under way for one order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Line {
    pub(crate) pay: PayLine,
    pub(crate) call: Option<CallLine>,
    /// An answer that will be handed over a second time.
    pub(crate) again: Option<Again>,
    /// The process heard that the number is taken: from here it knows (A12, A13).
    pub(crate) heard_taken: bool,
    /// A spoiled driver takes the next query's answer from the reversal before it.
    pub(crate) believes: bool,
}

/// A batch on its way to the disk, and its outcomes once it is there.
#[derive(Clone, Debug)]
pub(crate) struct Handed {
    pub(crate) id: BatchId,
    pub(crate) records: Vec<Arc<Record>>,
    pub(crate) outcomes: Option<Vec<Outcome>>,
}

/// A process.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    /// `None` only while it is being stepped.
    pub(crate) shard: Option<Frozen>,
    pub(crate) batch: Option<Handed>,
    pub(crate) lines: [Line; ORDERS_MAX],
}

/// A pay request that is in the network without a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Loose {
    #[default]
    None,
    /// It had not arrived when its connection was closed: arriving costs [`Bounds::late`].
    Late,
    /// A second copy: paid for already.
    Copy,
}

/// One payment, outside of any process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Side {
    pub(crate) wallet: Wallet,
    pub(crate) loose: Loose,
    /// Until then a pay request may still arrive, and not-found proves nothing; `Tick::MAX` while its connection
    /// is open.
    pub(crate) fog: Option<Tick>,
    /// When a till asked to be paid, seconds.
    pub(crate) asked_s: Option<i64>,
    /// Requests of tills so far, and which of them wait for an answer.
    pub(crate) tickets: u8,
    pub(crate) waiting: u32,
    /// Which of these have hung up.
    pub(crate) gone: u32,
    pub(crate) page: Page,
}

/// A state.
#[derive(Clone, Debug)]
pub struct World {
    pub(crate) now: Tick,
    pub(crate) boot: u64,
    /// What may still happen.
    pub(crate) left: Bounds,
    pub(crate) store: CrashStore,
    pub(crate) live: Process,
    /// A process that lost the store and does not know it.
    pub(crate) stale: Option<Box<Process>>,
    pub(crate) sides: [Side; ORDERS_MAX],
    pub(crate) breach: Option<Box<Breach>>,
    /// The state's fingerprint, once it is whole.
    pub(crate) print: u64,
}

impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        self.print == other.print
    }
}

impl Eq for World {}

impl Hash for World {
    fn hash<H: Hasher>(&self, into: &mut H) {
        into.write_u64(self.print);
    }
}

/// The same in every run, so that a count is a count.
const SEEDS: ahash::RandomState = ahash::RandomState::with_seeds(0x4855_4655, 2, 3, 5);

impl World {
    /// Whether any rule was broken in the last step.
    #[must_use]
    pub fn breach(&self) -> Option<&Breach> {
        self.breach.as_deref()
    }

    /// Takes the fingerprint: of everything that can still make a difference, times as seen from the present.
    /// Orders do not know of each other's numbers, so that two states that differ only in which is which are one.
    pub(crate) fn seal(&mut self, machine: &Machine) {
        let mut parts = [0_u64; ORDERS_MAX];
        for (number, part) in parts.iter_mut().enumerate().take(machine.orders()) {
            let mut into = SEEDS.build_hasher();
            self.hash_order(number, machine, &mut into);
            *part = into.finish();
        }
        parts.sort_unstable();
        let mut into = SEEDS.build_hasher();
        (parts, self.left, self.boot, self.stale.is_some()).hash(&mut into);
        for process in self.processes() {
            process.batch.as_ref().map(|batch| batch.outcomes.is_some()).hash(&mut into);
        }
        self.breach.as_ref().map(|breach| &breach.rules).hash(&mut into);
        self.print = into.finish();
    }

    pub(crate) fn processes(&self) -> impl Iterator<Item = &Process> {
        std::iter::once(&self.live).chain(self.stale.as_deref())
    }

    fn hash_order(&self, number: usize, machine: &Machine, into: &mut impl Hasher) {
        let Some(side) = self.sides.get(number) else { return };
        let until = |tick: Tick| if tick == Tick::MAX { u64::MAX } else { tick.ms_since(self.now) };
        (side.wallet, side.loose, side.fog.map(until), side.asked_s.is_some()).hash(into);
        let page = &side.page;
        (page.sends.min(2), page.told_paid, page.told_failed, page.told_reversed, page.ordered).hash(into);
        let guard_ms = machine.policy().reversal_guard_ms;
        page.left_at.map(|left| guard_ms.saturating_sub(self.now.ms_since(left))).hash(into);
        match &page.durable {
            Some(record) => {
                canonical_record(record, machine.config(), self.now, into);
                record.version.saturating_sub(page.told).hash(into);
                // Of a paid order that is reversed the reversal itself tells its age.
                if record.is_open() && !side.is_held() && record.state != State::Paid {
                    self.now.ms_since(record.accepted_tick).hash(into);
                }
            }
            None => 0_u8.hash(into),
        }
        (side.waiting.count_ones(), (side.waiting & side.gone).count_ones()).hash(into);
        if machine.bounds().absences > 0 {
            // Held against moments of decisions at most so long ago.
            let ago = |at: Option<Tick>| at.map(|at| self.now.ms_since(at).min(ABSENT_AFTER_MS));
            (ago(page.asked_at), ago(page.there_at)).hash(into);
        }
        for process in self.processes() {
            let Some(line) = process.lines.get(number) else { return };
            match line.pay {
                PayLine::Idle => 0_u8.hash(into),
                PayLine::Ready { by, .. } => (1_u8, until(by)).hash(into),
                PayLine::Out { left_at, ends, word, .. } => {
                    (2_u8, self.now.ms_since(left_at), until(ends), word).hash(into);
                }
            }
            line.call.map(|call| (call.kind, until(call.ends), call.word)).hash(into);
            line.again.as_ref().map(|again| (again.pay, again.call)).hash(into);
            (line.believes, line.heard_taken).hash(into);
            if let Some(shard) = &process.shard {
                shard.canonical(machine.key(number), machine.config(), self.now, into);
            }
        }
    }
}
