//! The engine: shards on threads of their own, the store behind one committer, calls on the runtime.
//!
//! Nothing here decides. A shard's thread feeds inputs in and carries actions out; the store's thread commits
//! the batches of all shards together; each call to a wallet is one task that ends in one reply.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use handover::mailbox::{Sender, mailbox};
use protocol::TransactionId;
use state_machine::absence::{Absence, Absences};
use state_machine::exposure::{Exposure, Report};
use state_machine::planner::{Quota, WINDOW_MS};
use state_machine::record::State;
use state_machine::rescan::{Rescan, Rescans};
use state_machine::shard::{
    BatchId, Config as ShardConfig, Input, NotAccepted, Outcome, PayRequest, ReverseRequest, Shard, Wait,
};
use state_machine::{BootId, MerchantId, Now, OrderKey, Policy, ProviderId, Record, Tick, UnixMs};
use state_table::Reader;
use store::{
    CommitError, CommitQueue, Committer, CommitterOptions, EventQuery, Events, Filter, Listing, Observer,
    OpenError, Recovered, ShardIndex, SqliteStore, Store, StoreError,
};
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::acquirer::wechat_v2::Acquirer;
use crate::clock::Clock;
use crate::engine::{Engine, Health, ListRequest, Lookup, NewPayment, Told, Topic};
use crate::merchants::Merchants;
use crate::metrics::Gauges;

mod calls;
mod feed;
mod inbox;
mod learned;
mod lookups;
mod publish;
mod shard_thread;
mod tickets;

use calls::Callers;
pub use feed::{Feed, Following};
pub use inbox::REQUESTS_MAX;
use inbox::{Inbox, Message};
use learned::Keeper;
use lookups::{Lookups, ROW_THREADS};
pub use lookups::{PAGES_MAX, ROWS_MAX};
use publish::{Found, Published, WORDS};
use shard_thread::{Gauge, ShardThread, Shared};
use tickets::{Outgoing, Tickets};

/// Requests that wait for one order; more are answered at once.
const WAITERS_MAX: usize = 16;

/// What the engine is made of.
#[derive(Debug)]
pub struct EngineConfig {
    /// The clocks.
    pub policy: Policy,
    /// The whole quotas of each provider; each shard gets its part.
    pub quotas: Vec<(ProviderId, Quota)>,
    /// Orders in memory, over all shards.
    pub orders_max: u32,
    /// Threads that decide, at least 1.
    pub shards: u32,
    /// This boot of the machine.
    pub boot: BootId,
    /// What becomes of money that no till asks about, where its merchant has set nothing.
    pub absence: Absence,
    /// What becomes of second payments of one sale, where their merchant has set nothing.
    pub rescan: Rescan,
    /// Where the store is: what the query planner learns is kept beside it.
    pub store: PathBuf,
}

/// Why the engine does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store cannot be opened for reading.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}. Nothing was accepted. Raise the limit of threads and start again.")]
    Thread(#[from] std::io::Error),
}

/// What recovery found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Open orders that were taken up.
    pub open: u64,
    /// Rows that were set aside.
    pub damaged: u64,
    /// New payments have room in the budgets from this moment on: tills that come before wait for it.
    pub serve_from: Tick,
}

/// The engine.
#[derive(Debug)]
pub struct Core {
    inboxes: Vec<Inbox>,
    tables: Vec<Reader<WORDS>>,
    shared: Arc<Shared>,
    draining: AtomicBool,
    /// Orders that may be in memory, over all shards.
    orders_max: u32,
}

/// The engine's threads; ends them.
#[derive(Debug)]
pub struct Threads {
    core: Arc<Core>,
    shards: Vec<JoinHandle<()>>,
    committer: Option<Committer<SqliteStore>>,
    lookups: Vec<JoinHandle<()>>,
}

