//! Who is woken when a payment changes. What changed is read from the store: nothing waits here for slow readers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use state_machine::OrderKey;
use tokio::sync::watch;

use crate::engine::Topic;

type Topics = HashMap<Topic, watch::Sender<()>>;

/// The topics that somebody follows; bounded by the streams that may be open.
#[derive(Debug, Default)]
pub struct Feed(Mutex<Topics>);

/// Wakes whoever holds it when its topic changes.
#[derive(Debug)]
pub struct Following {
    feed: Arc<Feed>,
    topic: Topic,
    /// `None` only while it is dropped.
    changes: Option<watch::Receiver<()>>,
}

impl Feed {
    fn lock(&self) -> MutexGuard<'_, Topics> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows `topic` from now on: what becomes durable after this wakes, and what was durable before can be read.
    #[must_use]
    pub fn follow(self: &Arc<Self>, topic: Topic) -> Following {
        let changes = self.lock().entry(topic).or_insert_with(|| watch::Sender::new(())).subscribe();
        Following { feed: Arc::clone(self), topic, changes: Some(changes) }
    }

    /// Whether anybody follows `topic` at this moment.
    #[must_use]
    pub fn has_followers(&self, topic: Topic) -> bool {
        self.lock().contains_key(&topic)
    }

    /// Something about the payment has become durable.
    pub fn wake(&self, key: &OrderKey) {
        let topics = self.lock();
        for topic in [Topic::Merchant(key.merchant), Topic::Payment(*key)] {
            if let Some(followers) = topics.get(&topic) {
                followers.send_replace(());
            }
        }
    }
}

impl Following {
    /// Waits until something became durable since the last call, or since this was made.
    pub async fn changed(&mut self) {
        if let Some(changes) = &mut self.changes {
            // The sender lives as long as we are its followers.
            let _ = changes.changed().await;
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut topics = self.feed.lock();
        self.changes = None;
        if topics.get(&self.topic).is_some_and(|followers| followers.receiver_count() == 0) {
            topics.remove(&self.topic);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::{Context, Waker};

    use super::{Feed, Following};
    use crate::driver::tests::record;
    use crate::engine::Topic;

    fn is_woken(following: &mut Following) -> bool {
        pin!(following.changed()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn a_change_wakes_its_followers_once_and_nobody_is_kept() {
        let _covers = covers::covers(&["INV-24"]);
        let feed = Arc::new(Feed::default());
        let (one, other) = (record("P00001").key, record("P00002").key);
        feed.wake(&one);
        let mut payment = feed.follow(Topic::Payment(one));
        let mut merchant = feed.follow(Topic::Merchant(one.merchant));
        let mut second = feed.follow(Topic::Payment(other));
        assert!(!is_woken(&mut payment), "before it followed");
        feed.wake(&one);
        feed.wake(&one);
        assert!(is_woken(&mut payment) && is_woken(&mut merchant) && !is_woken(&mut second));
        assert!(!is_woken(&mut payment));
        let again = feed.follow(Topic::Payment(one));
        drop(payment);
        assert_eq!(feed.lock().len(), 3);
        assert!(feed.has_followers(Topic::Payment(one)), "the second is still there");
        drop((again, merchant, second));
        assert!(!feed.has_followers(Topic::Payment(one)));
        assert!(feed.lock().is_empty());
    }
}
