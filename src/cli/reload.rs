//! `ballast reload`: asks the running process to take in its file anew, and tells what came of it.

use std::time::Duration;

use super::control_client::send;
use super::{Failure, ProcessArg, runtime_error};
use crate::admin::{API_RELOAD, ReloadResult};

/// How long an answer is waited for: a handover may take 40 s, and before it an in-place reload is tried.
const TIMEOUT: Duration = Duration::from_secs(120);

pub(super) fn reload(process: &ProcessArg) -> Result<(), Failure> {
    let answer = send(process, "POST", API_RELOAD, TIMEOUT);
    let answer = answer.map_err(runtime_error)?;
    if answer.status != 200 {
        return Err(runtime_error(format!("not reloaded: {}", answer.body)));
    }
    let done: ReloadResult = serde_json::from_str(&answer.body)
        .map_err(|error| runtime_error(format!("the process answered something else: {error}")))?;
    println!("reloaded, {}", done.way);
    for change in &done.changes {
        println!("  {change}");
    }
    if done.changes.is_empty() {
        println!("  nothing changed");
    }
    Ok(())
}
