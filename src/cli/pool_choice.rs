//! The pool that a command changes, where the operator has not named one.

use std::time::Duration;

use super::control_client::{parse, request};
use super::{CliError, ProcessArg, runtime_error, usage_error};
use crate::admin::PoolReport;
use crate::pool::HostState;

/// The process responds at once; this only bounds a hung process.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The path of all pools.
const API_POOLS: &str = "/api/v1/pools";

/// The only pool of the process.
///
/// # Errors
/// There are several pools; `how` tells the operator how to name one of them.
pub(super) fn only_pool(process: &ProcessArg, how: &str) -> Result<String, CliError> {
    let names = Vec::from_iter(pools(process)?.into_iter().map(|report| report.pool.name));
    one_of(&names).ok_or_else(|| {
        let (count, names) = (names.len(), names.join(", "));
        usage_error(format!("the process has {count} pools, {how}: {names}"))
    })
}

/// The only pool that has the host.
///
/// # Errors
/// None has it, or several have; `how` tells the operator how to name one of them.
pub(super) fn pool_of_host(
    process: &ProcessArg,
    host: &str,
    how: &str,
) -> Result<String, CliError> {
    let reports = pools(process)?;
    let all = Vec::from_iter(reports.iter().map(|report| report.pool.name.clone()));
    let having = reports.into_iter().filter(|report| {
        let mut hosts = report.pool.hosts.iter();
        hosts.any(|known| known.id == host && known.state != HostState::Removed)
    });
    let having = Vec::from_iter(having.map(|report| report.pool.name));
    let shown = host.escape_debug();
    match &*having {
        [] => Err(runtime_error(format!(
            "no pool has a host `{shown}`; the pools are {}",
            all.join(", ")
        ))),
        [only] => Ok(only.clone()),
        several => Err(usage_error(format!(
            "several pools have the host `{shown}`, {how}: {}",
            several.join(", ")
        ))),
    }
}

fn one_of(names: &[String]) -> Option<String> {
    match names {
        [only] => Some(only.clone()),
        _ => None,
    }
}

fn pools(process: &ProcessArg) -> Result<Vec<PoolReport>, CliError> {
    parse(&request(process, "GET", API_POOLS, "", TIMEOUT)?)
}
