//! Hierarchical timing wheel: many deadlines, no clock of its own.
//!
//! A [`Wheel`] keeps small `Copy` values (an order's slot, say), each until its deadline. Putting a timer in and
//! cancelling it take constant time whatever the number of timers, since a switch cancels nearly every timer it
//! sets. Time is an argument: the same calls give the same timers in the same order.
//!
//! ```
//! use timer_wheel::{Tick, Wheel};
//!
//! let mut wheel = Wheel::new(Tick::from_ms(1_000));
//! let query = wheel.insert(Tick::from_ms(6_000), "query");
//! wheel.insert(Tick::from_ms(46_000), "give up");
//! assert_eq!(wheel.cancel(query), Some("query"));
//! assert_eq!(wheel.pop_due(Tick::from_ms(45_999)), None);
//! assert_eq!(wheel.pop_due(Tick::from_ms(46_007)), Some((Tick::from_ms(46_000), "give up")));
//! ```
//!
//! Source of the structure: Varghese and Lauck, "Hashed and Hierarchical Timing Wheels", 1987, scheme 7.
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

mod chunk;
mod free;
mod handle;
mod slab;
mod slot;
mod tick;
mod wheel;

pub use handle::{Full, Handle};
pub use tick::Tick;
pub use wheel::Wheel;
