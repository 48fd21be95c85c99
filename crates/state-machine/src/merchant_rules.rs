//! A rule that each merchant may set for itself.

use std::collections::HashMap;

use crate::key::MerchantId;

/// One rule for every merchant: its own, or that of the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MerchantRules<R> {
    others: R,
    own: HashMap<MerchantId, R>,
}

impl<R: Copy + PartialEq> MerchantRules<R> {
    /// What `own` says for those that are in it, and `others` for all the others.
    #[must_use]
    pub fn new(others: R, own: impl IntoIterator<Item = (MerchantId, R)>) -> Self {
        Self { others, own: own.into_iter().filter(|(_, rule)| *rule != others).collect() }
    }

    /// The rule of one merchant.
    #[must_use]
    pub fn of(&self, merchant: MerchantId) -> R {
        if self.own.is_empty() {
            return self.others;
        }
        self.own.get(&merchant).copied().unwrap_or(self.others)
    }
}

#[cfg(test)]
mod tests {
    use super::MerchantRules;
    use crate::key::MerchantId;

    #[test]
    fn each_merchant_has_its_own_rule_or_that_of_the_others() {
        let rules = MerchantRules::new(1, [(MerchantId(7), 2), (MerchantId(9), 1)]);
        assert_eq!([7, 8, 9].map(|id| rules.of(MerchantId(id))), [2, 1, 1]);
        assert_eq!(rules, MerchantRules::new(1, [(MerchantId(7), 2)]), "what all have is nobody's own");
        assert_eq!(MerchantRules::<u8>::default().of(MerchantId(7)), 0);
    }
}
