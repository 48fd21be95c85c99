//! What a till is answered, signed as it asked. Source: DESIGN §4; wechatpay-v2 §2.1, §3.

use std::borrow::Cow;
use std::cell::RefCell;

use hyper::StatusCode;
use protocol::fact::Paid;
use protocol::wechat_v2::field;
use protocol::xml::{Writer, clean};
use signer::Scratch;
use state_machine::Record;

use super::Caller;
use crate::northbound::server::{Reply, typed};
use crate::random;

const MEDIA_TYPE: &str = "text/xml; charset=utf-8";

thread_local! {
    static SCRATCH: RefCell<Scratch> = const { RefCell::new(Scratch::new()) };
}

/// A signed answer while it is put together.
pub(super) struct Answer<'a> {
    caller: &'a Caller,
    /// Names and values, clean, in the order of the wire.
    pairs: Vec<(&'a str, Cow<'a, str>)>,
}

impl<'a> Answer<'a> {
    /// Begins with what every answer has.
    pub(super) fn new(caller: &'a Caller) -> Self {
        let mut pairs: Vec<(&str, Cow<'_, str>)> = Vec::with_capacity(32);
        pairs.push((field::RETURN_CODE, "SUCCESS".into()));
        pairs.push((field::RETURN_MSG, "OK".into()));
        pairs.push((field::APPID, caller.appid.as_str().into()));
        pairs.push((field::MCH_ID, caller.mch_id.as_str().into()));
        if let Some(sub_appid) = &caller.sub_appid {
            pairs.push((field::SUB_APPID, sub_appid.as_str().into()));
        }
        if let Some(sub_mch_id) = &caller.sub_mch_id {
            pairs.push((field::SUB_MCH_ID, sub_mch_id.as_str().into()));
        }
        // Without the kernel's randomness a nonce of zeros still only weakens what needs no secrecy; the process could not
        // have opened its store without it.
        let nonce = random::nonce().map_or_else(|| "0".repeat(32), |text| text.as_str().to_owned());
        pairs.push((field::NONCE_STR, nonce.into()));
        Self { caller, pairs }
    }

    /// `result_code` SUCCESS.
    pub(super) fn success(self) -> Self {
        self.text(field::RESULT_CODE, "SUCCESS")
    }

    /// `result_code` FAIL with its cause.
    pub(super) fn fail(self, code: &'a str, description: &'a str) -> Self {
        self.text(field::RESULT_CODE, "FAIL")
            .text(field::ERR_CODE, code)
            .text(field::ERR_CODE_DES, description)
    }

    /// Adds a field; an empty one is left out.
    pub(super) fn text(mut self, name: &'a str, value: &'a str) -> Self {
        let value = clean(value);
        if !value.is_empty() {
            self.pairs.push((name, value));
        }
        self
    }

    /// Adds what the wallet said of the money. Number, amount and the channel's number are those of the
    /// record; everything else is handed on as it came.
    pub(super) fn paid(mut self, record: &'a Record, paid: &'a Paid) -> Self {
        for (name, value) in paid.fields.iter() {
            let ours = matches!(name, field::OUT_TRADE_NO | field::TOTAL_FEE | field::TRANSACTION_ID);
            if !ours && !self.pairs.iter().any(|(known, _)| *known == name) && name != field::SIGN {
                self = self.text(name, value);
            }
        }
        self = self
            .text(field::TRANSACTION_ID, paid.transaction_id.as_str())
            .text(field::OUT_TRADE_NO, record.key.number.as_str());
        self.pairs.push((field::TOTAL_FEE, paid.amount.to_string().into()));
        self
    }

    /// Signs it with the request's method and key.
    pub(super) fn reply(self) -> Reply {
        let Self { caller, pairs } = self;
        let signed = pairs.iter().map(|(name, value)| (*name, value.as_ref()));
        let sign = SCRATCH.with_borrow_mut(|scratch| caller.key.sign(caller.kind, signed, scratch));
        let mut body = Vec::with_capacity(1_024);
        let mut writer = Writer::new(&mut body);
        for (name, value) in &pairs {
            writer.text(name, value);
        }
        writer.text(field::SIGN, sign.as_str());
        writer.finish();
        typed(StatusCode::OK, MEDIA_TYPE, body.into())
    }
}

/// `return_code` FAIL, which has no signature.
pub(super) fn unsigned(text: &str) -> Reply {
    let mut body = Vec::with_capacity(128);
    let mut writer = Writer::new(&mut body);
    writer.text(field::RETURN_CODE, "FAIL").text(field::RETURN_MSG, &clean(text));
    writer.finish();
    typed(StatusCode::OK, MEDIA_TYPE, body.into())
}
