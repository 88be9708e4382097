//! `ballast log-level`: shows or changes the log level of the running process.

use std::time::Duration;

use super::control_client::{parse, request};
use super::{Failure, ProcessArg, runtime_error};
use crate::admin::{API_LOG_LEVEL, LogLevel};

/// The process responds at once; this only bounds a hung process.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Selects the level.
#[derive(Debug, clap::Args)]
pub(super) struct LevelArg {
    /// error, warn, info, debug or trace, for all or by module: info,pingora=debug; without it, print the level
    #[arg(value_name = "LEVEL")]
    level: Option<String>,
    #[command(flatten)]
    process: ProcessArg,
}

pub(super) fn log_level(args: &LevelArg) -> Result<(), Failure> {
    let response = match &args.level {
        None => request(&args.process, "GET", API_LOG_LEVEL, "", TIMEOUT)?,
        Some(level) => {
            let new_level = LogLevel {
                level: level.clone(),
            };
            let body = serde_json::to_string(&new_level).map_err(runtime_error)?;
            request(&args.process, "PUT", API_LOG_LEVEL, &body, TIMEOUT)?
        }
    };
    let LogLevel { level } = parse(&response)?;
    println!("{level}");
    Ok(())
}
