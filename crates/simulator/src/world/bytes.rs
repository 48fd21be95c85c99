//! Real requests: the production writer and signer, and the check of what comes back.

use compact_str::{CompactString, ToCompactString as _, format_compact};
use protocol::wechat_v2::field;
use protocol::wechat_v2::verdict::Signature;
use protocol::xml::{Message, Writer};
use signer::{Case, Key, KeyRing, Kind, Scratch};
use state_machine::shard::Call as Ask;

use super::calls::What;
use super::{KEYS, OLD_KEYS};
use crate::message::{Call, Number, RefundNumber, Request};

/// The switch's side of the wire: keys and buffers.
#[derive(Debug)]
pub(super) struct Client {
    keys: Vec<(KeyRing, Kind)>,
    scratch: Scratch,
    nonce: u64,
}

/// Where a call goes.
pub(super) const fn path(what: What) -> &'static str {
    match what {
        What::Pay => "/pay/micropay",
        What::Other(Ask::Query | Ask::LastQuery) => "/pay/orderquery",
        What::Other(Ask::Reverse) => "/secapi/pay/reverse",
        What::Other(Ask::Refund) => "/secapi/pay/refund",
        What::Other(Ask::RefundQuery) => "/pay/refundquery",
    }
}

impl Client {
    pub(super) fn new() -> Self {
        let kinds = [Kind::Md5, Kind::HmacSha256];
        // A change of keys goes on all the time: what the key before this one signs is taken, too (UB-24).
        let ring = |(new, old): (&&str, &&str)| Some(KeyRing::new(Key::new(new).ok()?, Key::new(old).ok()));
        let keys = KEYS.iter().zip(&OLD_KEYS).filter_map(ring).zip(kinds).collect();
        Self { keys, scratch: Scratch::new(), nonce: 0 }
    }

    /// Writes and signs a request.
    pub(super) fn write(&mut self, provider: usize, request: &Request) -> Vec<u8> {
        self.nonce += 1;
        let nonce = format_compact!("N{:031}", self.nonce);
        let caller = &request.caller;
        let mut pairs: Vec<(&str, CompactString)> = vec![
            (field::APPID, caller.appid.clone()),
            (field::MCH_ID, caller.mch_id.clone()),
            (field::SUB_MCH_ID, caller.sub_mch_id.clone()),
            (field::NONCE_STR, nonce),
        ];
        match &request.call {
            Call::Micropay(pay) => {
                pairs.push((field::OUT_TRADE_NO, pay.out_trade_no.clone()));
                pairs.push((field::AUTH_CODE, pay.auth_code.clone()));
                pairs.push((field::TOTAL_FEE, pay.total_fee.to_compact_string()));
                pairs.push((field::SPBILL_CREATE_IP, CompactString::const_new("127.0.0.1")));
                pairs.push((field::ATTACH, pay.attach.clone()));
                pairs.extend(pay.others.iter().map(|(name, value)| (name.as_str(), value.as_str().into())));
            }
            Call::OrderQuery(number) | Call::Reverse(number) => pairs.push(numbered(number)),
            Call::Refund(refund) => {
                pairs.push(numbered(&refund.number));
                pairs.push((field::OUT_REFUND_NO, refund.out_refund_no.clone()));
                pairs.push((field::TOTAL_FEE, refund.total_fee.to_compact_string()));
                pairs.push((field::REFUND_FEE, refund.refund_fee.to_compact_string()));
            }
            Call::RefundQuery { number, offset } => {
                pairs.push(match number {
                    RefundNumber::Order(number) => numbered(number),
                    RefundNumber::OutRefundNo(no) => (field::OUT_REFUND_NO, no.clone()),
                    RefundNumber::RefundId(id) => ("refund_id", id.clone()),
                });
                pairs.extend(offset.map(|offset| ("offset", offset.to_compact_string())));
            }
        }
        pairs.retain(|(_, value)| !value.is_empty());
        let mut document = Vec::with_capacity(1_024);
        let Some((key, kind)) = self.keys.get(provider) else { return document };
        if *kind == Kind::HmacSha256 {
            pairs.push((field::SIGN_TYPE, kind.as_str().into()));
        }
        let borrowed = || pairs.iter().map(|(name, value)| (*name, value.as_str()));
        let sign = key.sign(*kind, borrowed(), &mut self.scratch);
        let mut writer = Writer::new(&mut document);
        for (name, value) in borrowed().chain([(field::SIGN, sign.as_str())]) {
            writer.exact(name, value);
        }
        writer.finish();
        document
    }

    /// Checks an answer.
    pub(super) fn check(&mut self, provider: usize, message: &Message<'_>) -> Signature {
        let claimed = message.get(field::SIGN).unwrap_or_default();
        let valid = self.keys.get(provider).is_some_and(|(key, kind)| {
            key.verify(*kind, message.iter(), claimed, Case::Exact, &mut self.scratch)
        });
        if valid { Signature::Valid } else { Signature::Wrong }
    }
}

fn numbered(number: &Number) -> (&'static str, CompactString) {
    match number {
        Number::OutTradeNo(text) => (field::OUT_TRADE_NO, text.clone()),
        Number::TransactionId(text) => (field::TRANSACTION_ID, text.clone()),
    }
}