/// Starts the engine on `store`: every open order is taken up where it stood before the first request is.
///
/// # Errors
///
/// [`StartError`].
pub fn start(
    config: &EngineConfig,
    mut store: SqliteStore,
    acquirers: HashMap<ProviderId, Arc<Acquirer>>,
    merchants: Merchants,
    runtime: Handle,
) -> Result<(Arc<Core>, Threads, Recovery), StartError> {
    let shards = config.shards.max(1);
    let now = Clock::now();
    let mut made: Vec<Shard> =
        (0..shards).map(|_| Shard::new(shard_config(config, shards), now.tick)).collect();
    let mut recovery = Recovery::default();
    if store.fence().0 > 1 {
        // What the process before was granted in the last second is not known, and budgets hold in any second.
        made.iter_mut().for_each(|shard| shard.follow_another_process(now.tick));
        recovery.serve_from = now.tick.saturating_add(WINDOW_MS);
    }
    let keeper = Keeper::beside(&config.store, made.len());
    let learned = keeper.read();
    made.iter_mut().for_each(|shard| shard.set_learned(learned.clone()));
    store.open_orders(&mut |found| match found {
        Recovered::Open(record) => {
            recovery.open = recovery.open.saturating_add(1);
            let place = shard_of(&record.key, made.len());
            if let Some(shard) = made.get_mut(place) {
                shard.recover(*record, now);
            }
        }
        Recovered::Damaged(damaged) => {
            recovery.damaged = recovery.damaged.saturating_add(1);
            tracing::error!("{damaged}");
        }
    })?;
    if let Some(window_ms) = merchants.load().rescan_window_ms(config.rescan) {
        recall_paid(&mut store, &mut made, window_ms, now)?;
    }
    let readers = (0..ROW_THREADS).map(|_| store.reader()).collect::<Result<_, _>>()?;
    let (lookups, lookup_threads) = Lookups::start(readers, store.reader()?)?;
    let shared = Arc::new(Shared {
        tickets: Arc::new(Tickets::default()),
        callers: Callers { runtime, acquirers, merchants },
        lookups,
        feed: Arc::default(),
        keeper: Arc::new(keeper),
        gauges: (0..shards).map(|_| Gauge::default()).collect(),
        stalled: AtomicBool::new(false),
        depth: store.depth(),
    });
    let channels: Vec<_> = made.iter().map(|_| mailbox()).collect();
    let inbox = |sender: &Sender<Message>| Inbox::new(sender.clone(), Arc::clone(&shared.tickets));
    let inboxes: Vec<Inbox> = channels.iter().map(|(sender, _)| inbox(sender)).collect();
    let told = CommitObserver { inboxes: inboxes.clone(), shared: Arc::clone(&shared) };
    let (committer, queue) = Committer::spawn(store, told, CommitterOptions::default())?;
    let orders_max = config.orders_max.div_ceil(shards);
    let mut tables = Vec::new();
    let mut threads = Vec::new();
    for (number, (shard, (_, messages))) in made.into_iter().zip(channels).enumerate() {
        let open = u32::try_from(shard.len()).unwrap_or(u32::MAX);
        let (writer, reader) = state_table::table(orders_max.saturating_add(open));
        tables.push(reader);
        let Some(inbox) = inboxes.get(number).cloned() else { continue };
        let queue = queue.clone();
        let thread = ShardThread {
            number,
            shard,
            inbox,
            messages,
            published: Published::new(writer),
            shared: Arc::clone(&shared),
            commit: Box::new(move |batch| submit(&queue, number, batch)),
            under_way: None,
            errands: Vec::new(),
            absence: config.absence,
            rescan: config.rescan,
            directory: Arc::default(),
            exposure: Exposure::default(),
            overdue_ms: config.policy.overdue_ms(),
            reported_at: Tick::ZERO,
            learned_at: now.tick,
        };
        let spawned =
            std::thread::Builder::new().name(format!("hufu-shard-{number}")).spawn(move || thread.run())?;
        threads.push(spawned);
    }
    let core = Arc::new(Core {
        inboxes,
        tables,
        shared,
        draining: AtomicBool::new(false),
        orders_max: config.orders_max,
    });
    let threads = Threads {
        core: Arc::clone(&core),
        shards: threads,
        committer: Some(committer),
        lookups: lookup_threads,
    };
    Ok((core, threads, recovery))
}

