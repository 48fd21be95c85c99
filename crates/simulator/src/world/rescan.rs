//! One more judge: cashiers who scan again, and next customers who want the same. Of one sale at most one payment keeps
//! its money, whatever breaks.
//!
//! A cashier whose till has no outcome scans again after a while, with a new number and another code, from the same till
//! for the same amount. If the till has its outcome by then, whoever comes is the next customer, and nothing is said
//! about what becomes of the first. What a till has in its hands is what reached it here, not what the switch sent.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use protocol::Fen;
use state_machine::rescan::{Rescan, RescanRule, Rescans};
use state_machine::shard::Input;
use state_machine::{MerchantId, Record};

use super::tills::{MERCHANTS, Till, key_of, merchant_of, n_of};
use super::told::Told;
use super::{Event, World};
use crate::rng::Rng;

/// For how long two payments may be one sale.
pub(super) const WINDOW_MS: u64 = 90_000;
/// When cashiers scan again, in seconds after the first scan.
const AGAIN_S: [u64; 8] = [2, 5, 8, 12, 16, 22, 35, 60];
/// A payment that is accepted so long after it came has waited for another.
const WAITED_MS: u64 = 400;

/// What a merchant wants: half of them nothing, the others one or the other, with either rule for absent tills.
const fn rule(merchant: MerchantId) -> RescanRule {
    match merchant.0 % 8 {
        1 | 2 => RescanRule::Settle,
        5 | 6 => RescanRule::Refuse,
        _ => RescanRule::Off,
    }
}

/// The rules of all merchants.
pub(super) fn rules() -> Rescans {
    let own = (0..MERCHANTS).map(MerchantId);
    let own = own.map(|merchant| (merchant, Rescan { rule: rule(merchant), window_ms: WINDOW_MS }));
    Rescans::new(Rescan::default(), own)
}

/// What a payment is to the one before it of its till.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Follows {
    /// The same sale, scanned again.
    Again,
    /// The next customer's.
    Next,
}

/// What is known of one payment's sale.
#[derive(Clone, Copy, Debug, Default)]
struct Page {
    /// The till: one more than the first payment that came from it; 0 where nothing is held against each other.
    till: u64,
    /// The first payment of the same sale.
    sale: u32,
    /// Whether it is the first of its till.
    follows: Option<Follows>,
    /// When the till had the outcome of the payment in its hands, and whether it is paid.
    knows: Option<(u64, bool)>,
    /// When its request first came to the switch.
    came_at: Option<u64>,
}

/// Cashiers, and what their tills know.
#[derive(Debug)]
pub(super) struct Counters {
    pages: Vec<Page>,
    /// The payments of each till, as they began.
    tills: HashMap<u64, Vec<u32>>,
    /// Of each merchant: who scans again, and when.
    waiting: Vec<BinaryHeap<Reverse<(u64, u32)>>>,
}

impl Counters {
    pub(super) fn new(orders: u32) -> Self {
        let pages = vec![Page::default(); usize::try_from(orders).unwrap_or(0)];
        let waiting = (0..MERCHANTS).map(|_| BinaryHeap::new()).collect();
        Self { pages, tills: HashMap::new(), waiting }
    }

    fn page(&self, n: u32) -> Page {
        self.pages.get(usize::try_from(n).unwrap_or(usize::MAX)).copied().unwrap_or_default()
    }

    fn page_mut(&mut self, n: u32) -> Option<&mut Page> {
        self.pages.get_mut(usize::try_from(n).unwrap_or(usize::MAX))
    }

    /// The till of a payment as the switch is told it.
    pub(super) fn till(&self, n: u32) -> u64 {
        self.page(n).till
    }

    /// The other payments of the same till, for the same amount as far as their cashiers mean it.
    fn others(&self, n: u32) -> impl Iterator<Item = u32> {
        let till = self.page(n).till;
        let all = self.tills.get(&till).map(Vec::as_slice).unwrap_or_default();
        all.iter().copied().filter(move |other| *other != n)
    }

