//! Admission of requests: the limits of the process, the rates of clients, and the access rules of routes.

pub(crate) mod rate_limit;
mod routing;
pub(crate) mod traffic_state;

pub use rate_limit::client_network;
pub(crate) use routing::{lacks_certificate, maintenance, may_need_http2, route, routing_input};
pub use traffic_state::TrafficState;
