//! The process that is judged: shards, what it has published, its life and death.

use std::sync::Arc;

use state_machine::planner::Quota;
use state_machine::shard::{Config, Input, Shard};
use state_machine::{BootId, Now, Policy, Record, Tick, UnixMs};
use timer_wheel::Handle;

use super::disk::{Disk, Fate};
use super::kind::Kind;
use super::requests::{Seen, Tickets};
use super::setup::Setup;
use super::store::Committer;
use super::tills::{key_of, merchant_of, n_of};
use super::told::Told;
use super::{Event, World, absent, rescan};

/// Ticks do not begin at 0: a machine has run before its process starts.
const TICK_BASE: u64 = 40_000;
/// Requests that wait for one order.
const WAITERS_MAX: usize = 16;

/// One shard with its inbox.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) shard: Shard,
    inbox: Vec<Input>,
    /// When it runs next, and where that is planned.
    run_at: u64,
    planned: Option<Handle>,
}

/// The process and its machine.
#[derive(Debug)]
pub(super) struct Switch {
    policy: Policy,
    quota: Quota,
    orders_max: u32,
    pub(super) seats: Vec<Seat>,
    published: Vec<Option<Arc<Record>>>,
    pub(super) tickets: Tickets,
    pub(super) disk: Disk,
    pub(super) committer: Committer,
    /// Grows with each death; what belongs to an earlier life is void.
    pub(super) life: u32,
    pub(super) is_up: bool,
    boot: BootId,
    boot_at: u64,
    pub(super) frozen_until: u64,
}

impl Switch {
    pub(super) fn new(policy: Policy, quota: Quota, orders_max: u32, setup: &Setup) -> Self {
        let Setup { orders, seed, .. } = *setup;
        Self {
            policy,
            quota,
            orders_max,
            seats: Vec::new(),
            published: vec![None; usize::try_from(orders).unwrap_or(0)],
            tickets: Tickets::default(),
            disk: Disk::new(&setup.storage, seed),
            committer: Committer::default(),
            life: 0,
            is_up: false,
            boot: BootId(seed ^ 0xb007),
            boot_at: 0,
            frozen_until: 0,
        }
    }

    pub(super) const fn give_up_ms(&self) -> u64 {
        self.policy.give_up_ms
    }

    /// The shard of a payment, which is that of its merchant. Half of the shards of a run that restarts with another count change owners.
    pub(super) fn shard_of(&self, n: u32) -> usize {
        let hash = u64::from(merchant_of(n).0 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
        usize::try_from(hash).unwrap_or(0) % self.seats.len().max(1)
    }

    fn published(&mut self, n: u32) -> Option<&mut Option<Arc<Record>>> {
        self.published.get_mut(usize::try_from(n).unwrap_or(usize::MAX))
    }

    pub(super) fn publish(&mut self, n: u32, record: Option<Arc<Record>>) {
        if let Some(place) = self.published(n) {
            *place = record;
        }
    }

    /// What every thread can read of a payment: the table, else the store.
    pub(super) fn find(&mut self, n: u32) -> Seen {
        if let Some(Some(record)) = self.published(n) {
            return Seen::Record(Arc::clone(record));
        }
        match self.disk.find(&key_of(n)) {
            Ok(Some(record)) => Seen::Record(Arc::new(record)),
            Ok(None) => Seen::Nothing,
            Err(_) => Seen::Damaged,
        }
    }

    fn config(&self, shards: u32) -> Config {
        let part = |whole: u32| (whole / shards).max(1);
        let Quota { pay, query, reverse, calls_max } = self.quota;
        Config {
            policy: self.policy,
            quota: Quota {
                pay: part(pay),
                query: part(query),
                reverse: part(reverse),
                calls_max: part(calls_max),
            },
            quotas: Vec::new(),
            orders_max: self.orders_max.div_ceil(shards),
            waiters_max: WAITERS_MAX,
            boot: self.boot,
            absences: absent::rules(),
            rescans: rescan::rules(),
        }
    }
}

impl World {
    /// The present, as the process sees it.
    pub(super) fn clock(&self) -> Now {
        let wall = self.drawn.start_ms + i64::try_from(self.now).unwrap_or(0) + self.weather.wall_offset_ms();
        Now { tick: self.tick_of(self.now), wall: UnixMs(wall) }
    }

    pub(super) fn tick_of(&self, at: u64) -> Tick {
        Tick::from_ms(TICK_BASE + at.saturating_sub(self.switch.boot_at))
    }

    pub(super) fn moment_of(&self, tick: Tick) -> u64 {
        self.switch.boot_at.saturating_add(tick.as_ms().saturating_sub(TICK_BASE))
    }

