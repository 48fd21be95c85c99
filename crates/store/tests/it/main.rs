//! The store from outside: its contract, what it survives, what it refuses.

mod archive;
mod committing;
mod contract;
mod damage;
mod differential;
mod durability;
mod events;
mod merchants;
#[cfg(feature = "power-cut")]
mod power_cuts;
mod refusals;
mod support;
mod upgrade;
