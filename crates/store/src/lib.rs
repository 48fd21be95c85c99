//! Durable records, conditional writes, recovery.
