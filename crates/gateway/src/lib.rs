//! Sockets: northbound HTTP, channel clients, drivers of shards and store, metrics, config, admin.

pub mod acquirer;
pub mod clock;
pub mod config;
pub mod engine;
pub mod logging;
pub mod metrics;
pub mod northbound;
