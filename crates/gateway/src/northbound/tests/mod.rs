//! Tests over real sockets, against an engine that does as it is told and keeps what it was asked.

mod held;
mod http;
mod json;
mod stream;
mod support;
mod xml;
mod xml_refused;

pub(crate) use support::record;
