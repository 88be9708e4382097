//! `ballast drain` and `ballast undrain`: no new requests to a host of the running process, and back.

use std::time::Duration;

use super::control_client::{percent_encode, request};
use super::{Failure, ProcessArg};
use crate::admin::{API_DRAIN, API_UNDRAIN};

/// The process does it at once.
const TIMEOUT: Duration = Duration::from_secs(10);

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

fn command(path: &str, args: &HostArg) -> Result<(), Failure> {
    let mut path = format!("{path}?host={}", percent_encode(&args.host));
    if let Some(pool) = &args.pool {
        path.push_str(&format!("&pool={}", percent_encode(pool)));
    }
    println!("{}", request(&args.process, "POST", &path, "", TIMEOUT)?);
    Ok(())
}
