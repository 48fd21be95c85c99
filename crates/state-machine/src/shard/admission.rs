//! What is refused before acceptance: nothing is stored and nothing is sent.

use std::collections::HashMap;

use protocol::fact::{PayFact, QueryFact, ReverseFact};
use timer_wheel::Tick;

use super::{NotAccepted, PayRequest, Shard};
use crate::key::{MerchantId, ProviderId};

/// Unsigned refusals in a row that close a merchant (A3).
const UNSIGNED_MAX: u8 = 3;

/// What closes a merchant or a provider for new payments until the wallet is seen to work again.
#[derive(Debug, Default)]
pub(super) struct Breakers {
    /// Unsigned refusals in a row (A3).
    unsigned: HashMap<MerchantId, u8>,
    /// Providers whose certificate was refused three times in a row (C8).
    certificates: Vec<ProviderId>,
}

impl Breakers {
    pub(super) fn on_pay(&mut self, of: Option<(MerchantId, ProviderId)>, fact: &PayFact) {
        let Some((merchant, _)) = of else { return };
        match fact {
            PayFact::RefusedUnsigned => {
                let count = self.unsigned.entry(merchant).or_default();
                *count = count.saturating_add(1);
            }
            PayFact::Unsent | PayFact::Unclear => {}
            PayFact::Paid(_)
            | PayFact::InProgress
            | PayFact::Refused(_)
            | PayFact::NumberTaken { .. }
            | PayFact::RefusedOutright(_) => {
                self.unsigned.remove(&merchant);
            }
        }
    }

    /// A verified query shows that the wallet understands us again.
    pub(super) fn on_query(&mut self, of: Option<(MerchantId, ProviderId)>, fact: &QueryFact) {
        if let Some((merchant, _)) = of
            && !matches!(fact, QueryFact::Unclear)
        {
            self.unsigned.remove(&merchant);
        }
    }

    pub(super) fn on_reverse(&mut self, provider: ProviderId, fact: ReverseFact, suspends: bool) {
        if suspends && !self.certificates.contains(&provider) {
            self.certificates.push(provider);
        }
        if !matches!(fact, ReverseFact::NoCertificate | ReverseFact::Unclear) {
            self.certificates.retain(|closed| *closed != provider);
        }
    }

    fn close(&self, merchant: MerchantId, provider: ProviderId) -> bool {
        self.certificates.contains(&provider)
            || self.unsigned.get(&merchant).is_some_and(|count| *count >= UNSIGNED_MAX)
    }
}

impl Shard {
    /// Why a new payment is not taken, if it is not. Takes its room in the pay quota if it is.
    pub(super) fn refusal(&mut self, request: &PayRequest, now: Tick) -> Option<NotAccepted> {
        if self.draining {
            return Some(NotAccepted::Stopping);
        }
        if let Some(why) = self.cannot_record() {
            return Some(why);
        }
        if self.breakers.close(request.key.merchant, request.provider) {
            return Some(NotAccepted::Suspended);
        }
        (!self.planner.take_pay(request.provider, now)).then_some(NotAccepted::Throttled)
    }
}
