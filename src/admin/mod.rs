//! What is told about the process over HTTP, and what can be done to it: over a Unix socket everything, for its owner;
//! over TCP reading, and writing for whoever knows the token.

mod api;
mod dashboard;
mod entrance;
mod readiness;
mod reply;
mod running;

pub use api::{
    API_DRAIN, API_EXPLAIN, API_LOG_LEVEL, API_PREVIEW, API_RELOAD, API_UNDRAIN, Api, Command,
    ConfigInfo, ErrorBody, Events, Histories, LogLevel, NewHost, NewWeight, Preview, ProcessStatus,
    Reloaded, Removed, Version,
};
pub use entrance::{Door, Entrance};
pub use readiness::Readiness;
pub use running::{Change, ChangeError, Current, Load, Permit, Running};
