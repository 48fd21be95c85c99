//! A request on its way to the thread that decides: taken there, or refused. Nobody is left without a word.

use crate::bound::{Bound, Place};

/// Why a request was not taken. Nothing was stored and nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// As many are under way as may be.
    Full,
    /// The thread that decides is ending, or has ended.
    Stopping,
}

/// Tells whoever asked that nothing was done.
pub trait Refuse<I>: Clone {
    /// `input` was not taken, and why.
    fn refuse(&self, input: I, why: Refused);
}

/// A request that was handed in. Dropped anywhere on its way, it is refused as [`Refused::Stopping`].
#[derive(Debug)]
pub struct Handed<I, R: Refuse<I>> {
    input: Option<I>,
    refuse: R,
    _place: Place,
}

/// Hands `input` in by `send`, which may drop it: then it is refused. So it is if no place is free.
pub fn hand_in<I, R: Refuse<I>>(bound: &Bound, input: I, refuse: &R, send: impl FnOnce(Handed<I, R>)) {
    match bound.enter() {
        Some(place) => send(Handed { input: Some(input), refuse: refuse.clone(), _place: place }),
        None => refuse.refuse(input, Refused::Full),
    }
}

impl<I, R: Refuse<I>> Handed<I, R> {
    /// Takes the request: from now on its answer is the taker's task, and its place is free. Always `Some`.
    #[must_use = "nobody else will answer it"]
    pub fn take(mut self) -> Option<I> {
        self.input.take()
    }
}

impl<I, R: Refuse<I>> Drop for Handed<I, R> {
    fn drop(&mut self) {
        if let Some(input) = self.input.take() {
            self.refuse.refuse(input, Refused::Stopping);
        }
    }
}