/// What was paid lately and whose till may not know is in the way of the same sale (`state_machine::rescan`): whether it
/// knows has died with the process before.
fn recall_paid(
    store: &mut SqliteStore,
    shards: &mut [Shard],
    window_ms: u64,
    now: Now,
) -> Result<(), StoreError> {
    let from = now.wall.0.saturating_sub(i64::try_from(window_ms).unwrap_or(i64::MAX));
    let mut filter = Filter { from: Some(UnixMs(from)), state: Some(State::Paid), ..Filter::default() };
    loop {
        let listing = store.list(&filter)?;
        // What is damaged has been set aside.
        for record in listing.records.into_iter().filter(|record| record.till != 0 && !record.is_open()) {
            let place = shard_of(&record.key, shards.len());
            if let Some(shard) = shards.get_mut(place) {
                shard.recover(record, now);
            }
        }
        match listing.next {
            Some(next) => filter.after = Some(next),
            None => return Ok(()),
        }
    }
}

/// Hands a batch over. A committer that has ended said why before.
fn submit(queue: &CommitQueue, shard: usize, batch: state_machine::shard::Batch) {
    if let Err(error) = queue.submit(ShardIndex(shard), batch) {
        fatal(&error.to_string());
    }
}

/// Carries the store's word to the shards.
struct CommitObserver {
    inboxes: Vec<Inbox>,
    shared: Arc<Shared>,
}

impl Observer for CommitObserver {
    fn now_ns(&mut self) -> u64 {
        Clock::monotonic_ns()
    }

    fn done(&mut self, shard: ShardIndex, batch: BatchId, result: Result<Vec<Outcome>, CommitError>) {
        if let Some(inbox) = self.inboxes.get(shard.0) {
            inbox.send(Message::Committed(batch, result));
        }
    }

    fn committed(&mut self, records: usize, took_ns: u64) {
        crate::metrics::commit(records, Duration::from_nanos(took_ns));
    }

    fn stalled(&mut self, why: &CommitError) {
        if !self.shared.stalled.swap(true, Ordering::Relaxed) {
            tracing::error!("{why}");
        }
        for inbox in &self.inboxes {
            inbox.send(Message::Stalled);
        }
    }

    fn resumed(&mut self) {
        self.shared.stalled.store(false, Ordering::Relaxed);
        tracing::info!("the store takes records again");
    }
}

/// Each shard's part of what is bounded over all of them.
fn shard_config(config: &EngineConfig, shards: u32) -> ShardConfig {
    let part = |whole: u32| whole.checked_div(shards).unwrap_or(whole).max(1);
    let of = |quota: Quota| Quota {
        pay: part(quota.pay),
        query: part(quota.query),
        reverse: part(quota.reverse),
        calls_max: part(quota.calls_max),
    };
    ShardConfig {
        policy: config.policy,
        quota: of(Quota::default()),
        quotas: config.quotas.iter().map(|(provider, quota)| (*provider, of(*quota))).collect(),
        orders_max: config.orders_max.div_ceil(shards),
        waiters_max: WAITERS_MAX,
        boot: config.boot,
        absences: Absences::new(config.absence, []),
        rescans: Rescans::new(config.rescan, []),
    }
}

/// The shard of a key among `shards`: that of its merchant, so that payments of one till are held against each other in
/// one place (`state_machine::rescan`).
fn shard_of(key: &OrderKey, shards: usize) -> usize {
    let shards = u64::try_from(shards).unwrap_or(u64::MAX).max(1);
    let spread = u64::from(key.merchant.0).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let place = (spread >> 32).checked_rem(shards);
    place.and_then(|place| usize::try_from(place).ok()).unwrap_or(0)
}

/// What no process can go on from: it ends, and recovery decides.
fn fatal(why: &str) -> ! {
    tracing::error!("{why}");
    // Where it cannot be written either, the code has to say it.
    let _ = writeln!(std::io::stderr(), "hufu: {why}");
    std::process::exit(70)
}

