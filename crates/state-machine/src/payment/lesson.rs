//! What a payment teaches about how long customers take.
//!
//! Only one whose customer was asked does, and only where the moment of the pay request is certain: not after a
//! restart. What ends it otherwise (money found after a lost answer, say) is no password.

use protocol::fact::QueryFact;
use timer_wheel::Tick;

use super::{Payment, Stage};
use crate::planner::Lesson;
use crate::record::{Cause, State};

impl Payment {
    /// When the pay request left, at the latest, and when it was last asked about.
    #[must_use]
    pub const fn asked(&self) -> (Tick, Option<Tick>) {
        (self.left_at, self.asked_at)
    }

    /// The answer to the last query, before it acts: what it teaches.
    pub(crate) fn lesson(&mut self, fact: &QueryFact) -> Option<Lesson> {
        let after_ms = u64::from(self.open_ms?);
        let asked_at = self.asked_at.filter(|_| matches!(self.stage, Stage::Waiting { .. }))?;
        let by_ms = asked_at.ms_since(self.left_at);
        match fact {
            QueryFact::InProgress => {
                self.open_ms = u32::try_from(by_ms).ok();
                None
            }
            QueryFact::Paid(_)
            | QueryFact::PayError
            | QueryFact::Closed
            | QueryFact::Revoked
            | QueryFact::Returned(_) => {
                (self.record.state == State::Pending).then_some(Lesson::Ended { after_ms, by_ms })
            }
            QueryFact::Unpaid | QueryFact::UnknownState | QueryFact::NotFound | QueryFact::Unclear => None,
        }
    }

    /// A payment that is not waited for any longer, although nothing was seen to end it: what that teaches.
    pub(crate) fn given_up(&self) -> Option<Lesson> {
        let by_us = matches!(self.record.cause, Some(Cause::Deadline | Cause::Till));
        let reversing = self.record.state == State::Reversing;
        self.open_ms.filter(|_| by_us && reversing).map(|until| Lesson::Open { until_ms: u64::from(until) })
    }
}
