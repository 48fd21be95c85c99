//! The production parts of the switch in virtual time, over the wallet model.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use protocol::Fen;
use protocol::wechat_v2::verdict::{self, Exchange, Expected, Signature};
use protocol::xml::Reader;
use rustix::time::{ClockId, clock_gettime};
use simulator::{Caller, Code, Micropay, Number, Options, Provider, Reply, Request, SubMerchants, Wallet};
use state_machine::absence::Absences;
use state_machine::exposure::Exposure;
use state_machine::planner::Quota;
use state_machine::record::State;
use state_machine::shard::{
    Action, Alarm, Batch, Call, Config, Input, OrderRef, PayRequest, Shard, Ticket, Wait,
};
use state_machine::{BootId, MerchantId, Now, OrderKey, Policy, ProviderId, Record, Tick, UnixMs};
use store::{SealKey, SqliteStore, Store as _};

/// Ticks do not begin at 0 in life either.
const START_MS: u64 = 1_000_000;
const WALL_MS: i64 = 1_795_400_000_000;
/// Virtual time goes on by this much: inputs of so long are one step, as on a busy thread.
const STEP_MS: u64 = 5;
/// In which time all payments begin.
const FILL_MS: u64 = 30_000;
/// When all are pending, and no customer has ended yet.
const FULL_MS: u64 = 55_000;
/// A payment is given up after so long.
const GIVE_UP_MS: u64 = 180_000;
/// Longer than any run takes, in virtual time.
const END_MS: u64 = 900_000;
const MERCHANTS: u64 = 10_000;
const FEN: u64 = 1_288;
const APPID: &str = "wx0000000000000001";
const MCH_ID: &str = "1900000001";
/// As many words as the switch publishes of a payment.
const WORDS: usize = 18;

/// What is run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The wallet model alone, with the same payments.
    Wallet,
    /// Everything.
    Switch,
}

/// What it came to.
#[derive(Debug, Default)]
pub(crate) struct Cost {
    pub(crate) pending: u64,
    /// Resident bytes with everything pending, beyond those before.
    pub(crate) resident: u64,
    pub(crate) shard_ns: u64,
    pub(crate) store_ns: u64,
    pub(crate) queries: u64,
    pub(crate) records: u64,
    pub(crate) paid: u64,
    pub(crate) failed: u64,
    pub(crate) reversed: u64,
    /// Payments that the ledger and the records do not agree on.
    pub(crate) differ: u64,
}

impl Cost {
    pub(crate) const fn to_words(&self) -> [u64; 10] {
        let Self { pending, resident, shard_ns, store_ns, queries, records, .. } = *self;
        let Self { paid, failed, reversed, differ, .. } = *self;
        [pending, resident, shard_ns, store_ns, queries, records, paid, failed, reversed, differ]
    }

    pub(crate) fn from_words(mut words: impl Iterator<Item = u64>) -> Self {
        let mut next = || words.next().expect("as many words as were printed");
        Self {
            pending: next(),
            resident: next(),
            shard_ns: next(),
            store_ns: next(),
            queries: next(),
            records: next(),
            paid: next(),
            failed: next(),
            reversed: next(),
            differ: next(),
        }
    }
}

/// An answer on its way: to which order, to which call of it (`None`: its pay request), when that left, and what it is.
struct Answer {
    order: OrderRef,
    call: Option<(u32, Call)>,
    left_ms: u64,
    place: u64,
    reply: Reply,
}

struct Run {
    shard: Shard,
    store: SqliteStore,
    table: state_table::Writer<WORDS>,
    handles: Vec<Option<state_table::Handle>>,
    exposure: Exposure,
    wallet: Wallet,
    /// What is on its way: when it arrives, its number, its place among `answers`.
    due: BinaryHeap<Reverse<(u64, u64, usize)>>,
    answers: Vec<Option<Answer>>,
    free: Vec<usize>,
    sent: u64,
    /// The durable state of each payment, and whether it is over.
    states: Vec<Option<(State, bool)>>,
    over: u64,
    reader: Reader,
    typed: Reader,
    cost: Cost,
}

