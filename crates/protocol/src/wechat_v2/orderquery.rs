//! `/pay/orderquery`: what has become of an order. Source: wechatpay-v2 §3.2.

use crate::wechat_v2::request::{OrderRef, RequestError};
use crate::xml::Message;

/// A till's query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderQueryRequest {
    /// The order asked about.
    pub order: OrderRef,
}

impl OrderQueryRequest {
    /// Reads `transaction_id` or else `out_trade_no`.
    ///
    /// # Errors
    ///
    /// [`RequestError`] if both are missing, the one that counts is malformed, or a value holds a field's name.
    pub fn read(message: &Message<'_>) -> Result<Self, RequestError> {
        OrderRef::read(message).map(|order| Self { order })
    }
}