impl Core {
    fn inbox(&self, key: &OrderKey) -> Option<&Inbox> {
        self.inboxes.get(shard_of(key, self.inboxes.len()))
    }

    /// Hands a request in, or answers it at once if it cannot be.
    fn request(
        &self,
        key: &OrderKey,
        outgoing: Option<Outgoing>,
        input: impl FnOnce(state_machine::shard::Ticket) -> Input,
    ) -> oneshot::Receiver<Told> {
        let (ticket, answer) = self.shared.tickets.open(*key, outgoing);
        match self.inbox(key) {
            Some(inbox) => inbox.request(ticket, input(ticket)),
            None => self.shared.tickets.refuse(ticket, NotAccepted::Stopping),
        }
        answer
    }

    /// Whether what this provider accepts could also be reversed: its certificate is there and has not ended
    /// (NU-14).
    fn can_finish(&self, provider: ProviderId) -> bool {
        self.shared.callers.acquirers.get(&provider).is_some_and(|acquirer| {
            let ended = acquirer.certificate_ends_at().is_some_and(|at| at <= Clock::wall());
            acquirer.can_reverse() && !ended
        })
    }

    /// Undecided payments.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.shared.gauges.iter().map(|gauge| gauge.pending.load(Ordering::Relaxed)).sum()
    }

    /// Orders in memory, settled ones that have not left yet included.
    #[must_use]
    pub fn orders(&self) -> usize {
        self.tables.iter().map(Reader::len).sum()
    }

    /// Fen whose outcome is unknown.
    #[must_use]
    pub fn at_risk_fen(&self) -> u64 {
        self.shared.gauges.iter().map(|gauge| gauge.at_risk_fen.load(Ordering::Relaxed)).sum()
    }
}

impl Engine for Core {
    fn pay(&self, request: NewPayment) -> oneshot::Receiver<Told> {
        let NewPayment {
            key,
            provider,
            amount,
            digest,
            attach,
            till,
            patience,
            wait,
            expires_at,
            auth_code,
            upstream,
        } = request;
        if !self.can_finish(provider) {
            tracing::error!(
                provider = provider.0,
                "a new payment was refused, nothing was sent: this provider's client certificate is missing or has \
                 ended, so nothing could be reversed. Put a valid certificate in place and restart."
            );
            let (till, answer) = oneshot::channel();
            let _ = till.send(Told::Refused(NotAccepted::Suspended));
            return answer;
        }
        let outgoing = Outgoing { auth_code, fields: upstream };
        self.request(&key, Some(outgoing), |ticket| {
            let patience_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
            Input::Pay(PayRequest {
                ticket,
                key,
                provider,
                amount,
                digest,
                attach,
                wait,
                expires_at,
                till,
                patience_ms,
            })
        })
    }

    fn reverse(&self, key: OrderKey, provider: ProviderId) -> oneshot::Receiver<Told> {
        self.request(&key, None, |ticket| Input::Reverse(ReverseRequest { ticket, key, provider }))
    }

    fn watch(&self, key: OrderKey, wait: Wait) -> oneshot::Receiver<Told> {
        self.request(&key, None, |ticket| Input::Watch { ticket, key, wait })
    }

    fn heard(&self, key: &OrderKey) {
        if let Some(inbox) = self.inbox(key) {
            inbox.reply(Input::Heard { key: *key });
        }
    }

    fn find(&self, key: &OrderKey) -> Lookup<Option<Arc<Record>>> {
        let table = self.tables.get(shard_of(key, self.tables.len()));
        match table.and_then(|table| publish::find(table, key)) {
            Some(Found::Whole(record)) => Lookup::Now(Some(record)),
            Some(Found::InStore) | None => Lookup::Later(self.shared.lookups.find(*key)),
        }
    }

    fn find_by_transaction(&self, merchant: MerchantId, id: &TransactionId) -> Lookup<Option<Arc<Record>>> {
        Lookup::Later(self.shared.lookups.find_by_transaction(merchant, *id))
    }

    fn list(&self, request: ListRequest) -> Lookup<Vec<Arc<Record>>> {
        Lookup::Later(self.shared.lookups.list(request))
    }

