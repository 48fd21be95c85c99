//! Sockets: northbound HTTP, channel clients, drivers of shards and store, metrics, config, admin.

pub mod acquirer;
pub mod clock;
