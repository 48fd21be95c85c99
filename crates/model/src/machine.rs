//! The machine that is explored: production shard and store between an abstract wallet, tills and a scheduler
//! that does its worst.

use state_machine::absence::{Absence, Absences, AbsentTill};
use state_machine::key::{BootId, MerchantId, Now, OrderKey, ProviderId, UnixMs};
use state_machine::planner::Quota;
use state_machine::record::Held;
use state_machine::shard::{Call, Config, Shard};
use state_machine::{Policy, Record};
use store::memory::CrashStore;
use timer_wheel::Tick;

use crate::bounds::{self, Bounds};
use crate::judge::{Broken, Rule};
use crate::spoil::Spoil;
use crate::wallet::{Order, PayWord, Word};
use crate::world::{Line, Loose, ORDERS_MAX, PayLine, Process, Side, World};

/// The first moment: not 0, so that a clock that starts from a forgotten zero is seen.
const START_MS: u64 = 1_000_000;
/// Wall time at tick 0.
pub(crate) const WALL_MS: i64 = 1_795_400_000_000;
/// The provider of every payment.
pub(crate) const PROVIDER: ProviderId = ProviderId(1);
/// An order that is neither decided nor held after this was forgotten, whatever crashed meanwhile.
pub(crate) const OPEN_MAX_MS: u64 = 8 * 3_600_000;

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// A till asks to be paid.
    Pay(u8),
    /// A till repeats its request.
    Repeat(u8),
    /// A till orders the reversal.
    Reverse(u8),
    /// The tills that wait hang up.
    HangUp(u8),
    /// The first byte of the pay request leaves.
    PayLeaves(u8),
    /// The pay request reaches the wallet; whether the network keeps a copy.
    PayArrives(u8, PayWord, bool),
    /// The answer to the pay request reaches the process; whether it will once more.
    PayAnswered(u8, bool),
    /// A pay request arrives whose connection is closed, or a second copy; whether the customer is asked.
    LateArrives(u8, bool),
    /// A call reaches the wallet.
    CallArrives(u8, Word),
    /// The answer reaches the process; whether it will once more.
    CallAnswered(u8, bool),
    /// An answer is handed over a second time.
    Again(u8),
    /// The customer enters the password.
    CustomerPays(u8),
    /// The payment fails; whether the money is taken all the same.
    CustomerFails(u8, bool),
    /// The batch becomes durable.
    Commit,
    /// The process hears of it.
    Acknowledge,
    /// The process dies and comes back; whether the batch on its way is kept, and whether the machine boots.
    Crash {
        /// Kept.
        kept: bool,
        /// Boots.
        boot: bool,
    },
    /// A second process opens the store; the first does not know.
    TakeOver,
    /// The first process hears the answer to a call that it made before.
    StaleAnswered(u8),
    /// The first process hears that its batch is durable: it was, before it lost the store.
    StaleAcknowledge,
    /// The first process offers its batch.
    StaleCommit,
    /// Time passes, to the next thing that is due.
    Time,
}

/// What is explored: bounds, clocks, and what is spoiled.
#[derive(Clone, Debug)]
pub struct Machine {
    bounds: Bounds,
    config: Config,
    keys: [OrderKey; ORDERS_MAX],
    pub(crate) spoil: Spoil,
}

/// What becomes of money that no till asks about.
const fn absence(bounds: &Bounds) -> Absence {
    let rule = if bounds.absences > 0 { AbsentTill::Reverse } else { AbsentTill::Keep };
    Absence { rule, after_ms: bounds::ABSENT_AFTER_MS }
}

impl Machine {
    /// A machine with these bounds, clocks and this spoiling.
    ///
    /// # Panics
    ///
    /// If `bounds.orders` is not 1 or 2.
    #[must_use]
    pub fn new(bounds: Bounds, mut policy: Policy, spoil: Spoil) -> Self {
        assert!((1..=2).contains(&bounds.orders), "one order or two");
        if spoil == Spoil::NoGuard {
            policy.reversal_guard_ms = 0;
        }
        if spoil == Spoil::NoDeadline {
            policy.give_up_ms = policy.stuck_ms;
        }
        let wide = 1_000_000;
        let config = Config {
            policy,
            quota: Quota { pay: wide, query: wide, reverse: wide, calls_max: wide },
            quotas: Vec::new(),
            orders_max: 8,
            waiters_max: 8,
            boot: BootId(1),
            absences: Absences::new(absence(&bounds), []),
            rescans: state_machine::rescan::Rescans::default(),
        };
        let key = |number: &str| OrderKey {
            merchant: MerchantId(1),
            number: number.parse().expect("a well-formed number"),
        };
        Self { bounds, config, keys: [key("MODEL0001"), key("MODEL0002")], spoil }
    }

