//! Who waits for what: a till's request from the moment it is taken until it is answered, and what its pay
//! request must send until it is sent.

use std::sync::Arc;

use handover::waiting::Waiting;
use protocol::{AuthCode, Fields};
use state_machine::shard::{NotAccepted, Ticket};
use state_machine::{OrderKey, Record};
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

/// The requests under way. Bounded by the northbound connections, each of which has at most one (over HTTP/2 a hundred),
/// and by what tills that have hung up leave behind: 16 for each order, until it moves.
#[derive(Debug, Default)]
pub(super) struct Tickets(Waiting<OrderKey, oneshot::Sender<Told>, Outgoing>);

impl Tickets {
    /// Takes a request; its answer comes through the receiver.
    pub(super) fn open(
        &self,
        key: OrderKey,
        outgoing: Option<Outgoing>,
    ) -> (Ticket, oneshot::Receiver<Told>) {
        let (till, answer) = oneshot::channel();
        (Ticket(self.0.open(key, till, outgoing)), answer)
    }

    /// Answers a request. A till that has hung up hears nothing, and nothing else changes (NM-01).
    pub(super) fn tell(&self, ticket: Ticket, told: Told) {
        if let Some(till) = self.0.take_till(ticket.0) {
            drop(till.send(told));
        }
    }

    /// Answers a request that is not taken: nothing will be sent for it.
    pub(super) fn refuse(&self, ticket: Ticket, why: NotAccepted) {
        drop(self.take_outgoing(ticket));
        self.tell(ticket, Told::Refused(why));
    }

    /// Answers a request that is not taken because of `first`: nothing will be sent for it.
    pub(super) fn refuse_for(&self, ticket: Ticket, first: Arc<Record>) {
        drop(self.take_outgoing(ticket));
        self.tell(ticket, Told::Unsettled(first));
    }

    /// Takes what is to be sent: once.
    pub(super) fn take_outgoing(&self, ticket: Ticket) -> Option<Outgoing> {
        self.0.take_outgoing(ticket.0)
    }

    /// Which payment a request is about.
    pub(super) fn key(&self, ticket: Ticket) -> Option<OrderKey> {
        self.0.key(ticket.0)
    }

    /// Whether its till still waits: it has not hung up, and its patience is not over.
    pub(super) fn is_heard(&self, ticket: Ticket) -> bool {
        self.0.with_till(ticket.0, |till| !till.is_closed()).unwrap_or(false)
    }

    /// Drops a request without an answer.
    pub(super) fn close(&self, ticket: Ticket) {
        self.0.close(ticket.0);
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
        let _covers = covers::covers(&["NM-01"]);
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
        assert!(tickets.is_heard(hung_up) && !tickets.is_heard(ticket));
        drop(answer);
        assert!(!tickets.is_heard(hung_up));
        tickets.tell(hung_up, Told::Refused(NotAccepted::Full));
        assert!(tickets.key(hung_up).is_none());
    }
}
