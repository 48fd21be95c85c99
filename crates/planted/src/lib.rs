//! Bugs planted on purpose, to show that the checkers find them.
//!
//! A crate that carries one says `planted!(ItsName)` at the place, in one short line. In the product that is the
//! word `false`, and nothing else of this crate exists. With the feature `bugs`, which only the package `mutants`
//! asks for, it is a look at a switch that is off until [`plant`] sets it.
#![cfg_attr(not(feature = "bugs"), doc = "[`plant`]: #")]
#![forbid(unsafe_code)]

#[cfg(feature = "bugs")]
mod bug;

#[cfg(feature = "bugs")]
pub use bug::{Bug, Planted, is_planted, plant};

/// Whether the bugs are compiled in: never in a release build of the product, which does not compile then.
pub const COMPILED_IN: bool = cfg!(feature = "bugs");

/// Whether this bug is planted.
#[cfg(feature = "bugs")]
#[macro_export]
macro_rules! planted {
    ($bug:ident) => {
        $crate::is_planted($crate::Bug::$bug)
    };
}

/// Whether this bug is planted: never, in the product.
#[cfg(not(feature = "bugs"))]
#[macro_export]
macro_rules! planted {
    ($bug:ident) => {
        false
    };
}
