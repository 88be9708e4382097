//! `ballast reload`: asks the running process to reload its file, and prints the outcome.

use std::time::Duration;

use super::control_client::{parse, request, send};
use super::{CliError, ProcessArg, runtime_error};
use crate::admin::{API_RELOAD, ProcessVersion, ReloadResult};

/// How long to wait for the response: a handover may take 40 s, and an in-place reload is tried before it.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The process tells its version at once; this only bounds a hung process.
const VERSION_TIMEOUT: Duration = Duration::from_secs(5);

/// The path of the version.
const API_VERSION: &str = "/api/v1/version";

/// How a reload takes effect through another process.
const HANDOVER: &str = "handover";

/// Selects the process, and what it reloads.
#[derive(Debug, clap::Args)]
pub(super) struct ReloadArg {
    /// Always hand over to a new process of the binary on disk, which reads the file, and print both versions. A reload in
    /// place keeps the binary that runs, so this is the way to upgrade it
    #[arg(long)]
    binary: bool,
    #[command(flatten)]
    process: ProcessArg,
}

pub(super) fn reload(args: &ReloadArg) -> Result<(), CliError> {
    match args.binary {
        true => replace_binary(&args.process),
        false => reload_file(&args.process),
    }
}

fn reload_file(process: &ProcessArg) -> Result<(), CliError> {
    let done = reload_by(process, API_RELOAD, "not reloaded")?;
    println!("reloaded, {}", done.way);
    print_changes(&done);
    if done.changes.is_empty() {
        println!("  nothing changed");
    }
    Ok(())
}

fn replace_binary(process: &ProcessArg) -> Result<(), CliError> {
    let before = version(process)?;
    let path = format!("{API_RELOAD}?binary=true");
    let done = reload_by(process, &path, "the binary was not replaced")?;
    if done.way != HANDOVER {
        return Err(runtime_error(format!(
            "the binary was not replaced, only the file was reloaded: ballast {} does not support --binary; send SIGQUIT \
             to process {}",
            before.version, before.pid
        )));
    }
    let from = shown(&before);
    // The successor may have another control socket, if the file names another.
    match version(process) {
        Ok(after) if after.pid != before.pid => {
            println!("handed over from {from} to {}", shown(&after))
        }
        _ => println!("handed over from {from}; the new process has another control socket"),
    }
    print_changes(&done);
    Ok(())
}

fn reload_by(process: &ProcessArg, path: &str, failure: &str) -> Result<ReloadResult, CliError> {
    let response = send(process, "POST", path, TIMEOUT).map_err(runtime_error)?;
    match response.status {
        200 => parse(&response.body),
        _ => Err(runtime_error(format!("{failure}: {}", response.body))),
    }
}

fn version(process: &ProcessArg) -> Result<ProcessVersion, CliError> {
    parse(&request(process, "GET", API_VERSION, "", VERSION_TIMEOUT)?)
}

fn shown(process: &ProcessVersion) -> String {
    format!("ballast {}, process {}", process.version, process.pid)
}

fn print_changes(done: &ReloadResult) {
    for change in &done.changes {
        println!("  {change}");
    }
}
