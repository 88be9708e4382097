//! Files that hold a secret.

use std::fmt;
use std::path::{Path, PathBuf};

use super::environment::{Environment, without_bom};
use super::pem;

/// Bytes that a secret has at least: 128 bits cannot be guessed.
const MIN_BYTES: usize = 16;

/// Bytes that only this proxy and its peers know.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// The file that holds them.
    pub file: PathBuf,
    /// Its content, without white space at the end.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the bytes.
        f.debug_tuple("Secret").field(&self.file).finish()
    }
}

impl Secret {
    /// Reads the file again.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn reread(&self, environment: &dyn Environment) -> Result<Self, String> {
        secret(&self.file, environment)
    }
}

/// The secret in a file.
pub(super) fn secret(file: &Path, environment: &dyn Environment) -> Result<Secret, String> {
    long_enough(file, pem::read(file, environment)?)
}

/// The secret in a file that only its owner can read or write.
pub(super) fn private_secret(file: &Path, environment: &dyn Environment) -> Result<Secret, String> {
    let content = environment.read_private(file);
    let content = content.map_err(|error| format!("cannot read `{}`: {error}", file.display()))?;
    long_enough(file, content)
}

/// The password in a file that only its owner can read or write. How long it is, the server decides that asks for it.
pub(super) fn private_password(
    file: &Path,
    environment: &dyn Environment,
) -> Result<Secret, String> {
    let shown = file.display();
    let content = environment.read_private(file);
    let content = content.map_err(|error| format!("cannot read `{shown}`: {error}"))?;
    let bytes = without_bom(&content).trim_ascii_end().to_vec();
    match std::str::from_utf8(&bytes) {
        Ok("") => Err(format!("`{shown}` is empty")),
        Ok(_) => Ok(Secret {
            file: file.to_owned(),
            bytes,
        }),
        Err(_) => Err(format!("the password in `{shown}` is not UTF-8")),
    }
}

fn long_enough(file: &Path, content: Vec<u8>) -> Result<Secret, String> {
    let bytes = without_bom(&content).trim_ascii_end().to_vec();
    if bytes.len() < MIN_BYTES {
        let shown = file.display();
        let length = bytes.len();
        return Err(format!(
            "`{shown}` holds {length} bytes; a secret has at least {MIN_BYTES}, such as the output of `openssl rand -base64 32`"
        ));
    }
    Ok(Secret {
        file: file.to_owned(),
        bytes,
    })
}
