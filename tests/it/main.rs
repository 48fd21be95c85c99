//! Whole-product tests: the real binary, real sockets, a real store.

mod tidy;
