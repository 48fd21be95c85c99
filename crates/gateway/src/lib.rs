//! Sockets: northbound HTTP, channel clients, drivers of shards and store, metrics, config, admin.
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

pub mod acquirer;
pub mod admin;
mod archiving;
pub mod clock;
pub mod config;
pub mod descriptors;
pub mod driver;
pub mod engine;
pub mod logging;
pub mod merchants;
pub mod metrics;
pub mod northbound;
mod random;
pub mod switch;
