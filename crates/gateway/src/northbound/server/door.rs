//! Who gets in, and who goes for it, when every place is taken.
//!
//! A connection costs the switch its handshake, and whoever is closed comes again: what is bounded here is how often a
//! second that happens. So tills keep their places and their processor however many come, and who has just come keeps
//! its place for long enough to show that it is a till. Source: faults-and-invariants NM-05, NM-07, INV-24.

use std::sync::Arc;

use super::super::guard::{Link, Useless};
use crate::merchants::Rate;

/// At most this share of the places changes hands in a second, by each of the two rates.
const SHARE: u32 = 4;
/// And of those a second, at most this share at once: handshakes in a row are processor time that tills wait for.
const BURST_SHARE: u32 = 20;
/// For so long after a newcomer was turned away, places that fall free are given out at the same rates: else those who
/// come again and again would have them at once, and as many handshakes with them.
const BESIEGED_MS: u64 = 1_000;
/// So many of those that may go are looked up at once: looking at every connection for each of them would cost more
/// than what it gains.
const CANDIDATES: usize = 64;
/// How long they are good for.
const CANDIDATES_MS: u64 = 200;
/// How often it is said that newcomers are turned away.
const SAY_EVERY_MS: u64 = 1_000;

/// If not even so many were found, it is not looked again before so long: who may not go yet will not at once.
const LOOK_AGAIN_MS: u64 = 20;

/// Of one listener.
#[derive(Debug)]
pub(super) struct Door {
    per_second: u32,
    /// From addresses that no till has come from.
    strangers: Rate,
    /// From addresses of tills.
    neighbours: Rate,
    /// Who may go, the most useless last, as it was at `looked_ms`.
    candidates: Vec<((Useless, u64), Arc<Link>)>,
    looked_ms: Option<u64>,
    /// Whether there were more than [`CANDIDATES`].
    more: bool,
    turned_away: u64,
    turned_away_ms: Option<u64>,
    said_ms: Option<u64>,
}

impl Door {
    /// A listener of so many places; `newcomers_per_second` as configured.
    pub(super) fn new(connections_max: u32, newcomers_per_second: u32) -> Self {
        Self {
            per_second: newcomers_per_second.min(connections_max.div_ceil(SHARE)).max(1),
            strangers: Rate::default(),
            neighbours: Rate::default(),
            candidates: Vec::new(),
            looked_ms: None,
            more: false,
            turned_away: 0,
            turned_away_ms: None,
            said_ms: None,
        }
    }

    /// Whether newcomers were turned away a moment ago.
    pub(super) fn is_besieged(&self, now_ms: u64) -> bool {
        self.turned_away_ms.is_some_and(|at| now_ms.saturating_sub(at) < BESIEGED_MS)
    }

    /// Whether one more newcomer may take somebody's place at this moment. Who comes from an address of tills does not
    /// compete with strangers.
    pub(super) fn admits(&self, neighbour: bool, now_us: u64) -> bool {
        let rate = if neighbour { &self.neighbours } else { &self.strangers };
        rate.take(now_us, self.per_second, self.per_second.div_ceil(BURST_SHARE))
    }

    /// Counts a newcomer that was turned away; how many there were, when that is to be said.
    pub(super) fn turned_away(&mut self, now_ms: u64) -> Option<u64> {
        self.turned_away = self.turned_away.saturating_add(1);
        self.turned_away_ms = Some(now_ms);
        if self.said_ms.is_some_and(|said| now_ms.saturating_sub(said) < SAY_EVERY_MS) {
            return None;
        }
        self.said_ms = Some(now_ms);
        Some(std::mem::take(&mut self.turned_away))
    }

    /// Whoever is of least use among the connections that `all` gives, if any may go.
    pub(super) fn choose<L: Iterator<Item = Arc<Link>>>(
        &mut self,
        now_ms: u64,
        all: impl FnOnce() -> L,
    ) -> Option<(Useless, Arc<Link>)> {
        let looked = self.looked_ms.map(|looked| now_ms.saturating_sub(looked));
        if looked.is_some_and(|ago| ago >= CANDIDATES_MS) {
            self.candidates.clear();
        }
        if let Some(chosen) = self.next(now_ms) {
            return Some(chosen);
        }
        if !self.more && looked.is_some_and(|ago| ago < LOOK_AGAIN_MS) {
            return None;
        }
        self.look(now_ms, all());
        self.next(now_ms)
    }

    /// The next candidate that is still what it was.
    fn next(&mut self, now_ms: u64) -> Option<(Useless, Arc<Link>)> {
        while let Some((was, link)) = self.candidates.pop() {
            // Only we hold what has ended.
            if Arc::strong_count(&link) > 1 && link.useless_since_ms(now_ms) == Some(was) {
                return Some((was.0, link));
            }
        }
        None
    }

    fn look(&mut self, now_ms: u64, all: impl Iterator<Item = Arc<Link>>) {
        self.looked_ms = Some(now_ms);
        let useless = all.filter_map(|link| link.useless_since_ms(now_ms).map(|since| (since, link)));
        self.candidates.extend(useless);
        self.more = self.candidates.len() > CANDIDATES;
        if self.more {
            self.candidates.select_nth_unstable_by_key(CANDIDATES, |(since, _)| *since);
            self.candidates.truncate(CANDIDATES);
        }
        // Of those that have been as long in the same millisecond, whoever came first.
        self.candidates.sort_by_key(|(since, _)| *since);
        self.candidates.reverse();
    }
}

#[cfg(test)]
mod tests;
