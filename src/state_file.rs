//! Small files that a process keeps for its next start: replaced as a whole, and for their owner only. Everything here
//! blocks.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process;

/// The largest file that is read.
const MAX_BYTES: u64 = 16 << 20;

/// Bits of a file's mode: everyone may write to it.
pub(crate) const ALL_WRITE: u32 = 0o002;

/// Bits of a file's mode: others than its owner may read it or write to it.
pub(crate) const OTHERS_READ_OR_WRITE: u32 = 0o066;

/// The content of a file; `None` if there is none.
///
/// # Errors
/// It cannot be read, or its mode has one of the bits of `forbidden`.
pub(crate) fn read(path: &Path, forbidden: u32) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mode = file.metadata()?.permissions().mode();
    if mode & forbidden != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("its mode {:03o} allows others too much", mode & 0o777),
        ));
    }
    let mut content = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut content)?;
    Ok(Some(content))
}

/// Replaces the file, and makes its directory if that is missing.
///
/// # Errors
/// The directory or the file cannot be written; the file is as it was.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(directory)?;
    }
    let unfinished = path.with_extension(format!("{}.new", process::id()));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let written = options.open(&unfinished).and_then(|mut file| {
        // One that was left behind may have another mode.
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(content)?;
        // A machine that loses power must not find half a file.
        file.sync_all()
    });
    let written = written.and_then(|()| fs::rename(&unfinished, path));
    if written.is_err() {
        // What is left of it helps nobody.
        let _ = fs::remove_file(&unfinished);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_for_their_owner_only() {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let path = folder.path().join("new/state.json");
        assert_eq!(read(&path, ALL_WRITE).expect("absent"), None);
        for content in ["first", "second, which is longer", "3"] {
            replace(&path, content.as_bytes()).expect("written");
            let found = read(&path, OTHERS_READ_OR_WRITE).expect("it is there");
            assert_eq!(found.as_deref(), Some(content.as_bytes()));
        }
        let entries = fs::read_dir(folder.path().join("new")).expect("it can be read");
        assert_eq!(entries.count(), 1, "nothing else is left");
        for (mode, forbidden, is_read) in [
            (0o644, ALL_WRITE, true),
            (0o644, OTHERS_READ_OR_WRITE, false),
            (0o602, ALL_WRITE, false),
        ] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("changed");
            assert_eq!(read(&path, forbidden).is_ok(), is_read, "{mode:o}");
        }
    }
}
