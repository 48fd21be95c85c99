//! A cashier who scans again: the first payment is stuck, and a second one comes from the same till, for the same
//! amount, under a new number and with a new code. Both could be charged.
//!
//! What the first payment means to the second is decided here; who waits for whom, in the shard. A first payment that
//! ends unpaid, or whose money is back, is in nobody's way. One that is paid is in the way until some till has the
//! answer in its hands: only then is the same amount again a new customer's.

use std::str::FromStr;

use planted::planted;

use crate::merchant_rules::MerchantRules;
use crate::record::{Record, State, TillReversal};

/// What becomes of the second payment while the first is not at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RescanRule {
    /// Payments are not held against each other.
    #[default]
    Off,
    /// The first is given up, and the second is taken once it is proven unpaid or reversed.
    Settle,
    /// The second is not taken, and told how the first stands.
    Refuse,
}

impl RescanRule {
    /// Every rule.
    pub const ALL: [Self; 3] = [Self::Off, Self::Settle, Self::Refuse];

    /// The word in settings, commands and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Settle => "settle",
            Self::Refuse => "refuse",
        }
    }
}

/// A word that names no rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is none of off, settle and refuse")]
pub struct UnknownRule;

impl FromStr for RescanRule {
    type Err = UnknownRule;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|rule| rule.as_str() == word).ok_or(UnknownRule)
    }
}

/// How long the same till and amount count as the same sale where nobody has said anything else, milliseconds: longer
/// than a payment waits for its password, and than its reversal mostly takes.
pub const RESCAN_WINDOW_MS: u64 = 90_000;

/// A second scan may have left its till before the outcome of the first arrived there: for so long after that the first is
/// in the way all the same, milliseconds. Longer than a request is under way, and shorter than it takes to serve the next
/// customer.
pub const HEARD_GRACE_MS: u64 = 3_000;

/// When two payments are one sale, and what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rescan {
    /// What follows.
    pub rule: RescanRule,
    /// So long after the first was accepted, milliseconds.
    pub window_ms: u64,
}

impl Default for Rescan {
    fn default() -> Self {
        Self { rule: RescanRule::Off, window_ms: RESCAN_WINDOW_MS }
    }
}

/// The rule of every merchant.
pub type Rescans = MerchantRules<Rescan>;

/// What a first payment means to a second one of the same sale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// Nothing: no money is kept, or its till knows that it is paid.
    Over,
    /// It is on its way to its end, and can be waited for.
    Going,
    /// It is paid, and as far as anybody knows no till has heard so.
    Paid,
    /// It waits for an operator.
    Stuck,
}

impl First {
    /// By the durable state of the first, and whether its end has reached a till (`heard`).
    #[must_use]
    pub fn of(record: &Record, heard: bool) -> Self {
        match record.state {
            State::Reversing if planted!(RescanUnproven) => Self::Over,
            State::Failed | State::Reversed => Self::Over,
            State::Accepted | State::Pending | State::Reversing if record.held.is_some() => Self::Stuck,
            State::Accepted | State::Pending | State::Reversing => Self::Going,
            State::Paid => match record.till_reversal {
                TillReversal::Done => Self::Over,
                TillReversal::Asked if record.held.is_some() => Self::Stuck,
                TillReversal::Asked => Self::Going,
                TillReversal::None if heard || planted!(RescanUnheard) => Self::Over,
                TillReversal::None => Self::Paid,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use timer_wheel::Tick;

    use super::{First, RescanRule, UnknownRule};
    use crate::key::{BootId, MerchantId, Now, OrderKey, ProviderId, UnixMs};
    use crate::record::{Held, Record, State, TillReversal};

    #[test]
    fn rules_have_words() {
        for rule in RescanRule::ALL {
            assert_eq!(rule.as_str().parse(), Ok(rule));
        }
        assert_eq!("other".parse::<RescanRule>(), Err(UnknownRule));
    }

    /// Each line: the state of the first, the till's wish, whether it is held; then what it means unheard and heard.
    #[test]
    fn a_first_payment_is_in_the_way_until_no_money_is_kept_or_its_till_knows() {
        use First::{Going, Over, Paid, Stuck};
        use TillReversal::{Asked, Done, None};
        for (state, wish, held, unheard, heard) in [
            (State::Accepted, None, false, Going, Going),
            (State::Pending, None, false, Going, Going),
            (State::Pending, None, true, Stuck, Stuck),
            (State::Reversing, Asked, false, Going, Going),
            (State::Reversing, None, true, Stuck, Stuck),
            (State::Paid, None, false, Paid, Over),
            (State::Paid, Asked, false, Going, Going),
            (State::Paid, Asked, true, Stuck, Stuck),
            (State::Paid, Done, false, Over, Over),
            (State::Failed, None, false, Over, Over),
            (State::Reversed, Done, false, Over, Over),
        ] {
            let key = OrderKey { merchant: MerchantId(1), number: "P00001".parse().expect("a number") };
            let now = Now { tick: Tick::from_ms(1), wall: UnixMs(5) };
            let mut record = Record::begun(key, ProviderId(1), now, BootId(1));
            (record.state, record.till_reversal) = (state, wish);
            record.held = held.then_some(Held::Differs);
            let found = [false, true].map(|heard| First::of(&record, heard));
            assert_eq!(found, [unheard, heard], "{state:?} {wish:?} {held}");
        }
    }
}
