//! A shard with a virtual clock, a store in a map, and a wallet that says what the script says.
//!
//! Words in a script: `pay` `pay:other` `pay:first` `pay:stale` `pay:in-time` `reverse` `watch` (tills); `+5s` `+500` (time); `left`;
//! `a:` `q:` `r:` `f:` `l:` (answers to the pay request, a query, a reversal, a refund, a refund query: see
//! `facts`; `q*:` and so on answer every later one at once); `hold` `commit` `fail` `free` (the store);
//! `gone` (every till so far has hung up) `stream` (a till has a stream open) `heard` (the outcome is in a till's hands);
//! `crash` `crash:torn` `reboot` (the process; torn: the batch under way became durable); `@2` (another
//! order); `again` (every reply so far comes once more); `drain`; `wall+1h`; `mark` (what came out so far is
//! not looked at).
//!
//! Whatever the script, the rig itself holds the shard to *record before act* and to the money rules.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use protocol::Fen;
use timer_wheel::Tick;

use super::facts::{self, FEN};
use crate::absence::Absences;
use crate::key::{BootId, MerchantId, Now, OrderKey, ProviderId, UnixMs};
use crate::planner::Quota;
use crate::policy::Policy;
use crate::record::{Claim, Record, State, TillReversal};
use crate::rescan::Rescans;
use crate::shard::{
    Action, Batch, Call, Config, Input, OrderRef, Outcome, PayRequest, ReverseRequest, Shard, Ticket, Wait,
};
use crate::till;

const WALL: i64 = 1_795_400_000_000;
pub(super) const PROVIDER: ProviderId = ProviderId(1);
/// The till of every payment, and how long it lets a payment wait for another.
const TILL: u64 = 7;
pub(super) const PATIENCE_MS: u64 = 20_000;

/// What a ticket asked for.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Pay,
    Reverse,
    Watch,
}

/// What the rig knows of one order, besides what the shard says of it.
#[derive(Debug, Default)]
struct Known {
    /// Every version that is durable.
    versions: Vec<Record>,
    sends: u32,
    /// When the pay request may have left, at the latest.
    left_at: Option<u64>,
    /// The pay request under way.
    pay: Option<OrderRef>,
    /// The call under way.
    call: Option<(OrderRef, u32, Call)>,
    till_asked: bool,
}

pub(super) struct Rig {
    pub(super) shard: Shard,
    pub(super) config: Config,
    pub(super) tick: u64,
    pub(super) wall_shift: i64,
    orders: BTreeMap<OrderKey, Known>,
    asked: BTreeMap<Ticket, (Asked, OrderKey)>,
    /// Tills up to this ticket have hung up, once any has; from then on the driver says who listens.
    gone: Option<u64>,
    stream: bool,
    next_ticket: u64,
    current: u32,
    automatic: HashMap<char, String>,
    /// Batches wait for `commit`.
    hold: bool,
    /// Batches wait for the next word.
    pub(super) slow: bool,
    batch: Option<Batch>,
    words: Vec<String>,
    diary: String,
    replies: Vec<Input>,
    pub(super) calls: Vec<(u64, Call)>,
}

pub(super) fn key(number: u32) -> OrderKey {
    OrderKey { merchant: MerchantId(1), number: format!("P{number:07}").parse().unwrap() }
}

