//! Who waits for what: a till's request from the moment it is taken until it is answered, and what its pay
//! request must send until it is sent.

use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use protocol::{AuthCode, Fields};
use state_machine::OrderKey;
use state_machine::shard::Ticket;
use tokio::sync::oneshot;

use crate::engine::Told;

/// What a pay request sends, besides what the record holds.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// The payer's code: wiped when dropped.
    pub(super) auth_code: AuthCode,
    /// The till's other fields.
    pub(super) fields: Fields,
}

#[derive(Debug)]
struct Pending {
    key: OrderKey,
    till: Option<oneshot::Sender<Told>>,
    outgoing: Option<Outgoing>,
}

/// The requests under way. Bounded by the northbound connections, each of which has at most one.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    next: AtomicU64,
    pending: DashMap<Ticket, Pending>,
}

impl Tickets {
    /// Takes a request; its answer comes through the receiver.
    pub(super) fn open(
        &self,
        key: OrderKey,
        outgoing: Option<Outgoing>,
    ) -> (Ticket, oneshot::Receiver<Told>) {
        let ticket = Ticket(self.next.fetch_add(1, Ordering::Relaxed));
        let (till, answer) = oneshot::channel();
        self.pending.insert(ticket, Pending { key, till: Some(till), outgoing });
        (ticket, answer)
    }

    /// Answers a request. A till that has hung up hears nothing, and nothing else changes (NM-01).
    pub(super) fn tell(&self, ticket: Ticket, told: Told) {
        let till = self.pending.get_mut(&ticket).and_then(|mut pending| pending.till.take());
        self.forget_if_done(ticket);
        if let Some(till) = till {
            drop(till.send(told));
        }
    }

    /// Takes what is to be sent: once.
    pub(super) fn take_outgoing(&self, ticket: Ticket) -> Option<Outgoing> {
        let outgoing = self.pending.get_mut(&ticket).and_then(|mut pending| pending.outgoing.take());
        self.forget_if_done(ticket);
        outgoing
    }

    /// Which payment a request is about.
    pub(super) fn key(&self, ticket: Ticket) -> Option<OrderKey> {
        self.pending.get(&ticket).map(|pending| pending.key)
    }

    /// Drops a request without an answer.
    pub(super) fn close(&self, ticket: Ticket) {
        self.pending.remove(&ticket);
    }

    fn forget_if_done(&self, ticket: Ticket) {
        self.pending.remove_if(&ticket, |_, pending| pending.till.is_none() && pending.outgoing.is_none());
    }
}

#[cfg(test)]
mod tests {
    use state_machine::shard::NotAccepted;

    use super::{Outgoing, Tickets};
    use crate::driver::tests::record;
    use crate::engine::Told;

    #[test]
    fn a_request_is_forgotten_once_it_is_answered_and_sent() {
        let tickets = Tickets::default();
        let outgoing = || Outgoing {
            auth_code: "134567890123456789".parse().expect("a code"),
            fields: protocol::Fields::new([("body", "x")]),
        };
        let (ticket, mut answer) = tickets.open(record("P00001").key, Some(outgoing()));
        tickets.tell(ticket, Told::Refused(NotAccepted::Full));
        assert!(matches!(answer.try_recv(), Ok(Told::Refused(NotAccepted::Full))));
        assert!(tickets.key(ticket).is_some(), "it is still to be sent");
        assert!(tickets.take_outgoing(ticket).is_some());
        assert!(tickets.take_outgoing(ticket).is_none());
        assert!(tickets.key(ticket).is_none());
        let (hung_up, answer) = tickets.open(record("P00002").key, None);
        drop(answer);
        tickets.tell(hung_up, Told::Refused(NotAccepted::Full));
        assert!(tickets.key(hung_up).is_none());
    }
}
