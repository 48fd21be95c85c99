//! A door that can be shut: who shuts it knows when the last who had entered has left.

use crate::sync::{Arc, AtomicUsize, Ordering, yield_now};

const SHUT: usize = 1;
const ONE: usize = 2;

/// The door to a queue; clones are the same door.
///
/// One word holds both the number of those inside and whether it is shut, so that they change in one order.
#[derive(Clone, Debug)]
pub struct Door {
    word: Arc<AtomicUsize>,
}

/// Somebody who has entered, until this is dropped.
#[derive(Debug)]
pub struct Inside {
    word: Arc<AtomicUsize>,
}

impl Door {
    /// An open door.
    #[must_use]
    pub fn new() -> Self {
        Self { word: Arc::new(AtomicUsize::new(0)) }
    }

    /// Enters; `None` once it is shut.
    #[must_use]
    pub fn enter(&self) -> Option<Inside> {
        let inside = Inside { word: Arc::clone(&self.word) };
        let before = self.word.fetch_add(ONE, Ordering::AcqRel);
        (before & SHUT == 0).then_some(inside)
    }

    /// Lets nobody in any more, and calls `meanwhile` until all who had entered have left, and once more: whatever
    /// they left behind is there by then.
    pub fn shut(&self, mut meanwhile: impl FnMut()) {
        self.word.fetch_or(SHUT, Ordering::AcqRel);
        while self.word.load(Ordering::Acquire) != SHUT {
            meanwhile();
            yield_now();
        }
        meanwhile();
    }
}

impl Default for Door {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.word.fetch_sub(ONE, Ordering::AcqRel);
    }
}
