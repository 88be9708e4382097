//! `ballast log-level`: how much the running process logs, told or changed.

use std::time::Duration;

use super::control_client::{parse, request};
use super::{Failure, ProcessArg, runtime_error};
use crate::admin::{API_LOG_LEVEL, LogLevel};

/// The process does it at once.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Which level is meant.
#[derive(Debug, clap::Args)]
pub(super) struct LevelArg {
    /// error, warn, info, debug or trace, for all or by module: info,pingora=debug. Left out, the level is told
    #[arg(value_name = "LEVEL")]
    level: Option<String>,
    #[command(flatten)]
    process: ProcessArg,
}

pub(super) fn log_level(args: &LevelArg) -> Result<(), Failure> {
    let answer = match &args.level {
        None => request(&args.process, "GET", API_LOG_LEVEL, "", TIMEOUT)?,
        Some(level) => {
            let wanted = LogLevel {
                level: level.clone(),
            };
            let body = serde_json::to_string(&wanted).map_err(runtime_error)?;
            request(&args.process, "PUT", API_LOG_LEVEL, &body, TIMEOUT)?
        }
    };
    let LogLevel { level } = parse(&answer)?;
    println!("{level}");
    Ok(())
}
