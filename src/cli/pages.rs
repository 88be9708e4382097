//! `ballast completions` and `ballast man`: what is made of the command line's own description.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Args, Failure, failed};
use crate::config;

/// The name of the program, whatever its file is called.
const NAME: &str = env!("CARGO_PKG_NAME");

/// For which shell.
#[derive(Debug, clap::Args)]
pub(super) struct ShellArg {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Where pages go.
#[derive(Debug, clap::Args)]
pub(super) struct PagesArg {
    /// A folder for the pages of all commands and of the configuration, made if it is not there; left out, the page of
    /// `ballast` itself is printed
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

pub(super) fn completions(said: &ShellArg) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(said.shell, &mut Args::command(), NAME, &mut script);
    io::stdout().write_all(&script).map_err(failed)
}

pub(super) fn man(said: &PagesArg) -> Result<(), Failure> {
    match &said.folder {
        Some(folder) => pages(folder)
            .map_err(|error| failed(format!("cannot write to {}: {error}", folder.display()))),
        None => clap_mangen::Man::new(described())
            .render(&mut io::stdout())
            .map_err(failed),
    }
}

fn pages(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    clap_mangen::generate_to(described(), folder)?;
    fs::write(folder.join("ballast.yaml.5"), config::manual_page())
}

/// Prints the JSON Schema of the configuration.
pub(super) fn schema() -> Result<(), Failure> {
    let schema = format!("{:#}\n", config::json_schema());
    io::stdout().write_all(schema.as_bytes()).map_err(failed)
}

/// The command line without `help`, which has no page of its own.
fn described() -> clap::Command {
    Args::command().disable_help_subcommand(true)
}
