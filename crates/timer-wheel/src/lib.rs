//! Hierarchical timing wheel: many deadlines, no clock of its own.
