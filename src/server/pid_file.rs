//! The pid file: names the serving process.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;

/// The file with the id of the serving process. [`remove`](PidFile::remove) keeps it if it names another process.
#[derive(Debug)]
pub(super) struct PidFile(PathBuf);

impl PidFile {
    pub(super) fn new(path: PathBuf) -> Self {
        PidFile(path)
    }

    /// Writes this process's id, in one step. The old content is a predecessor's, running or dead.
    ///
    /// # Errors
    /// One line for a person.
    pub(super) fn write(&self) -> Result<(), String> {
        let error_text =
            |error: io::Error| format!("cannot write the pid file {}: {error}", self.0.display());
        let name = self.0.file_name().unwrap_or_default().to_string_lossy();
        let temporary = self.0.with_file_name(format!(".{name}.{}", process::id()));
        fs::write(&temporary, pid_line()).map_err(error_text)?;
        fs::rename(&temporary, &self.0).map_err(|error| {
            let _ = fs::remove_file(&temporary);
            error_text(error)
        })
    }

    /// Removes the file if it names this process.
    pub(super) fn remove(&self) {
        if names_this_process(&self.0) {
            let _ = fs::remove_file(&self.0);
        }
    }
}

fn names_this_process(path: &Path) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text == pid_line())
}

fn pid_line() -> String {
    format!("{}\n", process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pid_file_is_removed_only_by_its_own_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        fs::write(&path, "1\n").unwrap();
        let file = PidFile::new(path.clone());
        file.remove();
        assert!(path.exists());
        file.write().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), pid_line());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        file.remove();
        assert!(!path.exists());
    }
}
