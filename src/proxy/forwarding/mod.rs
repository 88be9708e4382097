//! What the proxy changes of a message on its way: X-Forwarded-*, the request id, the trace context, and what the route
//! says of paths and header fields.

mod certificate_fields;
pub(crate) mod header_editor;
pub(crate) mod path_rewrite;
pub(crate) mod request_id;
pub(crate) mod route_edits;
pub(crate) mod trace_context;
pub(crate) mod upstream_request;
pub(crate) mod x_forwarded;
