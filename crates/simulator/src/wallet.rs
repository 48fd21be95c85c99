//! The wallet: orders, dialogs, money, and the events that the passing of time brings.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use compact_str::CompactString;
use foldhash::{HashMap, HashMapExt as _, HashSet, HashSetExt as _};

use crate::beijing::Beijing;
use crate::code::Code;
use crate::customer::{
    Behaviour, CODE_USED, Dialog, DialogEnd, NOT_A_CODE, PayAnswer, Purse, REVERSED, Refusal, ReversalFault,
    behaviour,
};
use crate::ledger::{Entry, Key, State, Stats, Totals, Violation};
use crate::message::{Answer, Call, Caller, Micropay, Number, Outcome, Reply, Request};
use crate::options::{Options, SubMerchants};
use crate::population::draw;
use crate::refund::RefundRecord;
use crate::rng::Rng;

/// The customer drawn from the population.
const DRAWN: u8 = 99;
const DAY_MS: i64 = 86_400_000;

/// The wallet's side: answers the API, plays the customers, keeps the books. See the crate's documentation.
///
/// Money moves only in [`Wallet::advance`], in order of time; [`Wallet::handle`] and [`Wallet::handle_bytes`]
/// advance first. A time that goes back counts as the latest seen.
#[derive(Debug)]
pub struct Wallet {
    pub(crate) options: Arc<Options>,
    pub(crate) rng: Rng,
    pub(crate) now_ms: i64,
    pub(crate) orders: Vec<Order>,
    pub(crate) refunds_by_no: HashMap<Key, (usize, usize)>,
    pub(crate) refunds_by_id: HashMap<CompactString, (usize, usize)>,
    pub(crate) stats: Stats,
    seed: u64,
    by_key: HashMap<Key, usize>,
    codes_used: HashSet<Code>,
    /// Payer → (Beijing day, payments without a password on that day).
    free_used: HashMap<u32, (i64, u32)>,
    fenced: HashSet<Key>,
    events: BinaryHeap<Reverse<(i64, u64, Event)>>,
    events_scheduled: u64,
}

/// One order, or what is remembered of a number without one.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) entry: Entry,
    pub(crate) behaviour: Behaviour,
    pub(crate) attach: Box<str>,
    pub(crate) device_info: Box<str>,
    pub(crate) refunds: Vec<RefundRecord>,
    /// Queries that the customer's fault has spoilt, or words told of a deferred debit.
    pub(crate) queries_spoilt: u8,
    auth_code: Box<str>,
    code: Option<Code>,
    /// Overrules the customer: the code or the number was refused.
    pub(crate) refused: Option<Refusal>,
    dialog: Option<Dialog>,
    reversals_spoilt: u8,
}

/// What time brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    /// A late pay request arrives.
    Arrives(usize),
    /// A password dialog ends.
    DialogEnds(usize),
    /// A slow bank charges.
    BankCharges(usize),
    /// The wallet revokes what is unpaid.
    AutoRevokes(usize),
    /// A refund reaches the customer: order, refund.
    RefundArrives(usize, usize),
}

impl Wallet {
    /// A wallet without orders. The same seed, options and calls give the same answers and books.
    #[must_use]
    pub fn new(seed: u64, options: Options) -> Self {
        Self {
            options: Arc::new(options),
            rng: Rng::new(seed),
            now_ms: i64::MIN,
            orders: Vec::new(),
            refunds_by_no: HashMap::new(),
            refunds_by_id: HashMap::new(),
            stats: Stats::default(),
            seed,
            by_key: HashMap::new(),
            codes_used: HashSet::new(),
            free_used: HashMap::new(),
            fenced: HashSet::new(),
            events: BinaryHeap::new(),
            events_scheduled: 0,
        }
    }