fn config() -> Config {
    Config {
        policy: Policy::default(),
        quota: Quota::default(),
        quotas: Vec::new(),
        orders_max: 100,
        waiters_max: 4,
        boot: BootId(1),
        absences: Absences::default(),
        rescans: Rescans::default(),
    }
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::with(config())
    }

    pub(super) fn configured(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = config();
        change(&mut config);
        Self::with(config)
    }

    fn with(config: Config) -> Self {
        // Not at 0: a loop that starts from a forgotten zero is to be seen.
        let tick = 1_000_000;
        Self {
            shard: Shard::new(config.clone(), Tick::from_ms(tick)),
            config,
            tick,
            wall_shift: 0,
            orders: BTreeMap::new(),
            asked: BTreeMap::new(),
            gone: None,
            stream: false,
            next_ticket: 0,
            current: 1,
            automatic: HashMap::new(),
            hold: false,
            slow: false,
            batch: None,
            words: Vec::new(),
            diary: String::new(),
            replies: Vec::new(),
            calls: Vec::new(),
        }
    }

    pub(super) fn now(&self) -> Now {
        let since = i64::try_from(self.tick).unwrap();
        Now { tick: Tick::from_ms(self.tick), wall: UnixMs(WALL + since + self.wall_shift) }
    }

    /// What came out, as one line.
    pub(super) fn words(&self) -> String {
        self.words.join(" ")
    }

    /// Everything with its times, for a test that fails.
    pub(super) fn diary(&self) -> &str {
        &self.diary
    }

    pub(super) fn durable(&self, number: u32) -> Option<&Record> {
        self.orders.get(&key(number))?.versions.last()
    }

    /// The newest durable version of every order.
    pub(super) fn all_durable(&self) -> Vec<Record> {
        self.orders.values().filter_map(|known| known.versions.last().cloned()).collect()
    }

    pub(super) fn run(&mut self, script: &str) {
        for word in script.split_whitespace() {
            self.word(word);
        }
    }

    /// Plays a word unless it answers what was not asked.
    pub(super) fn word_if_possible(&mut self, word: &str) {
        let known = self.orders.get(&key(self.current));
        let call = known.and_then(|known| known.call).map(|(_, _, call)| facts::letter(call));
        let possible = match word.split_once(':').map(|(kind, _)| kind) {
            Some("a") => known.is_some_and(|known| known.pay.is_some()),
            Some(kind) if kind.len() == 1 => call.is_some_and(|letter| kind.starts_with(letter)),
            _ => match word {
                "left" => known.is_some_and(|known| {
                    let by = known.left_at.map(|at| at + self.config.policy.leave_ms);
                    known.pay.is_some() && by.is_some_and(|by| self.tick <= by)
                }),
                "fail" => self.batch.is_some(),
                _ => true,
            },
        };
        if possible {
            self.word(word);
        }
    }

    pub(super) fn word(&mut self, word: &str) {
        writeln!(self.diary, "{:>9}  > {word}", self.ms()).unwrap();
        if self.slow && !self.hold {
            self.commit();
        }
        let key = key(self.current);
        if let Some(order) = word.strip_prefix('@') {
            self.current = order.parse().unwrap();
        } else if let Some(time) = word.strip_prefix('+') {
            self.advance(facts::duration(time));
        } else if let Some((kind, answer)) = word.split_once("*:") {
            self.automatic.insert(kind.chars().next().unwrap(), answer.to_owned());
            self.step([]);
        } else if let Some((kind, answer)) = word.split_once(':').filter(|(kind, _)| kind.len() == 1) {
            self.answer(kind.chars().next().unwrap(), answer);
        } else {
            match word {
                "pay" => self.pay(1, Wait::Definite, None),
                "pay:other" => self.pay(2, Wait::Definite, None),
                "pay:first" => self.pay(1, Wait::FirstWord, None),
                "pay:at-once" => self.pay(1, Wait::Nothing, None),
                "pay:stale" => self.pay(1, Wait::Definite, Some(0)),
                "pay:impatient" => {
                    let request = PayRequest { patience_ms: 0, ..self.request() };
                    self.step([Input::Pay(request)]);
                }
                "pay:dear" => self.pay_for(FEN + 1, TILL),
                "pay:elsewhere" => self.pay_for(FEN, TILL + 1),
                "pay:in-time" => self.pay(1, Wait::Definite, Some(1)),
                "reverse" => {
                    let ticket = self.ticket(Asked::Reverse);
                    self.orders.entry(key).or_default().till_asked = true;
                    self.step([Input::Reverse(ReverseRequest { ticket, key, provider: PROVIDER })]);
                }
                "watch" => {
                    let ticket = self.ticket(Asked::Watch);
                    self.step([Input::Watch { ticket, key, wait: Wait::Definite }]);
                }
                "left" => {
                    let known = self.orders.get_mut(&key).unwrap();
                    known.left_at = Some(self.tick);
                    let order = known.pay.expect("a pay request under way");
                    self.step([Input::PayLeft { order, at: Tick::from_ms(self.tick) }]);
                }
                "hold" => self.hold = true,
                "commit" => self.commit(),
                "again" => self.repeat_replies(),
                "fail" => {
                    let id = self.batch.as_ref().expect("a batch under way").id;
                    self.shard.failed(id);
                }
                "free" => {
                    self.hold = false;
                    self.commit();
                }
                "crash" => self.crash(false, false),
                "crash:torn" => self.crash(true, false),
                "reboot" => self.crash(false, true),
                "drain" => self.step([Input::Drain]),
                "gone" => self.gone = Some(self.next_ticket),
                "stream" => self.stream = true,
                "heard" => self.step([Input::Heard { key }]),
                "wall+1h" => self.wall_shift += 3_600_000,
                "wall-1h" => self.wall_shift -= 3_600_000,
                "mark" => self.words.clear(),
                _ => panic!("what is {word}?"),
            }
        }
    }

    fn ms(&self) -> u64 {
        self.tick - 1_000_000
    }

    /// Every reply that has come comes once more: late and repeated, it changes nothing.
    fn repeat_replies(&mut self) {
        let words = self.words.len();
        self.step(self.replies.clone());
        assert_eq!(self.words.len(), words, "a repeated reply did something\n{}", self.diary);
    }

    fn ticket(&mut self, asked: Asked) -> Ticket {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        self.asked.insert(ticket, (asked, key(self.current)));
        ticket
    }

    /// `left_ms`: the till wants it for this long.
    fn pay(&mut self, digest: u8, wait: Wait, left_ms: Option<i64>) {
        let expires_at = left_ms.map(|ms| UnixMs(self.now().wall.0 + ms));
        let request = PayRequest { digest: [digest; 16], wait, expires_at, ..self.request() };
        self.step([Input::Pay(request)]);
    }

    /// Another amount, or another till.
    fn pay_for(&mut self, fen: u64, till: u64) {
        let request = PayRequest { amount: Fen::new(fen).unwrap(), till, ..self.request() };
        self.step([Input::Pay(request)]);
    }

    fn request(&mut self) -> PayRequest {
        PayRequest {
            ticket: self.ticket(Asked::Pay),
            key: key(self.current),
            provider: PROVIDER,
            amount: Fen::new(FEN).unwrap(),
            digest: [1; 16],
            attach: 0,
            wait: Wait::Definite,
            expires_at: None,
            till: TILL,
            patience_ms: PATIENCE_MS,
        }
    }

    fn advance(&mut self, ms: u64) {
        let until = self.tick + ms;
        while let Some(wake) = self.shard.next_wake().map(Tick::as_ms).filter(|wake| *wake <= until) {
            assert!(wake > self.tick || self.slow, "woken for nothing at {}\n{}", self.ms(), self.diary);
            self.tick = wake.max(self.tick);
            self.step([]);
            if self.slow && !self.hold {
                self.commit();
            }
        }
        self.tick = until;
        self.step([]);
    }

    /// Answers the pay request or the call of the order at hand.
    fn answer(&mut self, kind: char, answer: &str) {
        let now = self.now();
        let tick = now.tick;
        let known = self.orders.get_mut(&key(self.current)).expect("an order");
        if kind == 'a' {
            let order = known.pay.take().expect("a pay request under way");
            let (row, fact) = facts::pay(answer, now.wall);
            let left_at = (answer != "A1").then(|| Tick::from_ms(known.left_at.unwrap()));
            let input = self.attended(Input::PayReply { order, left_at, row, fact });
            self.replies.push(input.clone());
            return self.step([input]);
        }
        let Some((order, call, asked)) = known.call.take() else {
            panic!("no call to answer with {kind}:{answer} at {tick:?}\n{}", self.diary)
        };
        let input = self.attended(facts::reply(kind, answer, order, call, asked, now));
        self.replies.push(input.clone());
        self.step([input]);
    }

    /// A reply, with who listens where the driver says so.
    fn attended(&self, reply: Input) -> Input {
        let Some(gone) = self.gone else { return reply };
        let gone = self.asked.keys().copied().filter(|ticket| ticket.0 <= gone).collect();
        Input::Attended { gone, follows: self.stream, reply: Box::new(reply) }
    }

    /// One step, and everything that follows from it at this moment.
    pub(super) fn step(&mut self, inputs: impl IntoIterator<Item = Input>) {
        let now = self.now();
        let batch = self.shard.step(inputs, now);
        self.follow(batch);
        self.shard.check(now.tick);
        let wake = self.shard.next_wake();
        assert!(wake.is_none_or(|wake| wake > now.tick), "spins at {}\n{}", self.ms(), self.diary);
    }

    fn follow(&mut self, batch: Option<Batch>) {
        assert!(batch.is_none() || self.batch.is_none(), "one batch at a time");
        self.batch = self.batch.take().or(batch);
        self.act();
        if !self.hold && !self.slow {
            self.commit();
        }
    }

    /// The batch becomes durable, and what follows.
    pub(super) fn commit(&mut self) {
        while let Some(batch) = self.batch.take() {
            let outcomes = self.write(&batch);
            let now = self.now();
            self.shard.committed(batch.id, outcomes, now).expect("nobody else writes");
            self.batch = self.shard.poll_batch();
            self.act();
            self.shard.check(now.tick);
            if self.hold || self.slow {
                return;
            }
        }
    }

    /// The store: version 1 if there is none, version n over n − 1, and only legal moves.
    fn write(&mut self, batch: &Batch) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for record in &batch.records {
            let known = self.orders.entry(record.key).or_default();
            let current = known.versions.last();
            let applies = match current {
                None => record.version == 1,
                Some(current) => record.version == current.version + 1,
            };
            if !applies {
                outcomes.push(Outcome::Conflict(Box::new(current.expect("what is in the way").clone())));
                continue;
            }
            assert!(current.is_none_or(|current| current.state.may_become(record.state)), "{}", self.diary);
            known.versions.push(Record::clone(record));
            outcomes.push(Outcome::Applied);
        }
        outcomes
    }

    /// Puts a record into the store that the shard does not know.
    pub(super) fn plant(&mut self, record: Record) {
        self.orders.entry(record.key).or_default().versions.push(record);
    }

    fn crash(&mut self, torn: bool, other_boot: bool) {
        if let Some(batch) = self.batch.take().filter(|_| torn) {
            self.write(&batch);
        }
        self.batch = None;
        self.automatic.clear();
        self.replies.clear(); // They died with the process.
        self.config.boot.0 += u64::from(other_boot);
        let now = self.now();
        self.shard = Shard::new(self.config.clone(), now.tick);
        for known in self.orders.values_mut() {
            (known.pay, known.call) = (None, None);
            // A request that was not released never leaves; one that was has left by now.
            known.left_at = known.left_at.map(|at| if other_boot { self.tick } else { at.min(self.tick) });
            let guarded = self.config.rescans != Rescans::default();
            let recent = |record: &Record| guarded && record.state == State::Paid && record.till != 0;
            let wanted = |record: &&Record| record.is_open() || recent(record);
            if let Some(record) = known.versions.last().filter(wanted) {
                self.shard.recover(record.clone(), now);
            }
        }
        self.words.push(if other_boot { "REBOOT" } else { "CRASH" }.to_owned());
        self.step([]);
    }

    fn act(&mut self) {
        while let Some(action) = self.shard.poll_action() {
            let word = self.take_action(action);
            let quiet = word.is_empty();
            let ms = self.ms();
            writeln!(self.diary, "{ms:>9}    {}", if quiet { "(answered)" } else { &word }).unwrap();
            if !quiet {
                self.words.push(word);
            }
        }
        let answers = self
            .orders
            .values()
            .filter_map(|known| known.call)
            .filter_map(|(order, call, asked)| {
                let kind = facts::letter(asked);
                let answer = self.automatic.get(&kind).filter(|answer| !answer.is_empty())?;
                Some(facts::reply(kind, answer, order, call, asked, self.now()))
            })
            .collect::<Vec<_>>();
        if !answers.is_empty() {
            for known in self.orders.values_mut() {
                known.call = known.call.filter(|(_, _, asked)| {
                    self.automatic.get(&facts::letter(*asked)).is_none_or(String::is_empty)
                });
            }
            let batch = self.shard.step(answers, self.now());
            assert!(batch.is_none() || self.batch.is_none(), "one batch at a time");
            self.batch = self.batch.take().or(batch);
            self.act();
        }
    }

    fn take_action(&mut self, action: Action) -> String {
        match action {
            Action::SendPay { order, record, leave_by, .. } => {
                let known = self.orders.get_mut(&record.key).expect("sent without a record");
                assert_eq!(known.versions.last(), Some(&*record), "record before act");
                known.sends += 1;
                assert_eq!(known.sends, 1, "one pay request per key\n{}", self.diary);
                known.pay = Some(order);
                known.left_at = Some(self.tick);
                assert_eq!(leave_by.as_ms(), self.tick + self.config.policy.leave_ms);
                "SEND".to_owned()
            }
            Action::Call { order, call, kind, record, other_host } => {
                self.take_call(order, call, kind, &record, other_host)
            }
            Action::Answer { ticket, record, said } => {
                let known = &self.orders[&record.key];
                assert!(known.versions.contains(&record), "told before it is durable\n{}", self.diary);
                let (asked, _) = self.asked.remove(&ticket).expect("answered once");
                match asked {
                    Asked::Pay => match till::pay(&record, said) {
                        till::PayAnswer::Paid(_) => "pay=SUCCESS".to_owned(),
                        till::PayAnswer::Fail(fail) => format!("pay={}", fail.code),
                    },
                    Asked::Reverse => format!("reverse={:?}", till::reverse(&record, said)),
                    Asked::Watch => format!("watch={}", till::json(&record).0.as_str()),
                }
            }
            Action::Refuse { ticket, why } => {
                self.asked.remove(&ticket).expect("answered once");
                format!("refused={why:?}")
            }
            Action::RefuseFor { ticket, first } => {
                self.asked.remove(&ticket).expect("answered once");
                let known = &self.orders[&first.key];
                assert!(
                    known.versions.is_empty() || known.versions.contains(&first),
                    "told before it is durable"
                );
                format!("first={}:{}", first.key.number, till::json(&first).0.as_str())
            }
            Action::Discard { .. } => "discard".to_owned(),
            Action::NotHere { .. } => "not-here".to_owned(),
            Action::Publish { record, .. } => {
                assert!(self.orders[&record.key].versions.contains(&record), "published too early");
                facts::describe(&record)
            }
            Action::Retire { .. } => "retire".to_owned(),
            Action::Alarm { alarm, .. } => format!("!{}", alarm.as_str()),
            Action::Settled { record, .. } => {
                assert!(record.is_definite());
                String::new()
            }
        }
    }

    fn take_call(&mut self, order: OrderRef, call: u32, kind: Call, record: &Record, other: bool) -> String {
        let policy = self.config.policy;
        let known = self.orders.get_mut(&record.key).expect("a call without a record");
        assert_eq!(known.versions.last(), Some(record), "record before act\n{}", self.diary);
        assert!(known.call.is_none(), "one call at a time\n{}", self.diary);
        // FAILED is looked at only where money was said to be there; everything else only while open.
        assert!(record.is_open(), "a call after the end\n{}", self.diary);
        match kind {
            Call::Reverse => {
                let asked = record.till_reversal == TillReversal::Asked && known.till_asked;
                let explained = match record.state {
                    State::Reversing => true,
                    State::Paid => asked,
                    State::Accepted | State::Pending | State::Failed | State::Reversed => false,
                };
                let ours = record.claim == Claim::Ours || record.state == State::Paid;
                assert!(
                    explained && ours && record.held.is_none() && !record.repair,
                    "{kind:?}: {record:?}\n{}",
                    self.diary
                );
                let guard = known.left_at.map_or(0, |at| at + policy.reversal_guard_ms);
                assert!(self.tick >= guard, "INV-08\n{}", self.diary);
            }
            Call::Refund => assert!(record.repair, "the repair refund is durable first"),
            Call::Query | Call::LastQuery | Call::RefundQuery => {}
        }
        known.call = Some((order, call, kind));
        self.calls.push((self.tick, kind));
        let quiet = self.automatic.get(&facts::letter(kind)).is_some_and(|answer| !answer.is_empty());
        let word = match kind {
            _ if quiet => return String::new(),
            Call::Query => "query",
            Call::LastQuery => "lastquery",
            Call::Reverse => "reverse",
            Call::RefundQuery => "refundquery",
            Call::Refund => "refund",
        };
        format!("{word}{}@{}", if other { "'" } else { "" }, self.ms())
    }

    /// Answers every call as `wallet` does, 40 ms after it was made, for `ms`.
    pub(super) fn calm(&mut self, ms: u64, mut wallet: impl FnMut(OrderKey, Call) -> &'static str) {
        let until = self.tick + ms;
        self.hold = false;
        self.slow = false;
        self.automatic.clear();
        self.commit();
        // Pay requests that were never answered are given up.
        let pays = self.orders.values_mut().filter_map(|known| Some((known.pay.take()?, known.left_at)));
        let lost = pays
            .map(|(order, left_at)| {
                let (row, fact) = facts::pay("A2", UnixMs(0));
                Input::PayReply { order, left_at: left_at.map(Tick::from_ms), row, fact }
            })
            .collect::<Vec<_>>();
        self.step(lost);
        while self.tick < until {
            let calls = self.orders.iter().filter_map(|(key, known)| Some((*key, known.call?)));
            let calls = calls.collect::<Vec<_>>();
            if calls.is_empty() {
                let wake = self.shard.next_wake().map_or(until, Tick::as_ms).min(until);
                self.advance(wake.saturating_sub(self.tick));
                continue;
            }
            self.advance(40);
            for (key, (order, call, asked)) in calls {
                self.orders.get_mut(&key).unwrap().call = None;
                let answer = wallet(key, asked);
                let input = facts::reply(facts::letter(asked), answer, order, call, asked, self.now());
                self.step([input]);
            }
        }
    }
}
