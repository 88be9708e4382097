//! `ballast status`: the pools and hosts of the running process, once or again and again.

mod view;

use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::process::{encoded, read, told};
use super::terminal::{Line, Style, Terminal};
use super::{Failure, ProcessArg, failed};
use crate::admin::ProcessStatus;

use view::{Rates, lines};

/// The process does it at once.
const PATIENCE: Duration = Duration::from_secs(5);
/// From one look to the next.
const PAUSE: Duration = Duration::from_secs(1);

/// What is shown, and how.
#[derive(Debug, clap::Args)]
pub(super) struct StatusArg {
    /// Show this pool alone
    #[arg(long, value_name = "NAME")]
    pool: Option<String>,
    /// Look again every second until ^C; a reload or a handover is survived
    #[arg(long)]
    watch: bool,
    /// Print the answer of the process as it is
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    process: ProcessArg,
}

pub(super) fn status(said: &StatusArg) -> Result<(), Failure> {
    let mut terminal = Terminal::new();
    let shown = match (said.json, said.watch) {
        (true, false) => terminal.write(&json(said)?),
        (true, true) => watch_json(said, &mut terminal),
        (false, false) => {
            let columns = terminal.columns();
            terminal.print(&lines(&current(said)?, None, columns))
        }
        (false, true) => watch(said, &mut terminal),
    };
    match shown {
        // Whoever read has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        shown => shown.map_err(failed),
    }
}

/// Shows what there is every second, for ever. A process that does not answer may be about to be replaced by one that
/// does.
fn watch(said: &StatusArg, terminal: &mut Terminal) -> io::Result<()> {
    let mut rates = Rates::default();
    loop {
        let began = Instant::now();
        let shown = match current(said) {
            Ok(status) => {
                rates.take(&status, began);
                lines(&status, Some(&rates), terminal.columns())
            }
            Err(failure) => vec![Line::of(failure.message, Style::Bad)],
        };
        terminal.replace(&shown)?;
        sleep(PAUSE.saturating_sub(began.elapsed()));
    }
}

fn watch_json(said: &StatusArg, terminal: &mut Terminal) -> io::Result<()> {
    loop {
        let began = Instant::now();
        if let Ok(line) = json(said) {
            terminal.write(&line)?;
        }
        sleep(PAUSE.saturating_sub(began.elapsed()));
    }
}

/// One line.
fn json(said: &StatusArg) -> Result<String, Failure> {
    let path = match &said.pool {
        Some(pool) => format!("/api/v1/pools/{}", encoded(pool)),
        None => "/api/v1/status".to_owned(),
    };
    Ok(told(&said.process, "GET", &path, "", PATIENCE)? + "\n")
}

fn current(said: &StatusArg) -> Result<ProcessStatus, Failure> {
    let body = told(&said.process, "GET", "/api/v1/status", "", PATIENCE)?;
    let mut status: ProcessStatus = read(&body)?;
    if let Some(pool) = &said.pool {
        status.pools.retain(|status| status.name == *pool);
        if status.pools.is_empty() {
            let pool = pool.escape_debug();
            return Err(failed(format!("there is no pool `{pool}`")));
        }
    }
    Ok(status)
}
