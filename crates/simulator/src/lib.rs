//! The wallet's side as a seeded model, and the virtual-time world that judges the switch.
//!
//! [`Wallet`] answers the WeChat Pay V2 API, plays the customers, and keeps the ledger of the money. It is
//! pure: `now` is an argument, randomness comes from the seed, so that one seed and one list of calls give
//! one run. It reads, checks and signs messages by itself, with nothing of `protocol` or `signer`: a judge
//! shares nothing with the judged.
//!
//! - typed: [`Wallet::handle`] takes a [`Request`] and gives an [`Outcome`];
//! - bytes: [`Wallet::handle_bytes`] takes a path and a body and gives signed XML;
//! - sockets: `http` (feature `http`) serves a wallet over HTTP and two-way TLS.
//!
//! [`world`] runs the production shards against this wallet, with tills, a network and faults, and judges them.
#![forbid(unsafe_code)]

mod answers;
mod beijing;
mod code;
mod customer;
mod face;
#[cfg(feature = "http")]
pub mod http;
mod ledger;
mod message;
mod options;
mod population;
mod refund;
mod rng;
mod sign;
mod wallet;
mod wire;
pub mod world;

#[cfg(test)]
mod tests;

pub use code::Code;
pub use customer::{
    Behaviour, Dialog, DialogEnd, PayAnswer, Purse, Queries, Refusal, ReversalFault, Reversals, behaviour,
    customers_table,
};
pub use face::{BytesOutcome, BytesReply, Envelope, Face, Unopened, UnopenedCause};
pub use ledger::{Entry, Key, State, Stats, Totals, Violation};
pub use message::{
    Answer, Call, Caller, Micropay, Number, Outcome, Refund, RefundNumber, Reply, Request, Seal,
};
pub use options::{Options, Provider, SubMerchants};
pub use population::{draw, population_table};
pub use rng::Rng;
pub use sign::{SignType, sign};
pub use wallet::Wallet;
pub use wire::{XmlError, read_xml, write_xml};
