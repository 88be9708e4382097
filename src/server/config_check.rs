//! The check of a configuration without a start.

use std::sync::Arc;

use super::StartError;
use super::handover::check_directory_mode;
use super::tls::{TicketKeys, TlsState};
use crate::access_log;
use crate::config::Config;
use crate::metrics::MetricsCounters;
use crate::pool::HostRegistry;
use crate::proxy::ActiveConfig;

/// Checks whether a server could start with this configuration, without binding an address.
///
/// # Errors
/// The first reason why it could not.
pub fn check(config: &Config) -> Result<(), StartError> {
    ActiveConfig::new(config, &mut HostRegistry::new()).map_err(StartError::Pool)?;
    if let Some(log) = &config.access_log {
        access_log::check_writable(&log.path).map_err(StartError::Files)?;
    }
    if let Some(socket) = &config.server.upgrade_socket {
        check_directory_mode(socket).map_err(StartError::Files)?;
    }
    let (keys, counters) = (
        Arc::new(TicketKeys::random(&[])),
        MetricsCounters::default().tickets(),
    );
    let challenges = Arc::default();
    config
        .listeners
        .iter()
        .try_for_each(|listener| TlsState::of(listener, &keys, &counters, &challenges).map(drop))
}
