//! `ballast check`: whether a file is good, and what the process that runs with it would make of it.

use std::time::Duration;

use super::control_client::send;
use super::{Failure, ProcessArg, load, usage_error};
use crate::admin::{API_PREVIEW, ReloadPreview};
use crate::config::Config;
use crate::server;

/// How long the running process may take to look at its file: names of hosts are resolved anew.
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
    let answer = match send(process, "GET", API_PREVIEW, TIMEOUT) {
        Ok(answer) => answer,
        // The file alone decides.
        Err(reason) => {
            println!("the running process was not asked: {reason}");
            return Ok(());
        }
    };
    match (answer.status, serde_json::from_str(&answer.body)) {
        (200, Ok(preview)) => report(&preview),
        (409, _) => Err(usage_error(format!(
            "a reload would be refused: {}",
            answer.body
        ))),
        _ => {
            println!("the running process cannot tell what a reload would do");
            Ok(())
        }
    }
}

/// Says what should be mended though it is good enough.
#[expect(clippy::print_stderr, reason = "what is said on stdout is the outcome")]
fn print_warnings(config: &Config) {
    for line in config.warnings() {
        eprintln!("warning: {line}");
    }
}

fn report(preview: &ReloadPreview) -> Result<(), Failure> {
    match preview.way.as_deref() {
        None => println!("the running process: nothing to reload"),
        Some(way) => println!("the running process: a reload would go {way}"),
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

fn count(n: usize, thing: &str) -> String {
    format!("{n} {thing}{}", if n == 1 { "" } else { "s" })
}
