//! The last good answers of sources on disk, for a start while a source cannot be asked.

use std::io;
use std::path::{Path, PathBuf};

use super::source_table::SavedHosts;
use crate::config::HostSource;
use crate::state_file::{self, ALL_WRITE};

/// Characters of a source in the name of its file.
const MAX_NAME: usize = 64;

/// A directory with a file for each source. Instances may have it in common: the same source gives the same hosts. Everything
/// here blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Store {
    directory: PathBuf,
}

impl Store {
    pub(super) fn new(directory: &Path) -> Self {
        Store {
            directory: directory.to_owned(),
        }
    }

    /// What was saved of a source; `None` if there is nothing.
    ///
    /// # Errors
    /// It cannot be read, or is not what was written.
    pub(super) fn load(&self, source: &HostSource) -> io::Result<Option<SavedHosts>> {
        // Whoever may write here chooses where requests go.
        let Some(content) = state_file::read(&self.file(source), ALL_WRITE)? else {
            return Ok(None);
        };
        let saved: SavedHosts = serde_json::from_slice(&content)?;
        Ok((saved.source == source.to_string()).then_some(saved))
    }

    /// Replaces what was saved of a source as a whole.
    ///
    /// # Errors
    /// The directory or the file cannot be written.
    pub(super) fn save(&self, source: &HostSource, saved: &SavedHosts) -> io::Result<()> {
        state_file::replace(&self.file(source), &serde_json::to_vec(saved)?)
    }

    fn file(&self, source: &HostSource) -> PathBuf {
        let text = source.to_string();
        let hash = crc32fast::hash(text.as_bytes());
        let plain = |c: char| match c.is_ascii_alphanumeric() || matches!(c, '.' | '_') {
            true => c,
            false => '-',
        };
        let name: String = text.chars().take(MAX_NAME).map(plain).collect();
        self.directory.join(format!("{name}-{hash:08x}.json"))
    }
}
