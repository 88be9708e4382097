//! `ballast log-level`: how much the running process logs, told or changed.

use std::time::Duration;

use super::process::{read, told};
use super::{Failure, ProcessArg, failed};
use crate::admin::{API_LOG_LEVEL, LogLevel};

/// The process does it at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which level is meant.
#[derive(Debug, clap::Args)]
pub(super) struct LevelArg {
    /// error, warn, info, debug or trace, for all or by module: info,pingora=debug. Left out, the level is told
    #[arg(value_name = "LEVEL")]
    level: Option<String>,
    #[command(flatten)]
    process: ProcessArg,
}

pub(super) fn log_level(said: &LevelArg) -> Result<(), Failure> {
    let answer = match &said.level {
        None => told(&said.process, "GET", API_LOG_LEVEL, "", PATIENCE)?,
        Some(level) => {
            let wanted = LogLevel {
                level: level.clone(),
            };
            let body = serde_json::to_string(&wanted).map_err(failed)?;
            told(&said.process, "PUT", API_LOG_LEVEL, &body, PATIENCE)?
        }
    };
    let LogLevel { level } = read(&answer)?;
    println!("{level}");
    Ok(())
}
