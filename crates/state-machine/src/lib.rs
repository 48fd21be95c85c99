//! Life of a payment and of a reversal: automata, records, policy, query planner, the shard.
//!
//! Everything that decides about money is here, without a socket, a thread, a clock or a disk: `now` and
//! every answer are arguments, and what is to be done comes back as values. The same code runs in
//! production, in the seeded simulation and in the model checker.
//!
//! Read in this order: [`record`] (what is durable), [`payment`] (tables A and B of the decision table),
//! [`reversal`] (tables C and D), [`absence`] (money that no till asks about), [`rescan`] (a cashier who scans again),
//! [`till`] (what a till is told), [`planner`] (when to ask), [`shard`] (all orders of one shard, their timers, and
//! *record before act*).
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::get_unwrap,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice
    )
)]

pub mod absence;
#[cfg(feature = "model")]
mod canonical;
pub mod exposure;
pub mod key;
pub mod merchant_rules;
pub mod payment;
pub mod planner;
pub mod policy;
pub mod record;
pub mod rescan;
pub mod reversal;
pub mod shard;
pub mod step;
pub mod till;

pub use key::{BootId, Channel, MerchantId, Now, OrderKey, ProviderId, UnixMs};
pub use policy::Policy;
pub use record::Record;
pub use timer_wheel::Tick;
