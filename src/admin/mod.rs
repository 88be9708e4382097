//! What is told about the process over HTTP, and what can be done to it: over a Unix socket everything, for its owner;
//! over TCP reading, and writing for whoever knows the token.

mod api;
mod api_server;
mod dashboard;
mod head_reader;
mod process_handle;
mod readiness;
mod response;

pub use api::{
    API_DRAIN, API_EXPLAIN, API_LOG_LEVEL, API_PREVIEW, API_RELOAD, API_UNDRAIN, Api, ConfigInfo,
    ErrorBody, EventList, HostRemoval, LogLevel, NewHost, NewWeight, PoolHistories, ProcessCommand,
    ProcessStatus, ProcessVersion, ReloadPreview, ReloadResult,
};
pub use api_server::{ApiServer, Caller};
pub use process_handle::{
    ChangeError, ChangePermit, HostChange, LoadedConfig, ProcessHandle, ProcessLoad,
};
pub use readiness::Readiness;
