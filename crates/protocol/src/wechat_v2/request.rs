//! What the requests of tills have in common.

use thiserror::Error;

use crate::amount::AmountError;
use crate::ids::{AppId, IdError, MchId, OutTradeNo, TransactionId};
use crate::wechat_v2::field;
use crate::xml::Message;

/// Fields that every endpoint knows. Source: wechatpay-v2 §3, common request fields.
pub(crate) const COMMON: &[&str] = &[
    field::APPID,
    field::MCH_ID,
    field::SUB_APPID,
    field::SUB_MCH_ID,
    field::NONCE_STR,
    field::SIGN,
    field::SIGN_TYPE,
];

/// Why a till's request is refused before anything is done for it: no order was made, no money moved.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum RequestError {
    /// A mandatory field is absent or empty.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A field holds more characters than the protocol allows.
    #[error("{field} is longer than {max} characters")]
    TooLong {
        /// The field.
        field: &'static str,
        /// The limit, in characters.
        max: usize,
    },
    /// A field has the wrong form.
    #[error("{0} is malformed")]
    Malformed(&'static str),
    /// An identifier has the wrong form.
    #[error("{field} {cause}")]
    Id {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        cause: IdError,
    },
    /// `total_fee` is not an amount.
    #[error("total_fee: {0}")]
    Amount(AmountError),
    /// `auth_code` is no code of this wallet.
    #[error("auth_code is not a WeChat Pay code")]
    NotWeChat,
    /// A field asks for a product that is not offered: `deposit`, another currency.
    #[error("{0} asks for what is not offered")]
    NotOffered(&'static str),
    /// A value holds `&name=` of a known field, so that the signed text reads in two ways. Source: MI-07.
    #[error("a value holds the name of a field")]
    Resplit,
    /// A field called `key`, which belongs to the signature alone. Source: MI-07.
    #[error("a field is called key")]
    KeyField,
}

impl RequestError {
    /// The `err_code` of the answer. Source: wechatpay-v2 §3.1.
    #[must_use]
    pub const fn err_code(&self) -> &'static str {
        match self {
            Self::Missing(_) => "LACK_PARAMS",
            Self::NotWeChat => "AUTH_CODE_INVALID",
            Self::TooLong { .. }
            | Self::Malformed(_)
            | Self::Id { .. }
            | Self::Amount(_)
            | Self::NotOffered(_)
            | Self::Resplit
            | Self::KeyField => "PARAM_ERROR",
        }
    }

    /// The `err_code_des` of the answer: what the cashier reads.
    #[must_use]
    pub fn err_code_des(&self) -> String {
        match self {
            Self::Missing(field) => format!("缺少参数{field}"),
            Self::TooLong { field, max } => format!("参数错误：{field}超过{max}个字符"),
            Self::Malformed(field) | Self::Id { field, .. } => format!("参数错误：{field}格式错误"),
            Self::Amount(AmountError::TooLarge) => "参数错误：total_fee超出范围".to_owned(),
            Self::Amount(AmountError::Malformed | AmountError::Zero) => {
                "参数错误：total_fee格式错误".to_owned()
            }
            // The wallet's own text. Source: wechatpay-v2 §3.1.
            Self::NotWeChat => "请扫描微信支付授权码(以10/11/12/13/14/15为前缀的18位数字)".to_owned(),
            Self::NotOffered(field) => format!("参数错误：不支持该{field}"),
            Self::Resplit | Self::KeyField => "参数错误：参数值含有保留字段名".to_owned(),
        }
    }
}

/// Who asks, and how the request is signed: all that is needed to find the merchant and check the signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// The caller's `appid`.
    pub appid: AppId,
    /// The caller's merchant number.
    pub mch_id: MchId,
    /// The sub-merchant's `appid`, if sent.
    pub sub_appid: Option<AppId>,
    /// The sub-merchant's number, if sent.
    pub sub_mch_id: Option<MchId>,
    /// The caller's random text, 1 to 32 characters.
    pub nonce_str: &'a str,
    /// The claimed signature, unchecked.
    pub sign: &'a str,
    /// The signature method's word; absent or empty means MD5.
    pub sign_type: Option<&'a str>,
}

