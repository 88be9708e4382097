//! `ballast maintenance`: begins and ends the maintenance of a pool of the running process.

use std::time::Duration;

use clap::Subcommand;

use super::control_client::{parse, percent_encode, request};
use super::pool_choice::only_pool;
use super::{CliError, ProcessArg, runtime_error};
use crate::admin::MaintenanceSettings;
use crate::pool::PoolStatus;

/// The process responds at once; this only bounds a hung process.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Begins or ends maintenance.
#[derive(Debug, Subcommand)]
pub(super) enum MaintenanceCommand {
    /// Respond to the clients of a pool with 503, Retry-After and a page
    #[command(
        after_help = "Example:\n  ballast maintenance on web --message \"back at 10\" --allow 10.0.0.0/8 -c ballast.yaml"
    )]
    On {
        #[command(flatten)]
        pool: PoolName,
        /// What clients read where there is no page
        #[arg(long, value_name = "TEXT")]
        message: Option<String>,
        /// When clients should come back, as in `10m`
        #[arg(long, value_name = "TIME")]
        retry_after: Option<String>,
        /// Clients that are served all the same, as a network or an address; may be repeated
        #[arg(long, value_name = "NETWORK")]
        allow: Vec<String>,
    },
    /// Send requests to the hosts of a pool again
    #[command(after_help = "Example:\n  ballast maintenance off web -c ballast.yaml")]
    Off {
        #[command(flatten)]
        pool: PoolName,
    },
}

/// Names a pool of the running process.
#[derive(Debug, clap::Args)]
pub(super) struct PoolName {
    /// The pool; it need not be named if there is only one
    #[arg(value_name = "POOL")]
    name: Option<String>,
    #[command(flatten)]
    process: ProcessArg,
}

pub(super) fn maintenance(command: MaintenanceCommand) -> Result<(), CliError> {
    match command {
        MaintenanceCommand::On {
            pool,
            message,
            retry_after,
            allow,
        } => {
            let settings = MaintenanceSettings {
                message,
                retry_after,
                allow,
            };
            let body = serde_json::to_string(&settings).map_err(runtime_error)?;
            println!("{}", begun(&change(&pool, "PUT", &body)?));
        }
        MaintenanceCommand::Off { pool } => {
            let status = change(&pool, "DELETE", "")?;
            println!("pool {} is no longer in maintenance", status.name);
        }
    }
    Ok(())
}

fn begun(status: &PoolStatus) -> String {
    let mut line = format!("pool {} is in maintenance", status.name);
    if let Some(settings) = &status.maintenance {
        line.push_str(&format!(
            ": {}; Retry-After {}",
            settings.message, settings.retry_after
        ));
        if !settings.allow.is_empty() {
            line.push_str(&format!("; served: {}", settings.allow.join(", ")));
        }
    }
    line
}

fn change(pool: &PoolName, method: &str, body: &str) -> Result<PoolStatus, CliError> {
    let name = match &pool.name {
        Some(name) => name.clone(),
        None => only_pool(&pool.process, "name one")?,
    };
    let path = format!("/api/v1/pools/{}/maintenance", percent_encode(&name));
    parse(&request(&pool.process, method, &path, body, TIMEOUT)?)
}
