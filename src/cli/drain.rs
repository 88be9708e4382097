//! `ballast drain` and `ballast undrain`: take a host of the running process out of use, and back in.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::control_client::{parse, percent_encode, request};
use super::{CliError, ProcessArg, runtime_error};
use crate::admin::{API_DRAIN, API_STATUS, API_UNDRAIN, ProcessStatus};
use crate::pool::HostState;

/// The process responds at once; this only bounds a hung process.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How often the requests in flight are counted.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// How often it is printed how many there are.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

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

/// Selects a host to drain, and whether to wait for its requests.
#[derive(Debug, clap::Args)]
pub(super) struct DrainArg {
    #[command(flatten)]
    host: HostArg,
    /// Wait until no request of any pool is in flight on the host. Exit code 1 if there are some at the timeout; the host
    /// stays drained
    #[arg(long)]
    wait: bool,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "60s", requires = "wait")]
    #[arg(value_parser = humantime::parse_duration)]
    timeout: Duration,
}

pub(super) fn drain(args: &DrainArg) -> Result<(), CliError> {
    command(API_DRAIN, &args.host)?;
    match args.wait {
        true => wait(&args.host, args.timeout),
        false => Ok(()),
    }
}

pub(super) fn undrain(host: &HostArg) -> Result<(), CliError> {
    command(API_UNDRAIN, host)
}

fn command(path: &str, args: &HostArg) -> Result<(), CliError> {
    let mut path = format!("{path}?host={}", percent_encode(&args.host));
    if let Some(pool) = &args.pool {
        path.push_str(&format!("&pool={}", percent_encode(pool)));
    }
    println!("{}", request(&args.process, "POST", &path, "", TIMEOUT)?);
    Ok(())
}

/// Waits until no request is in flight on the host, for `limit` at most.
fn wait(args: &HostArg, limit: Duration) -> Result<(), CliError> {
    let started = Instant::now();
    let mut process = None;
    let mut printed: Option<Instant> = None;
    loop {
        let status = request(&args.process, "GET", API_STATUS, "", TIMEOUT)?;
        let status: ProcessStatus = parse(&status)?;
        let pid = status.process.pid;
        let first = *process.get_or_insert(pid);
        let host = &args.host;
        if pid != first {
            return Err(runtime_error(format!(
                "process {pid} has taken over from process {first}, whose requests on {host} cannot be counted any more"
            )));
        }
        let in_flight = requests_in_flight(&status, host).ok_or_else(|| {
            runtime_error(format!(
                "{host} was removed; its requests in flight cannot be counted any more"
            ))
        })?;
        if in_flight == 0 {
            println!("no request is in flight on {host}");
            return Ok(());
        }
        let remaining = limit.saturating_sub(started.elapsed());
        if remaining.is_zero() {
            return Err(runtime_error(format!(
                "requests still in flight on {host} after {}: {in_flight}; it stays drained",
                humantime::format_duration(limit)
            )));
        }
        if printed.is_none_or(|printed| printed.elapsed() >= PROGRESS_INTERVAL) {
            println!("waiting for requests in flight on {host}: {in_flight}");
            printed = Some(Instant::now());
        }
        sleep(POLL_INTERVAL.min(remaining));
    }
}

/// The requests in flight on a host, which each of its pools counts for all of them. `None`: no pool has it.
fn requests_in_flight(status: &ProcessStatus, host: &str) -> Option<u64> {
    let hosts = status.pools.iter().flat_map(|report| &report.pool.hosts);
    let hosts = hosts.filter(|known| known.id == host && known.state != HostState::Removed);
    hosts.map(|known| known.in_flight).max()
}
