//! `ballast completions`, `ballast man` and `ballast schema`: files generated from the definitions of the command line
//! and of the configuration.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap_complete::Shell;

use super::manual_pages::{self, ManualPage};
use super::{Args, CliError, PROGRAM, runtime_error};
use crate::config;

/// Selects the shell.
#[derive(Debug, clap::Args)]
pub(super) struct ShellArg {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Selects where the manual pages are written.
#[derive(Debug, clap::Args)]
pub(super) struct ManArg {
    /// Write the pages of all commands and of the configuration to this folder, created if missing; without it, print
    /// the page of `ballast`
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

pub(super) fn completions(args: &ShellArg) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), PROGRAM, &mut script);
    io::stdout().write_all(&script).map_err(runtime_error)
}

pub(super) fn man(args: &ManArg) -> Result<(), CliError> {
    let pages = manual_pages::all(Args::command());
    match &args.folder {
        Some(folder) => write_man_pages(folder, &pages).map_err(|error| {
            runtime_error(format!("cannot write to {}: {error}", folder.display()))
        }),
        // The first is that of the program.
        None => pages.first().map_or(Ok(()), |page| {
            io::stdout()
                .write_all(page.text.as_bytes())
                .map_err(runtime_error)
        }),
    }
}

fn write_man_pages(folder: &Path, pages: &[ManualPage]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for page in pages {
        fs::write(folder.join(&page.file), &page.text)?;
    }
    fs::write(folder.join("ballast.yaml.5"), config::manual_page())
}

/// Prints the JSON Schema of the configuration.
pub(super) fn schema() -> Result<(), CliError> {
    let schema = format!("{:#}\n", config::json_schema());
    io::stdout()
        .write_all(schema.as_bytes())
        .map_err(runtime_error)
}
