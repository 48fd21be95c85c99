//! What the wallet, or whatever stands in front of it, gets wrong besides its customers: refusals of its own,
//! copies that lag, answers that are changed on their way.

use super::World;
use super::calls::What;
use super::kind::Kind;
use super::network::{Received, ledger_key, write};
use super::tills::{key_of, merchant_of, provider_of};
use crate::customer::Refusal;
use crate::face::{BytesReply, Envelope};
use crate::ledger::State;
use crate::message::{Answer, Caller, Outcome, Reply, Request, Seal};
use crate::sign::SignType;
use state_machine::shard::Call as Ask;

const THROTTLED: Refusal = Refusal { code: "FREQUENCY_LIMITED", text: "频率限制" };
const CLOSED: Refusal = Refusal { code: "ORDERCLOSED", text: "订单已关闭" };
const REVERSED: Refusal = Refusal { code: "ORDERREVERSED", text: "订单已撤销" };
const UNHEARD_OF: Refusal = Refusal { code: "RISK_REVIEW_PENDING", text: "风控审核中" };

/// How long reversals that are swallowed are: a little over the seven days in which the wallet reverses.
const SWALLOWED_MS: u64 = (7 * 24 + 1) * 3_600_000;

/// Fields that no version of the channel has documented.
const UNKNOWN_FIELDS: [(&str, &str); 2] =
    [("settlement_hint", "T+1"), ("promotion_detail", "{\"promotion_detail\":[{\"amount\":0}]}")];

impl World {
    /// Gives a request to the wallet: what comes of it, and when, by the wallet's clock.
    pub(super) fn ask_wallet(
        &mut self,
        n: u32,
        what: What,
        request: &Request,
        now_ms: i64,
    ) -> (i64, Received) {
        self.events += 1;
        let provider = usize::try_from(provider_of(merchant_of(n)).0).unwrap_or(0);
        let opened = self.calls.client.as_mut().map(|client| {
            let body = client.write(provider, request);
            let certified = matches!(what, What::Other(Ask::Reverse | Ask::Refund));
            self.wallet.face().open(super::bytes::path(what), &body, certified)
        });
        let envelope = match opened {
            None => None,
            Some(Ok((read, envelope))) => {
                if read != *request {
                    self.judge.break_rule("INV-03", Some(n), format!("the wallet reads {read:?}"));
                }
                Some(envelope)
            }
            Some(Err(unopened)) => {
                self.judge.break_rule("INV-25", Some(n), format!("the wallet refuses: {:?}", unopened.cause));
                return (now_ms, Received::Bytes(unopened.reply));
            }
        };
        let mut outcome = match self.refusal(n, what, request, now_ms) {
            Some(reply) => Outcome { at_ms: now_ms, reply },
            None => self.wallet.handle(request, now_ms),
        };
        let cut = match &mut outcome.reply {
            Reply::Answer(answer) => self.spoil(n, what, answer, &request.caller),
            Reply::Drop | Reply::Hang | Reply::Http { .. } => None,
        };
        let at_ms = outcome.at_ms;
        let received = match envelope {
            None => match (cut, outcome.reply) {
                (Some(cut), Reply::Answer(answer)) => {
                    let mut document = Vec::new();
                    write(&answer, &mut document);
                    Received::Cut(cut_off(document, cut))
                }
                (_, reply) => Received::Typed(reply),
            },
            Some(envelope) => {
                let signs_with_old =
                    matches!(outcome.reply, Reply::Answer(_)) && self.weather.is(Kind::OldKey);
                let envelope = if signs_with_old {
                    self.judge.probes.other("old_key");
                    old_envelope(provider)
                } else {
                    envelope
                };
                match (cut, self.wallet.face().seal(&envelope, outcome).reply) {
                    (Some(cut), BytesReply::Xml(document)) => Received::Cut(cut_off(document, cut)),
                    (_, reply) => Received::Bytes(reply),
                }
            }
        };
        (at_ms, received)
    }

    /// What the wallet answers without looking at its books, if it does so.
    fn refusal(&mut self, n: u32, what: What, request: &Request, now_ms: i64) -> Option<Reply> {
        if what == What::Other(Ask::Reverse) && self.is_refused_for_good(n, now_ms) {
            return Some(self.refused_reversal(n));
        }
        if what == What::Other(Ask::Reverse) && self.is_never_answered(n) {
            self.judge.probes.other("reversal_swallowed_for_a_week");
            return Some(Reply::Hang);
        }
        if self.weather.is(Kind::Throttles) && self.rng.network.below(2) == 0 {
            self.judge.probes.other("throttled");
            return Some(Reply::Answer(self.wallet.fail(&request.caller, THROTTLED)));
        }
        if self.weather.is(Kind::OddRefusals) && what == What::Pay {
            let refusal = match self.rng.network.below(4) {
                0 => CLOSED,
                1 => REVERSED,
                _ => return None,
            };
            return Some(Reply::Answer(self.wallet.fail(&request.caller, refusal)));
        }
        if self.weather.is(Kind::StaleQueries) && matches!(what, What::Other(Ask::Query | Ask::LastQuery)) {
            return self.stale(n, &request.caller, now_ms).map(Reply::Answer);
        }
        None
    }

