//! The world: one seed, one thread, one virtual clock.
//!
//! The production shards with a store that loses what was not synced, the wallet and its customers, tills that
//! pay, ask, retry and give up, a network between all of them, and faults. Nothing here decides about money: the
//! world does what a driver does (it carries out the shards' actions) and what breaks around one. Judges read the
//! wallet's ledger, the wire, the tills' notebook and the durable records, and nothing else.
//!
//! A run has two phases: faults, then a calm in which every order must come to its end. The same [`Setup`] gives
//! the same run and the same [`Report::hash`]. Source: DESIGN §1; faults-and-invariants, INV-12, INV-30.

use compact_str::{CompactString, format_compact};
use state_machine::Policy;
use state_machine::shard::Call;
use timer_wheel::{Handle, Tick, Wheel};

use self::calls::{CallRef, Calls, What};
use self::faults::{Fault, Weather};
use self::judge::Judge;
use self::judge::finish::Transit;
use self::setup::Drawn;
use self::switch::Switch;
use self::tills::{Ask, Till};
use crate::options::{Options, Provider, SubMerchants};
use crate::rng::Rng;
use crate::wallet::Wallet;

mod absent;
mod actions;
mod bytes;
mod calls;
mod disk;
mod faults;
mod judge;
mod kind;
mod network;
mod probes;
mod reasons;
mod report;
mod requests;
pub mod required;
mod rescan;
mod setup;
mod spoil;
mod sqlite;
mod store;
mod switch;
mod tills;
mod told;

#[cfg(test)]
mod tests;

pub use judge::{Book, Violation};
pub use kind::Kind;
pub use probes::Probes;
pub use report::{Report, Summary};
pub use required::Profile;
pub use setup::{Broken, Customers, Plan, Setup, Storage, Tills};

/// Whatever runs longer than this many steps a payment goes round in circles.
const STEPS_PER_ORDER_MAX: u64 = 20_000;
/// Lines on what concerns every payment that stand before the first of the payment that is followed.
const LINES_BEFORE: usize = 5;
/// The keys of the two providers: one signs with MD5, the other with HMAC-SHA256.
const KEYS: [&str; tills::PROVIDERS] =
    ["192006250b4c09247ec02edce69f6a2d", "8f2b6c1d4e9a70533b5ad21c7f0e6849"];
/// The keys before these, which still sign now and then.
const OLD_KEYS: [&str; tills::PROVIDERS] =
    ["1f0e8d7c6b5a49382716050403020100", "c2d3e4f5061728394a5b6c7d8e9fa0b1"];

/// What happens at a moment.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// The next customer comes.
    Customer,
    /// A till's own timer.
    Till { n: u32, turn: u16 },
    /// A till asks something on the side.
    Aside { n: u32, ask: Ask },
    /// A till's request reaches the switch.
    Request { n: u32, turn: u16, ask: Ask },
    /// It has waited there for a process that stood still.
    Thawed { n: u32, turn: u16, ask: Ask, life: u32 },
    /// A till's side has acknowledged that a payment is paid.
    Heard { n: u32 },
    /// A till's request has waited long enough at the switch.
    HoldEnds { ticket: u64 },
    /// A shard has something to do.
    Run { shard: u16 },
    /// The store's commit is durable.
    Synced { life: u32 },
    /// The shards hear of it.
    Acknowledged { life: u32 },
    /// The store is tried again.
    Retry { life: u32 },
    /// A call's first byte leaves.
    Leaves(CallRef),
    /// A pay request has been under way for a second.
    Late(CallRef),
    /// A call reaches the wallet.
    Arrives(CallRef),
    /// A copy that the network made reaches the wallet.
    Copy { n: u32, what: What },
    /// A customer is debited although a query has shown PAYERROR.
    Debit { n: u32 },
    /// A driver that is broken on purpose reverses by itself.
    Rogue { n: u32 },
    /// A call has its answer, or is given up.
    Ends(CallRef),
    /// A fault begins.
    Fault(Fault),
    /// A fault ends.
    Clears(Kind),
    /// The process starts.
    Start { life: u32 },
    /// A drained process stops.
    Stop { life: u32 },
    /// Nothing breaks any more.
    Calm,
}

/// Streams of chance that do not disturb each other.
#[derive(Debug)]
struct Rngs {
    tills: Rng,
    network: Rng,
    store: Rng,
    faults: Rng,
}

