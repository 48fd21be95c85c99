//! Sockets: northbound HTTP, channel clients, drivers of shards and store, metrics, config, admin.

pub mod acquirer;
pub mod admin;
pub mod clock;
pub mod config;
pub mod driver;
pub mod engine;
pub mod logging;
pub mod merchants;
pub mod metrics;
pub mod northbound;
pub mod switch;