    /// The process starts: every open order is taken up where it stood.
    pub(super) fn on_start(&mut self, life: u32) {
        if life != self.switch.life || self.switch.is_up {
            return;
        }
        let shards = u32::try_from(1 + self.rng.store.below(self.drawn.shards_max)).unwrap_or(1);
        let now = self.clock();
        let config = self.switch.config(shards);
        let seat = |_| Seat {
            shard: Shard::new(config.clone(), now.tick),
            inbox: Vec::new(),
            run_at: u64::MAX,
            planned: None,
        };
        self.switch.seats = (0..shards).map(seat).collect();
        self.switch.is_up = true;
        self.reasons.on_start(self.now);
        self.switch.frozen_until = 0;
        let found = match self.switch.disk.recover() {
            Ok(found) => found,
            Err(why) => return self.judge.break_rule("INV-12", None, why.to_string()),
        };
        let (open, damaged) = (found.open, found.damaged);
        if open.len() >= 50_000 {
            self.judge.probes.other("recovered_many");
        }
        if damaged > 0 {
            self.judge.probes.other("row_damaged_at_start");
        }
        self.note_all(|| {
            format!("process starts: {shards} shards, {} open orders, {damaged} damaged", open.len())
        });
        self.mix(1, u64::from(shards), u64::try_from(open.len()).unwrap_or(0));
        if life > 0 {
            self.switch.seats.iter_mut().for_each(|seat| seat.shard.follow_another_process(now.tick));
        }
        for record in open {
            let place = self.switch.shard_of(n_of(&record.key));
            if let Some(seat) = self.switch.seats.get_mut(place) {
                seat.shard.recover(record, now);
            }
        }
        self.recall_paid(now);
        for shard in 0..u16::try_from(shards).unwrap_or(1) {
            self.nudge(shard, 0);
        }
    }

    /// What was paid lately, and whose till may not know, is in the way of the same sale again.
    fn recall_paid(&mut self, now: Now) {
        let from = now.wall.0.saturating_sub(i64::try_from(rescan::WINDOW_MS).unwrap_or(0));
        let found = match self.switch.disk.paid_since(UnixMs(from)) {
            Ok(found) => found,
            Err(why) => return self.judge.break_rule("INV-12", None, why.to_string()),
        };
        for record in found.into_iter().filter(|record| record.till != 0 && !record.is_open()) {
            let place = self.switch.shard_of(n_of(&record.key));
            if let Some(seat) = self.switch.seats.get_mut(place) {
                seat.shard.recover(record, now);
            }
        }
    }

    /// The process dies. What is on the wire stays on the wire; everything else is gone.
    pub(super) fn crash(&mut self, down_ms: u64, reboots: bool) {
        let kept = self.is_committing() && self.rng.store.below(2) == 0;
        self.die(reboots, Some(if kept { Fate::Kept } else { Fate::Lost }));
        self.start_later(down_ms);
    }

    /// The process is started again after `down_ms`.
    pub(super) fn start_later(&mut self, down_ms: u64) {
        let life = self.switch.life;
        self.later(down_ms.max(20), Event::Start { life });
    }

    /// Ends the process; `fate` says what becomes of the commit under way, or that the store is closed in good
    /// order.
    pub(super) fn die(&mut self, reboots: bool, fate: Option<Fate>) {
        self.switch.life += 1;
        if reboots {
            self.switch.boot = BootId(self.switch.boot.0.wrapping_add(1));
            self.switch.boot_at = self.now;
        }
        if !self.switch.is_up {
            return;
        }
        self.note_all(|| format!("process dies{}", if reboots { ", machine reboots" } else { "" }));
        self.switch.is_up = false;
        self.switch.seats.clear();
        self.switch.published.fill(None);
        let kept = match fate {
            Some(fate) => self.switch.disk.crash(fate),
            None => self.switch.disk.close(),
        };
        self.end_committer(kept);
        self.hang_up_calls();
        // Every till that waits sees its connection break.
        for (n, turn, begun) in std::mem::take(&mut self.switch.tickets).into_unanswered() {
            self.presence.on_over(n, self.now);
            self.stood_there(n, begun);
            self.on_told(n, turn, Told::Lost, 2);
        }
    }

    /// Rows of some payments, open ones if there are, are spoilt; the next start finds them.
    pub(super) fn damage_rows(&mut self) {
        if !self.switch.is_up {
            return;
        }
        let begun = u64::try_from(self.tills.len()).unwrap_or(0);
        for _ in 0..3 {
            let draws: Vec<u32> = (0..20)
                .map(|_| u32::try_from(self.rng.store.below(begun)).unwrap_or(0))
                // Of the first two merchants no byte in the file tells them apart.
                .filter(|n| self.judge.durable(*n).is_some_and(|record| record.key.merchant.0 > 1))
                .collect();
            let open = draws.iter().find(|n| self.judge.durable(**n).is_some_and(|record| record.is_open()));
            if let Some(n) = open.or(draws.first()).copied() {
                self.note(n, || "a bit of its row flips".to_owned());
                self.judge.on_damaged(n);
                self.switch.disk.damage(key_of(n));
            }
        }
    }

