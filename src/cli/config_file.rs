//! The configuration file that a command works with: the one on the command line, in the environment, or the default.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};

use super::{CliError, usage_error};
use crate::config::Config;
use crate::server::runtime_paths::DEFAULT_CONFIG;

/// The environment variable that names the file.
const CONFIG_VARIABLE: &str = "BALLAST_CONFIG";

/// Names the configuration file.
#[derive(Debug, clap::Args)]
pub(super) struct ConfigArg {
    /// The configuration file; without this option the one in $BALLAST_CONFIG, else /etc/ballast/ballast.yaml
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// What has named a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Argument,
    Environment,
    Default,
}

/// A configuration file. It is shown with what has named it, unless that is the command line.
#[derive(Debug, Clone)]
pub(super) struct ConfigFile {
    path: PathBuf,
    origin: Origin,
}

impl ConfigArg {
    /// The file, which may be missing. An empty variable counts as unset.
    pub(super) fn file(&self) -> ConfigFile {
        let variable = env::var_os(CONFIG_VARIABLE).filter(|path| !path.is_empty());
        match (&self.config, variable) {
            (Some(path), _) => ConfigFile {
                path: path.clone(),
                origin: Origin::Argument,
            },
            (None, Some(path)) => ConfigFile {
                path: path.into(),
                origin: Origin::Environment,
            },
            (None, None) => ConfigFile {
                path: DEFAULT_CONFIG.into(),
                origin: Origin::Default,
            },
        }
    }

    /// Loads the file.
    ///
    /// # Errors
    /// Those of [`Config::load`], and a line that says what has named the file.
    pub(super) fn load(&self) -> Result<Config, CliError> {
        let file = self.file();
        Config::load(&file.path).map_err(|errors| usage_error(file.explain(errors)))
    }
}

impl ConfigFile {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// An error about the file; a further line says what has named the file, unless that is the command line.
    pub(super) fn explain(&self, error: impl fmt::Display) -> String {
        let error = error.to_string();
        match self.origin {
            Origin::Argument => error,
            Origin::Environment | Origin::Default => {
                format!("{}\nthe file is {self}", error.trim_end())
            }
        }
    }
}

impl fmt::Display for ConfigFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match self.origin {
            Origin::Argument => write!(f, "{path}"),
            Origin::Environment => write!(f, "{path} (from {CONFIG_VARIABLE})"),
            Origin::Default => {
                write!(
                    f,
                    "{path} (the default; -c or {CONFIG_VARIABLE} names another)"
                )
            }
        }
    }
}
