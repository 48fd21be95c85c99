//! Tests over real sockets, against an engine that does as it is told and keeps what it was asked.

mod events;
mod h2;
mod held;
mod http;
mod json;
mod limits;
mod lobby;
mod pki;
mod stream;
mod support;
mod tls;
mod xml;
mod xml_refused;

pub(crate) use support::record;