/// Runs `count` payments from their begin to their end.
pub(crate) fn run(count: u64, part: Part) -> Cost {
    let provider = Provider {
        appid: APPID.to_owned(),
        mch_id: MCH_ID.to_owned(),
        key: "0123456789abcdef0123456789ABCDEF".to_owned(),
        sub_merchants: SubMerchants::Any,
    };
    let options = Options { answer_ms: (10, 30), ..Options::new(provider) };
    let mut wallet = Wallet::new(1, options);
    let before = resident();
    if part == Part::Wallet {
        for place in 0..count {
            drop(wallet.handle(&micropay(place), wall(place * FILL_MS / count)));
        }
        return Cost { resident: resident().saturating_sub(before), ..Cost::default() };
    }
    let budget = u32::try_from(count / 30).expect("a small number").max(50);
    let quota = Quota { pay: 4_000_000, query: budget, reverse: budget, calls_max: 4_000_000 };
    let config = Config {
        policy: Policy { give_up_ms: GIVE_UP_MS, ..Policy::default() },
        quota,
        quotas: Vec::new(),
        orders_max: 4_000_000,
        waiters_max: 16,
        boot: BootId(1),
        absences: Absences::default(),
        rescans: state_machine::rescan::Rescans::default(),
    };
    let folder = tempfile::tempdir().expect("a folder");
    let key = SealKey::from_bytes([7; 32]);
    let store = SqliteStore::open(&folder.path().join("hufu.db"), &key, store::Options::default());
    let (table, _reader) = state_table::table(u32::try_from(count).expect("far fewer"));
    let places = usize::try_from(count).expect("far fewer");
    let mut run = Run {
        shard: Shard::new(config, Tick::from_ms(START_MS)),
        store: store.expect("a new store"),
        table,
        handles: Vec::new(),
        exposure: Exposure::default(),
        wallet,
        due: BinaryHeap::new(),
        answers: Vec::new(),
        free: Vec::new(),
        sent: 0,
        states: vec![None; places],
        over: 0,
        reader: Reader::new(),
        typed: Reader::new(),
        cost: Cost::default(),
    };
    run.go(count, before);
    run.judge();
    run.cost
}

/// Processor time of this thread, in nanoseconds.
fn cpu_ns() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// Resident bytes of this process.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a Linux machine");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1_024
}

fn wall(now: u64) -> i64 {
    WALL_MS + i64::try_from(now).expect("minutes")
}

fn moment(now: u64) -> Now {
    Now { tick: Tick::from_ms(START_MS + now), wall: UnixMs(wall(now)) }
}

fn number(place: u64) -> String {
    format!("P{place:015}")
}

fn place_of(number: &str) -> u64 {
    number.get(1..).and_then(|digits| digits.parse().ok()).expect("a number of ours")
}

fn merchant(place: u64) -> u64 {
    place % MERCHANTS
}

fn caller(place: u64) -> Caller {
    Caller {
        appid: APPID.into(),
        mch_id: MCH_ID.into(),
        sub_appid: "".into(),
        sub_mch_id: format!("{:010}", 1_700_000_000 + merchant(place)).into(),
    }
}

/// Of 25 customers 22 pay after 60 to 99 s, one's payment is closed and one's revoked by the wallet, and one pays in the
/// moment in which the payment is given up.
fn micropay(place: u64) -> Request {
    let seconds = u16::try_from(60 + place * 7 % 40).expect("below 100");
    let customer = match place % 25 {
        0 => 3_300 + seconds,
        1 => 3_400 + seconds,
        2 => 1_600,
        _ => 100 + seconds,
    };
    let code = Code::for_customer(customer, place + 1);
    let call = simulator::Call::Micropay(Micropay::new(&number(place), code.as_str(), FEN));
    Request { caller: caller(place), call }
}

fn pay(place: u64) -> Input {
    let merchant = MerchantId(u32::try_from(merchant(place)).expect("small"));
    Input::Pay(PayRequest {
        ticket: Ticket(place),
        key: OrderKey { merchant, number: number(place).parse().expect("a number") },
        provider: ProviderId(1),
        amount: Fen::new(FEN).expect("an amount"),
        digest: [1; 16],
        attach: protocol::fact::attach_digest(""),
        wait: Wait::FirstWord,
        expires_at: None,
        till: 0,
        patience_ms: 0,
    })
}

