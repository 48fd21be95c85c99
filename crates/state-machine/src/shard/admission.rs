//! What is refused before acceptance: nothing is stored and nothing is sent.

use std::collections::HashMap;

use protocol::fact::{PayFact, QueryFact, ReverseFact};
use timer_wheel::Tick;

use super::{NotAccepted, PayRequest, Shard};
use crate::key::{MerchantId, Now, ProviderId};

/// Unsigned refusals in a row that close a merchant (A3).
const UNSIGNED_MAX: u8 = 3;

/// Certificate faults in a row that close a provider (C8).
const CERTIFICATE_MAX: u8 = 3;

/// Refused certificates of one provider.
#[derive(Debug)]
#[cfg_attr(feature = "model", derive(Clone))]
struct Faults {
    provider: ProviderId,
    in_a_row: u8,
    last: Tick,
}

/// What closes a merchant or a provider for new payments until the wallet is seen to work again.
#[derive(Debug, Default)]
#[cfg_attr(feature = "model", derive(Clone))]
pub(super) struct Breakers {
    /// Unsigned refusals in a row (A3).
    unsigned: HashMap<MerchantId, u8>,
    /// Providers whose certificate was refused, with no reversal through since (C8).
    certificates: Vec<Faults>,
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

    /// `true` if this closes the provider.
    pub(super) fn on_reverse(
        &mut self,
        of: Option<(MerchantId, ProviderId)>,
        fact: ReverseFact,
        now: Tick,
    ) -> bool {
        let Some((_, provider)) = of else { return false };
        match fact {
            ReverseFact::NoCertificate => {
                let known = self.certificates.iter().position(|faults| faults.provider == provider);
                let place = known.unwrap_or_else(|| {
                    self.certificates.push(Faults { provider, in_a_row: 0, last: now });
                    self.certificates.len().saturating_sub(1)
                });
                let Some(faults) = self.certificates.get_mut(place) else { return false };
                faults.in_a_row = faults.in_a_row.saturating_add(1);
                faults.last = now;
                faults.in_a_row == CERTIFICATE_MAX
            }
            ReverseFact::Unclear => false,
            ReverseFact::Done
            | ReverseFact::CallAgain
            | ReverseFact::SystemError
            | ReverseFact::InProgress
            | ReverseFact::Expired
            | ReverseFact::Refused
            | ReverseFact::Absent => {
                self.certificates.retain(|faults| faults.provider != provider);
                false
            }
        }
    }

    /// A closed provider opens again by a reversal that gets through. Its open reversals are repeated at
    /// least once per `retry_max_ms`; where they have ended otherwise, none can, so that a longer silence
    /// opens it too.
    fn close(&self, merchant: MerchantId, provider: ProviderId, now: Tick, retry_max_ms: u64) -> bool {
        let certificate = self.certificates.iter().any(|faults| {
            faults.provider == provider
                && faults.in_a_row >= CERTIFICATE_MAX
                && now.ms_since(faults.last) < retry_max_ms.saturating_mul(2)
        });
        certificate || self.unsigned.get(&merchant).is_some_and(|count| *count >= UNSIGNED_MAX)
    }
}

impl Shard {
    /// Why a new payment is not taken, if it is not. Reserves its room in the pay quota if it is.
    pub(super) fn refusal(&mut self, request: &PayRequest, now: Now) -> Option<NotAccepted> {
        // It would be refused at any other moment too: the till must not be told to try again.
        if request.expires_at.is_some_and(|at| at <= now.wall) {
            return Some(NotAccepted::Expired);
        }
        let now = now.tick;
        if self.draining {
            return Some(NotAccepted::Stopping);
        }
        if let Some(why) = self.cannot_record() {
            return Some(why);
        }
        let retry_max_ms = self.config.policy.reversal_pause_max_ms;
        if self.breakers.close(request.key.merchant, request.provider, now, retry_max_ms) {
            return Some(NotAccepted::Suspended);
        }
        (!self.planner.reserve_pay(request.provider, now)).then_some(NotAccepted::Throttled)
    }
}
