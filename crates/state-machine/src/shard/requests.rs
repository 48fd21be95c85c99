//! What tills ask for, and how it meets what is already there.

use planted::planted;

use super::waiters::{Asked, Waiter};
use super::{Action, NotAccepted, OrderRef, PayRequest, ReverseRequest, Said, Shard, Ticket, Wait};
use crate::key::{MerchantId, Now, OrderKey};
use crate::payment::Payment;
use crate::record::Record;

/// How a request to pay relates to a payment that exists. A number closed before its payment came belongs to
/// no content, and what stands in for a damaged row neither. Source: DESIGN §4, same content.
#[must_use]
pub fn relation(record: &Record, digest: &[u8; 16]) -> Said {
    let same = record.digest == *digest || planted!(OtherContentTaken);
    if record.amount.is_none() || same { Said::Repeated } else { Said::OtherContent }
}

impl Shard {
    /// A till wants to be paid: a new payment, or the answer that the present state calls for (INV-16).
    pub(super) fn on_pay_request(&mut self, request: &PayRequest, now: Now) {
        let PayRequest { ticket, key, digest, wait, .. } = *request;
        if let Some(order) = self.find(&key) {
            let said =
                self.orders.get(order).map_or(Said::Repeated, |entry| relation(&entry.latest, &digest));
            if said == Said::Repeated {
                self.prompt(order, now);
            }
            if self.wait(order, Waiter { ticket, asked: Asked::Pay { wait, said, digest } }) {
                self.released.push_back(Action::Discard { ticket });
            }
            return;
        }
        if !self.may_go(request, now) {
            return;
        }
        if let Some(why) = self.refusal(request, now) {
            self.released.push_back(Action::Refuse { ticket, why });
            return;
        }
        let order = self.insert(Payment::accept(request, now, self.config.boot), now);
        self.record_first(order);
        if let Some(entry) = self.orders.get_mut(order) {
            entry.pay_ticket = Some(ticket);
        }
        if planted!(PaidBeforeDurable) {
            self.planted_pay(order, now);
        }
        self.wait(order, Waiter { ticket, asked: Asked::Pay { wait, said: Said::Fresh, digest } });
    }

    /// A till wants an order reversed. A number that is not in memory is closed by an insert; if it exists
    /// after all, the conflict brings it back and the request meets it then.
    pub(super) fn on_reverse_request(&mut self, request: &ReverseRequest, now: Now) {
        let ReverseRequest { ticket, key, provider } = *request;
        if let Some(order) = self.find(&key) {
            self.reverse_existing(order, ticket, now);
            return;
        }
        if let Some(why) = self.cannot_record() {
            self.released.push_back(Action::Refuse { ticket, why });
            return;
        }
        let payment = Payment::overtaken(key, provider, now, self.config.boot);
        if planted!(OvertakingForgotten) {
            let record = payment.shared_record();
            return self.released.push_back(Action::Answer { ticket, record, said: Said::Reversal });
        }
        let order = self.insert(payment, now);
        self.record_first(order);
        self.wait(order, Waiter { ticket, asked: Asked::Reversal });
    }

    /// A reversal meets its order.
    pub(super) fn reverse_existing(&mut self, order: OrderRef, ticket: Ticket, now: Now) {
        self.apply(order, now, |payment, policy, effects| payment.on_reversal_asked(now, policy, effects));
        if let Some(entry) = self.orders.get_mut(order) {
            entry.unheard = None;
        }
        self.wait(order, Waiter { ticket, asked: Asked::Reversal });
    }

    /// A till waits for an order that exists.
    pub(super) fn on_watch(&mut self, ticket: Ticket, key: &OrderKey, wait: Wait, now: Now) {
        match self.find(key) {
            Some(order) => {
                self.prompt(order, now);
                self.wait(order, Waiter { ticket, asked: Asked::Watch(wait) });
            }
            None => self.released.push_back(Action::NotHere { ticket }),
        }
    }

    /// A till asks for an order: it is asked about earlier, where gap and budget allow; and if it is paid and was held
    /// back for want of a till, that is recorded now, and then told.
    pub(super) fn prompt(&mut self, order: OrderRef, now: Now) {
        let Some(entry) = self.orders.get_mut(order) else { return };
        let was_unheard = entry.unheard.take().is_some();
        if entry.payment.is_unclaimed() {
            self.apply(order, now, |payment, policy, effects| payment.on_claimed(now, policy, effects));
            if let Some(entry) = self.orders.get_mut(order) {
                entry.unheard = None;
            }
            return;
        }
        if was_unheard {
            return self.schedule(order, now.tick);
        }
        if self.orders.get_mut(order).is_some_and(|entry| entry.payment.prompt()) {
            self.schedule(order, now.tick);
        }
    }

    /// The order of a key, if it is in memory.
    fn find(&self, key: &OrderKey) -> Option<OrderRef> {
        let twin = OrderKey { merchant: MerchantId(key.merchant.0 ^ 1), ..*key };
        let others = || planted!(OtherTenantShown).then(|| self.orders.find(&twin)).flatten();
        self.orders.find(key).or_else(others)
    }

    /// Why no record can be made at the moment.
    pub(super) fn cannot_record(&self) -> Option<NotAccepted> {
        if self.stalled {
            Some(NotAccepted::StoreBusy)
        } else if !self.orders.has_room() {
            Some(NotAccepted::Full)
        } else {
            None
        }
    }
}
