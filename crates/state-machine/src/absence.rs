//! What becomes of money that no till asks about: a merchant's rule, and who listens when the money comes to light.
//!
//! A payment may be proven paid while nobody is there to hear it: the till broke down, or its line did, and the
//! customer stands there with the money gone. Either the money is kept and the operator hears of it, or it goes back.
//! A till that listens at this moment, or asks within the time, is told PAID, and then it stays paid.

use std::collections::HashMap;
use std::str::FromStr;

use crate::key::MerchantId;

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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Absences {
    others: Absence,
    own: HashMap<MerchantId, Absence>,
}

impl Absences {
    /// What `own` says for those that are in it, and `others` for all the others.
    #[must_use]
    pub fn new(others: Absence, own: impl IntoIterator<Item = (MerchantId, Absence)>) -> Self {
        Self { others, own: own.into_iter().filter(|(_, absence)| *absence != others).collect() }
    }

    /// The rule of one merchant.
    #[must_use]
    pub fn of(&self, merchant: MerchantId) -> Absence {
        if self.own.is_empty() {
            return self.others;
        }
        self.own.get(&merchant).copied().unwrap_or(self.others)
    }
}

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
    use super::{Absence, Absences, AbsentTill, UnknownRule};
    use crate::key::MerchantId;

    #[test]
    fn each_merchant_has_its_own_rule_or_that_of_the_others() {
        let reverse = Absence { rule: AbsentTill::Reverse, after_ms: 90_000 };
        let absences = Absences::new(Absence::default(), [(MerchantId(7), reverse)]);
        assert_eq!(absences.of(MerchantId(7)), reverse);
        assert_eq!(absences.of(MerchantId(8)), Absence::default());
        assert_eq!(Absences::default().of(MerchantId(7)).rule, AbsentTill::Keep);
        for rule in [AbsentTill::Keep, AbsentTill::Reverse] {
            assert_eq!(rule.as_str().parse(), Ok(rule));
        }
        assert_eq!("other".parse::<AbsentTill>(), Err(UnknownRule));
    }
}
