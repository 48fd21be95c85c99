//! A merchant's tills, as the demonstration and the process checker drive them.
//!
//! A [`serve::Till`] serves one customer over real sockets: it pays, asks every five seconds, repeats what was lost,
//! reverses what takes too long, and writes every answer into its [`notebook::Notebook`]. Afterwards [`books`] holds
//! that notebook against the wallet's ledger and the switch's store.

pub mod books;
pub mod client;
pub mod credentials;
pub mod notebook;
pub mod serve;
pub mod tally;
