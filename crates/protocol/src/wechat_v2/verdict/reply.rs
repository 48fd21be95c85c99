//! The three layers of an answer, and the rules that hold for every operation.

use planted::planted;

use super::{Alarm, Exchange, Expected, Signature};
use crate::amount::Fen;
use crate::fact::{Paid, Refusal, attach_digest};
use crate::fields::Fields;
use crate::ids::{Text, TransactionId};
use crate::wechat_v2::{field, time};
use crate::xml::{Message, Reader};

/// The longest text of a refusal that is kept, in characters. Source: wechatpay-v2 §3, `err_code_des`.
const DESCRIPTION_MAX: usize = 128;

/// An answer that is signed, and speaks of the order asked about if it names one.
pub(super) struct Reply<'m> {
    message: Message<'m>,
    result_code: &'m str,
    err_code: &'m str,
    err_code_des: &'m str,
    pub(super) trade_state: &'m str,
    pub(super) recall: &'m str,
    out_trade_no: &'m str,
    total_fee: &'m str,
    fee_type: &'m str,
    transaction_id: &'m str,
    time_end: &'m str,
    attach: &'m str,
    /// Whether provider and sub-merchant are those asked about.
    pub(super) merchant_matches: bool,
}

/// What a verified answer says in its second layer.
pub(super) enum Outcome<'m> {
    /// `result_code` is SUCCESS.
    Success,
    /// `result_code` is FAIL, with this `err_code`, which may be empty.
    Fail(&'m str),
    /// `result_code` is another word, or absent.
    Unknown,
}

/// Why nothing is decided by an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Not one byte was sent.
    Unsent,
    /// No whole answer came.
    Lost,
    /// No client certificate, or none that was taken: the handshake failed, or HTTP 400.
    NoCertificate,
    /// Another HTTP status than 200, or a body that is not the XML we take.
    NotXml,
    /// Unsigned `return_code` FAIL whose text blames our request.
    RefusedOurs,
    /// Unsigned `return_code` FAIL with another text, or another `return_code`.
    Refused,
    /// `return_code` SUCCESS, but not verified.
    NotVerified,
}

/// An answer that does not fit.
pub(super) struct Misfit {
    pub(super) cause: Cause,
    pub(super) alarm: Option<Alarm>,
    pub(super) throttled: bool,
    pub(super) err_code: Option<Text<32>>,
}

impl Misfit {
    fn new(cause: Cause) -> Self {
        Self { cause, alarm: None, throttled: false, err_code: None }
    }

    pub(super) fn not_verified(alarm: Alarm) -> Self {
        Self { alarm: Some(alarm), ..Self::new(Cause::NotVerified) }
    }
}

