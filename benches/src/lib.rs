//! Criterion benches of Hufu; one file answers one question.
