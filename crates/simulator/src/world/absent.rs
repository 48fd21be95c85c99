//! One more judge: money that no till asks about. It goes back where its merchant wants that and no till asks in time,
//! and stays where one does.
//!
//! It reads what tills sent and when they hung up, the durable records, and nothing of what the switch keeps in memory.

use protocol::fact::{PayFact, QueryFact};
use state_machine::absence::{Absence, Absences, AbsentTill};
use state_machine::record::{Cause, Claim, State, TillReversal};
use state_machine::shard::{Input, Shard};
use state_machine::{MerchantId, Record};

use super::World;
use super::requests::Tickets;
use super::tills::MERCHANTS;

/// When a till counts as absent.
const AFTER_MS: u64 = 30_000;
/// A shard may be so late with what it was handed: timers that come late, and what a step takes.
const LATE_MS: u64 = 6_000;

/// Whether a merchant wants back what no till asks about: half of those of each provider do.
const fn wants_back(merchant: MerchantId) -> bool {
    merchant.0 % 4 >= 2
}

/// The rules of all merchants.
pub(super) fn rules() -> Absences {
    let reverse = Absence { rule: AbsentTill::Reverse, after_ms: AFTER_MS };
    let own = (0..MERCHANTS).map(MerchantId).filter(|merchant| wants_back(*merchant));
    Absences::new(Absence::default(), own.map(|merchant| (merchant, reverse)))
}

/// What is known of one payment's tills.
#[derive(Clone, Copy, Debug, Default)]
struct Page {
    /// When one asked last.
    asked_at: Option<u64>,
    /// When one was there last.
    there_at: Option<u64>,
    /// Requests that wait.
    waiting: u32,
}

/// What tills were there.
#[derive(Debug)]
pub(super) struct Presence {
    pages: Vec<Page>,
    /// The wall clock has been wrong: it says no more when something was decided.
    pub(super) clock_was_wrong: bool,
}

impl Presence {
    pub(super) fn new(orders: u32) -> Self {
        let pages = vec![Page::default(); usize::try_from(orders).unwrap_or(0)];
        Self { pages, clock_was_wrong: false }
    }

    fn page(&mut self, n: u32) -> Option<&mut Page> {
        self.pages.get_mut(usize::try_from(n).unwrap_or(usize::MAX))
    }

    /// A till's request reaches the process; `asks` if it is about this payment's outcome.
    pub(super) fn on_request(&mut self, n: u32, asks: bool, now: u64) {
        let Some(page) = self.page(n) else { return };
        page.waiting += 1;
        page.there_at = Some(now);
        if asks {
            page.asked_at = Some(now);
        }
    }

    /// A request waits no more.
    pub(super) fn on_over(&mut self, n: u32, now: u64) {
        let Some(page) = self.page(n) else { return };
        page.waiting = page.waiting.saturating_sub(1);
        page.there_at = Some(now);
    }
}

/// Says which tills have hung up, as a driver does with a reply that may show money.
pub(super) fn attend(shard: &Shard, tickets: &Tickets, input: &mut Input) {
    let (Input::PayReply { order, fact: PayFact::Paid(_), .. }
    | Input::QueryReply { order, fact: QueryFact::Paid(_), .. }
    | Input::RefundsReply { order, .. }) = *input
    else {
        return;
    };
    let gone = shard.waiting(order).filter(|ticket| !tickets.is_unanswered(*ticket)).collect();
    let reply = std::mem::replace(input, Input::Drain);
    *input = Input::Attended { gone, follows: false, reply: Box::new(reply) };
}

impl World {
    /// A record is durable; `was` was before.
    pub(super) fn judge_absence(&mut self, n: u32, was: Option<&Record>, record: &Record) {
        self.presence.clock_was_wrong |= self.weather.wall_offset_ms() != 0;
        let (Some(was), Some(decided_at)) = (was, record.decided_at) else { return };
        if !was.state.is_undecided() || record.state.is_undecided() || self.presence.clock_was_wrong {
            return;
        }
        let Ok(decided_at) = u64::try_from(decided_at.0 - self.drawn.start_ms) else { return };
        let Some(page) = self.presence.page(n).copied() else { return };
        if record.cause == Some(Cause::AbsentTill) {
            let asked =
                page.asked_at.filter(|at| *at < decided_at && decided_at.saturating_sub(*at) < AFTER_MS);
            if let Some(at) = asked {
                let what = format!("given back at {decided_at} ms, and a till had asked at {at} ms");
                self.judge.break_rule("absent-till", Some(n), what);
            }
            if !wants_back(record.key.merchant) {
                self.judge.break_rule(
                    "absent-till",
                    Some(n),
                    "given back, and its merchant keeps such money",
                );
            }
        }
        // What is in doubt, an operator's, or somebody's wish already is not given back.
        let is_plain = was.held.is_none()
            && record.claim == Claim::Ours
            && record.refunded_fen == 0
            && record.till_reversal == TillReversal::None;
        if record.state == State::Paid && wants_back(record.key.merchant) && is_plain {
            let there = page.there_at.is_some_and(|at| at.saturating_add(LATE_MS) >= decided_at);
            if page.waiting == 0 && !there {
                let what = format!("kept at {decided_at} ms, a till was there at {:?} ms", page.there_at);
                self.judge.break_rule("absent-till", Some(n), what);
            }
        }
    }
}