impl<'a> Envelope<'a> {
    /// Reads the common fields.
    ///
    /// # Errors
    ///
    /// [`RequestError`] for a mandatory field that is missing and for one that is malformed.
    ///
    /// Source: wechatpay-v2 §3, common request fields.
    pub fn read(message: &Message<'a>) -> Result<Self, RequestError> {
        Ok(Self {
            appid: id(message, field::APPID)?.ok_or(RequestError::Missing(field::APPID))?,
            mch_id: id(message, field::MCH_ID)?.ok_or(RequestError::Missing(field::MCH_ID))?,
            sub_appid: id(message, field::SUB_APPID)?,
            sub_mch_id: id(message, field::SUB_MCH_ID)?,
            nonce_str: required(text(message, field::NONCE_STR, 32)?, field::NONCE_STR)?,
            sign: required(text(message, field::SIGN, 64)?, field::SIGN)?,
            sign_type: text(message, field::SIGN_TYPE, 32)?,
        })
    }
}

/// By which number a till names an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderRef {
    /// The wallet's number, which wins if both are sent.
    TransactionId(TransactionId),
    /// The merchant's number.
    OutTradeNo(OutTradeNo),
}

impl OrderRef {
    /// Reads `transaction_id` or else `out_trade_no`; checks what else holds for such a request.
    pub(crate) fn read(message: &Message<'_>) -> Result<Self, RequestError> {
        const KNOWN: &[&str] = &[field::TRANSACTION_ID, field::OUT_TRADE_NO, field::VERSION];
        check_split(message, KNOWN)?;
        if let Some(transaction_id) = id(message, field::TRANSACTION_ID)? {
            return Ok(Self::TransactionId(transaction_id));
        }
        id(message, field::OUT_TRADE_NO)?
            .map(Self::OutTradeNo)
            .ok_or(RequestError::Missing(field::OUT_TRADE_NO))
    }
}

/// Reads an identifier, if it is there.
pub(crate) fn id<T: std::str::FromStr<Err = IdError>>(
    message: &Message<'_>,
    field: &'static str,
) -> Result<Option<T>, RequestError> {
    message.get(field).map(str::parse).transpose().map_err(|cause| RequestError::Id { field, cause })
}

/// Reads a text of at most `max` characters, if it is there. Source: wechatpay-v2 §3, column type.
pub(crate) fn text<'a>(
    message: &Message<'a>,
    field: &'static str,
    max: usize,
) -> Result<Option<&'a str>, RequestError> {
    match message.get(field) {
        Some(text) if text.len() > max && text.chars().count() > max => {
            Err(RequestError::TooLong { field, max })
        }
        // Only a character reference makes CR: it could not be written back so that others read it.
        Some(text) if text.contains('\r') => Err(RequestError::Malformed(field)),
        text => Ok(text),
    }
}

pub(crate) fn required<T>(value: Option<T>, field: &'static str) -> Result<T, RequestError> {
    value.ok_or(RequestError::Missing(field))
}

/// Refuses a message whose signed text could be cut into other fields. Other text with `&` and `=` is data.
///
/// Source: faults-and-invariants MI-07.
pub(crate) fn check_split(message: &Message<'_>, known: &[&str]) -> Result<(), RequestError> {
    if message.has(field::KEY) {
        return Err(RequestError::KeyField);
    }
    let is_known = |name: &str| name == field::KEY || COMMON.contains(&name) || known.contains(&name);
    let splits = |value: &str| {
        value.split('&').skip(1).filter_map(|part| part.split_once('=')).any(|(name, _)| is_known(name))
    };
    if message.iter().any(|(_, value)| splits(value)) { Err(RequestError::Resplit) } else { Ok(()) }
}
