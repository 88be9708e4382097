//! `ballast host`: adds, removes and weights hosts of the running process.

use std::time::Duration;

use clap::{Subcommand, value_parser};

use super::control_client::{parse, percent_encode, request};
use super::pool_choice::{only_pool, pool_of_host};
use super::{CliError, ProcessArg, runtime_error};
use crate::admin::{HostRemoval, NewHost, NewWeight};
use crate::pool::HostStatus;
use ballast_balancer::MAX_WEIGHT;

/// Adding a host resolves its name and waits for its first check.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How an operator names one of several pools.
const HOW: &str = "name one with --pool";

/// A change to the hosts of a pool.
#[derive(Debug, Subcommand)]
pub(super) enum HostCommand {
    /// Add a host to a pool; it gets requests after its first successful check. The pool need not be named if there is only
    /// one
    #[command(after_help = "Example:\n  ballast host add 10.0.0.3:8080 --pool web -c ballast.yaml")]
    Add {
        /// The host as `host:port` or `unix:/path`, which becomes its id
        #[arg(value_name = "ADDRESS")]
        address: String,
        /// Its share of the requests, relative to the other hosts; 0: none
        #[arg(long, value_name = "N", default_value_t = 1)]
        #[arg(value_parser = value_parser!(u32).range(..=i64::from(MAX_WEIGHT)))]
        weight: u32,
        /// Use it only while no other host is usable
        #[arg(long)]
        backup: bool,
        /// Limit of its requests in flight; no limit by default
        #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
        max_in_flight: Option<u64>,
        #[command(flatten)]
        pool: PoolArg,
    },
    /// Remove a host from a pool; its requests in flight may finish. The pool need not be named if only one has the host
    #[command(
        after_help = "Example:\n  ballast host remove 10.0.0.3:8080 --pool web -c ballast.yaml"
    )]
    Remove {
        /// The host
        #[arg(value_name = "HOST")]
        host: String,
        /// Remove it even if it is the last usable host
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        pool: PoolArg,
    },
    /// Change the weight of a host. The pool need not be named if only one has the host
    #[command(
        after_help = "Example:\n  ballast host weight 10.0.0.3:8080 5 --pool web -c ballast.yaml"
    )]
    Weight {
        /// The host
        #[arg(value_name = "HOST")]
        host: String,
        /// Its share of the requests, relative to the other hosts; 0 drains it
        #[arg(value_name = "N")]
        #[arg(value_parser = value_parser!(u32).range(..=i64::from(MAX_WEIGHT)))]
        weight: u32,
        #[command(flatten)]
        pool: PoolArg,
    },
}

/// Selects a pool of the running process.
#[derive(Debug, clap::Args)]
pub(super) struct PoolArg {
    /// The pool; by default the only one that is meant
    #[arg(long, value_name = "NAME")]
    pool: Option<String>,
    #[command(flatten)]
    process: ProcessArg,
}

impl PoolArg {
    /// The pool that a new host is added to.
    fn for_new_host(&self) -> Result<String, CliError> {
        match &self.pool {
            Some(pool) => Ok(pool.clone()),
            None => only_pool(&self.process, HOW),
        }
    }

    /// The pool of a host that is there.
    fn of_host(&self, host: &str) -> Result<String, CliError> {
        match &self.pool {
            Some(pool) => Ok(pool.clone()),
            None => pool_of_host(&self.process, host, HOW),
        }
    }
}

pub(super) fn host(command: HostCommand) -> Result<(), CliError> {
    match command {
        HostCommand::Add {
            address,
            weight,
            backup,
            max_in_flight,
            pool,
        } => {
            let host = NewHost {
                address,
                weight,
                backup,
                max_in_flight,
            };
            add(&pool, &host)
        }
        HostCommand::Remove { host, force, pool } => remove(&pool, &host, force),
        HostCommand::Weight { host, weight, pool } => weigh(&pool, &host, &NewWeight { weight }),
    }
}

fn add(args: &PoolArg, host: &NewHost) -> Result<(), CliError> {
    let pool = args.for_new_host()?;
    let path = format!("/api/v1/pools/{}/hosts", percent_encode(&pool));
    let body = serde_json::to_string(host).map_err(runtime_error)?;
    let added: HostStatus = parse(&request(&args.process, "POST", &path, &body, TIMEOUT)?)?;
    let (state, reason) = (added.state.code(), &added.reason);
    println!("added {} to {pool}: {state}, {reason}", added.id);
    Ok(())
}

fn remove(args: &PoolArg, host: &str, force: bool) -> Result<(), CliError> {
    let pool = args.of_host(host)?;
    let path = format!("{}?force={force}", path(&pool, host));
    let removed: HostRemoval = parse(&request(&args.process, "DELETE", &path, "", TIMEOUT)?)?;
    let HostRemoval { removed, in_flight } = removed;
    println!("removed {removed} from {pool}; requests still in flight: {in_flight}");
    Ok(())
}

fn weigh(args: &PoolArg, host: &str, weight: &NewWeight) -> Result<(), CliError> {
    let pool = args.of_host(host)?;
    let body = serde_json::to_string(weight).map_err(runtime_error)?;
    let path = path(&pool, host);
    let weighed: HostStatus = parse(&request(&args.process, "PATCH", &path, &body, TIMEOUT)?)?;
    println!(
        "the weight of {} in {pool} is {}",
        weighed.id, weighed.weight
    );
    Ok(())
}

fn path(pool: &str, host: &str) -> String {
    format!(
        "/api/v1/pools/{}/hosts/{}",
        percent_encode(pool),
        percent_encode(host)
    )
}
