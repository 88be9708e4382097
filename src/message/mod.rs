//! Messages of HTTP/1.1 as bytes: heads, framing and bodies, without I/O and without a runtime; and the views of heads that
//! decisions are made on.
//!
//! Both ways through the proxy stand on it: what it accepts and refuses holds for requests that Pingora's session reads
//! after it, and for those that are read here alone.

pub(crate) mod body_decoder;
pub(crate) mod chunked;
pub(crate) mod encode;
pub(crate) mod framing;
#[cfg(test)]
mod fuzz;
pub mod head;
pub(crate) mod head_end_scanner;
mod head_view;
pub(crate) mod request_line_scanner;

pub use head::MessageHead;
pub use head_view::{FieldValues, FieldsView, RequestView, ResponseView};

/// What has come is not what HTTP has in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;
