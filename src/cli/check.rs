//! `ballast check`: whether a file is good, and what the process that runs with it would make of it.

use std::time::Duration;

use super::process::ask;
use super::{Failure, ProcessArg, load, wrong};
use crate::admin::{API_PREVIEW, Preview};
use crate::server;

/// How long the running process may take to look at its file: names of hosts are resolved anew.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn check(process: &ProcessArg) -> Result<(), Failure> {
    let file = &process.config.config;
    let config = load(file)?;
    server::check(&config).map_err(wrong)?;
    let pools = config.pools.len();
    let hosts: usize = config.pools.iter().map(|pool| pool.hosts.len()).sum();
    println!(
        "{}: ok ({}, {})",
        file.display(),
        counted(pools, "pool"),
        counted(hosts, "host")
    );
    let answer = match ask(process, "GET", API_PREVIEW, PATIENCE) {
        Ok(answer) => answer,
        // The file alone decides.
        Err(reason) => {
            println!("the running process was not asked: {reason}");
            return Ok(());
        }
    };
    match (answer.status, serde_json::from_str(&answer.body)) {
        (200, Ok(preview)) => tell(&preview),
        (409, _) => Err(wrong(format!("a reload would be refused: {}", answer.body))),
        _ => {
            println!("the running process cannot tell what a reload would do");
            Ok(())
        }
    }
}

fn tell(preview: &Preview) -> Result<(), Failure> {
    match preview.way.as_deref() {
        None => println!("the running process: nothing to reload"),
        Some(way) => println!("the running process: a reload would go {way}"),
    }
    for change in &preview.changes {
        println!("  {change}");
    }
    match preview.obstacles.is_empty() {
        true => Ok(()),
        false => Err(wrong(format!(
            "a reload would fail: {}",
            preview.obstacles.join("; ")
        ))),
    }
}

fn counted(n: usize, thing: &str) -> String {
    format!("{n} {thing}{}", if n == 1 { "" } else { "s" })
}
