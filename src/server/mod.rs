//! The composition root: builds every part of the server from a configuration, binds the listeners, and runs until a
//! signal ends the process.

mod acme_service;
mod admin_service;
mod certificate_watch;
mod change_lock;
mod cluster_shares;
mod config_check;
mod config_diff;
mod config_summary;
mod control_socket;
mod descriptor_check;
mod disk_watch;
mod drift_source;
mod edge;
mod event_loop;
mod handover;
mod health_service;
mod history_service;
mod impact;
mod keepalive_pool_size;
mod lifecycle;
mod listener_files;
mod listening_service;
mod metrics_source;
mod pid_file;
mod pingora_options;
mod prepared_server;
mod process_identity;
mod reload_plan;
mod reload_preview;
mod reloader;
mod request_observers;
mod running_process;
mod runtime_overrides;
pub mod runtime_paths;
mod shared_state;
mod socket_file;
mod start_error;
mod systemd;
mod tls;

pub use config_check::check;
pub use handover::TakeoverRequest;
pub use impact::compare;
pub use prepared_server::PreparedServer;
pub use start_error::StartError;