    /// Takes a verified request at `now_ms`, Unix milliseconds.
    pub fn handle(&mut self, request: &Request, now_ms: i64) -> Outcome {
        self.advance(now_ms);
        let caller = &request.caller;
        let (shortest, longest) = self.options.answer_ms;
        let drawn_ms = u64::from(shortest) + self.rng.below(u64::from(longest.saturating_sub(shortest)) + 1);
        let mut at_ms = self.now_ms + self.options.scaled_ms(i64::try_from(drawn_ms).unwrap_or_default());
        let reply = match (self.refuse_caller(caller), &request.call) {
            (Some(answer), _) => Reply::Answer(answer),
            (None, Call::Micropay(pay)) => {
                let (delay_ms, reply) = self.micropay(caller, pay);
                at_ms += delay_ms;
                reply
            }
            (None, Call::OrderQuery(number)) => self.query(caller, number),
            (None, Call::Reverse(number)) => self.reverse(caller, number),
            (None, Call::Refund(refund)) => Reply::Answer(self.refund(caller, refund)),
            (None, Call::RefundQuery { number, offset }) => {
                Reply::Answer(self.refund_query(caller, number, *offset))
            }
        };
        Outcome { at_ms, reply }
    }

    /// Lets time pass until `now_ms`: every event that is due happens, in order.
    pub fn advance(&mut self, now_ms: i64) {
        while let Some(Reverse((at_ms, _, event))) = self.events.peek().copied()
            && at_ms <= now_ms
        {
            self.events.pop();
            self.now_ms = self.now_ms.max(at_ms);
            self.happen(event);
        }
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// When the next event is due, in Unix milliseconds. It may turn out to change nothing.
    #[must_use]
    pub fn next_event_at(&self) -> Option<i64> {
        self.events.peek().map(|Reverse((at_ms, ..))| *at_ms)
    }

    /// What the wallet was told at its start.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Every number on the books, in the order of their first pay requests.
    pub fn ledger(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.orders.iter().map(|order| &order.entry)
    }

    /// At most `count` pages of the books, from the `first` on, counted from 0.
    pub fn ledger_part(&self, first: usize, count: usize) -> impl Iterator<Item = &Entry> {
        self.orders.iter().skip(first).take(count).map(|order| &order.entry)
    }

    /// The page of one number.
    #[must_use]
    pub fn entry(&self, key: &Key) -> Option<&Entry> {
        self.by_key.get(key).and_then(|index| self.orders.get(*index)).map(|order| &order.entry)
    }

    /// Sums over the books.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.ledger().fold(Totals::default(), |sum, entry| Totals {
            orders: sum.orders + 1,
            captures: sum.captures + u64::from(entry.captures),
            captured_fen: sum.captured_fen + entry.captured_fen,
            returned_fen: sum.returned_fen + entry.returned_fen,
            violations: sum.violations + u64::try_from(entry.violations.len()).unwrap_or_default(),
        })
    }

    /// What passed through the wallet.
    #[must_use]
    pub const fn stats(&self) -> Stats {
        self.stats
    }

    /// Refuses a caller whose ids do not belong together. Source: wechatpay-v2 §3, common request fields.
    fn refuse_caller(&mut self, caller: &Caller) -> Option<Answer> {
        let options = Arc::clone(&self.options);
        let Some(provider) = options.provider(&caller.mch_id) else {
            return Some(Answer::unsigned("商户号非法"));
        };
        if provider.appid != caller.appid {
            let refusal = Refusal { code: "APPID_MCHID_NOT_MATCH", text: "appid和mch_id不匹配" };
            return Some(self.fail(caller, refusal));
        }
        match &provider.sub_merchants {
            SubMerchants::Plain if caller.sub_mch_id.is_empty() => None,
            SubMerchants::Plain => Some(Answer::unsigned("普通商户不能传入sub_mch_id")),
            SubMerchants::Any | SubMerchants::Listed(_) if caller.sub_mch_id.is_empty() => {
                Some(Answer::unsigned("受理机构必须传入sub_mch_id"))
            }
            SubMerchants::Any => None,
            SubMerchants::Listed(list) if list.iter().any(|listed| caller.sub_mch_id == *listed) => None,
            SubMerchants::Listed(_) => Some(Answer::unsigned("受理关系不存在")),
        }
    }

    fn micropay(&mut self, caller: &Caller, pay: &Micropay) -> (i64, Reply) {
        self.stats.pay_requests += 1;
        let key = Key::new(&caller.mch_id, &caller.sub_mch_id, &pay.out_trade_no);
        if let Some(index) = self.by_key.get(&key).copied() {
            return (0, self.repeated(index, caller, pay));
        }
        let index = self.record(key, pay);
        match self.order(index).behaviour.purse {
            Purse::Lost => self.set_state(index, State::Lost),
            Purse::Late { after_ms } => {
                self.schedule(self.options.scaled_ms(after_ms), Event::Arrives(index))
            }
            Purse::AtOnce
            | Purse::Dialog(_)
            | Purse::BankLater { .. }
            | Purse::Deferred
            | Purse::NotPaid
            | Purse::Fails
            | Purse::Refused => self.arrive(index),
        }
        self.pay_reply(index, caller)
    }

    /// Opens a page in the books for a number not seen before.
    fn record(&mut self, key: Key, pay: &Micropay) -> usize {
        let index = self.orders.len();
        let code = Code::parse(&pay.auth_code);
        let (bb, ss) = code.map_or((0, 0), |code| (code.bb(), code.ss()));
        let behaviour = match code {
            Some(code) if bb == DRAWN => draw(self.seed, &code),
            _ => behaviour(bb, ss),
        };
        let date = Beijing::at(self.now_ms).date();
        // "4200", six digits of the wallet, the day, and the page in the books by which it is found again.
        let transaction_id = format!("4200{:06}{date}{index:010}", self.seed % 1_000_000);
        let entry = Entry {
            key: key.clone(),
            transaction_id,
            customer: u16::from(bb) * 100 + u16::from(ss),
            acted: u16::from(behaviour.bb) * 100 + u16::from(behaviour.ss),
            payer: code.map_or(0, |code| code.payer()),
            amount_fen: pay.total_fee,
            content: pay.content(),
            state: State::InFlight,
            pay_requests: 1,
            first_pay_at_ms: self.now_ms,
            last_pay_at_ms: self.now_ms,
            captures: 0,
            captured_fen: 0,
            returned_fen: 0,
            paid_at_ms: None,
            customer_done_at_ms: None,
            queries: 0,
            reversals: 0,
            first_reverse_at_ms: None,
            refunds: 0,
            violations: Vec::new(),
        };
        self.orders.push(Order {
            entry,
            behaviour,
            attach: pay.attach.as_str().into(),
            device_info: pay.device_info.as_str().into(),
            refunds: Vec::new(),
            queries_spoilt: 0,
            auth_code: pay.auth_code.as_str().into(),
            code,
            refused: None,
            dialog: None,
            reversals_spoilt: 0,
        });
        self.by_key.insert(key, index);
        index
    }

    /// Answers a pay request whose number is on the books. Source: wechatpay-v2 §1.4, §4.2.
    fn repeated(&mut self, index: usize, caller: &Caller, pay: &Micropay) -> Reply {
        let now_ms = self.now_ms;
        let order = self.order_mut(index);
        order.entry.pay_requests += 1;
        order.entry.last_pay_at_ms = now_ms;
        if order.entry.reversals > 0 {
            order.entry.violations.push(Violation::PayAfterReversal);
        }
        if order.entry.content != pay.content() || *order.auth_code != *pay.auth_code {
            order.entry.violations.push(Violation::ContentChanged);
            return Reply::Answer(self.fail(caller, crate::customer::NUMBER_USED));
        }
        order.entry.violations.push(Violation::PayRequestRepeated);
        match order.entry.state {
            State::Lost => return Reply::Drop,
            State::InFlight => self.arrive(index),
            State::Refused
            | State::Paying
            | State::Accepted
            | State::NotPay
            | State::Paid
            | State::Refund
            | State::PayError
            | State::Closed
            | State::Revoked => {}
        }
        Reply::Answer(self.repeated_answer(index, caller))
    }

    /// A pay request reaches the books.
    fn arrive(&mut self, index: usize) {
        let order = self.order(index);
        let (purse, fenced) = (order.behaviour.purse, self.fenced.contains(&order.entry.key));
        let refused = match order.code {
            _ if fenced => Some(REVERSED),
            None => Some(NOT_A_CODE),
            Some(code) if self.codes_used.contains(&code) => Some(CODE_USED),
            Some(_) => None,
        };
        if refused.is_some() || matches!(purse, Purse::Refused | Purse::Lost) {
            self.order_mut(index).refused = refused;
            return self.set_state(index, State::Refused);
        }
        self.codes_used.extend(order.code);
        match purse {
            Purse::AtOnce | Purse::Late { .. } if self.is_free(index) => self.capture(index),
            Purse::BankLater { after_ms } if self.is_free(index) => {
                self.set_state(index, State::NotPay);
                self.schedule(self.options.scaled_ms(after_ms), Event::BankCharges(index));
            }
            Purse::AtOnce | Purse::Late { .. } | Purse::BankLater { .. } => {
                let after_ms = i64::from(self.options.password_after_s) * 1000;
                self.open_dialog(index, Dialog { end: DialogEnd::Pays, after_ms });
            }
            Purse::Dialog(dialog) => self.open_dialog(index, dialog),
            Purse::Deferred => self.set_state(index, State::Accepted),
            Purse::NotPaid => self.set_state(index, State::NotPay),
            Purse::Fails | Purse::Refused | Purse::Lost => self.set_state(index, State::PayError),
        }
        if let Some(after_s) = self.options.auto_revoke_after_s {
            self.schedule(self.options.scaled_s(after_s), Event::AutoRevokes(index));
        }
    }

    /// Whether this payment needs no password, and counts it. Source: wechatpay-v2 §4.1; DESIGN §5.
    fn is_free(&mut self, index: usize) -> bool {
        let (payer, amount_fen) = (self.order(index).entry.payer, self.order(index).entry.amount_fen);
        if amount_fen > self.options.password_above_fen {
            return false;
        }
        let today = Beijing::at(self.now_ms).day_number;
        let used = self.free_used.entry(payer).or_insert((today, 0));
        if used.0 != today {
            *used = (today, 0);
        }
        if used.1 >= self.options.free_payments_per_day {
            return false;
        }
        used.1 += 1;
        true
    }

    fn open_dialog(&mut self, index: usize, mut dialog: Dialog) {
        let limit_ms = i64::from(self.options.dialog_s) * 1000;
        match dialog.end {
            DialogEnd::Cancels if dialog.after_ms > limit_ms => {
                dialog = Dialog { end: DialogEnd::TimesOut, after_ms: limit_ms };
            }
            DialogEnd::TimesOut => dialog.after_ms = limit_ms,
            DialogEnd::Cancels
            | DialogEnd::Pays
            | DialogEnd::PaysAndIsRefunded
            | DialogEnd::Closes
            | DialogEnd::Revokes
            | DialogEnd::PaysOnReversal => {}
        }
        self.order_mut(index).dialog = Some(dialog);
        self.set_state(index, State::Paying);
        if dialog.end != DialogEnd::PaysOnReversal {
            self.schedule(self.options.scaled_ms(dialog.after_ms), Event::DialogEnds(index));
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrives(index) if self.order(index).entry.state == State::InFlight => self.arrive(index),
            Event::DialogEnds(index) if self.order(index).entry.state == State::Paying => {
                self.end_dialog(index);
            }
            Event::BankCharges(index) if self.order(index).entry.state == State::NotPay => {
                self.capture(index);
            }
            Event::AutoRevokes(index) => match self.order(index).entry.state {
                State::Paying | State::Accepted | State::NotPay | State::PayError => {
                    self.set_state(index, State::Revoked);
                }
                State::InFlight
                | State::Lost
                | State::Refused
                | State::Paid
                | State::Refund
                | State::Closed
                | State::Revoked => {}
            },
            Event::RefundArrives(index, refund) => self.finish_refund(index, refund),
            // What was planned has been overtaken: by a reversal, or by a repeated pay request.
            Event::Arrives(_) | Event::DialogEnds(_) | Event::BankCharges(_) => {}
        }
    }

    fn end_dialog(&mut self, index: usize) {
        match self.order(index).dialog.map(|dialog| dialog.end) {
            Some(DialogEnd::Pays | DialogEnd::PaysOnReversal) => self.capture(index),
            Some(DialogEnd::PaysAndIsRefunded) => {
                self.capture(index);
                self.refund_on_platform(index);
            }
            Some(DialogEnd::Cancels) => {
                self.order_mut(index).entry.customer_done_at_ms = Some(self.now_ms);
                self.set_state(index, State::PayError);
            }
            Some(DialogEnd::Closes) => self.set_state(index, State::Closed),
            Some(DialogEnd::Revokes) => self.set_state(index, State::Revoked),
            Some(DialogEnd::TimesOut) | None => self.set_state(index, State::PayError),
        }
    }

    /// Takes the customer's money.
    pub(crate) fn capture(&mut self, index: usize) {
        let now_ms = self.now_ms;
        let order = self.order_mut(index);
        let surplus_fen = order.behaviour.surplus_fen;
        let entry = &mut order.entry;
        if entry.captures > 0 {
            entry.violations.push(Violation::DoubleCapture);
        }
        entry.captures += 1;
        entry.captured_fen += entry.amount_fen.saturating_add(surplus_fen);
        entry.paid_at_ms = Some(now_ms);
        entry.customer_done_at_ms = Some(now_ms);
        self.set_state(index, State::Paid);
    }

    /// What the pay request is answered, and how much later than others. Source: DESIGN §5.
    fn pay_reply(&mut self, index: usize, caller: &Caller) -> (i64, Reply) {
        let order = self.order(index);
        if let Some(refusal) = order.refused {
            return (0, Reply::Answer(self.fail(caller, refusal)));
        }
        let reply = match order.behaviour.answer {
            PayAnswer::Honest => Reply::Answer(self.honest(index, caller)),
            PayAnswer::Delayed { after_ms } => {
                let delay_ms = self.options.scaled_ms(after_ms);
                return (delay_ms, Reply::Answer(self.honest(index, caller)));
            }
            PayAnswer::Fails(refusal) => Reply::Answer(self.fail(caller, refusal)),
            PayAnswer::Unsigned(text) => Reply::Answer(Answer::unsigned(text)),
            PayAnswer::WrongSignature => Reply::Answer(self.forged(index, caller)),
            PayAnswer::OfAnotherOrder => Reply::Answer(self.of_another_order(index, caller)),
            PayAnswer::Dropped => Reply::Drop,
            PayAnswer::BadGateway => crate::answers::BAD_GATEWAY,
            PayAnswer::Hangs => Reply::Hang,
        };
        (0, reply)
    }

    /// Answers a reversal. Source: wechatpay-v2 §3.3; DESIGN §5.
    fn reverse(&mut self, caller: &Caller, number: &Number) -> Reply {
        self.stats.reversals += 1;
        let found = self.find(caller, number);
        if let Some(index) = found {
            self.note_reversal(index);
        }
        let Some(index) = found.filter(|index| self.order(*index).entry.state.stands()) else {
            self.stats.unknown_reversals += 1;
            if let (true, Number::OutTradeNo(out_trade_no)) = (self.options.fences_unknown_reversals, number)
            {
                self.fenced.insert(Key::new(&caller.mch_id, &caller.sub_mch_id, out_trade_no));
            }
            return Reply::Answer(self.reversed(caller, false));
        };
        let allowed_ms = i64::from(self.options.reversal_days) * DAY_MS;
        if self.now_ms - self.order(index).entry.first_pay_at_ms > allowed_ms {
            return Reply::Answer(self.reversal_fault(caller, ReversalFault::Expired));
        }
        if self.order(index).entry.state == State::Paying {
            if self.order(index).dialog.is_none_or(|dialog| dialog.end != DialogEnd::PaysOnReversal) {
                return Reply::Answer(self.reversal_fault(caller, ReversalFault::UserPaying));
            }
            self.end_dialog(index);
        }
        let order = self.order_mut(index);
        if order.reversals_spoilt < order.behaviour.reversals.count {
            order.reversals_spoilt += 1;
            let fault = order.behaviour.reversals.fault;
            return Reply::Answer(self.reversal_fault(caller, fault));
        }
        match order.entry.state {
            State::Refund => return Reply::Answer(self.refunded_already(caller)),
            State::Paid => {
                order.entry.returned_fen = order.entry.captured_fen;
                self.set_state(index, State::Revoked);
            }
            State::Accepted | State::NotPay | State::PayError => self.set_state(index, State::Revoked),
            // Repeated, or closed by the wallet: the same SUCCESS, and nothing moves.
            State::Closed | State::Revoked => {}
            State::InFlight | State::Lost | State::Refused | State::Paying => {}
        }
        Reply::Answer(self.reversed(caller, false))
    }

    fn note_reversal(&mut self, index: usize) {
        let guard_ms =
            self.options.scaled_s(self.options.reversal_guard_s) - i64::from(self.options.reversal_slack_ms);
        let now_ms = self.now_ms;
        let entry = &mut self.order_mut(index).entry;
        entry.reversals += 1;
        entry.first_reverse_at_ms.get_or_insert(now_ms);
        let after_ms = now_ms - entry.last_pay_at_ms;
        if after_ms < guard_ms {
            entry.violations.push(Violation::EarlyReversal { after_ms });
        }
    }

    /// The page that `number` of this caller names, whether or not there is an order.
    pub(crate) fn find(&self, caller: &Caller, number: &Number) -> Option<usize> {
        match number {
            Number::OutTradeNo(out_trade_no) => {
                self.by_key.get(&Key::new(&caller.mch_id, &caller.sub_mch_id, out_trade_no)).copied()
            }
            Number::TransactionId(id) => {
                let index: usize = id.get(18..)?.parse().ok()?;
                let entry = &self.orders.get(index)?.entry;
                let own = entry.key.mch_id == caller.mch_id && entry.key.sub_mch_id == caller.sub_mch_id;
                (own && entry.transaction_id == *id).then_some(index)
            }
        }
    }

    pub(crate) fn set_state(&mut self, index: usize, state: State) {
        let was = std::mem::replace(&mut self.order_mut(index).entry.state, state);
        self.stats.open_dialogs += u64::from(state == State::Paying);
        self.stats.open_dialogs -= u64::from(was == State::Paying);
        self.stats.peak_open_dialogs = self.stats.peak_open_dialogs.max(self.stats.open_dialogs);
    }

    pub(crate) fn schedule(&mut self, delay_ms: i64, event: Event) {
        self.events_scheduled += 1;
        self.events.push(Reverse((self.now_ms.saturating_add(delay_ms), self.events_scheduled, event)));
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "an index names an order from its record on; none is removed"
    )]
    pub(crate) fn order(&self, index: usize) -> &Order {
        &self.orders[index]
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "an index names an order from its record on; none is removed"
    )]
    pub(crate) fn order_mut(&mut self, index: usize) -> &mut Order {
        &mut self.orders[index]
    }
}
