//! The command line of Hufu: one file a verb.

fn main() {}
