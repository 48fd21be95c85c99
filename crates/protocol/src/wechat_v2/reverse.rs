//! `/secapi/pay/reverse`: undo an order. Source: wechatpay-v2 §3.3.

use crate::wechat_v2::request::{OrderRef, RequestError};
use crate::xml::Message;

/// A till's reversal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReverseRequest {
    /// The order to undo.
    pub order: OrderRef,
}

impl ReverseRequest {
    /// Reads `transaction_id` or else `out_trade_no`.
    ///
    /// # Errors
    ///
    /// [`RequestError`] if both are missing, the one that counts is malformed, or a value holds a field's name.
    pub fn read(message: &Message<'_>) -> Result<Self, RequestError> {
        OrderRef::read(message).map(|order| Self { order })
    }
}
