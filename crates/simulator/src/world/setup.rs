//! What a run is made of, all of it drawn from its seed.

use std::path::PathBuf;

use state_machine::planner::Quota;

use super::kind::Kind;
use crate::rng::Rng;

/// Which customers come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Customers {
    /// Six in ten from the population (99), the others spread over all numbers.
    Mixed,
    /// Always this one, `BBSS`.
    Only(u16),
    /// Everybody is asked for the password, and enters it about when the switch gives up.
    Slow,
}

/// Which tills stand there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tills {
    /// Every kind.
    Mixed,
    /// Only those that pay and then ask until they hear an outcome.
    Patient,
    /// One in eight asks until it hears an outcome; the others come back no more.
    Few,
}

/// A world that is broken on purpose: the judges must catch each. Source: faults-and-invariants, Checkers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The store acknowledges a commit before it is durable.
    AcknowledgesEarly,
    /// A lost answer to a pay request is reported as a request that was never sent.
    LostAsUnsent,
    /// A pay request is sent twice.
    PaysTwice,
    /// A reversal that is asked for is reported as done and as shown by the query, and never sent.
    SwallowsReversals,
    /// The driver reverses by itself, a second after it paid.
    ReversesEarly,
    /// Half of the answers that say that the customer is asked are told as paid.
    TellsPaid,
    /// The driver drops one answer in twenty, so that its order waits for ever.
    ForgetsReplies,
}

impl Broken {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::AcknowledgesEarly,
        Self::LostAsUnsent,
        Self::PaysTwice,
        Self::SwallowsReversals,
        Self::ReversesEarly,
        Self::TellsPaid,
        Self::ForgetsReplies,
    ];
}

/// What breaks, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Whatever the seed draws.
    Drawn,
    /// All payments begin within half a minute; the process is killed while they are pending, and then the wallet
    /// is out of reach for half an hour (UB-20, PR-15, OV-04).
    Crowd,
}

/// What the process stores its records in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    /// The model that loses what was not synced.
    Model,
    /// The embedded store, in a folder of its own under this one; removed after the run.
    Sqlite(PathBuf),
}

/// One run. The same setup gives the same run, byte for byte (INV-30).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// The seed.
    pub seed: u64,
    /// Payments that tills try to make.
    pub orders: u32,
    /// Whether calls go through real XML and real signatures, both ways.
    pub bytes: bool,
    /// Whether anything breaks. Without, there is only the wallet and its customers.
    pub faults: bool,
    /// Only this kind of fault, if it is given.
    pub only: Option<Kind>,
    /// Who pays.
    pub customers: Customers,
    /// Who sells.
    pub tills: Tills,
    /// What is broken on purpose.
    pub broken: Option<Broken>,
    /// What breaks.
    pub plan: Plan,
    /// What it is stored in.
    pub storage: Storage,
    /// How many times the usual faults happen: 1 as always; losses of single messages too.
    pub intensity: u32,
    /// Whether the run ends with the first violation; the ledger is then compared no more.
    pub stops_at_first: bool,
    /// How long the calm may last until every order has ended, in milliseconds.
    pub calm_max_ms: u64,
    /// Payments that begin in a second, on average; 0: drawn from the seed.
    pub rate: u32,
}

/// The longest time that any order needs once nothing breaks any more: a wallet that swallows reversals does so
/// for the seven days that it reverses at all; then a reversal's longest pause (1 h), a repair refund, and some.
/// Source: wechatpay-v2 §4.3, §4.5 C9, C10.
const CALM_MAX_MS: u64 = (7 * 24 + 12) * 3_600_000;

impl Setup {
    /// A run with everything in it.
    #[must_use]
    pub const fn new(seed: u64, orders: u32) -> Self {
        Self {
            seed,
            orders,
            bytes: false,
            faults: true,
            only: None,
            customers: Customers::Mixed,
            tills: Tills::Mixed,
            broken: None,
            plan: Plan::Drawn,
            storage: Storage::Model,
            intensity: 1,
            stops_at_first: false,
            calm_max_ms: CALM_MAX_MS,
            rate: 0,
        }
    }
}

impl Setup {
    /// More than 50,000 payments pending at once.
    #[must_use]
    pub fn crowd(seed: u64) -> Self {
        Self {
            rate: 2_000,
            customers: Customers::Slow,
            tills: Tills::Few,
            plan: Plan::Crowd,
            ..Self::new(seed, 60_000)
        }
    }
}

