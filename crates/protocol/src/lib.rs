//! Wire bytes ⇄ typed messages, zero-copy; amounts, ids, codes; the channel's words → neutral facts.
//!
//! Nothing here holds a socket, a thread, a clock or a key. `fact` is what the automata of
//! `state-machine` understand; everything else turns one channel's wire into it.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::get_unwrap,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice
    )
)]

pub mod amount;
pub mod channel;
pub mod fact;
pub mod fields;
pub mod ids;
pub mod wechat_v2;
pub mod xml;

pub use amount::{AmountError, Fen};
pub use fields::Fields;
pub use ids::{AppId, AuthCode, IdError, MchId, OutTradeNo, Text, TransactionId};
