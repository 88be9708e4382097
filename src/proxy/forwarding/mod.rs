//! The header fields that the proxy adds to a request: X-Forwarded-*, the request id, the trace context.

pub(crate) mod header_editor;
pub(crate) mod request_id;
pub(crate) mod trace_context;
pub(crate) mod upstream_request;
pub(crate) mod x_forwarded;
