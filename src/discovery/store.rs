//! The last good answers of sources on disk, for a start while a source cannot be asked.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process;

use super::source_table::SavedHosts;
use crate::config::HostSource;

/// The largest file that is read.
const MAX_BYTES: u64 = 16 << 20;

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
        let mut content = Vec::new();
        let file = match File::open(self.file(source)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // Whoever may write here chooses where requests go.
        let mode = file.metadata()?.permissions().mode();
        if mode & 0o002 != 0 {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "everyone may write to it",
            ));
        }
        file.take(MAX_BYTES).read_to_end(&mut content)?;
        let saved: SavedHosts = serde_json::from_slice(&content)?;
        Ok((saved.source == source.to_string()).then_some(saved))
    }

    /// Replaces what was saved of a source as a whole.
    ///
    /// # Errors
    /// The directory or the file cannot be written.
    pub(super) fn save(&self, source: &HostSource, saved: &SavedHosts) -> io::Result<()> {
        let mut builder = DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)?;
        let file = self.file(source);
        let unfinished = file.with_extension(format!("{}.new", process::id()));
        let written = File::create(&unfinished).and_then(|mut file| {
            file.write_all(&serde_json::to_vec(saved)?)?;
            file.set_permissions(fs::Permissions::from_mode(0o600))?;
            // A machine that loses power must not find half a file.
            file.sync_all()
        });
        let written = written.and_then(|()| fs::rename(&unfinished, &file));
        if written.is_err() {
            // What is left of it helps nobody.
            let _ = fs::remove_file(&unfinished);
        }
        written
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
