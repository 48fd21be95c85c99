//! Record before act.