    /// How many payments of the same till have begun.
    pub(super) fn begun(&self, n: u32) -> usize {
        self.tills.get(&self.page(n).till).map_or(0, Vec::len)
    }

    /// The other payments of the same till among the first `begun`.
    fn others_then(&self, n: u32, begun: usize) -> Vec<u32> {
        let till = self.page(n).till;
        let all = self.tills.get(&till).into_iter().flatten().take(begun);
        all.copied().filter(|other| *other != n).collect()
    }

    /// The other payments of the same sale.
    fn of_sale(&self, n: u32) -> impl Iterator<Item = u32> {
        let sale = self.page(n).sale;
        self.others(n).filter(move |other| self.page(*other).sale == sale)
    }

    /// Whether the cashier knows by now that another scan of the sale is paid, and puts this one away.
    pub(super) fn is_put_away(&self, n: u32) -> bool {
        self.of_sale(n).any(|other| matches!(self.page(other).knows, Some((_, true))))
    }

    /// A payment begins: who scans again takes this place in the queue. Returns the payment before it.
    fn begin(&mut self, n: u32, now: u64, rng: &mut Rng) -> Option<u32> {
        let merchant = merchant_of(n);
        if rule(merchant) == RescanRule::Off {
            return None;
        }
        let waiting = self.waiting.get_mut(usize::try_from(merchant.0).ok()?)?;
        let due = waiting.peek().is_some_and(|Reverse((at, _))| *at <= now);
        let before = due.then(|| waiting.pop()).flatten().map(|Reverse((_, before))| before);
        if rng.below(2) == 0 {
            let index = usize::try_from(rng.below(AGAIN_S.len() as u64)).unwrap_or(0);
            let after_s = AGAIN_S.get(index).copied().unwrap_or(5);
            waiting.push(Reverse((now + after_s * 1_000, n)));
        }
        let mut page = Page { till: u64::from(n) + 1, sale: n, ..Page::default() };
        if let Some(first) = before.map(|before| self.page(before)) {
            let again = first.knows.is_none();
            page.till = first.till;
            page.sale = if again { first.sale } else { n };
            page.follows = Some(if again { Follows::Again } else { Follows::Next });
        }
        self.tills.entry(page.till).or_default().push(n);
        if let Some(place) = self.page_mut(n) {
            *place = page;
        }
        before
    }

    /// A request to pay comes to the switch.
    fn on_request(&mut self, n: u32, now: u64) {
        if let Some(page) = self.page_mut(n) {
            page.came_at.get_or_insert(now);
        }
    }
}

impl World {
    /// Lets a payment be a second scan, or the next customer's.
    pub(super) fn scan_again(&mut self, n: u32, till: &mut Till) {
        let Some(before) = self.counters.begin(n, self.now, &mut self.rng.tills) else { return };
        if let Some(first) = self.tills.get(usize::try_from(before).unwrap_or(usize::MAX)) {
            till.amount = first.amount;
        }
        till.comes_back();
        let again = self.counters.page(n).follows == Some(Follows::Again);
        self.judge.probes.other(if again { "scanned_again" } else { "next_customer" });
        self.note(n, || format!("{} of payment {before}", if again { "second scan" } else { "next after" }));
    }

    /// A request to pay comes to the switch: its till is there, and asks about what it is held against. Returns how many
    /// payments of the till had begun by then.
    pub(super) fn stands_there(&mut self, n: u32, amount: Fen) -> usize {
        self.counters.on_request(n, self.now);
        let begun = self.counters.begun(n);
        // A number that is taken is a repeat, and held against nothing.
        let is_new = self.judge.durable(n).is_none();
        for other in self.counters.others_then(n, begun) {
            let asks = is_new && self.judge.durable(other).is_some_and(|one| one.amount == Some(amount));
            self.presence.on_request(other, asks, self.now);
        }
        begun
    }

    /// It waits no more.
    pub(super) fn stood_there(&mut self, n: u32, begun: usize) {
        for other in self.counters.others_then(n, begun) {
            self.presence.on_over(other, self.now);
        }
    }

