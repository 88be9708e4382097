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

pub(crate) use fields::Length;
pub(crate) use request::{
    Onward, announced_body, body_grew, forward, is_dropped, judge, says_close, upgrade,
};
pub(crate) use response::{Passing, is_empty, judge_answer, set_hop};
pub(crate) use via::Via;
