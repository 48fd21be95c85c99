//! A box of letters that one thread empties, all that wait at once, and that wakes it no more often than it wants.
//!
//! A thread that waits for one thing in particular, and can do little with others before, is woken by that one alone
//! ([`Sender::send_urgent`]); the others gather meanwhile. To wake a thread costs more than to put something into a box.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use crate::sync::{Arc, Condvar, Mutex, MutexGuard};

/// What the reader wants to be woken by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wakes {
    /// It does not sleep, or was woken already.
    Nothing,
    Urgent,
    Anything,
}

struct State<T> {
    urgent: VecDeque<T>,
    letters: VecDeque<T>,
    wakes: Wakes,
    senders: usize,
    is_read: bool,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    bell: Condvar,
}

impl<T> Shared<T> {
    /// A panic elsewhere leaves it as it was: every change is one push or one take.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Puts letters in; clones put them into the same box.
pub struct Sender<T>(Arc<Shared<T>>);

/// Takes letters out. Dropped, it drops what is left, and takes nothing more.
pub struct Reader<T>(Arc<Shared<T>>);

/// An empty box.
#[must_use]
pub fn mailbox<T>() -> (Sender<T>, Reader<T>) {
    let state = State {
        urgent: VecDeque::new(),
        letters: VecDeque::new(),
        wakes: Wakes::Nothing,
        senders: 1,
        is_read: true,
    };
    let shared = Arc::new(Shared { state: Mutex::new(state), bell: Condvar::new() });
    (Sender(Arc::clone(&shared)), Reader(shared))
}

impl<T> Sender<T> {
    /// Puts a letter in.
    ///
    /// # Errors
    ///
    /// The letter, if there is nobody to read it any more.
    pub fn send(&self, letter: T) -> Result<(), T> {
        self.put(letter, false)
    }

    /// Puts a letter in that is read before all others that are not urgent, and wakes the reader in any case.
    ///
    /// # Errors
    ///
    /// The letter, if there is nobody to read it any more.
    pub fn send_urgent(&self, letter: T) -> Result<(), T> {
        self.put(letter, true)
    }

    fn put(&self, letter: T, is_urgent: bool) -> Result<(), T> {
        let mut state = self.0.lock();
        if !state.is_read {
            return Err(letter);
        }
        let queue = if is_urgent { &mut state.urgent } else { &mut state.letters };
        queue.push_back(letter);
        let rings = match state.wakes {
            Wakes::Nothing => false,
            Wakes::Urgent => is_urgent,
            Wakes::Anything => true,
        };
        if rings {
            state.wakes = Wakes::Nothing;
        }
        drop(state);
        if rings {
            self.0.bell.notify_one();
        }
        Ok(())
    }

    /// Letters that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        let state = self.0.lock();
        state.urgent.len().saturating_add(state.letters.len())
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        let mut state = self.0.lock();
        state.senders = state.senders.saturating_add(1);
        drop(state);
        Self(Arc::clone(&self.0))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.senders = state.senders.saturating_sub(1);
        let is_last = state.senders == 0;
        drop(state);
        if is_last {
            self.0.bell.notify_one();
        }
    }
}

impl<T> Reader<T> {
    /// Takes every urgent letter and up to `max` others. If there is none, waits for one once, for `wait` at most; with
    /// `urgent`, for an urgent one, whatever others there are. May come back with nothing, and sooner.
    pub fn take(&self, into: &mut Vec<T>, max: usize, wait: Duration, urgent: bool) {
        let mut state = self.0.lock();
        if state.urgent.is_empty() && (urgent || state.letters.is_empty()) && !wait.is_zero() {
            state.wakes = if urgent { Wakes::Urgent } else { Wakes::Anything };
            state = match self.0.bell.wait_timeout(state, wait) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
            state.wakes = Wakes::Nothing;
        }
        into.extend(state.urgent.drain(..));
        let count = state.letters.len().min(max);
        into.extend(state.letters.drain(..count));
    }

    /// Waits for the next letter; `None` once nobody can send any more.
    pub fn receive(&self) -> Option<T> {
        let mut state = self.0.lock();
        loop {
            if let Some(letter) = next(&mut state) {
                return Some(letter);
            }
            if state.senders == 0 {
                return None;
            }
            state.wakes = Wakes::Anything;
            state = self.0.bell.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
            state.wakes = Wakes::Nothing;
        }
    }

    /// The next letter, if there is one.
    pub fn receive_now(&self) -> Option<T> {
        next(&mut self.0.lock())
    }
}

fn next<T>(state: &mut State<T>) -> Option<T> {
    state.urgent.pop_front().or_else(|| state.letters.pop_front())
}

impl<T> Drop for Reader<T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.is_read = false;
        let left = (std::mem::take(&mut state.urgent), std::mem::take(&mut state.letters));
        drop(state);
        // Outside the lock: a letter may do anything when it is dropped.
        drop(left);
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender")
    }
}

impl<T> fmt::Debug for Reader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reader")
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Duration;

    use super::mailbox;

    #[test]
    fn what_is_urgent_is_read_first_and_the_rest_in_order() {
        let (sender, reader) = mailbox();
        for letter in 1..=3 {
            sender.send(letter).unwrap();
        }
        sender.clone().send_urgent(9).unwrap();
        assert_eq!(sender.len(), 4);
        let mut taken = Vec::new();
        reader.take(&mut taken, 2, Duration::MAX, false);
        assert_eq!(taken, [9, 1, 2]);
        reader.take(&mut taken, 2, Duration::ZERO, true);
        assert_eq!(taken, [9, 1, 2, 3], "what waits is taken, also if it is not urgent");
        sender.send(4).unwrap();
        drop(sender);
        assert_eq!((reader.receive(), reader.receive()), (Some(4), None));
    }

    #[test]
    fn a_box_that_nobody_reads_gives_letters_back() {
        let (sender, reader) = mailbox();
        let held = std::sync::Arc::new(());
        sender.send(std::sync::Arc::clone(&held)).unwrap();
        drop(reader);
        assert_eq!(std::sync::Arc::strong_count(&held), 1, "what was left is dropped");
        assert!(sender.send(std::sync::Arc::clone(&held)).is_err());
        assert!(sender.is_empty());
    }

    #[test]
    fn a_reader_that_waits_is_woken_by_what_it_waits_for() {
        let (sender, reader) = mailbox();
        let reading = std::thread::spawn(move || {
            let mut taken = Vec::new();
            while !taken.contains(&2) {
                reader.take(&mut taken, 8, Duration::from_secs(60), true);
            }
            taken
        });
        sender.send(1).unwrap();
        sender.send_urgent(2).unwrap();
        assert_eq!(reading.join().unwrap(), [2, 1]);
    }
}
