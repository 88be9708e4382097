//! The upgrade socket: which directories are safe for it, who may connect, and how a successor takes it over.

use std::fs::{self, DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use nix::unistd::geteuid;

use crate::server::socket_file::SocketFile;

/// The upgrade socket of a serving process.
#[derive(Debug)]
pub(in crate::server) struct HandoverListener {
    listener: UnixListener,
    file: SocketFile,
}

impl HandoverListener {
    /// Listens at `path`; fails if another process accepts connections there.
    pub(in crate::server) fn bind(path: &Path) -> Result<Self, String> {
        if UnixStream::connect(path).is_ok() {
            return Err(cannot(path, "another process answers there"));
        }
        HandoverListener::take_over(path)
    }

    /// Listens at `path` in place of the current owner. There is no moment without a socket.
    pub(in crate::server) fn take_over(path: &Path) -> Result<Self, String> {
        check_directory(path).map_err(|reason| cannot(path, &reason))?;
        let file = SocketFile::default();
        let listener = file.listen(path);
        let listener = listener.map_err(|error| cannot(path, &error.to_string()))?;
        Ok(HandoverListener { listener, file })
    }

    /// Removes the file, if no successor was accepted.
    pub(in crate::server) fn remove_file(&self) {
        self.file.remove();
    }

    pub(super) fn into_parts(self) -> (UnixListener, SocketFile) {
        (self.listener, self.file)
    }
}

/// Whether user `uid` may connect to our sockets and own their directories: our own user and root.
pub(in crate::server) fn is_trusted(uid: u32) -> bool {
    uid == 0 || uid == geteuid().as_raw()
}

/// Checks that the directory of an upgrade socket, if it exists, is private; other permissions are refused whichever
/// user runs the process.
pub(in crate::server) fn check_directory_mode(path: &Path) -> Result<(), String> {
    let directory = directory(path);
    match fs::metadata(directory) {
        Ok(found) => require_private(directory, &found).map_err(|reason| cannot(path, &reason)),
        Err(_) => Ok(()),
    }
}

fn cannot(path: &Path, reason: &str) -> String {
    format!("cannot use the upgrade socket {}: {reason}", path.display())
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A user who can write to the directory could impersonate the serving process.
fn check_directory(path: &Path) -> Result<(), String> {
    let directory = directory(path);
    let shown = directory.display();
    let found = match fs::metadata(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory);
            return made.map_err(|error| format!("cannot make {shown}: {error}"));
        }
        found => found.map_err(|error| format!("{shown}: {error}"))?,
    };
    if !is_trusted(found.uid()) {
        return Err(format!("{shown} belongs to user {}", found.uid()));
    }
    require_private(directory, &found)
}

fn require_private(directory: &Path, found: &Metadata) -> Result<(), String> {
    let mode = found.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(format!(
            "{} is open to others (mode {mode:04o}); it must have mode 0700",
            directory.display()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
        folder
    }

    #[test]
    fn a_stale_socket_is_replaced_and_one_in_use_is_not() {
        let folder = folder();
        let path = folder.path().join("up");
        drop(UnixListener::bind(&path).unwrap());
        let handover_listener = HandoverListener::bind(&path).unwrap();
        assert!(
            HandoverListener::bind(&path)
                .unwrap_err()
                .contains("another process answers")
        );
        drop(handover_listener);
        assert!(HandoverListener::bind(&path).is_ok());
    }

    #[test]
    fn open_directories_are_refused() {
        let folder = folder();
        let open = folder.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, Permissions::from_mode(0o750)).unwrap();
        let error = HandoverListener::bind(&open.join("up")).unwrap_err();
        assert!(error.contains("mode 0750"), "{error}");
        let made = folder.path().join("made");
        HandoverListener::bind(&made.join("up")).unwrap();
        let mode = fs::metadata(made).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}