    /// A till has been told something, which is in its hands from `at` on.
    pub(super) fn till_hears(&mut self, n: u32, told: Told, at: u64) {
        let paid = told.says_paid();
        if !paid && !told.says_never() && !told.says_returned() {
            return;
        }
        if let Some(page) = self.counters.page_mut(n) {
            page.knows.get_or_insert((at, paid));
        }
        // Its side acknowledges it, which takes as long again.
        if paid && self.counters.till(n) != 0 {
            let back_ms = 1 + self.rng.tills.below(20);
            self.at(at + back_ms, Event::Heard { n });
        }
    }

    /// The acknowledgement reaches the process.
    pub(super) fn on_heard(&mut self, n: u32) {
        if !self.switch.is_up {
            return;
        }
        if self.switch.frozen_until > self.now {
            self.at(self.switch.frozen_until, Event::Heard { n });
            return;
        }
        self.input(self.switch.shard_of(n), Input::Heard { key: key_of(n) });
    }

    /// A payment of `amount` was not taken because of an earlier one; its till hears how that stands, if `at` is when.
    pub(super) fn refused_for(&mut self, n: u32, amount: Fen, first: &Record, at: Option<u64>) {
        let first_n = n_of(&first.key);
        let paid = Told::of_query(&state_machine::till::query(first)).says_paid();
        let name = match (self.counters.page(n).follows == Some(Follows::Again), paid) {
            (true, true) => "scan_refused:paid",
            (true, false) => "scan_refused:open",
            (false, true) => "next_customer_refused:paid",
            (false, false) => "next_customer_refused:open",
        };
        self.judge.probes.other(name);
        let till = self.counters.till(n);
        if till == 0 || self.counters.till(first_n) != till || first.amount != Some(amount) {
            let what =
                format!("refused because of {first_n}, which is no payment of its till for its amount");
            self.judge.break_rule("rescan", Some(n), what);
        }
        if let Some(at) = at.filter(|_| paid) {
            self.till_hears(first_n, Told::Paid, at);
        }
    }

    /// The end: of one sale at most one payment keeps its money. `kept_fen` is what the wallet holds of a payment.
    pub(super) fn judge_rescans(&mut self, kept_fen: impl Fn(u32) -> u64) {
        if self.presence.clock_was_wrong {
            return; // It says no more when something was accepted.
        }
        for n in 0..u32::try_from(self.tills.len()).unwrap_or(0) {
            let page = self.counters.page(n);
            let Some(record) = self.judge.durable(n).cloned() else { continue };
            self.count_waits(page, &record);
            let earlier: Vec<u32> = self.counters.of_sale(n).filter(|other| *other < n).collect();
            for first in earlier {
                let Some(other) = self.judge.durable(first).cloned() else { continue };
                // The later scan may have come first.
                let apart_ms = (record.accepted_at.0 - other.accepted_at.0).unsigned_abs();
                let damaged = self.judge.is_damaged(first) || self.judge.is_damaged(n);
                // Another amount is what a nervous cashier has made of the number.
                let is_same = record.amount == other.amount && apart_ms < WINDOW_MS && !damaged;
                if is_same && kept_fen(first) > 0 && kept_fen(n) > 0 {
                    let knew = self.counters.page(first).knows;
                    let knew = knew.map_or("never knew".to_owned(), |(at, _)| format!("knew at {at} ms"));
                    let what =
                        format!("charged {apart_ms} ms from payment {first}, of which its till {knew}");
                    self.judge.break_rule("rescan", Some(n), what);
                }
            }
        }
    }

    fn count_waits(&mut self, page: Page, record: &Record) {
        let (Some(follows), Some(came_at)) = (page.follows, page.came_at) else { return };
        let accepted_at = u64::try_from(record.accepted_at.0 - self.drawn.start_ms).unwrap_or(0);
        if accepted_at.saturating_sub(came_at) >= WAITED_MS {
            self.judge.probes.other(match follows {
                Follows::Again => "scan_waited",
                Follows::Next => "next_customer_waited",
            });
        }
    }
}
