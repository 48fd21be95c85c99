//! Who may write now, among the connections of this process: commits, and before them whoever asks urgently (the
//! end of a checkpoint, a change of merchants).
//!
//! SQLite's own lock would make the loser sleep for milliseconds; and a plain mutex would let a busy committer
//! keep the checkpoint out for as long as it likes, while the log grows.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
struct State {
    busy: bool,
    urgent: u32,
}

#[derive(Debug, Default)]
pub(super) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

/// The right to write, until dropped.
#[derive(Debug)]
pub(super) struct Turn<'a>(&'a Gate);

impl Gate {
    /// Waits for a turn, behind everybody urgent.
    pub(super) fn enter(&self) -> Turn<'_> {
        let mut state = self.lock();
        while state.busy || state.urgent > 0 {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.busy = true;
        Turn(self)
    }

    /// Waits only for the turn that is under way.
    pub(super) fn enter_urgently(&self) -> Turn<'_> {
        let mut state = self.lock();
        state.urgent = state.urgent.saturating_add(1);
        while state.busy {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.urgent = state.urgent.saturating_sub(1);
        state.busy = true;
        Turn(self)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.lock().busy = false;
        self.0.changed.notify_all();
    }
}
