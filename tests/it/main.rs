//! Whole-product tests: real sockets, TLS, a real store.

mod absent;
mod customers;
mod events;
mod hostile;
mod limits;
mod rescan;
mod restart;
mod reversal;
mod support;
mod tidy;
