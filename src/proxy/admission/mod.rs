//! Which requests are admitted: by the limits of the process, by the rates of clients, and by a route.

pub(crate) mod rate_limit;
mod routing;
pub(crate) mod traffic_state;

pub use rate_limit::client_network;
pub(crate) use routing::{permits, route};
pub use traffic_state::TrafficState;
