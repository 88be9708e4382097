//! The header fields that a host gets beside those of the client: X-Forwarded-*, the request's id, its place in a trace.

pub(crate) mod header_editor;
pub(crate) mod request_id;
pub(crate) mod trace_context;
pub(crate) mod upstream_request;
pub(crate) mod x_forwarded;
