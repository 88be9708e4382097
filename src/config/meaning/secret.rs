//! Files that hold a secret.

use std::path::Path;

use super::super::model::Secret;
use super::super::surroundings::{Surroundings, without_bom};
use super::pem;

/// As many bits as the shortest key that is not guessed.
const SHORTEST: usize = 16;

/// What a file holds, without white space at its end.
pub(super) fn secret(file: &Path, surroundings: &dyn Surroundings) -> Result<Secret, String> {
    long_enough(file, pem::read(file, surroundings)?)
}

/// The same of a file that nobody but its owner can read or write.
pub(super) fn private_secret(
    file: &Path,
    surroundings: &dyn Surroundings,
) -> Result<Secret, String> {
    let content = surroundings.read_private(file);
    let content = content.map_err(|error| format!("cannot read `{}`: {error}", file.display()))?;
    long_enough(file, content)
}

fn long_enough(file: &Path, content: Vec<u8>) -> Result<Secret, String> {
    let bytes = without_bom(&content).trim_ascii_end().to_vec();
    if bytes.len() < SHORTEST {
        let shown = file.display();
        let length = bytes.len();
        return Err(format!(
            "`{shown}` holds {length} bytes; a secret has {SHORTEST} at least, such as those of `openssl rand -base64 32`"
        ));
    }
    Ok(Secret {
        file: file.to_owned(),
        bytes,
    })
}
