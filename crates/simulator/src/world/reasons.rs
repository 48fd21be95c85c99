//! One more judge: what a decision and an answer rest on.
//!
//! It reads the wire log, the durable records and what the wallet knows of its own answers: whether the waiting
//! was waited for, whether somebody asked last, whether what was believed had been signed for this order, whether
//! whoever asked was answered about his own payment. Source: faults-and-invariants, INV-08, 10, 16, 20, 25.

use state_machine::Record;
use state_machine::record::{Cause, State};
use state_machine::shard::{Call, Ticket};

use super::judge::Wire;
use super::network::Received;
use super::tills::{Ask, n_of};
use super::{World, requests};
use crate::face::BytesReply;
use crate::message::{Reply, Seal};

/// How long the switch may be busy with itself before a request that it could answer counts as forgotten.
const BUSY_MS: u64 = 5_000;

/// What is known of one payment.
#[derive(Clone, Copy, Debug, Default)]
struct Page {
    pay_left_at: Option<u64>,
    asked_at: u64,
    decided_at: Option<u64>,
}

/// What decisions rest on.
#[derive(Debug, Default)]
pub(super) struct Reasons {
    pages: Vec<Page>,
    /// When the process started last.
    started_at: u64,
    /// When nothing broke any more.
    calm_at: Option<u64>,
}

impl Reasons {
    pub(super) fn new(orders: u32) -> Self {
        let pages = vec![Page::default(); usize::try_from(orders).unwrap_or(0)];
        Self { pages, ..Self::default() }
    }

    fn page(&mut self, n: u32) -> Option<&mut Page> {
        self.pages.get_mut(usize::try_from(n).unwrap_or(usize::MAX))
    }

    pub(super) const fn on_start(&mut self, now: u64) {
        self.started_at = now;
    }

    pub(super) const fn on_calm(&mut self, now: u64) {
        self.calm_at = Some(now);
    }

    pub(super) fn on_wire(&mut self, n: u32, wire: Wire, now: u64) {
        if wire == Wire::Pay
            && let Some(page) = self.page(n)
        {
            page.pay_left_at.get_or_insert(now);
        }
    }

    /// A call is asked for: it counts as asked, also where the wallet cannot be reached.
    pub(super) fn on_call(&mut self, n: u32, call: Call, now: u64) {
        if matches!(call, Call::Query | Call::LastQuery)
            && let Some(page) = self.page(n)
        {
            page.asked_at = now;
        }
    }
}

impl World {
    /// Who gives up has waited until the deadline, and asked once more after it; what a restart cuts short apart.
    pub(super) fn judge_decision(&mut self, n: u32, record: &Record) {
        let (now, started_at) = (self.now, self.reasons.started_at);
        let give_up_ms = self.switch.give_up_ms();
        let Some(page) = self.reasons.page(n).filter(|page| page.decided_at.is_none()) else { return };
        if record.state.is_undecided() {
            return;
        }
        page.decided_at = Some(now);
        let Some(left_at) = page.pay_left_at.filter(|left| *left >= started_at) else { return };
        if record.state != State::Reversing || record.cause != Some(Cause::Deadline) {
            return;
        }
        let (waited_ms, asked_ms) = (now - left_at, page.asked_at.saturating_sub(left_at));
        if waited_ms < give_up_ms {
            self.judge.break_rule("INV-10", Some(n), format!("given up after {waited_ms} ms"));
        } else if asked_ms < give_up_ms {
            let what = format!("given up, and last asked {asked_ms} ms after the pay request");
            self.judge.break_rule("INV-08", Some(n), what);
        }
    }

    /// What the switch takes for a verified answer was signed, and for this order.
    pub(super) fn judge_belief(&mut self, n: u32, received: &Received, believed: bool) {
        let (sealed, ours) = match received {
            Received::Typed(Reply::Answer(answer)) => (answer.seal == Seal::Signed, !answer.of_another_order),
            Received::Bytes(BytesReply::Xml(_)) => return, // Whose it is does not stand in it.
            Received::Typed(Reply::Drop | Reply::Hang | Reply::Http { .. })
            | Received::Bytes(BytesReply::Drop | BytesReply::Hang | BytesReply::Http { .. })
            | Received::Cut(_)
            | Received::Unsent
            | Received::Lost
            | Received::NoCertificate => (false, true),
        };
        if believed && !(sealed && ours) {
            let what = format!("believed an answer: signed {sealed}, of this order {ours}");
            self.judge.break_rule("INV-25", Some(n), what);
        }
    }

    /// Whoever asks is answered about his own payment.
    pub(super) fn judge_tenant(&mut self, ticket: Ticket, record: &Record) {
        let about = n_of(&record.key);
        if let Some((n, _)) = self.asked(ticket)
            && n != about
        {
            self.judge.break_rule("INV-20", Some(n), format!("answered with {}", super::out_trade_no(about)));
        }
    }

    /// A request to pay has waited as long as it may: in the calm, a payment that was decided by then is no reason
    /// to let it wait.
    pub(super) fn judge_patience(&mut self, n: u32, ask: Ask) {
        let asked_at = self.now.saturating_sub(requests::HOLD_MS);
        let calm = self.reasons.calm_at.is_some_and(|at| at < asked_at) && self.reasons.started_at < asked_at;
        let decided = self.reasons.page(n).and_then(|page| page.decided_at);
        // A damaged row is answered with "ask again", whatever was decided before.
        let calm = calm && !self.judge.is_damaged(n);
        if calm && matches!(ask, Ask::Pay(_)) && decided.is_some_and(|at| at + BUSY_MS < self.now) {
            self.judge.break_rule(
                "INV-16",
                Some(n),
                "a request to pay is forgotten: its payment was decided",
            );
        }
    }
}
