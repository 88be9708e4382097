//! `ballast check`: validates a configuration, and previews its reload in the process that runs with it.

use std::time::Duration;

use super::control_client::{parse, request, send};
use super::status::drift_lines;
use super::{CliError, ProcessArg, usage_error};
use crate::admin::{API_PREVIEW, API_STATUS, ProcessStatus, ReloadPreview};
use crate::config::{Config, EffectiveScope};
use crate::server;
use crate::timestamp::Timestamp;

/// How long the running process may take for the preview: it resolves the host names of the file.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The process tells its status at once; this only bounds a hung process.
const STATUS_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub(super) struct CheckArg {
    /// Print what is in force for each pool and each route, and which key of the file says so, instead of the preview
    #[arg(long)]
    effective: bool,
    #[command(flatten)]
    process: ProcessArg,
}

pub(super) fn check(CheckArg { effective, process }: &CheckArg) -> Result<(), CliError> {
    let config = process.config.load()?;
    let file = process.config.file();
    let file = file.path();
    server::check(&config).map_err(usage_error)?;
    print_warnings(&config);
    let pools = config.pools.len();
    let hosts: usize = config.pools.iter().map(|pool| pool.members.len()).sum();
    let sources: usize = config.pools.iter().map(|pool| pool.sources().count()).sum();
    let sources = match sources {
        0 => String::new(),
        _ => format!(", {}", count(sources, "source")),
    };
    println!(
        "{}: ok ({}, {}{sources})",
        file.display(),
        count(pools, "pool"),
        count(hosts, "host")
    );
    if *effective {
        let scopes = config.effective(file).map_err(usage_error)?;
        print!("{}", render(&scopes));
        return Ok(());
    }
    let response = match send(process, "GET", API_PREVIEW, TIMEOUT) {
        Ok(response) => response,
        // A file is valid even if no process runs with it.
        Err(reason) => {
            println!("no preview of a reload: {reason}");
            return Ok(());
        }
    };
    match (response.status, serde_json::from_str(&response.body)) {
        (200, Ok(preview)) => {
            let reported = report(&preview);
            report_drift(process);
            reported
        }
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

/// A block for each scope: a line for each value with the key that says so.
fn render(scopes: &[EffectiveScope]) -> String {
    let values = || scopes.iter().flat_map(|scope| &scope.values);
    let key_width = values().map(|value| value.key.len()).max().unwrap_or(0);
    let widths = values().map(|value| value.value.chars().count());
    let value_width = widths.max().unwrap_or(0);
    let mut text = String::new();
    for EffectiveScope {
        name,
        about,
        values,
    } in scopes
    {
        text += &format!("\n{}\n", format!("{name} {about}").trim_end());
        for value in values {
            let place = value.place.as_ref().map(|place| format!(", {place}"));
            text += &format!(
                "  {:key_width$}  {:value_width$}  {}{}\n",
                value.key,
                value.value,
                value.origin,
                place.unwrap_or_default()
            );
        }
    }
    text
}

/// Prints the warnings about a valid configuration.
#[expect(clippy::print_stderr, reason = "stdout is for the outcome")]
fn print_warnings(config: &Config) {
    for line in config.warnings() {
        eprintln!("warning: {line}");
    }
}

/// Prints how the running process differs from what is on disk; nothing if it does not tell.
fn report_drift(process: &ProcessArg) {
    let status = request(process, "GET", API_STATUS, "", STATUS_TIMEOUT);
    let status = status.and_then(|body| parse::<ProcessStatus>(&body));
    let Ok(ProcessStatus { process, drift, .. }) = status else {
        return;
    };
    for line in drift_lines(process.config.file.as_deref(), &drift, Timestamp::now()) {
        println!("the running process: {line}");
    }
}

fn report(preview: &ReloadPreview) -> Result<(), CliError> {
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
