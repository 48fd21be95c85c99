//! The flat XML of WeChat Pay API v2: one root, children with text, nothing else.

mod read;
mod scan;
mod usual;
mod word;
mod write;

pub use read::{BYTES_MAX, ELEMENTS_MAX, Message, NAME_MAX, Reader, XmlError};
pub use write::{Writer, clean};

#[cfg(test)]
mod tests;