    /// What bounds it.
    #[must_use]
    pub const fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// Its clocks.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.config.policy
    }

    pub(crate) const fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn config_of(&self, boot: u64) -> Config {
        Config { boot: BootId(boot), ..self.config.clone() }
    }

    pub(crate) fn orders(&self) -> usize {
        usize::from(self.bounds.orders)
    }

    pub(crate) fn key(&self, number: usize) -> &OrderKey {
        self.keys.get(number).unwrap_or(&self.keys[0])
    }

    pub(crate) fn number_of(&self, record: &Record) -> usize {
        usize::from(record.key == self.keys[1])
    }

    /// The one state that everything begins in.
    #[must_use]
    pub fn start(&self) -> World {
        let now = Tick::from_ms(START_MS);
        let (shard, _) = Shard::new(self.config.clone(), now).freeze();
        let lines = [Line::default(), Line::default()];
        let mut world = World {
            now,
            boot: 1,
            left: self.bounds,
            store: CrashStore::new(),
            live: Process { shard: Some(shard), batch: None, lines },
            stale: None,
            sides: [Side::default(), Side::default()],
            breach: None,
            print: 0,
        };
        world.seal(self);
        world
    }

    /// Everything that can happen in `world`.
    pub fn steps(&self, world: &World, steps: &mut Vec<Step>) {
        if world.breach.is_some() {
            return;
        }
        for order in 0..self.bounds.orders {
            self.steps_of(world, order, steps);
        }
        let left = &world.left;
        match &world.live.batch {
            Some(batch) if batch.outcomes.is_none() => {
                steps.push(Step::Commit);
                if self.spoil == Spoil::AckBeforeDurable {
                    steps.push(Step::Acknowledge);
                }
            }
            Some(_) => steps.push(Step::Acknowledge),
            None => {}
        }
        let staged = world.live.batch.as_ref().is_some_and(|batch| batch.outcomes.is_none());
        for (boot, may) in [(false, left.crashes > 0), (true, left.reboots > 0)] {
            if may && world.has_begun() {
                steps.push(Step::Crash { kept: false, boot });
                if staged {
                    steps.push(Step::Crash { kept: true, boot });
                }
            }
        }
        if left.takeovers > 0 && world.stale.is_none() && world.has_begun() {
            steps.push(Step::TakeOver);
        }
        if let Some(stale) = &world.stale {
            match &stale.batch {
                Some(batch) if batch.outcomes.is_none() => steps.push(Step::StaleCommit),
                Some(_) => steps.push(Step::StaleAcknowledge),
                None => {}
            }
        }
        if self.next_moment(world).is_some() {
            steps.push(Step::Time);
        }
    }

    fn steps_of(&self, world: &World, order: u8, steps: &mut Vec<Step>) {
        let number = usize::from(order);
        let (Some(side), Some(line)) = (world.sides.get(number), world.live.lines.get(number)) else {
            return;
        };
        let left = &world.left;
        if side.asked_s.is_none() {
            steps.push(Step::Pay(order));
        } else if left.repeats > 0 {
            steps.push(Step::Repeat(order));
        }
        if left.reversals > 0 && !side.page.ordered {
            steps.push(Step::Reverse(order));
        }
        if left.absences > 0 && side.is_listening() {
            steps.push(Step::HangUp(order));
        }
        if side.wallet.order == Order::Asking {
            if side.wallet.can_be_paid() {
                steps.push(Step::CustomerPays(order));
            }
            steps.push(Step::CustomerFails(order, false));
            if left.faults > 0 {
                steps.push(Step::CustomerFails(order, true));
            }
        }
        if world.may_still_arrive(number) {
            steps.push(Step::LateArrives(order, false));
            steps.push(Step::LateArrives(order, true));
        }
        let twice = left.duplicates > 0;
        match line.pay {
            PayLine::Idle => {}
            PayLine::Ready { .. } => steps.push(Step::PayLeaves(order)),
            PayLine::Out { word: Some(_), .. } => {
                steps.push(Step::PayAnswered(order, false));
                if twice && line.again.is_none() {
                    steps.push(Step::PayAnswered(order, true));
                }
            }
            PayLine::Out { word: None, .. } => {
                let faults = PayWord::FAULTS.iter().filter(|_| left.faults > 0);
                for word in PayWord::HONEST.iter().chain(faults) {
                    steps.push(Step::PayArrives(order, *word, false));
                    if twice {
                        steps.push(Step::PayArrives(order, *word, true));
                    }
                }
            }
        }
        match &line.call {
            Some(call) if call.word.is_some() => {
                steps.push(Step::CallAnswered(order, false));
                if twice && line.again.is_none() {
                    steps.push(Step::CallAnswered(order, true));
                }
            }
            Some(call) => {
                let in_fog = side.in_fog(world.now);
                let (honest, faults) = side.wallet.words(call.kind, in_fog);
                let faults = faults.into_iter().filter(|_| left.faults > 0);
                steps.extend(honest.into_iter().chain(faults).map(|word| Step::CallArrives(order, word)));
            }
            None => {}
        }
        if line.again.is_some() {
            steps.push(Step::Again(order));
        }
        let stale = world.stale.as_ref().and_then(|stale| stale.lines.get(number));
        if stale.is_some_and(Line::has_answer) {
            steps.push(Step::StaleAnswered(order));
        }
    }

    /// When time moves to, if it may: nothing that is free of charge stands in its way, and something is due that
    /// matters.
    pub(crate) fn next_moment(&self, world: &World) -> Option<Tick> {
        if world.live.batch.is_some() && world.left.stalls == 0 || !world.waits_for_time() {
            return None;
        }
        let stale = world.stale.as_deref().filter(|stale| stale.batch.is_none());
        let wakes = std::iter::once(&world.live).chain(stale);
        let wakes = wakes.filter_map(|process| process.shard.as_ref()?.next_wake());
        let ends = world.live.lines.iter().flat_map(Line::ends);
        let to = wakes.chain(ends).min()?;
        let lost = world.live.lines.iter().flat_map(Line::ends).filter(|end| *end <= to).count();
        (lost <= usize::from(world.left.losses)).then_some(to)
    }

    pub(crate) fn now(&self, world: &World) -> Now {
        let since = i64::try_from(world.now.as_ms()).unwrap_or(i64::MAX);
        Now { tick: world.now, wall: UnixMs(WALL_MS.saturating_add(since)) }
    }
}

