//! `ballast check`: validates a configuration, and previews its reload in the process that runs with it.

use std::time::Duration;

use super::control_client::send;
use super::{Failure, ProcessArg, load, usage_error};
use crate::admin::{API_PREVIEW, ReloadPreview};
use crate::config::Config;
use crate::server;

/// How long the running process may take for the preview: it resolves the host names of the file.
const TIMEOUT: Duration = Duration::from_secs(30);

pub(super) fn check(process: &ProcessArg) -> Result<(), Failure> {
    let file = &process.config.config;
    let config = load(file)?;
    server::check(&config).map_err(usage_error)?;
    print_warnings(&config);
    let pools = config.pools.len();
    let hosts: usize = config.pools.iter().map(|pool| pool.hosts.len()).sum();
    println!(
        "{}: ok ({}, {})",
        file.display(),
        count(pools, "pool"),
        count(hosts, "host")
    );
    let response = match send(process, "GET", API_PREVIEW, TIMEOUT) {
        Ok(response) => response,
        // A file is valid even if no process runs with it.
        Err(reason) => {
            println!("no preview of a reload: {reason}");
            return Ok(());
        }
    };
    match (response.status, serde_json::from_str(&response.body)) {
        (200, Ok(preview)) => report(&preview),
        (409, _) => Err(usage_error(format!(
            "a reload would be refused: {}",
            response.body
        ))),
        _ => {
            println!("no preview of a reload: unexpected response of the running process");
            Ok(())
        }
    }
}

/// Prints the warnings about a valid configuration.
#[expect(clippy::print_stderr, reason = "stdout is for the outcome")]
fn print_warnings(config: &Config) {
    for line in config.warnings() {
        eprintln!("warning: {line}");
    }
}

fn report(preview: &ReloadPreview) -> Result<(), Failure> {
    match preview.way.as_deref() {
        None => println!("the running process: nothing to reload"),
        Some("in-place") => println!("the running process: would reload in place"),
        Some(way) => println!("the running process: would reload by {way}"),
    }
    for change in &preview.changes {
        println!("  {change}");
    }
    match preview.obstacles.is_empty() {
        true => Ok(()),
        false => Err(usage_error(format!(
            "a reload would fail: {}",
            preview.obstacles.join("; ")
        ))),
    }
}

fn count(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}
