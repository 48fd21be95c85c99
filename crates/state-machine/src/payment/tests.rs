//! Tables A and B, row by row.
