//! What the tests of the tills' side share: an engine that does as it is told, a gateway before it, and a till of a few
//! lines.

mod engine;
mod harness;
mod records;
mod till;

pub(super) use engine::{Call, Script, Undo};
pub(super) use harness::{Harness, merchant, read_all, short};
pub(crate) use records::record;
pub(super) use records::{TRANSACTION, key, paid, refused};
pub(super) use till::{Answered, about, micropay, signed, unsigned, with};

pub(super) const KEY: &str = "192006250b4c09247ec02edce69f6a2d";
pub(super) const OTHER_KEY: &str = "0123456789abcdef0123456789ABCDEF";
pub(super) const APPID: &str = "wxd930ea5d5a258f4f";
pub(super) const MCH_ID: &str = "1900000109";
pub(super) const SUB_MCH_ID: &str = "1900000110";
pub(super) const NUMBER: &str = "P20261123000000000001";
pub(super) const CODE: &str = "134567890123456789";
pub(super) const BEARER: &str = "hufu_sk_0123456789abcdef0123456789abcdef";
pub(super) const OTHER_BEARER: &str = "hufu_sk_fedcba9876543210fedcba9876543210";
