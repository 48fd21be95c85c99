//! Whole-product tests: real sockets, TLS, a real store.

mod customers;
mod hostile;
mod restart;
mod reversal;
mod support;
mod tidy;
