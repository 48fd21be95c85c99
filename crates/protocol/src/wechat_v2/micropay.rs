//! `/pay/micropay`: a payment by payment code. Source: wechatpay-v2 §3.1.

use core::net::IpAddr;

use crate::amount::Fen;
use crate::channel::normalise;
use crate::ids::{AuthCode, OutTradeNo};
use crate::wechat_v2::request::{RequestError, check_split, id, required, text};
use crate::wechat_v2::{field, time};
use crate::xml::Message;

/// Fields of the request besides the common ones.
const KNOWN: &[&str] = &[
    field::DEVICE_INFO,
    field::VERSION,
    field::BODY,
    field::DETAIL,
    field::ATTACH,
    field::OUT_TRADE_NO,
    field::TOTAL_FEE,
    field::FEE_TYPE,
    field::SPBILL_CREATE_IP,
    field::GOODS_TAG,
    field::LIMIT_PAY,
    field::TIME_START,
    field::TIME_EXPIRE,
    field::RECEIPT,
    field::AUTH_CODE,
    field::SCENE_INFO,
    field::PROFIT_SHARING,
    field::DEPOSIT,
];

/// A till's payment, checked against the limits of the protocol. `Debug` masks the code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MicropayRequest<'a> {
    /// The merchant's number.
    pub out_trade_no: OutTradeNo,
    /// The payer's code.
    pub auth_code: AuthCode,
    /// The amount.
    pub total_fee: Fen,
    /// What is bought, at most 128 characters; the payer sees it.
    pub body: &'a str,
    /// The calling machine's address.
    pub spbill_create_ip: IpAddr,
    /// Text that comes back unchanged, at most 127 characters.
    pub attach: Option<&'a str>,
    /// The terminal, at most 32 characters.
    pub device_info: Option<&'a str>,
    /// JSON of the goods, at most 6000 characters.
    pub detail: Option<&'a str>,
    /// Coupon tag, at most 32 characters.
    pub goods_tag: Option<&'a str>,
    /// `no_credit` forbids credit cards; at most 32 characters.
    pub limit_pay: Option<&'a str>,
    /// JSON of the store, at most 256 characters.
    pub scene_info: Option<&'a str>,
    /// Unix seconds.
    pub time_start_s: Option<i64>,
    /// Unix seconds.
    pub time_expire_s: Option<i64>,
    /// `Y` shows the invoice entry; at most 8 characters.
    pub receipt: Option<&'a str>,
    /// Whether the money stays frozen for profit sharing.
    pub profit_sharing: bool,
    /// `1.0` with item-level discounts; at most 32 characters.
    pub version: Option<&'a str>,
}

impl<'a> MicropayRequest<'a> {
    /// Reads and checks the fields; those that the protocol does not know are passed over.
    ///
    /// # Errors
    ///
    /// [`RequestError`], which names the field.
    ///
    /// Source: wechatpay-v2 §3.1, §5; faults-and-invariants MI-07, MI-10, MI-11.
    pub fn read(message: &Message<'a>) -> Result<Self, RequestError> {
        check_split(message, KNOWN)?;
        if !matches!(message.get(field::DEPOSIT), None | Some("N")) {
            return Err(RequestError::NotOffered(field::DEPOSIT));
        }
        if !matches!(message.get(field::FEE_TYPE), None | Some("CNY")) {
            return Err(RequestError::NotOffered(field::FEE_TYPE));
        }
        Ok(Self {
            out_trade_no: required(id(message, field::OUT_TRADE_NO)?, field::OUT_TRADE_NO)?,
            auth_code: required(message.get(field::AUTH_CODE), field::AUTH_CODE)?
                .parse()
                .map_err(|_| RequestError::NotWeChat)?,
            total_fee: Fen::from_total_fee(required(message.get(field::TOTAL_FEE), field::TOTAL_FEE)?)
                .map_err(RequestError::Amount)?,
            body: required(text(message, field::BODY, 128)?, field::BODY)?,
            spbill_create_ip: required(message.get(field::SPBILL_CREATE_IP), field::SPBILL_CREATE_IP)?
                .parse()
                .map_err(|_| RequestError::Malformed(field::SPBILL_CREATE_IP))?,
            attach: text(message, field::ATTACH, 127)?,
            device_info: text(message, field::DEVICE_INFO, 32)?,
            detail: text(message, field::DETAIL, 6000)?,
            goods_tag: text(message, field::GOODS_TAG, 32)?,
            limit_pay: text(message, field::LIMIT_PAY, 32)?,
            scene_info: text(message, field::SCENE_INFO, 256)?,
            time_start_s: moment(message, field::TIME_START)?,
            time_expire_s: moment(message, field::TIME_EXPIRE)?,
            receipt: text(message, field::RECEIPT, 8)?,
            profit_sharing: match message.get(field::PROFIT_SHARING) {
                None | Some("N") => false,
                Some("Y") => true,
                Some(_) => return Err(RequestError::Malformed(field::PROFIT_SHARING)),
            },
            version: text(message, field::VERSION, 32)?,
        })
    }
}

fn moment(message: &Message<'_>, field: &'static str) -> Result<Option<i64>, RequestError> {
    let read = |text| time::parse_compact(text).ok_or(RequestError::Malformed(field));
    message.get(field).map(read).transpose()
}

/// The pairs by which two requests with one number are held to be the same: every field that is not empty,
/// but those that a till changes when it asks again. In the order of the wire.
///
/// Source: faults-and-invariants INV-16.
pub fn content_pairs<'a>(message: &Message<'a>) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
    message.iter().filter(|(name, value)| {
        let varies = matches!(
            *name,
            field::AUTH_CODE
                | field::NONCE_STR
                | field::SIGN
                | field::SIGN_TYPE
                | field::SPBILL_CREATE_IP
                | field::TIME_START
                | field::TIME_EXPIRE
        );
        !varies && !value.is_empty()
    })
}

/// The pairs that go on to the wallet: the known fields that are not empty, as they came, with the code
/// freed of what the scanner added. The gateway adds ids, `nonce_str`, `sign_type` and `sign` of its own.
pub fn upstream_pairs<'a>(message: &Message<'a>) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
    message
        .iter()
        // A deposit order is refused, and what is no deposit needs no field.
        .filter(|(name, value)| !value.is_empty() && KNOWN.contains(name) && *name != field::DEPOSIT)
        .map(|(name, value)| (name, if name == field::AUTH_CODE { normalise(value) } else { value }))
}

#[cfg(test)]
mod tests;
