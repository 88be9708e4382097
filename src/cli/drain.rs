//! `ballast drain` and `ballast undrain`: no new requests to a host of the running process, and back.

use std::time::Duration;

use super::process::{encoded, told};
use super::{Failure, ProcessArg};
use crate::admin::{API_DRAIN, API_UNDRAIN};

/// The process does it at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which host is meant.
#[derive(Debug, clap::Args)]
pub(super) struct HostArg {
    /// The host, as it stands in the configuration
    #[arg(value_name = "HOST")]
    host: String,
    /// The pool, if only the host in this one is meant
    #[arg(long, value_name = "NAME")]
    pool: Option<String>,
    #[command(flatten)]
    process: ProcessArg,
}

pub(super) fn drain(host: &HostArg) -> Result<(), Failure> {
    command(API_DRAIN, host)
}

pub(super) fn undrain(host: &HostArg) -> Result<(), Failure> {
    command(API_UNDRAIN, host)
}

fn command(path: &str, said: &HostArg) -> Result<(), Failure> {
    let mut path = format!("{path}?host={}", encoded(&said.host));
    if let Some(pool) = &said.pool {
        path.push_str(&format!("&pool={}", encoded(pool)));
    }
    println!("{}", told(&said.process, "POST", &path, "", PATIENCE)?);
    Ok(())
}