/// One run.
struct World {
    setup: Setup,
    drawn: Drawn,
    /// Milliseconds since the start of the run.
    now: u64,
    /// What is planned; events of one moment keep the order in which they were planned.
    queue: Wheel<Event>,
    rng: Rngs,
    wallet: Wallet,
    callers: Vec<crate::message::Caller>,
    tills: Vec<Till>,
    /// Tills that are not through.
    active: u64,
    switch: Switch,
    calls: Calls,
    weather: Weather,
    is_calm: bool,
    judge: Judge,
    reasons: reasons::Reasons,
    presence: absent::Presence,
    counters: rescan::Counters,
    /// How each pay request travelled.
    transit: Vec<Transit>,
    /// The last answers of each kind, while they are mixed up.
    crossed: std::collections::BTreeMap<u8, (u32, crate::message::Answer)>,
    /// The payment that is followed, and what happened to it.
    followed: Option<u32>,
    followed_began: bool,
    lines: Vec<String>,
    hash: u64,
    /// Inputs to a shard, and requests to the wallet.
    events: u64,
    /// Everything that happened at a moment, the tills' own timers too.
    steps: u64,
}

/// Runs a seed, and tells what the judges found.
#[must_use]
pub fn run(setup: &Setup) -> Report {
    World::new(setup.clone(), None).play()
}

/// Runs a seed again and writes down what happens to one payment: the `n`-th of the run, counted from 0.
#[must_use]
pub fn follow(setup: &Setup, n: u32) -> (Report, Vec<String>) {
    let mut world = World::new(setup.clone(), Some(n));
    let report = world.play_on();
    (report, world.lines)
}

/// The number and the merchant of the `n`-th payment of a run.
#[must_use]
pub fn out_trade_no(n: u32) -> String {
    let key = tills::key_of(n);
    format!("{}:{}", key.merchant.0, key.number)
}

/// The place of a payment, from what [`out_trade_no`] gave.
#[must_use]
pub fn place_of(text: &str) -> Option<u32> {
    let (merchant, number) = text.split_once(':')?;
    let merchant: u32 = merchant.parse().ok()?;
    Some(tills::n_of_text(number)?.checked_mul(2)? + merchant % 2)
}

impl World {
    fn new(setup: Setup, followed: Option<u32>) -> Self {
        let drawn = Drawn::new(&setup);
        let keyed = |text| Rng::keyed(setup.seed, text);
        let rng = Rngs {
            tills: keyed("tills"),
            network: keyed("network"),
            store: keyed("store"),
            faults: keyed("faults"),
        };
        let provider = |index: usize| Provider {
            appid: format!("wx00000000000000{index:02}"),
            mch_id: format!("190000010{index}"),
            key: KEYS.get(index).copied().unwrap_or_default().to_owned(),
            sub_merchants: SubMerchants::Any,
        };
        let mut options = Options::new(provider(0));
        options.providers.extend((1..tills::PROVIDERS).map(provider));
        options.auto_revoke_after_s = drawn.auto_revoke_after_s;
        options.fences_unknown_reversals = drawn.fences_unknown_reversals;
        options.answer_ms = drawn.answer_ms;
        let callers = (0..tills::MERCHANTS)
            .map(|merchant| {
                let provider = tills::provider_of(state_machine::MerchantId(merchant)).0;
                let provider = options.providers.get(usize::try_from(provider).unwrap_or(0));
                crate::message::Caller {
                    appid: provider.map_or("", |p| &p.appid).into(),
                    mch_id: provider.map_or("", |p| &p.mch_id).into(),
                    sub_appid: CompactString::default(),
                    sub_mch_id: format_compact!("17000000{merchant:02}"),
                }
            })
            .collect();
        let policy = Policy { query_gap_ms: drawn.query_gap_ms, ..Policy::default() };
        let judge = Judge::new(setup.orders, tills::PROVIDERS, drawn.quota);
        let weather = Weather::new(if setup.faults { u64::from(setup.intensity) } else { 0 });
        let mut world = Self {
            switch: Switch::new(policy, drawn.quota, drawn.orders_max, &setup),
            wallet: Wallet::new(setup.seed, options),
            callers,
            now: 0,
            queue: Wheel::new(Tick::ZERO),
            rng,
            tills: Vec::new(),
            active: 0,
            calls: Calls::new(setup.bytes),
            weather,
            is_calm: false,
            judge,
            reasons: reasons::Reasons::new(setup.orders),
            presence: absent::Presence::new(setup.orders),
            counters: rescan::Counters::new(setup.orders),
            transit: vec![Transit::default(); usize::try_from(setup.orders).unwrap_or(0)],
            crossed: std::collections::BTreeMap::new(),
            followed,
            followed_began: false,
            lines: Vec::new(),
            hash: setup.seed,
            events: 0,
            steps: 0,
            setup,
            drawn,
        };
        let all_begun_at =
            world.drawn.gap_ms * u64::from(world.setup.orders) / u64::from(world.drawn.at_once);
        let calm_at = match world.setup.plan {
            Plan::Drawn => {
                let calm_at = all_begun_at + 30_000;
                world.schedule_faults(world.drawn.faults, calm_at);
                calm_at
            }
            Plan::Crowd => world.schedule_outage(all_begun_at),
        };
        world.at(calm_at, Event::Calm);
        world.at(0, Event::Start { life: 0 });
        world.at(1, Event::Customer);
        world
    }

