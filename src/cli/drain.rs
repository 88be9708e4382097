//! `ballast drain` and `ballast undrain`: take a host of the running process out of use, and back in.

use std::time::Duration;

use super::control_client::{percent_encode, request};
use super::{Failure, ProcessArg};
use crate::admin::{API_DRAIN, API_UNDRAIN};

/// The process responds at once; this only bounds a hung process.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Selects a host of the running process.
#[derive(Debug, clap::Args)]
pub(super) struct HostArg {
    /// The host, as in the configuration
    #[arg(value_name = "HOST")]
    host: String,
    /// Only in this pool; by default in every pool that has the host
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