    fn page(&self, filter: Filter) -> Lookup<Listing> {
        Lookup::Later(self.shared.lookups.page(filter))
    }

    fn events(&self, query: EventQuery) -> Lookup<Events> {
        Lookup::Later(self.shared.lookups.events(query))
    }

    fn follow(&self, topic: Topic) -> Following {
        self.shared.feed.follow(topic)
    }

    fn health(&self) -> Health {
        Health {
            recovered: true,
            store: !self.shared.stalled.load(Ordering::Relaxed),
            draining: self.draining.load(Ordering::Relaxed),
        }
    }

    fn gauges(&self) -> Gauges {
        let gauges = &self.shared.gauges;
        let mut exposure = Report::default();
        gauges.iter().for_each(|gauge| gauge.add_to(&mut exposure));
        let (queries_used, queries_max) =
            gauges.iter().map(Gauge::queries).fold((0_u32, 0_u32), |(used, max), (more, limit)| {
                (used.saturating_add(more), max.saturating_add(limit))
            });
        let health = self.health();
        let acquirers = self.shared.callers.acquirers.values();
        Gauges {
            pending: self.pending(),
            at_risk_fen: self.at_risk_fen(),
            exposure,
            queries_used,
            queries_max,
            calls_waiting: gauges.iter().map(|gauge| gauge.calls_waiting.load(Ordering::Relaxed)).sum(),
            crowded: gauges.iter().map(|gauge| gauge.crowded.load(Ordering::Relaxed)).sum(),
            queue_depths: self.inboxes.iter().map(Inbox::depth).collect(),
            lookups_waiting: self.shared.lookups.depths(),
            orders: u64::try_from(self.orders()).unwrap_or(u64::MAX),
            orders_max: u64::from(self.orders_max),
            is_stalled: !health.store,
            backlog: [self.shared.depth.backlog(), self.shared.depth.backlog_max()],
            archives: self.shared.depth.archives(),
            is_draining: health.draining,
            wallet_certificate_end: acquirers.filter_map(|acquirer| acquirer.certificate_ends_at()).min(),
        }
    }

    fn drain(&self) {
        if !self.draining.swap(true, Ordering::Relaxed) {
            self.inboxes.iter().for_each(shard_thread::drain);
        }
    }
}

impl Threads {
    /// Ends the threads: shards first, then the store, which is closed whole. What is open is taken up at the
    /// next start.
    pub fn stop(mut self) {
        self.core.drain();
        for inbox in &self.core.inboxes {
            inbox.send(Message::Stop);
        }
        for thread in self.shards.drain(..) {
            drop(thread.join());
        }
        self.core.shared.keeper.write();
        // Its queues went with the shards; the store is closed here, whole.
        drop(self.committer.take().map(Committer::join));
        // The lookups end with the last holder of the core.
        self.lookups.clear();
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use state_machine::{BootId, MerchantId, Now, OrderKey, ProviderId, Record, Tick, UnixMs};

    use super::shard_of;

    /// A plain record under `number`.
    pub(crate) fn record(number: &str) -> Record {
        let key = OrderKey { merchant: MerchantId(7), number: number.parse().expect("a number") };
        let now = Now { tick: Tick::from_ms(5_000_000), wall: UnixMs(1_795_400_000_123) };
        Record {
            amount: protocol::Fen::new(1288).ok(),
            digest: *b"0123456789abcdef",
            attach: 99,
            ..Record::begun(key, ProviderId(3), now, BootId(u64::MAX))
        }
    }

    #[test]
    fn merchants_spread_over_shards_and_each_is_in_one() {
        let key = |merchant, number| OrderKey { merchant: MerchantId(merchant), ..record(number).key };
        let mut counts = [0_u32; 4];
        for merchant in 0..4_000 {
            let shard = shard_of(&key(merchant, "P20261123000001"), 4);
            assert_eq!(shard_of(&key(merchant, "P20261123000002"), 4), shard);
            counts[shard] += 1;
        }
        assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
    }
}
