//! The requirements of HTTP on a proxy, in addition to those that Pingora implements.
//!
//! Pingora and the engine have parsed a message before it gets here, and have rejected most messages that can be parsed
//! in more than one way. This module rejects the rest, before a route or a host is selected: a message is forwarded
//! with exactly one Host, one framing and a target of a known form, or not at all. It then removes the hop-by-hop
//! fields and updates Via and Max-Forwards, as RFC 9110 7.6 requires.

mod authority;
mod drop_fields;
mod fields;
mod request;
mod response;
mod via;
mod websocket;

pub(crate) use drop_fields::{drop_fields, names_where};
pub(crate) use fields::ContentLength;
pub(crate) use request::{
    RequestFieldFilter, count_body_bytes, exceeds, has_connection_close, is_dropped, request_body,
    requested_upgrade, set_request_hop_fields, validate_request,
};
pub(crate) use response::{
    ResponseFieldFilter, announced_length, drop_trailers, has_empty_body, set_response_hop_fields,
    validate_response,
};
pub(crate) use via::Via;
pub(crate) use websocket::is_websocket_accepted;