    /// A customer was asked, has paid, and the copy of the books that answers does not know it yet.
    fn stale(&mut self, n: u32, caller: &Caller, now_ms: i64) -> Option<Answer> {
        self.wallet.advance(now_ms);
        let number = key_of(n).number;
        let entry = self.wallet.entry(&ledger_key(&self.callers, n))?;
        let was_asked = matches!(entry.acted / 100, 1..=4 | 15 | 31);
        if !was_asked || !matches!(entry.state, State::Paid | State::Revoked | State::PayError) {
            return None;
        }
        self.judge.probes.other("stale_query");
        let mut answer = self.wallet.head(caller, "SUCCESS");
        answer.push("out_trade_no", number.as_str());
        answer.push("trade_state", "USERPAYING");
        Some(answer)
    }

    /// Changes an answer on its way; `Some` says where it is cut off.
    fn spoil(&mut self, n: u32, what: What, answer: &mut Answer, caller: &Caller) -> Option<u64> {
        if self.weather.is(Kind::OddRefusals) && what == What::Pay && self.rng.network.below(3) == 0 {
            // Whatever was done, nobody can tell from this.
            let honest = answer.seal == Seal::Signed;
            if honest && self.keeps_silent_about(n) {
                *answer = self.wallet.fail(caller, UNHEARD_OF);
                self.judge.probes.other("unheard_of_code");
            }
        }
        if self.weather.is(Kind::UnknownFields) {
            self.judge.probes.other("unknown_fields");
            UNKNOWN_FIELDS.iter().for_each(|(name, value)| answer.push(*name, *value));
        }
        if self.weather.is(Kind::Crossed) && answer.get("out_trade_no").is_some() {
            let last = self.crossed.insert(what.wire() as u8, (n, answer.clone()));
            let other = last.filter(|(of, _)| *of != n && self.rng.network.below(2) == 0);
            if let Some((_, other)) = other {
                self.judge.probes.other("answer_of_another_request");
                // Two merchants use each number: money under it at the other one must be held (B5, UB-10).
                let same_number = other.get("out_trade_no") == answer.get("out_trade_no");
                if same_number
                    && let Some(transit) = self.transit.get_mut(usize::try_from(n).unwrap_or(usize::MAX))
                {
                    transit.met_another_merchant = true;
                }
                *answer = Answer { of_another_order: !same_number, ..other };
            }
        }
        if self.weather.is(Kind::Corrupt) && self.rng.network.below(2) == 0 {
            match self.rng.network.below(4) {
                0 => {
                    self.judge.probes.other("answer_cut");
                    return Some(self.rng.network.next_u64());
                }
                1 => answer.seal = Seal::Forged,
                2 => answer.seal = Seal::Unsigned,
                _ => {
                    answer.seal = Seal::Forged;
                    for (name, value) in &mut answer.fields {
                        match name.as_ref() {
                            "total_fee" => value.push('0'),
                            "result_code" | "trade_state" => *value = "SUCCESS".into(),
                            _ => {}
                        }
                    }
                }
            }
            self.judge.probes.other("answer_not_verified");
        }
        None
    }

    /// Whether the first answer says nothing that the wallet must not take back: a refusal does.
    fn keeps_silent_about(&self, n: u32) -> bool {
        let entry = self.wallet.entry(&ledger_key(&self.callers, n));
        entry.is_some_and(|entry| matches!(entry.state, State::Paid | State::Paying))
    }

    /// In some runs the wallet does not answer the reversals of some orders, for as long as it reverses at all
    /// (C10). A dialog that only a reversal ends (16) would then never end.
    fn is_never_answered(&self, n: u32) -> bool {
        self.drawn.swallows_reversals
            && n % 64 == 11
            && self.now < SWALLOWED_MS
            && self.wallet.entry(&ledger_key(&self.callers, n)).is_none_or(|entry| entry.acted / 100 != 16)
    }
}

/// What remains of a document that is cut off before its end.
fn cut_off(mut document: Vec<u8>, draw: u64) -> Vec<u8> {
    let longest = u64::try_from(document.len().saturating_sub(8)).unwrap_or(0);
    document.truncate(usize::try_from(draw % longest.max(1)).unwrap_or(0));
    document
}

/// What signs with the key before this one.
fn old_envelope(provider: usize) -> Envelope {
    let kind = if provider == 0 { SignType::Md5 } else { SignType::HmacSha256 };
    Envelope::new(super::OLD_KEYS.get(provider).copied().unwrap_or_default(), kind)
}
