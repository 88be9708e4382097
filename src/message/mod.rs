//! Messages of HTTP/1.1 as bytes: heads, framing and bodies, without I/O and without a runtime; and the views of heads that
//! decisions are made on.
//!
//! Both ways through the proxy stand on it: what it accepts and refuses holds for requests that Pingora's session reads
//! after it, and for those that are read here alone.

pub(crate) mod body;
pub(crate) mod chunks;
pub(crate) mod framing;
#[cfg(test)]
mod fuzz;
pub mod head;
pub(crate) mod head_end;
pub(crate) mod line;
mod view;
pub(crate) mod write;

pub use head::Head;
pub use view::{FieldsView, RequestView, ResponseView, Values};

/// What has come is not what HTTP has in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;
