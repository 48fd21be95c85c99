//! The world judged.
