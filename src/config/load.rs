//! From a file to a [`Config`] or to everything that is wrong with it.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::errors::ConfigErrors;
use super::meaning;
use super::model::{Config, Host};
use super::shape::shape;
use super::surroundings::{Surroundings, System};

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

    /// Does the same for the text of a file. Relative paths in it start in the directory of `file`.
    ///
    /// # Errors
    /// The first error of syntax, or all keys and values that have no place; otherwise all errors of meaning at once.
    pub fn parse(text: &str, file: &Path) -> Result<Config, ConfigErrors> {
        Config::parse_with(text, file, &System)
    }

    /// Does the same with host names and files from `surroundings`, as a function of nothing else.
    ///
    /// # Errors
    /// As [`Config::parse`].
    pub fn parse_with(
        text: &str,
        file: &Path,
        surroundings: &dyn Surroundings,
    ) -> Result<Config, ConfigErrors> {
        let digest = digest(text);
        // Lines and columns are counted as editors count them, without the mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let said = shape(text, file)?;
        let mut config = meaning::config(said, file, surroundings)
            .map_err(|problems| problems.into_errors(file, text))?;
        config.digest = digest;
        Ok(config)
    }
}

impl Host {
    /// A host of weight 1 that is in no file, known by its `host:port`. Blocks while a name is resolved.
    ///
    /// # Errors
    /// `text` is no `host:port`, or its name cannot be resolved.
    pub fn find(text: &str) -> Result<Host, String> {
        meaning::host::single(text, &System)
    }

    /// The same, found at `address` before.
    ///
    /// # Errors
    /// `text` is no `host:port`.
    pub fn at(text: &str, address: SocketAddr) -> Result<Host, String> {
        meaning::host::resolved(text, address)
    }

    /// Whether both are the same server, however it is spelled.
    pub fn is_same(&self, other: &Host) -> bool {
        (&self.name, self.address.port()) == (&other.name, other.address.port())
    }
}

/// `server.control_socket` of a file, as far as that can be said without a look at anything else in it.
///
/// # Errors
/// The file cannot be read, or its shape is wrong.
pub fn control_socket(path: &Path) -> Result<Option<PathBuf>, ConfigErrors> {
    let text = text(path)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let said = shape(text, path)?.server.control_socket.0;
    let directory = path.parent().unwrap_or(Path::new(""));
    Ok(said.map(|socket| directory.join(socket)))
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
