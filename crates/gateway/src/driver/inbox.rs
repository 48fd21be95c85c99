//! The way into a shard: requests may be refused there, replies never are.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam::channel::Sender;
use state_machine::shard::{BatchId, Input, NotAccepted, Outcome};
use store::CommitError;

/// What a shard's thread is sent.
#[derive(Debug)]
pub(super) enum Message {
    /// A till's request; counted against the bound.
    Request(Input),
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
pub(super) const REQUESTS_MAX: usize = 10_000;

/// The sending side of a shard's channel.
#[derive(Clone, Debug)]
pub(super) struct Inbox {
    sender: Sender<Message>,
    requests: Arc<AtomicUsize>,
}

impl Inbox {
    pub(super) fn new(sender: Sender<Message>) -> Self {
        Self { sender, requests: Arc::new(AtomicUsize::new(0)) }
    }

    /// Hands a request in.
    pub(super) fn request(&self, input: Input) -> Result<(), NotAccepted> {
        if self.requests.fetch_add(1, Ordering::Relaxed) >= REQUESTS_MAX {
            self.requests.fetch_sub(1, Ordering::Relaxed);
            return Err(NotAccepted::Full);
        }
        self.sender.send(Message::Request(input)).map_err(|_| NotAccepted::Stopping)
    }

    /// Hands a reply in. A shard that has ended needs none: recovery asks again.
    pub(super) fn reply(&self, input: Input) {
        drop(self.sender.send(Message::Reply(input)));
    }

    /// Hands the store's word in.
    pub(super) fn send(&self, message: Message) {
        drop(self.sender.send(message));
    }

    /// A request was taken out of the channel.
    pub(super) fn taken(&self) {
        self.requests.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many inputs wait.
    pub(super) fn depth(&self) -> usize {
        self.sender.len()
    }
}

#[cfg(test)]
mod tests {
    use state_machine::shard::{Input, NotAccepted};

    use super::{Inbox, REQUESTS_MAX};

    #[test]
    fn requests_are_bounded_and_replies_are_not() {
        let (sender, receiver) = crossbeam::channel::unbounded();
        let inbox = Inbox::new(sender);
        for _ in 0..REQUESTS_MAX {
            assert_eq!(inbox.request(Input::Drain), Ok(()));
        }
        assert_eq!(inbox.request(Input::Drain), Err(NotAccepted::Full));
        inbox.reply(Input::Drain);
        assert_eq!(inbox.depth(), REQUESTS_MAX + 1);
        inbox.taken();
        assert_eq!(inbox.request(Input::Drain), Ok(()));
        drop(receiver);
        assert_eq!(inbox.request(Input::Drain), Err(NotAccepted::Full));
    }
}
