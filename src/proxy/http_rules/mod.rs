//! What HTTP asks of whoever passes messages on, beyond what Pingora does of itself.
//!
//! Pingora has parsed a message when it comes here, and has refused most of what cannot be parsed in one way only. What
//! is left is refused here, before a route or a host is chosen: a message goes on with one Host, one framing and a
//! target of a known form, or not at all. Then the fields that concern one connection only are taken out, and Via and
//! Max-Forwards are kept, both as RFC 9110 7.6 says.

mod authority;
mod fields;
mod request;
mod response;
mod via;

pub(crate) use fields::ContentLength;
pub(crate) use request::{
    RequestFieldFilter, count_body_bytes, has_connection_close, is_dropped, request_body,
    requested_upgrade, set_request_hop_fields, validate_request,
};
pub(crate) use response::{
    ResponseFieldFilter, has_empty_body, set_response_hop_fields, validate_response,
};
pub(crate) use via::Via;
