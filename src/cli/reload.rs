//! `ballast reload`: asks the running process to reload its file, and prints the outcome.

use std::time::Duration;

use super::control_client::send;
use super::{Failure, ProcessArg, runtime_error};
use crate::admin::{API_RELOAD, ReloadResult};

/// How long to wait for the response: a handover may take 40 s, and an in-place reload is tried before it.
const TIMEOUT: Duration = Duration::from_secs(120);

pub(super) fn reload(process: &ProcessArg) -> Result<(), Failure> {
    let response = send(process, "POST", API_RELOAD, TIMEOUT);
    let response = response.map_err(runtime_error)?;
    if response.status != 200 {
        return Err(runtime_error(format!("not reloaded: {}", response.body)));
    }
    let done: ReloadResult = serde_json::from_str(&response.body)
        .map_err(|error| runtime_error(format!("unexpected response of the process: {error}")))?;
    println!("reloaded, {}", done.way);
    for change in &done.changes {
        println!("  {change}");
    }
    if done.changes.is_empty() {
        println!("  nothing changed");
    }
    Ok(())
}
