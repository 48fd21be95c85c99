//! The decision table at its boundary: bytes of an answer in, row and fact out, with the real signer.
#![expect(clippy::wildcard_enum_match_arm, reason = "a test names the rows it is about; any other fails it")]

mod golden;
mod hostile;
mod pages;
mod rows;
mod support;
