//! Table C and D, row by row.