impl Run {
    fn go(&mut self, count: u64, before: u64) {
        let (mut begun, mut now) = (0, 0);
        while self.over < count {
            assert!(now < END_MS, "only {} of {count} have come to their end", self.over);
            let mut inputs = Vec::new();
            while begun < count && begun * FILL_MS / count <= now {
                inputs.push(pay(begun));
                begun += 1;
            }
            while self.due.peek().is_some_and(|Reverse((at, ..))| *at <= now) {
                let Some(Reverse((_, _, slot))) = self.due.pop() else { break };
                let answer = self.answers[slot].take().expect("on its way");
                self.free.push(slot);
                inputs.push(self.judged(&answer));
            }
            for action in self.step(inputs, now) {
                self.act(action, now);
            }
            if now == FULL_MS {
                self.cost.pending = self.exposure.pending();
                // Virtual time has left the store's own thread behind: what a second of quiet does to it.
                self.store.fold().expect("a working disk");
                self.cost.resident = resident().saturating_sub(before);
            }
            now += STEP_MS;
        }
    }

    /// The switch: all that is measured.
    fn step(&mut self, inputs: Vec<Input>, now: u64) -> Vec<Action> {
        let (begun, stored) = (cpu_ns(), self.cost.store_ns);
        let mut out = Vec::new();
        let mut batch = self.shard.step(inputs, moment(now));
        loop {
            while let Some(action) = self.shard.poll_action() {
                match action {
                    Action::Publish { order, record } => self.publish(order, &record),
                    Action::Retire { order, .. } => {
                        if let Some(handle) = self.handles.get_mut(order.slot as usize).and_then(Option::take)
                        {
                            self.table.remove(handle);
                        }
                    }
                    other @ (Action::SendPay { .. }
                    | Action::Call { .. }
                    | Action::Answer { .. }
                    | Action::Refuse { .. }
                    | Action::RefuseFor { .. }
                    | Action::Discard { .. }
                    | Action::NotHere { .. }
                    | Action::Alarm { .. }
                    | Action::Settled { .. }) => out.push(other),
                }
            }
            let Some(Batch { id, records }) = batch.take() else { break };
            let began = cpu_ns();
            let outcomes = self.store.commit(&records).expect("a working disk");
            self.cost.store_ns += cpu_ns() - began;
            self.cost.records += u64::try_from(records.len()).expect("few");
            self.shard.committed(id, outcomes, moment(now)).expect("one writer");
            batch = self.shard.poll_batch();
        }
        self.cost.shard_ns += cpu_ns() - begun - (self.cost.store_ns - stored);
        out
    }

    fn publish(&mut self, order: OrderRef, record: &Record) {
        let place = place_of(record.key.number.as_str());
        let slot = order.slot as usize;
        if self.handles.len() <= slot {
            self.handles.resize(slot + 1, None);
        }
        let mut words = [place; WORDS];
        words[1] = u64::from(record.version);
        match self.handles[slot] {
            Some(handle) => drop(self.table.update(handle, &words)),
            None => {
                let hash = place.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                self.handles[slot] = Some(self.table.insert(hash, &words).expect("room for all"));
            }
        }
        self.exposure.see(order.slot, record);
        let is_over = !record.is_open() && record.state != State::Reversing;
        let state = &mut self.states[usize::try_from(place).expect("small")];
        let was_over = state.is_some_and(|(_, over)| over);
        *state = Some((record.state, is_over));
        self.over = self.over + u64::from(is_over) - u64::from(was_over);
    }

