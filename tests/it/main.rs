//! Whole-product tests: real sockets, TLS, a real store.

mod customers;
mod support;
mod tidy;