    fn play(mut self) -> Report {
        self.play_on()
    }

    fn play_on(&mut self) -> Report {
        let steps_max = (u64::from(self.setup.orders) + 50) * STEPS_PER_ORDER_MAX;
        let mut ends_by = u64::MAX;
        while let Some((at, event)) = self.queue.pop_due(Tick::MAX) {
            let at = at.as_ms();
            if at > ends_by || self.steps > steps_max || self.is_over() || self.is_enough() {
                break;
            }
            self.now = at;
            self.judge.now = at;
            self.judge.events = self.events;
            self.steps += 1;
            if matches!(event, Event::Calm) {
                ends_by = at + self.setup.calm_max_ms;
            }
            self.happen(event);
        }
        if self.steps > steps_max {
            self.judge.break_rule("INV-18", None, format!("{} steps: it goes round in circles", self.steps));
        }
        self.report()
    }

    /// Whether nothing is left that could change: all orders have ended, and all tills are through.
    fn is_over(&self) -> bool {
        self.is_calm && self.judge.open == 0 && self.active == 0 && self.calls.is_idle() && self.all_begun()
    }

    /// Whether the run was to end with the first violation, and there is one.
    const fn is_enough(&self) -> bool {
        self.setup.stops_at_first && !self.judge.violations.is_empty()
    }

    fn all_begun(&self) -> bool {
        self.tills.len() >= usize::try_from(self.setup.orders).unwrap_or(usize::MAX)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Customer => self.on_customer(),
            Event::Till { n, turn } => self.on_till(n, turn),
            Event::Aside { n, ask } => self.on_aside(n, ask),
            Event::Request { n, turn, ask } => self.on_request(n, turn, ask),
            Event::Thawed { n, turn, ask, life } => self.on_thawed(n, turn, ask, life),
            Event::Heard { n } => self.on_heard(n),
            Event::HoldEnds { ticket } => self.on_hold_ends(ticket),
            Event::Run { shard } => self.on_run(shard),
            Event::Synced { life } => self.on_synced(life),
            Event::Acknowledged { life } => self.on_acknowledged(life),
            Event::Retry { life } => self.on_retry(life),
            Event::Leaves(call) => self.on_leaves(call),
            Event::Late(call) => self.on_late(call),
            Event::Arrives(call) => self.on_arrives(call),
            Event::Copy { n, what } => self.on_copy(n, what),
            Event::Debit { n } => self.on_debit(n),
            Event::Rogue { n } => {
                self.log_wire(n, judge::Wire::Reverse);
                self.on_copy(n, What::Other(Call::Reverse));
            }
            Event::Ends(call) => self.on_ends(call),
            Event::Fault(fault) => self.on_fault(fault),
            Event::Clears(kind) => self.on_clears(kind),
            Event::Start { life } => self.on_start(life),
            Event::Stop { life } => self.on_stop(life),
            Event::Calm => self.on_calm(),
        }
    }

    fn on_customer(&mut self) {
        if self.all_begun() {
            return;
        }
        for _ in 0..self.drawn.at_once {
            if !self.all_begun() {
                self.begin_payment();
            }
        }
        let gap_ms = match () {
            () if self.weather.is(Kind::Flood) => 1,
            () if self.weather.is(Kind::Crowd) => 4,
            () => 2 * self.drawn.gap_ms,
        };
        let gap_ms = self.rng.tills.below(gap_ms + 1);
        self.later(gap_ms, Event::Customer);
    }

    fn at(&mut self, at: u64, event: Event) -> Handle {
        self.queue.insert(Tick::from_ms(at), event)
    }

    fn later(&mut self, after_ms: u64, event: Event) {
        self.at(self.now.saturating_add(after_ms), event);
    }

    /// Adds to the hash of the run what another run of the same seed must do too.
    fn mix(&mut self, tag: u64, a: u64, b: u64) {
        for word in [self.now ^ (tag << 56), a, b] {
            self.hash = (self.hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        }
    }

    /// Writes down what happens to the payment that is followed.
    fn note(&mut self, n: u32, line: impl FnOnce() -> String) {
        if self.followed == Some(n) {
            if !std::mem::replace(&mut self.followed_began, true) {
                // What happened long before it began explains nothing.
                let kept = self.lines.len().saturating_sub(LINES_BEFORE);
                self.lines.drain(..kept);
            }
            self.note_all(line);
        }
    }

    /// Writes down what concerns every payment.
    fn note_all(&mut self, line: impl FnOnce() -> String) {
        if self.followed.is_some() {
            let (s, ms) = (self.now / 1_000, self.now % 1_000);
            self.lines.push(format!("{s:>7}.{ms:03}  {}", line()));
        }
    }
}
