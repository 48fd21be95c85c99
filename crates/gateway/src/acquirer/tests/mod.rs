//! Tests over real sockets: every stand-in is a listener of this process, and no test waits for luck.

mod calls;
pub(super) mod support;
mod tls;
mod transport;