/// What the seed decides before the run begins.
#[derive(Clone, Debug)]
pub(super) struct Drawn {
    /// Milliseconds between two payments, on average.
    pub(super) gap_ms: u64,
    /// Payments that begin together.
    pub(super) at_once: u32,
    pub(super) shards_max: u64,
    /// Of each provider, over all shards.
    pub(super) quota: Quota,
    pub(super) query_gap_ms: u64,
    pub(super) auto_revoke_after_s: Option<u32>,
    pub(super) fences_unknown_reversals: bool,
    /// Whether the wallet refuses to reverse some orders, for good.
    pub(super) refuses_reversals: bool,
    /// Whether the wallet never answers the reversals of some orders.
    pub(super) swallows_reversals: bool,
    /// Whether a proxy on the way to the second provider may repeat requests (G4, A10).
    pub(super) has_replaying_proxy: bool,
    /// Whether somebody returns a part of some payments on the wallet's platform before they are asked about.
    pub(super) refunds_on_platform: bool,
    /// Whether some customers are debited after a query has shown PAYERROR.
    pub(super) debits_after_error: bool,
    pub(super) answer_ms: (u32, u32),
    /// Where the day begins: some runs cross midnight.
    pub(super) start_ms: i64,
    pub(super) orders_max: u32,
    /// Faults until the calm.
    pub(super) faults: u64,
}

/// 2026-11-23 10:15:00 in Beijing.
const MORNING_MS: i64 = 1_795_400_100_000;

impl Drawn {
    pub(super) fn new(setup: &Setup) -> Self {
        let mut rng = Rng::keyed(setup.seed, "setup");
        let rate = match setup.rate {
            0 => pick(&mut rng, [2, 5, 10, 20, 40]),
            rate => u64::from(rate),
        };
        let plenty = Quota { pay: 600, query: 1_800, reverse: 60, calls_max: 2_048 };
        let quota = match rng.below(4) {
            0 => Quota { pay: 30, query: 60, reverse: 12, calls_max: 64 },
            1 => Quota { pay: 30, query: 200, reverse: 30, calls_max: 512 },
            _ => plenty,
        };
        // The clock knows no less than a millisecond.
        let at_once = u32::try_from(rate.div_ceil(1_000)).unwrap_or(1).max(1);
        let gap_ms = (1_000 * u64::from(at_once) / rate).max(1);
        let quota = if setup.plan == Plan::Crowd {
            Quota { pay: 4_000, query: 4_000, reverse: 4_000, calls_max: 40_000 }
        } else if setup.rate > 0 {
            plenty
        } else {
            quota
        };
        let minutes = gap_ms * u64::from(setup.orders) / 60_000;
        Self {
            gap_ms,
            shards_max: 1 + rng.below(4),
            at_once,
            quota,
            query_gap_ms: pick(&mut rng, [1_000, 1_000, 2_000, 5_000]),
            auto_revoke_after_s: (rng.below(5) == 0).then_some(45),
            fences_unknown_reversals: rng.below(4) == 0,
            refuses_reversals: setup.faults && rng.below(3) == 0,
            swallows_reversals: setup.faults && setup.plan == Plan::Drawn && rng.below(8) == 0,
            has_replaying_proxy: setup.faults && (rng.below(3) == 0 || setup.only == Some(Kind::PayTwice)),
            refunds_on_platform: setup.faults && rng.below(3) == 0,
            debits_after_error: setup.faults && rng.below(3) == 0,
            answer_ms: pick(&mut rng, [(0, 0), (20, 300), (20, 1_500)]),
            start_ms: MORNING_MS + pick(&mut rng, [0, 0, 13 * 3_600_000 + 40 * 60_000]),
            orders_max: if setup.rate == 0 && rng.below(8) == 0 { 200 } else { 4_000_000 },
            faults: if setup.faults { (6 + 5 * minutes).min(600) * u64::from(setup.intensity) } else { 0 },
        }
    }
}

fn pick<T: Copy, const N: usize>(rng: &mut Rng, from: [T; N]) -> T {
    let index = usize::try_from(rng.below(u64::try_from(N).unwrap_or(1))).unwrap_or(0);
    #[expect(clippy::indexing_slicing, reason = "below N")]
    from[index]
}
