//! From a file to a [`Config`] or to everything that is wrong with it.

use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::document::Node;
use super::environment::{Environment, System, resolve_all};
use super::errors::ConfigErrors;
use super::pool;
use super::root::Config;
use super::schema::{Change, Diff, Kind, Reader, map_of};
use super::sources::{self, Sources};

impl Config {
    /// Reads a file and those that it includes, checks them, resolves host names and reads certificates.
    ///
    /// Blocks for as long as the system's resolver takes, which is seconds for a name that cannot be resolved.
    ///
    /// # Errors
    /// The file cannot be read, is larger than 1 MiB or not UTF-8; or any of the errors of [`Config::parse`].
    pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
        Config::parse(&text(path)?, path)
    }

    /// Does the same for the text of a file. Relative paths in it begin in the directory of `file`.
    ///
    /// # Errors
    /// The first error of syntax in each file, or otherwise all errors at once.
    pub fn parse(text: &str, file: &Path) -> Result<Config, ConfigErrors> {
        Config::parse_with(text, file, &System)
    }

    /// Does the same with host names, files and variables from `environment`, as a function of nothing else.
    ///
    /// # Errors
    /// As [`Config::parse`].
    pub fn parse_with(
        text: &str,
        file: &Path,
        environment: &dyn Environment,
    ) -> Result<Config, ConfigErrors> {
        let Sources {
            root,
            files,
            digest,
            unknown,
            problems,
        } = Sources::read(text, file, environment)?;
        let mut reader = Reader::new(&files, environment, problems);
        reader.unknown = unknown;
        reader.names = resolve_all(pool::names_to_resolve(&root), environment);
        reader.pools = pool::names(&root);
        reader.has_acme = root.get("acme").is_some();
        let config = map_of::<Config>().read(&root, &mut reader);
        let problems = reader.into_problems();
        match config {
            Some(config) if problems.is_empty() => Ok(Config { digest, ..config }),
            _ => Err(ConfigErrors::new(files, problems)),
        }
    }

    /// The configuration as a person would write it, in JSON, with every key: of secrets only the names of their files.
    pub fn dump(&self) -> Json {
        map_of::<Config>().dump(self)
    }

    /// What differs in `new`, key by key.
    pub fn changes(&self, new: &Config) -> Vec<Change> {
        let mut diff = Diff::default();
        map_of::<Config>().diff(self, new, &mut diff);
        diff.into_changes()
    }
}

/// `server.control_socket` of a file and those that it includes, as far as that can be found without reading anything
/// else in them.
///
/// # Errors
/// The file cannot be read, it is not YAML, or the value has a variable that is not set.
pub fn control_socket(path: &Path) -> Result<Option<PathBuf>, ConfigErrors> {
    sources::control_socket(&text(path)?, path, &System)
}

/// What tells whether a configuration on disk is one that was loaded.
#[derive(Debug)]
pub(crate) struct FileDigest {
    /// As in [`Config::digest`]; `None`: the text is not YAML, or an included file cannot be read.
    pub(crate) digest: Option<String>,
    /// The file and those that it includes, as far as that is known.
    pub(crate) files: Vec<PathBuf>,
}

/// The digest of a file and those that it includes. Nothing else in them is read.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn digest(path: &Path) -> Result<FileDigest, ConfigErrors> {
    let sources = Sources::read(&text(path)?, path, &System);
    let unknown = FileDigest {
        digest: None,
        files: vec![path.to_owned()],
    };
    Ok(sources.map_or(unknown, |sources| FileDigest {
        digest: Some(sources.digest),
        files: sources.files,
    }))
}

/// The values of a file and those that it includes, as they stand there, and the files.
///
/// # Errors
/// As [`Config::load`], but for values that are wrong.
pub(super) fn root(path: &Path) -> Result<(Node, Vec<PathBuf>), ConfigErrors> {
    let sources = Sources::read(&text(path)?, path, &System)?;
    Ok((sources.root, sources.files))
}

fn text(path: &Path) -> Result<String, ConfigErrors> {
    sources::text_of(System.read(path)).map_err(|message| ConfigErrors::of_file(path, &message))
}
