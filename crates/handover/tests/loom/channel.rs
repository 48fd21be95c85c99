//! A channel in place of crossbeam's: a queue behind a lock. What it promises is what crossbeam documents: a message
//! that was sent is received, or dropped with the receiver; one that was not sent comes back.

use std::collections::VecDeque;
use std::sync::Arc;

use loom::sync::{Condvar, Mutex};

struct State<M> {
    queue: VecDeque<M>,
    senders: usize,
    receiving: bool,
}

struct Shared<M> {
    state: Mutex<State<M>>,
    changed: Condvar,
}

pub(crate) struct Sender<M>(Arc<Shared<M>>);
pub(crate) struct Receiver<M>(Arc<Shared<M>>);

pub(crate) fn channel<M>() -> (Sender<M>, Receiver<M>) {
    let state = State { queue: VecDeque::new(), senders: 1, receiving: true };
    let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

impl<M> Sender<M> {
    pub(crate) fn send(&self, message: M) -> Result<(), M> {
        let mut state = self.0.state.lock().unwrap();
        if !state.receiving {
            return Err(message);
        }
        state.queue.push_back(message);
        drop(state);
        self.0.changed.notify_one();
        Ok(())
    }
}

impl<M> Clone for Sender<M> {
    fn clone(&self) -> Self {
        self.0.state.lock().unwrap().senders += 1;
        Self(Arc::clone(&self.0))
    }
}

impl<M> Drop for Sender<M> {
    fn drop(&mut self) {
        self.0.state.lock().unwrap().senders -= 1;
        self.0.changed.notify_one();
    }
}

impl<M> Receiver<M> {
    pub(crate) fn receive(&self) -> Option<M> {
        let mut state = self.0.state.lock().unwrap();
        loop {
            if let Some(message) = state.queue.pop_front() {
                return Some(message);
            }
            if state.senders == 0 {
                return None;
            }
            state = self.0.changed.wait(state).unwrap();
        }
    }

    pub(crate) fn receive_now(&self) -> Option<M> {
        self.0.state.lock().unwrap().queue.pop_front()
    }
}

impl<M> Drop for Receiver<M> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock().unwrap();
        state.receiving = false;
        let dropped = std::mem::take(&mut state.queue);
        drop(state);
        drop(dropped);
    }
}
