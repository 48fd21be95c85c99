//! Tills: HTTP/1.1 with every limit, the drop-in XML of WeChat Pay V2, and JSON. Source: DESIGN §4.

pub mod framing;
mod guard;
pub mod server;
