//! What is told about the process over HTTP: over TCP whether it is alive and wants requests, and over a Unix socket
//! whatever its commands need.

mod answer;
mod api;
mod drain;
mod probes;
mod readiness;

pub use api::{API_PREVIEW, API_RELOAD, Api, Command, Preview, Reloaded};
pub use drain::{API_DRAIN, API_UNDRAIN, Drains};
pub use probes::Probes;
pub use readiness::Readiness;