impl<'m> Reply<'m> {
    /// Reads an answer as far as the rules go that hold for every operation.
    pub(super) fn read(
        exchange: &Exchange<'m>,
        expected: &Expected<'_>,
        reader: &'m mut Reader,
        verify: impl FnOnce(&Message<'_>) -> Signature,
    ) -> Result<Self, Misfit> {
        let message = match *exchange {
            Exchange::Unsent => return Err(Misfit::new(Cause::Unsent)),
            Exchange::Lost => return Err(Misfit::new(Cause::Lost)),
            Exchange::NoCertificate | Exchange::Answer { status: 400, .. } => {
                return Err(Misfit::new(Cause::NoCertificate));
            }
            Exchange::Answer { status: 200, body } => {
                reader.read(body).map_err(|_| Misfit::new(Cause::NotXml))?
            }
            Exchange::Message(message) => message,
            Exchange::Answer { status, .. } => {
                return Err(Misfit { throttled: status == 429, ..Misfit::new(Cause::NotXml) });
            }
        };
        match message.get(field::RETURN_CODE) {
            Some("SUCCESS") => {}
            Some("FAIL") => return Err(refused(&message)),
            Some(_) => return Err(Misfit { err_code: err_code(&message), ..Misfit::new(Cause::Refused) }),
            None => return Err(Misfit::new(Cause::NotXml)),
        }
        let (reply, is_signed) = Self::gather(message, expected);
        // An absent signature needs no check.
        let is_valid = is_signed && verify(&message) == Signature::Valid;
        if !is_valid && !planted!(SignatureNotChecked) {
            let unsigned = Misfit::not_verified(Alarm::NotVerified);
            return Err(Misfit { err_code: err_code(&message), ..unsigned });
        }
        let other = !reply.out_trade_no.is_empty()
            && reply.out_trade_no.as_bytes() != expected.out_trade_no.as_bytes();
        if other && !planted!(OtherOrderTaken) {
            return Err(Misfit::not_verified(Alarm::WrongOrder));
        }
        Ok(reply)
    }

    /// Collects the fields that verdicts look at, in one pass, and whether there is a signature.
    fn gather(message: Message<'m>, expected: &Expected<'_>) -> (Self, bool) {
        let mut reply = Self {
            message,
            result_code: "",
            err_code: "",
            err_code_des: "",
            trade_state: "",
            recall: "",
            out_trade_no: "",
            total_fee: "",
            fee_type: "",
            transaction_id: "",
            time_end: "",
            attach: "",
            merchant_matches: false,
        };
        let (mut appid, mut mch_id, mut sub_appid, mut sub_mch_id, mut sign) = ("", "", "", "", "");
        for (name, value) in message.iter() {
            let slot = match name {
                field::APPID => &mut appid,
                field::MCH_ID => &mut mch_id,
                field::SUB_APPID => &mut sub_appid,
                field::SUB_MCH_ID => &mut sub_mch_id,
                field::RESULT_CODE => &mut reply.result_code,
                field::ERR_CODE => &mut reply.err_code,
                field::ERR_CODE_DES => &mut reply.err_code_des,
                field::TRADE_STATE => &mut reply.trade_state,
                field::RECALL => &mut reply.recall,
                field::OUT_TRADE_NO => &mut reply.out_trade_no,
                field::TOTAL_FEE => &mut reply.total_fee,
                field::FEE_TYPE => &mut reply.fee_type,
                field::TRANSACTION_ID => &mut reply.transaction_id,
                field::TIME_END => &mut reply.time_end,
                field::ATTACH => &mut reply.attach,
                field::SIGN => &mut sign,
                _ => continue,
            };
            *slot = value;
        }
        reply.merchant_matches = appid == expected.appid
            && mch_id == expected.mch_id
            && sub_mch_id == expected.sub_mch_id.unwrap_or_default()
            // `sub_appid` comes back if it was sent, say the pages; an answer without it is common.
            && (sub_appid.is_empty() || expected.sub_appid.is_none_or(|sent| sent == sub_appid));
        (reply, !sign.is_empty())
    }

    /// The message itself, for fields with an index.
    pub(super) fn message(&self) -> &Message<'m> {
        &self.message
    }

