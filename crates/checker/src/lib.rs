//! An outside checker of real processes.
//!
//! It starts the wallet and `hufu serve` as processes, drives the switch with hundreds of tills over sockets, and
//! kills, freezes, starves and cuts what it has started. Afterwards three records are held against each other: what
//! the tills were told, the wallet's ledger, the switch's store. One command a campaign; each exits with 1 if one
//! payment was lost, charged twice or contradicted, and shows everything that is known of it.
#![forbid(unsafe_code)]

pub mod campaign;
pub mod judge;
pub mod ledger;
pub mod load;
pub mod process;
pub mod proxy;
pub mod report;
pub mod site;
pub mod slow;
mod usage;
pub mod web;
