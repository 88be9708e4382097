//! `ballast status`: the pools and hosts of the running process, once or every second.

mod cluster_view;
mod drift_view;
mod source_line;
mod view;

use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::control_client::{parse, percent_encode, request};
use super::terminal::{Style, StyledLine, Terminal};
use super::{CliError, ProcessArg, runtime_error};
use crate::admin::{API_STATUS, ProcessStatus};

pub(super) use drift_view::lines as drift_lines;
use view::{RequestRates, lines};

/// The process responds at once; this only bounds a hung process.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The path of the cluster.
const API_CLUSTER: &str = "/api/v1/cluster";
/// The refresh interval of `--watch`.
const INTERVAL: Duration = Duration::from_secs(1);

/// Selects what is shown, and how.
#[derive(Debug, clap::Args)]
pub(super) struct StatusArg {
    /// Show only this pool
    #[arg(long, value_name = "NAME")]
    pool: Option<String>,
    /// Refresh every second until interrupted; goes on after a reload or a handover
    #[arg(long)]
    watch: bool,
    /// Show the members of the cluster instead of pools and hosts
    #[arg(long, conflicts_with = "pool")]
    cluster: bool,
    /// Print the response of the process as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    process: ProcessArg,
}

pub(super) fn status(args: &StatusArg) -> Result<(), CliError> {
    let mut terminal = Terminal::new();
    let shown = match (args.json, args.watch) {
        (true, false) => terminal.write(&json(args)?),
        (true, true) => watch_json(args, &mut terminal),
        (false, false) => {
            let columns = terminal.columns();
            terminal.print(&shown(args, None, columns)?)
        }
        (false, true) => watch(args, &mut terminal),
    };
    match shown {
        // The reader of the pipe, such as `head`, has closed it.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        shown => shown.map_err(runtime_error),
    }
}

/// Shows the status every second until interrupted. A failed request is shown and retried, because a successor may be
/// about to take over.
fn watch(args: &StatusArg, terminal: &mut Terminal) -> io::Result<()> {
    let mut rates = RequestRates::default();
    loop {
        let started = Instant::now();
        let shown = match shown(args, Some((&mut rates, started)), terminal.columns()) {
            Ok(lines) => lines,
            Err(failure) => vec![StyledLine::new(failure.message, Style::Bad)],
        };
        terminal.replace(&shown)?;
        sleep(INTERVAL.saturating_sub(started.elapsed()));
    }
}

fn watch_json(args: &StatusArg, terminal: &mut Terminal) -> io::Result<()> {
    loop {
        let started = Instant::now();
        if let Ok(line) = json(args) {
            terminal.write(&line)?;
        }
        sleep(INTERVAL.saturating_sub(started.elapsed()));
    }
}

/// The status as one line of JSON.
fn json(args: &StatusArg) -> Result<String, CliError> {
    let path = match &args.pool {
        Some(pool) => format!("/api/v1/pools/{}", percent_encode(pool)),
        None if args.cluster => API_CLUSTER.to_owned(),
        None => API_STATUS.to_owned(),
    };
    Ok(request(&args.process, "GET", &path, "", TIMEOUT)? + "\n")
}

/// The lines to show now, with rates since the time before.
fn shown(
    args: &StatusArg,
    rates: Option<(&mut RequestRates, Instant)>,
    columns: usize,
) -> Result<Vec<StyledLine>, CliError> {
    if args.cluster {
        let body = request(&args.process, "GET", API_CLUSTER, "", TIMEOUT)?;
        return Ok(cluster_view::lines(&parse(&body)?));
    }
    let status = current(args)?;
    Ok(match rates {
        Some((rates, now)) => {
            rates.update(&status, now);
            lines(&status, Some(rates), columns)
        }
        None => lines(&status, None, columns),
    })
}

fn current(args: &StatusArg) -> Result<ProcessStatus, CliError> {
    let body = request(&args.process, "GET", API_STATUS, "", TIMEOUT)?;
    let mut status: ProcessStatus = parse(&body)?;
    if let Some(pool) = &args.pool {
        status.pools.retain(|report| report.pool.name == *pool);
        if status.pools.is_empty() {
            let shown = pool.escape_debug();
            return Err(runtime_error(format!("there is no pool `{shown}`")));
        }
        let changes = &mut status.drift.operator_changes;
        changes.retain(|change| change.pool.as_ref() == Some(pool));
    }
    Ok(status)
}
