//! Southbound: the clients that carry calls to the wallets.
//!
//! [`wechat_v2`] is the only channel so far. Below it: `hosts` chooses a host, `pool` sends one request over
//! one connection, which is `conn` and reads an `answer`, `connect` opens connections, `wire` knows what has left. Each tells *proven unsent* from
//! *may have left*; only the former ever leads to a second attempt.

mod answer;
mod certificate;
mod conn;
mod connect;
mod hosts;
mod pool;
pub mod wechat_v2;
mod wire;

#[cfg(test)]
mod tests;

pub use certificate::ClientCertificate;
pub(crate) use certificate::not_after as certificate_ends_at;
pub use connect::SetupError;
pub use pool::PoolLimits;
