//! What becomes of money that no till asks about: a merchant's rule, and who listens when the money comes to light.
//!
//! A payment may be proven paid while nobody is there to hear it: the till broke down, or its line did, and the
//! customer stands there with the money gone. Either the money is kept and the operator hears of it, or it goes back.
//! A till that listens at this moment, or asks within the time, is told PAID, and then it stays paid.

use std::str::FromStr;

use crate::merchant_rules::MerchantRules;

/// What a merchant wants done with money that no till asks about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AbsentTill {
    /// It is kept, and the operator hears of it.
    #[default]
    Keep,
    /// It goes back.
    Reverse,
}

impl AbsentTill {
    /// The word in settings, commands and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Reverse => "reverse",
        }
    }
}

/// A word that names no rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is neither keep nor reverse")]
pub struct UnknownRule;

impl FromStr for AbsentTill {
    type Err = UnknownRule;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        [Self::Keep, Self::Reverse].into_iter().find(|rule| rule.as_str() == word).ok_or(UnknownRule)
    }
}

/// How long a till may be absent where nobody has said anything else, milliseconds.
pub const ABSENT_AFTER_MS: u64 = 60_000;

/// When a till counts as absent, and what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Absence {
    /// What follows.
    pub rule: AbsentTill,
    /// So long after the proof that the payment is paid, if no till has asked or listened since; milliseconds.
    pub after_ms: u64,
}

impl Default for Absence {
    fn default() -> Self {
        Self { rule: AbsentTill::Keep, after_ms: ABSENT_AFTER_MS }
    }
}

/// The rule of every merchant.
pub type Absences = MerchantRules<Absence>;

/// Who is there as something happens to a payment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attendance {
    /// Money that nobody hears of goes back after this, milliseconds; `None` where it is kept.
    pub reverse_after_ms: Option<u64>,
    /// Whether a till listens.
    pub listens: bool,
}

#[cfg(test)]
mod tests {
    use super::{AbsentTill, UnknownRule};

    #[test]
    fn rules_have_words() {
        for rule in [AbsentTill::Keep, AbsentTill::Reverse] {
            assert_eq!(rule.as_str().parse(), Ok(rule));
        }
        assert_eq!("other".parse::<AbsentTill>(), Err(UnknownRule));
    }
}
