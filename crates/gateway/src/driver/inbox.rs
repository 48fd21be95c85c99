//! The way into a shard: requests may be refused there, replies never are.

use std::sync::Arc;

use handover::bound::Bound;
use handover::mailbox::Sender;
use handover::request::{Handed, Refuse, Refused, hand_in};
use state_machine::shard::{BatchId, Input, NotAccepted, Outcome, Ticket};
use store::CommitError;

use super::tickets::Tickets;

/// A till's request and its ticket, until the shard takes it.
pub(super) type Request = Handed<(Ticket, Input), TellRefused>;

/// What a shard's thread is sent.
#[derive(Debug)]
pub(super) enum Message {
    /// A till's request; counted against the bound.
    Request(Request),
    /// A reply of the wallet: there are never more than calls under way.
    Reply(Input),
    /// What became of the batch under way.
    Committed(BatchId, Result<Vec<Outcome>, CommitError>),
    /// The store does not take the batch at the moment.
    Stalled,
    /// End the thread.
    Stop,
}

/// Requests that may wait for one shard; more are refused. At 10 µs a request, a tenth of a second.
pub const REQUESTS_MAX: usize = 10_000;

/// Tells the till of a request that never reached its shard, wherever it was dropped.
#[derive(Clone, Debug)]
pub(super) struct TellRefused(Arc<Tickets>);

impl Refuse<(Ticket, Input)> for TellRefused {
    fn refuse(&self, (ticket, _): (Ticket, Input), why: Refused) {
        let why = match why {
            Refused::Full => NotAccepted::Full,
            Refused::Stopping => NotAccepted::Stopping,
        };
        self.0.refuse(ticket, why);
    }
}

/// The sending side of a shard's channel.
#[derive(Clone, Debug)]
pub(super) struct Inbox {
    sender: Sender<Message>,
    requests: Bound,
    refuse: TellRefused,
}

impl Inbox {
    pub(super) fn new(sender: Sender<Message>, tickets: Arc<Tickets>) -> Self {
        Self { sender, requests: Bound::new(REQUESTS_MAX), refuse: TellRefused(tickets) }
    }

    /// Hands a request in. Its till is told if it does not reach the shard.
    pub(super) fn request(&self, ticket: Ticket, input: Input) {
        hand_in(&self.requests, (ticket, input), &self.refuse, |handed| {
            // What a shard that has ended gives back is dropped here, and with that refused.
            drop(self.sender.send(Message::Request(handed)));
        });
    }

    /// Hands a reply in. A shard that has ended needs none: recovery asks again.
    pub(super) fn reply(&self, input: Input) {
        drop(self.sender.send(Message::Reply(input)));
    }

    /// Hands in what wakes the shard in any case: the store's word, or that it is to end.
    pub(super) fn send(&self, message: Message) {
        drop(self.sender.send_urgent(message));
    }

    /// How many inputs wait.
    pub(super) fn depth(&self) -> usize {
        self.sender.len()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use state_machine::shard::{Input, NotAccepted};
    use tokio::sync::oneshot::error::TryRecvError;

    use super::{Inbox, Message, REQUESTS_MAX};
    use crate::driver::tests::record;
    use crate::driver::tickets::Tickets;
    use crate::engine::Told;

    #[test]
    fn requests_are_bounded_and_replies_are_not() {
        let _covers = covers::covers(&["INV-24"]);
        let (sender, receiver) = handover::mailbox::mailbox();
        let tickets = Arc::new(Tickets::default());
        let inbox = Inbox::new(sender, Arc::clone(&tickets));
        let hand_in = || {
            let (ticket, answer) = tickets.open(record("P00001").key, None);
            inbox.request(ticket, Input::Drain);
            answer
        };
        let waiting: Vec<_> = (0..REQUESTS_MAX).map(|_| hand_in()).collect();
        let refused = |answer: Result<Told, TryRecvError>, as_what| {
            assert!(matches!(answer, Ok(Told::Refused(why)) if why == as_what), "{answer:?}");
        };
        refused(hand_in().try_recv(), NotAccepted::Full);
        inbox.reply(Input::Drain);
        assert_eq!(inbox.depth(), REQUESTS_MAX + 1);
        let Some(Message::Request(first)) = receiver.receive() else { panic!("requests were sent first") };
        assert!(first.take().is_some());
        let mut last = hand_in();
        assert!(matches!(last.try_recv(), Err(TryRecvError::Empty)));
        // A shard that ends tells the tills whose requests it has not taken, and those that come too late.
        drop(receiver);
        refused(last.try_recv(), NotAccepted::Stopping);
        for mut answer in waiting.into_iter().skip(1) {
            refused(answer.try_recv(), NotAccepted::Stopping);
        }
        refused(hand_in().try_recv(), NotAccepted::Stopping);
    }
}
