//! WeChat Pay API v2, both ways: requests of tills as typed messages, answers of the wallet as facts.

pub mod field;
pub mod micropay;
pub mod orderquery;
pub mod request;
pub mod reverse;
pub mod time;
pub mod verdict;

pub use micropay::MicropayRequest;
pub use orderquery::OrderQueryRequest;
pub use request::{Envelope, OrderRef, RequestError};
pub use reverse::ReverseRequest;
