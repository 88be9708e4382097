//! `ballast plan`: what a reload would do to hosts, keys and connections, without doing it.

mod view;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::control_client::{parse, send};
use super::terminal::Terminal;
use super::{CliError, ConfigArg, ProcessArg, load, runtime_error, usage_error};
use crate::admin::{API_PLAN, Plan};
use crate::server;

/// How long the running process may take: it resolves the host names of the file, and samples keys.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Selects what is compared, and how it is shown.
#[derive(Debug, clap::Args)]
pub(super) struct PlanArg {
    /// Compare the file with this older one instead, without a running process: nothing is known of what is open or in
    /// flight
    #[arg(long, value_name = "FILE", conflicts_with = "socket")]
    against: Option<PathBuf>,
    /// Print the plan as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    process: ProcessArg,
}

pub(super) fn plan(args: &PlanArg) -> Result<(), CliError> {
    let plan = match &args.against {
        Some(older) => compare(&args.process.config, older)?,
        None => ask(&args.process)?,
    };
    let mut terminal = Terminal::new();
    let shown = match args.json {
        true => {
            let json = serde_json::to_string(&plan).map_err(runtime_error)?;
            terminal.write(&(json + "\n"))
        }
        false => terminal.print(&view::lines(&plan)),
    };
    match shown {
        // The reader of the pipe, such as `head`, has closed it.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        shown => shown.map_err(runtime_error)?,
    }
    match plan.obstacles.is_empty() {
        true => Ok(()),
        false => Err(runtime_error(format!(
            "the reload would fail: {}",
            plan.obstacles.join("; ")
        ))),
    }
}

/// Asks the running process, which reads its file itself.
fn ask(process: &ProcessArg) -> Result<Plan, CliError> {
    let response = match send(process, "GET", API_PLAN, TIMEOUT) {
        Ok(response) => response,
        Err(reason) => {
            // The errors of the file help more than the absence of a process.
            if process.socket.is_none() {
                process.config.load()?;
            }
            return Err(runtime_error(reason));
        }
    };
    match response.status {
        200 => parse(&response.body),
        // The file is invalid.
        400 => Err(usage_error(response.body)),
        _ => Err(runtime_error(response.body)),
    }
}

fn compare(file: &ConfigArg, older: &Path) -> Result<Plan, CliError> {
    let (before, after) = (load(older)?, file.load()?);
    server::check(&after).map_err(usage_error)?;
    Ok(server::compare(file.file().path(), &before, &after))
}
