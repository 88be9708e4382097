//! HTTP/1.1 messages as bytes: heads, framing and bodies, without I/O and without a runtime; and the views of heads
//! that decisions are based on.
//!
//! Both drivers use this module: the engine, which parses requests itself, and the Pingora driver, whose session parses
//! a request after these checks. Both therefore accept and refuse the same messages.

mod basic_credentials;
pub(crate) mod body_decoder;
pub(crate) mod chunked;
pub(crate) mod encode;
pub(crate) mod framing;
#[cfg(test)]
mod fuzz;
pub mod head;
pub(crate) mod head_end_scanner;
mod head_view;
pub(crate) mod http2_preface;
pub(crate) mod request_line_scanner;

pub(crate) use basic_credentials::BasicCredentials;
pub use head::MessageHead;
pub use head_view::{FieldValues, FieldsView, RequestView, ResponseView};

/// The input violates the HTTP grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;