    /// The second layer, for an answer of the merchant asked about.
    pub(super) fn outcome(&self) -> Outcome<'m> {
        match self.result_code {
            "SUCCESS" => Outcome::Success,
            "FAIL" => Outcome::Fail(self.err_code),
            _ => Outcome::Unknown,
        }
    }

    /// Refuses an answer that names another provider or sub-merchant, or none.
    pub(super) fn of_merchant(self) -> Result<Self, Misfit> {
        if self.merchant_matches { Ok(self) } else { Err(self.misfit(Alarm::WrongMerchant)) }
    }

    /// Refuses an answer that does not name its order.
    pub(super) fn names_order(&self) -> Result<(), Misfit> {
        if self.out_trade_no.is_empty() { Err(self.misfit(Alarm::NotVerified)) } else { Ok(()) }
    }

    /// The amount of an answer that says that money moved: it must name order and amount, in CNY. Source: §2.3.
    pub(super) fn amount(&self) -> Result<Fen, Misfit> {
        self.names_order()?;
        if !matches!(self.fee_type, "" | "CNY") {
            return Err(self.misfit(Alarm::AmountDiffers));
        }
        Fen::from_total_fee(self.total_fee).map_err(|_| self.misfit(Alarm::NotVerified))
    }

    /// The money of an answer that says that the order is paid.
    pub(super) fn paid(&self) -> Result<Box<Paid>, Misfit> {
        let amount = self.amount()?;
        let transaction_id: TransactionId =
            self.transaction_id.parse().map_err(|_| self.misfit(Alarm::NotVerified))?;
        Ok(Box::new(Paid {
            amount,
            transaction_id,
            time_end_s: time::parse_compact(self.time_end),
            attach: attach_digest(self.attach),
            merchant_matches: self.merchant_matches,
            fields: Fields::new(self.message.iter().filter(|(name, _)| !is_envelope(name))),
        }))
    }

    /// The wallet's words of a refusal.
    pub(super) fn refusal(&self) -> Refusal {
        let end = self.err_code_des.char_indices().nth(DESCRIPTION_MAX).map(|(at, _)| at);
        let text = end.and_then(|end| self.err_code_des.get(..end)).unwrap_or(self.err_code_des);
        Refusal { code: Text::truncated(self.err_code), description: text.into() }
    }

    pub(super) fn err_code(&self) -> Option<Text<32>> {
        (!self.err_code.is_empty()).then(|| Text::truncated(self.err_code))
    }

    /// Source: wechatpay-v2 §1.6.
    pub(super) fn throttled(&self) -> bool {
        matches!(self.err_code, "FREQUENCY_LIMITED" | "INVALID_REQ_TOO_MUCH")
    }

    pub(super) fn misfit(&self, alarm: Alarm) -> Misfit {
        Misfit { err_code: self.err_code(), throttled: self.throttled(), ..Misfit::not_verified(alarm) }
    }
}

/// Fields that a till gets from us, or that say nothing about the payment: they are not handed on.
fn is_envelope(name: &str) -> bool {
    matches!(
        name,
        field::RETURN_CODE
            | field::RETURN_MSG
            | field::APPID
            | field::MCH_ID
            | field::SUB_APPID
            | field::SUB_MCH_ID
            | field::NONCE_STR
            | field::SIGN
            | field::SIGN_TYPE
            | field::RESULT_CODE
            | field::ERR_CODE
            | field::ERR_CODE_DES
            | field::TRADE_STATE
            | field::TRADE_STATE_DESC
            | field::OUT_TRADE_NO
    )
}

fn err_code(message: &Message<'_>) -> Option<Text<32>> {
    message.get(field::ERR_CODE).map(Text::truncated)
}

/// Sorts an unsigned refusal by its text, which is only good for an alarm and the pace (A3, A4).
fn refused(message: &Message<'_>) -> Misfit {
    /// Texts that blame our request. Source: wechatpay-v2 §4.5 A3, §1.2, §3.
    const OURS: [&str; 12] = [
        "签名",
        "参数",
        "权限",
        "商户号",
        "受理机构",
        "SIGN",
        "PARAM",
        "XML",
        "NOAUTH",
        "APPID",
        "MCH",
        "POST",
    ];
    const PACE: [&str; 4] = ["频率", "频繁", "过多", "FREQUENCY"];
    let text = message.get(field::RETURN_MSG).unwrap_or_default().to_ascii_uppercase();
    let throttled = PACE.iter().any(|word| text.contains(word));
    let ours = !throttled && OURS.iter().any(|word| text.contains(word));
    Misfit {
        cause: if ours { Cause::RefusedOurs } else { Cause::Refused },
        alarm: ours.then_some(Alarm::UnsignedRefusal),
        throttled,
        err_code: err_code(message),
    }
}
