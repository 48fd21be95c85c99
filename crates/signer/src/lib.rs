//! Raw pairs in, signature or verdict out: canonical string, MD5, HMAC-SHA256, key ring.
//!
//! The wire is another crate's business: whoever parsed a message hands over an iterator of its decoded
//! names and values, all of them, known or not. Source: wechatpay-v2 §2.
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

mod canonical;
mod key;
mod key_ring;
mod kind;

pub use canonical::Scratch;
pub use key::{Case, Key, KeyError, Sign};
pub use key_ring::{Decoy, KeyRing};
pub use kind::{Kind, UnknownKind};
