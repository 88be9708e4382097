//! The admin API and the dashboard, over HTTP.
//!
//! The control socket (a Unix socket) serves the owner of the process and allows every operation. The TCP listener
//! allows reads, and writes with the token of `admin.token_file`.

mod api;
mod api_server;
mod dashboard;
mod drift;
mod head_reader;
mod process_handle;
mod response;

pub use crate::discovery::SourceStatus;
pub use api::{
    API_DRAIN, API_EXPLAIN, API_LOG_LEVEL, API_PLAN, API_PREVIEW, API_RELOAD, API_STATUS,
    API_UNDRAIN, Api, ChecksPlan, ConnectionPlan, ErrorBody, HostPlan, HostRemoval, KeyPlan,
    LogLevel, NewHost, NewWeight, Plan, PlannedHost, PoolPlan, PoolReport, ProcessCommand,
    ProcessStatus, ProcessVersion, ReloadPreview, ReloadResult, RemovedListener,
};
pub use api_server::{ApiServer, Caller};
pub use drift::{BinaryState, Drift, FileState, OperatorChange, OperatorChangeKind};
pub use process_handle::{
    ChangeError, HeldPermit, LoadedConfig, MaintenanceSettings, PoolChange, ProcessHandle,
    ProcessLoad,
};
