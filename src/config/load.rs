//! From a file to a [`Config`] or to everything that is wrong with it.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::document::Node;
use super::environment::{Environment, MAX_BYTES, System, resolve_all};
use super::errors::ConfigErrors;
use super::pool;
use super::root::Config;
use super::schema::{Change, Diff, Kind, Reader, map_of};
use super::yaml;

impl Config {
    /// Reads a file, checks it, resolves its host names and reads its certificates.
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
    /// The first error of syntax, or otherwise all errors at once.
    pub fn parse(text: &str, file: &Path) -> Result<Config, ConfigErrors> {
        Config::parse_with(text, file, &System)
    }

    /// Does the same with host names and files from `environment`, as a function of nothing else.
    ///
    /// # Errors
    /// As [`Config::parse`].
    pub fn parse_with(
        text: &str,
        file: &Path,
        environment: &dyn Environment,
    ) -> Result<Config, ConfigErrors> {
        let digest = digest(text);
        let document = document(text, file)?;
        let directory = file.parent().unwrap_or(Path::new(""));
        let mut reader = Reader::new(directory, environment, document.problems);
        let root = &document.root;
        reader.names = resolve_all(pool::names_to_resolve(root), environment);
        reader.pools = pool::names(root);
        let config = map_of::<Config>().read(root, &mut reader);
        let problems = reader.into_problems();
        match config {
            Some(config) if problems.is_empty() => Ok(Config { digest, ..config }),
            _ => Err(ConfigErrors::new(file, problems)),
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

/// `server.control_socket` of a file, as far as that can be found without reading anything else in it.
///
/// # Errors
/// The file cannot be read, or it is not YAML.
pub fn control_socket(path: &Path) -> Result<Option<PathBuf>, ConfigErrors> {
    let document = document(&text(path)?, path)?;
    let server = document.root.get("server");
    let socket = server.and_then(|server| server.get("control_socket")?.text());
    let directory = path.parent().unwrap_or(Path::new(""));
    Ok(socket.map(|socket| directory.join(socket)))
}

/// The values of a file as they stand there.
///
/// # Errors
/// The file cannot be read, or it is not YAML.
pub(super) fn root(path: &Path) -> Result<Node, ConfigErrors> {
    Ok(document(&text(path)?, path)?.root)
}

fn document(text: &str, file: &Path) -> Result<yaml::Document, ConfigErrors> {
    if text.len() > MAX_BYTES {
        let message = "cannot read the configuration: larger than 1 MiB";
        return Err(ConfigErrors::of_file(file, message));
    }
    // Lines and columns are counted as editors count them, without the byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    yaml::parse(text).map_err(|problem| ConfigErrors::new(file, vec![problem]))
}

fn text(path: &Path) -> Result<String, ConfigErrors> {
    let content = System.read(path).map_err(|error| {
        let reason = match error.kind() {
            io::ErrorKind::NotFound => "there is no such file".to_owned(),
            _ => error.to_string(),
        };
        ConfigErrors::of_file(path, &format!("cannot read the configuration: {reason}"))
    })?;
    if content.starts_with(b"\xff\xfe") || content.starts_with(b"\xfe\xff") {
        let message = "the file is UTF-16 text; save it as UTF-8";
        return Err(ConfigErrors::of_file(path, message));
    }
    String::from_utf8(content).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        ConfigErrors::of_file(path, &format!("line {} is not UTF-8 text", line + 1))
    })
}

/// The SHA-256 of a text, in hexadecimal.
fn digest(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let bytes = digest.as_ref().iter();
    bytes.map(|byte| format!("{byte:02x}")).collect()
}
