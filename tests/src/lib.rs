//! Whole-product tests of Hufu; see `it/`.
