//! A limit on what is under way, counted beside whatever carries it.

use crate::sync::{Arc, AtomicUsize, Ordering};

/// So many places; clones share them.
#[derive(Clone, Debug)]
pub struct Bound {
    taken: Arc<AtomicUsize>,
    max: usize,
}

impl Bound {
    /// `max` places, all free.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { taken: Arc::new(AtomicUsize::new(0)), max }
    }

    /// Takes a place; `None` if all are taken.
    #[must_use]
    pub fn enter(&self) -> Option<Place> {
        // Not an addition that is taken back: for that moment a place would seem taken that is free.
        self.taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
                taken.checked_add(1).filter(|taken| *taken <= self.max)
            })
            .ok()
            .map(|_| Place { taken: Arc::clone(&self.taken) })
    }

    /// Places that are taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

/// A place that is taken until this is dropped.
#[derive(Debug)]
pub struct Place {
    taken: Arc<AtomicUsize>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }
}