impl Line {
    /// When what is under way is given up.
    pub(crate) fn ends(&self) -> impl Iterator<Item = Tick> {
        let pay = match self.pay {
            PayLine::Idle => None,
            PayLine::Ready { by, .. } => Some(by),
            PayLine::Out { ends, .. } => Some(ends),
        };
        pay.into_iter().chain(self.call.as_ref().map(|call| call.ends))
    }

    pub(crate) const fn is_idle(&self) -> bool {
        matches!(self.pay, PayLine::Idle) && self.call.is_none()
    }

    fn has_answer(&self) -> bool {
        matches!(self.pay, PayLine::Out { word: Some(_), .. })
            || self.call.as_ref().is_some_and(|call| call.word.is_some())
    }
}

impl World {
    /// Whether anything has happened that a crash could change.
    fn has_begun(&self) -> bool {
        self.live.batch.is_some() || self.sides.iter().any(|side| side.page.durable.is_some())
    }

    /// Whether a pay request without a connection can reach the wallet now.
    pub(crate) fn may_still_arrive(&self, number: usize) -> bool {
        let Some(side) = self.sides.get(number) else { return false };
        let in_time = side.fog.is_some_and(|until| self.now < until) && side.wallet.order == Order::Unseen;
        in_time
            && match side.loose {
                Loose::None => false,
                Loose::Late => self.left.late > 0,
                Loose::Copy => true,
            }
    }

    /// Whether an order is open that is not held for good, by what the store acknowledged.
    fn is_open(&self) -> bool {
        self.sides.iter().any(|side| side.is_open() && !side.is_held())
    }

    fn is_held(&self) -> bool {
        self.sides.iter().any(|side| side.is_open() && side.is_held())
    }

    fn is_busy(&self) -> bool {
        self.live.batch.is_some() || self.live.lines.iter().any(|line| !line.is_idle())
    }

    /// Whether time can still change anything: an order is open, or something under way, or a till may come back
    /// after an order has left memory.
    fn waits_for_time(&self) -> bool {
        let tills = (self.left.repeats > 0 || self.left.reversals > 0) && !self.is_held();
        self.is_open() || self.is_busy() || tills
    }

    /// The rules of rest and of age.
    pub(crate) fn judge_rest(&self, machine: &Machine, broken: &mut Broken) {
        if !self.is_busy() {
            if !self.is_open() {
                for side in &self.sides {
                    side.page.at_rest(&side.wallet, broken);
                }
            } else if machine.next_moment(self).is_none() {
                broken.push((Rule::Convergence, "an order is open, and nothing is due"));
            }
        }
        let too_old = |side: &Side| {
            side.page.durable.as_ref().is_some_and(|record| {
                record.is_open() && !side.is_held() && self.now.ms_since(record.accepted_tick) > OPEN_MAX_MS
            })
        };
        if self.sides.iter().any(too_old) {
            broken.push((Rule::Convergence, "an order does not end"));
        }
    }
}

impl Side {
    fn is_open(&self) -> bool {
        self.page.durable.as_ref().is_some_and(|record| record.is_open())
    }

    /// Whether a till waits for an answer and is still there.
    pub(crate) const fn is_listening(&self) -> bool {
        self.waiting & !self.gone != 0
    }

    /// Whether its order is held, and no answer can release it: with the order's own money under the number one does.
    pub(crate) fn is_held(&self) -> bool {
        let owns = self.wallet.order == Order::Paid;
        let contested = |record: &Record| record.held == Some(Held::NumberTaken) && owns;
        self.page.durable.as_ref().is_some_and(|record| record.held.is_some() && !contested(record))
    }

    /// Whether not-found may be said of what is there. Where the wallet has said that the number is taken, it may
    /// be said once: twice decides (A13).
    pub(crate) fn in_fog(&self, now: Tick) -> bool {
        self.fog.is_some_and(|until| now < until) && !(self.wallet.said_taken && self.wallet.missed)
    }
}

/// Whether `kind` asks or acts.
pub(crate) const fn is_reversal(kind: Call) -> bool {
    matches!(kind, Call::Reverse)
}
