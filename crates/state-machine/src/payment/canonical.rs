//! A payment as seen from the present.

use std::hash::{Hash, Hasher};

use super::{Payment, Stage};
use crate::canonical::{Present, variant};
use crate::record::State;

impl Payment {
    /// Hashes what can still make a difference.
    pub(crate) fn canonical(&self, present: Present<'_>, into: &mut impl Hasher) {
        let policy = present.policy;
        present.record(&self.record, into);
        variant(&self.stage, into);
        (self.closed_at.is_some(), self.hurried).hash(into);
        // Its clocks have stopped; what still comes sets them anew, but for a reversal that the till asks for.
        if matches!(self.stage, Stage::Settled) && self.record.state != State::Paid {
            return;
        }
        // How the moment of the last question stands to the moments it is held against.
        let asked = self.asked_at;
        let grace = self.closed_at.map(|at| at.saturating_add(policy.absent_grace_ms));
        asked.map(|asked| present.to(asked, policy.query_gap_ms)).hash(into);
        asked.map(|asked| (asked >= self.guard(policy), grace.is_some_and(|at| asked >= at))).hash(into);
        self.closed_at.map(|at| present.to(at, policy.absent_grace_ms)).hash(into);
        if matches!(self.stage, Stage::Waiting { .. } | Stage::Confirming { .. } | Stage::Contested { .. }) {
            (self.prompted, self.prompted.then(|| present.to(self.left_at, policy.query_gap_ms))).hash(into);
        }
        match &self.stage {
            Stage::Waiting { suspect, absent } => {
                (suspect, absent.min(&2), present.until(self.ask_from)).hash(into);
                (present.until(self.deadline), present.to(self.left_at, u64::MAX)).hash(into);
                return;
            }
            Stage::Confirming { row, until, asked } => {
                (row, present.until(*until), self.queries > *asked, present.until(self.ask_from)).hash(into);
                (present.until(self.deadline), present.to(self.left_at, u64::MAX)).hash(into);
                return;
            }
            Stage::Contested { row, unpaid, asked } => {
                (self.queries > *asked).hash(into);
                (row, unpaid.min(&2), present.until(self.ask_from), present.until(self.deadline)).hash(into);
            }
            Stage::Weighing { at, rounds, none, .. } => {
                (present.until(*at), present.rounds(*rounds), none).hash(into);
            }
            Stage::Unclaimed { cause, until, .. } => (cause, present.until(*until)).hash(into),
            Stage::Held { at, rounds, unpaid } => {
                (present.until(*at), present.rounds(*rounds), unpaid.min(&2)).hash(into);
            }
            Stage::Reversing(reversal) => {
                reversal.canonical(present, into);
                asked.is_some_and(|asked| reversal.proves_absence(asked, policy.absent_apart_ms)).hash(into);
            }
            Stage::Looking { at, rounds } => (present.until(*at), present.rounds(*rounds)).hash(into),
            Stage::Settled => {}
        }
        present.to(self.left_at, policy.reversal_guard_ms).hash(into);
    }
}
