//! `ballast drain` and `ballast undrain`: no new requests to a host of the running process, and back.

use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::process::{Silence, ask};
use super::{Failure, ProcessArg, failed};
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
    let encoded = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    let mut path = format!("{path}?host={}", encoded(&said.host));
    if let Some(pool) = &said.pool {
        path.push_str(&format!("&pool={}", encoded(pool)));
    }
    let answer = ask(&said.process, "POST", &path, PATIENCE);
    let answer = answer.map_err(Silence::into_reason).map_err(failed)?;
    match answer.status {
        200 => {
            println!("{}", answer.body);
            Ok(())
        }
        _ => Err(failed(answer.body)),
    }
}
