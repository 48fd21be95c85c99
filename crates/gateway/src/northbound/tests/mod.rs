//! Tests over real sockets, against an engine that does as it is told and keeps what it was asked.

mod http;
mod json;
mod support;
mod xml;

pub(crate) use support::record;