    /// A second process opens the store as its writer, and ends; the first is stale.
    pub(super) fn usurp(&mut self) {
        if !self.switch.is_up {
            return;
        }
        if let Err(what) = self.switch.disk.usurp() {
            self.judge.break_rule("INV-17", None, what);
        }
    }

    /// The process is told to stop: it takes no more payments, and ends a little later.
    pub(super) fn drain(&mut self, after_ms: u64) {
        for shard in 0..self.switch.seats.len() {
            self.input(shard, Input::Drain);
        }
        let life = self.switch.life;
        self.later(after_ms, Event::Stop { life });
    }

    pub(super) fn on_stop(&mut self, life: u32) {
        if life == self.switch.life && self.switch.is_up {
            // The store is closed whole: what it was given is durable.
            self.die(false, None);
            let down_ms = 20 + self.rng.faults.below(2_000);
            self.start_later(down_ms);
        }
    }

    /// The process stands still; its sockets fill up meanwhile.
    pub(super) fn freeze(&mut self, for_ms: u64) {
        self.switch.frozen_until = self.switch.frozen_until.max(self.now + for_ms);
    }

    /// Puts something into a shard's inbox.
    pub(super) fn input(&mut self, shard: usize, input: Input) {
        let Some(seat) = self.switch.seats.get_mut(shard) else { return };
        self.events += 1;
        seat.inbox.push(input);
        // A shard takes what has gathered: the more it has to do, the more at once.
        let lag_ms = match self.setup.faults {
            true if self.weather.is(Kind::LateTimers) => self.rng.store.below(5_000),
            true => self.rng.store.below(3),
            false => 0,
        };
        self.nudge(u16::try_from(shard).unwrap_or(0), lag_ms);
    }

    /// Has a shard run after `after_ms` at the latest.
    pub(super) fn nudge(&mut self, shard: u16, after_ms: u64) {
        let at = (self.now + after_ms).max(self.switch.frozen_until);
        self.run_by(shard, at);
    }

    fn run_by(&mut self, shard: u16, at: u64) {
        let Some(seat) = self.switch.seats.get_mut(usize::from(shard)) else { return };
        if at < seat.run_at {
            seat.run_at = at;
            if let Some(planned) = seat.planned.take() {
                self.queue.cancel(planned);
            }
            let planned = self.at(at, Event::Run { shard });
            if let Some(seat) = self.switch.seats.get_mut(usize::from(shard)) {
                seat.planned = Some(planned);
            }
        }
    }

    /// A shard runs: it takes its inputs, fires its timers, and its actions are carried out.
    pub(super) fn on_run(&mut self, shard: u16) {
        let (now, moment, frozen_until) = (self.clock(), self.now, self.switch.frozen_until);
        let Some(seat) = self.switch.seats.get_mut(usize::from(shard)) else { return };
        if seat.run_at != moment {
            return;
        }
        seat.run_at = u64::MAX;
        seat.planned = None;
        if frozen_until > moment {
            return self.run_by(shard, frozen_until);
        }
        let mut inputs = std::mem::take(&mut seat.inbox);
        for input in &mut inputs {
            absent::attend(&seat.shard, &self.switch.tickets, input);
        }
        // Nothing but its timer wakes it: the moment is the input.
        self.events += u64::from(inputs.is_empty());
        let batch = seat.shard.step(inputs.drain(..), now);
        seat.inbox = inputs;
        if let Some(batch) = batch {
            self.submit(shard, batch);
        }
        self.act_all(shard);
    }

    /// Carries out a shard's actions, and plans when it runs next.
    pub(super) fn act_all(&mut self, shard: u16) {
        let life = self.switch.life;
        while self.switch.life == life
            && let Some(seat) = self.switch.seats.get_mut(usize::from(shard))
            && let Some(action) = seat.shard.poll_action()
        {
            self.act(shard, action);
        }
        if self.switch.life != life {
            return;
        }
        let wake = self.switch.seats.get(usize::from(shard)).and_then(|seat| seat.shard.next_wake());
        if let Some(wake) = wake {
            let mut at = self.moment_of(wake).max(self.now + 1);
            if self.weather.is(Kind::LateTimers) {
                let late_ms = self.rng.store.below(5_001);
                at += late_ms;
                if late_ms >= 4_000 {
                    self.judge.probes.other("timer_late");
                }
            }
            self.run_by(shard, at);
        }
    }
}
