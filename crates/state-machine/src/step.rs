//! A step in the life of a payment that its merchant may be told about, and the payment as it was then.

use crate::key::UnixMs;
use crate::record::{Record, State, TillReversal};
use crate::till::{JsonState, json_state};

/// What made a payment show another state than before: enough to show the payment as it was, from its present record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The version of the record that made it.
    pub version: u32,
    /// Where the payment was from then on.
    pub state: State,
    /// How far the till's wish for a reversal had got.
    pub till_reversal: TillReversal,
    /// When that version was written.
    pub at: UnixMs,
}

impl Step {
    /// The step that wrote `record`.
    #[must_use]
    pub const fn of(record: &Record) -> Self {
        Self {
            version: record.version,
            state: record.state,
            till_reversal: record.till_reversal,
            at: record.changed_at,
        }
    }

    /// The state that the merchant sees from this step on. Two steps that show the same are one event.
    #[must_use]
    pub const fn shows(self) -> JsonState {
        json_state(self.state, self.till_reversal)
    }

    /// The payment as its merchant saw it after this step: what a till is shown, and nothing else. What it is not shown
    /// (proof, what is held, looks that are left) stays as it is now.
    #[must_use]
    pub fn seen_in(self, present: Record) -> Record {
        let Self { version, state, till_reversal, at } = self;
        let then = Record { version, state, till_reversal, changed_at: at, ..present };
        if !state.is_undecided() {
            return then;
        }
        Record { cause: None, proof: None, decided_at: None, refusal: None, paid: None, ..then }
    }
}

#[cfg(test)]
mod tests {
    use super::Step;
    use crate::key::{BootId, MerchantId, Now, OrderKey, ProviderId, UnixMs};
    use crate::record::{Record, State, TillReversal};
    use crate::till::{JsonState, json};
    use timer_wheel::Tick;

    #[test]
    fn a_payment_is_shown_as_it_was() {
        let key = OrderKey { merchant: MerchantId(1), number: "P00001".parse().expect("a number") };
        let now = Now { tick: Tick::from_ms(1), wall: UnixMs(5) };
        let first = Record::begun(key, ProviderId(1), now, BootId(1));
        let last = Record {
            version: 4,
            state: State::Paid,
            till_reversal: TillReversal::Asked,
            changed_at: UnixMs(9),
            decided_at: Some(UnixMs(8)),
            ..first.clone()
        };
        assert_eq!(Step::of(&first).seen_in(last.clone()), first);
        let paid = Step { version: 3, state: State::Paid, till_reversal: TillReversal::None, at: UnixMs(8) };
        assert_eq!(json(&paid.seen_in(last.clone())).0, JsonState::Paid);
        assert_eq!((paid.shows(), Step::of(&last).shows()), (JsonState::Paid, JsonState::Reversing));
        assert_eq!(Step::of(&last).seen_in(last.clone()), last);
    }
}
