//! `ballast reload`: asks the running process to take in its file anew, and tells what came of it.

use std::time::Duration;

use super::process::ask;
use super::{Failure, ProcessArg, failed};
use crate::admin::{API_RELOAD, Reloaded};

/// How long an answer is waited for: a handover may take 40 s, and before it an in-place reload is tried.
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) fn reload(process: &ProcessArg) -> Result<(), Failure> {
    let answer = ask(process, "POST", API_RELOAD, PATIENCE);
    let answer = answer.map_err(failed)?;
    if answer.status != 200 {
        return Err(failed(format!("not reloaded: {}", answer.body)));
    }
    let done: Reloaded = serde_json::from_str(&answer.body)
        .map_err(|error| failed(format!("the process answered something else: {error}")))?;
    println!("reloaded, {}", done.way);
    for change in &done.changes {
        println!("  {change}");
    }
    if done.changes.is_empty() {
        println!("  nothing changed");
    }
    Ok(())
}