    /// Carries a call to the wallet; its answer comes when the wallet says.
    fn act(&mut self, action: Action, now: u64) {
        let (order, call, record) = match action {
            Action::SendPay { order, record, .. } => (order, None, record),
            Action::Call { order, call, kind, record, .. } => (order, Some((call, kind)), record),
            // No till asks again, since none is here.
            Action::Alarm { alarm: Alarm::PaidUnheard, .. }
            | Action::Publish { .. }
            | Action::Retire { .. }
            | Action::Answer { .. }
            | Action::Discard { .. }
            | Action::Settled { .. } => return,
            Action::Refuse { .. }
            | Action::RefuseFor { .. }
            | Action::NotHere { .. }
            | Action::Alarm { .. } => {
                unreachable!("nothing goes wrong here: {action:?}")
            }
        };
        let place = place_of(record.key.number.as_str());
        let asked = || Number::OutTradeNo(number(place).into());
        let request = match call {
            None => micropay(place),
            Some((_, Call::Query | Call::LastQuery)) => {
                self.cost.queries += 1;
                Request { caller: caller(place), call: simulator::Call::OrderQuery(asked()) }
            }
            Some((_, Call::Reverse)) => {
                Request { caller: caller(place), call: simulator::Call::Reverse(asked()) }
            }
            Some((_, Call::RefundQuery | Call::Refund)) => unreachable!("nobody refunds here"),
        };
        let outcome = self.wallet.handle(&request, wall(now));
        let at = u64::try_from(outcome.at_ms - WALL_MS).expect("later");
        let answer = Some(Answer { order, call, left_ms: now, place, reply: outcome.reply });
        let slot = self.free.pop().unwrap_or_else(|| {
            self.answers.push(None);
            self.answers.len() - 1
        });
        self.answers[slot] = answer;
        self.sent += 1;
        self.due.push(Reverse((at, self.sent, slot)));
    }

    /// What an answer means, by the production tables.
    fn judged(&mut self, answer: &Answer) -> Input {
        let Answer { order, call, left_ms, place, reply } = answer;
        let Reply::Answer(message) = reply else { panic!("every call is answered here: {reply:?}") };
        let pairs = message.fields.iter().map(|(name, value)| (name.as_ref(), value.as_str()));
        let exchange = Exchange::Message(self.typed.collect(pairs.chain([("sign", "S")])));
        let caller = caller(*place);
        let number = number(*place).parse().expect("a number");
        let expects = |amount: Option<Fen>| Expected {
            appid: &caller.appid,
            mch_id: &caller.mch_id,
            sub_appid: None,
            sub_mch_id: Some(&caller.sub_mch_id),
            out_trade_no: &number,
            amount,
            delivered_once: true,
        };
        let valid = |_: &protocol::xml::Message<'_>| Signature::Valid;
        let order = *order;
        match *call {
            None => {
                let told =
                    verdict::micropay(&exchange, &expects(Fen::new(FEN).ok()), &mut self.reader, valid);
                let left_at = Some(Tick::from_ms(START_MS + left_ms));
                Input::PayReply { order, left_at, row: told.row, fact: told.fact }
            }
            Some((call, Call::Reverse)) => {
                let told = verdict::reverse(&exchange, &expects(None), &mut self.reader, valid);
                Input::ReverseReply { order, call, row: told.row, fact: told.fact, throttled: told.throttled }
            }
            Some((call, _)) => {
                let told = verdict::orderquery(&exchange, &expects(None), &mut self.reader, valid);
                Input::QueryReply { order, call, row: told.row, fact: told.fact, throttled: told.throttled }
            }
        }
    }

    /// The ledger against the records.
    fn judge(&mut self) {
        let cost = &mut self.cost;
        let mut known = 0;
        for entry in self.wallet.ledger() {
            known += 1;
            let place = usize::try_from(place_of(&entry.key.out_trade_no)).expect("small");
            let (state, is_over) = self.states[place].expect("recorded before it was sent");
            let (counter, wanted) = match state {
                State::Paid => (&mut cost.paid, FEN),
                State::Failed => (&mut cost.failed, 0),
                State::Reversed => (&mut cost.reversed, 0),
                State::Accepted | State::Pending | State::Reversing => (&mut cost.differ, 0),
            };
            *counter += 1;
            let agrees = is_over && entry.held_fen() == wanted && entry.captures <= 1;
            cost.differ += u64::from(!agrees || !entry.violations.is_empty());
        }
        cost.differ += u64::try_from(self.states.len()).expect("small").abs_diff(known);
    }
}
