//! The file of a Unix socket: created by an atomic rename, and removed only while it belongs to this process.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How often [`SocketFile::wait_replaced`] checks the file.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The file of a socket; empty until [`listen`](SocketFile::listen).
#[derive(Debug, Default)]
pub(super) struct SocketFile(Mutex<Option<SocketEntry>>);

/// A socket that this process has put into the file system.
#[derive(Debug, Clone)]
pub(super) struct SocketEntry {
    path: PathBuf,
    file: FileId,
}

/// Device, inode and creation time of a socket. The inode alone may be that of a later file.
type FileId = (u64, u64, i64, i64);

impl SocketFile {
    /// Listens at `path`, for the owner only, and replaces an existing socket by a rename: there is no moment without
    /// one. The listener is non-blocking.
    ///
    /// # Errors
    /// Also if `path` is a file other than a socket.
    pub(super) fn listen(&self, path: &Path) -> io::Result<UnixListener> {
        if fs::symlink_metadata(path).is_ok_and(|found| !found.file_type().is_socket()) {
            return Err(io::Error::other("there is a file that is no socket"));
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = path.with_file_name(format!(".{name}.{}", process::id()));
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&temporary)?;
        let placed = listener
            .set_nonblocking(true)
            .and_then(|()| fs::set_permissions(&temporary, Permissions::from_mode(0o600)))
            .and_then(|()| file_id(&temporary))
            .and_then(|file| fs::rename(&temporary, path).map(|()| file));
        match placed {
            Ok(file) => {
                let path = path.to_owned();
                *self.entry() = Some(SocketEntry { path, file });
                Ok(listener)
            }
            Err(error) => {
                let _ = fs::remove_file(&temporary);
                Err(error)
            }
        }
    }

    /// The path of the socket.
    pub(super) fn path(&self) -> Option<PathBuf> {
        self.entry().as_ref().map(|entry| entry.path.clone())
    }

    /// Removes the file unless another process has replaced it.
    pub(super) fn remove(&self) {
        if let Some(entry) = self.entry().take() {
            entry.remove();
        }
    }

    /// Waits until another process has replaced the file, for `wait` at most.
    pub(super) async fn wait_replaced(&self, wait: Duration) {
        let Some(entry) = self.entry().clone() else {
            return;
        };
        let deadline = Instant::now() + wait;
        while Instant::now() < deadline && entry.is_current() {
            sleep(POLL_INTERVAL).await;
        }
    }

    fn entry(&self) -> MutexGuard<'_, Option<SocketEntry>> {
        // No update under this lock can be left half done, so a poisoned lock is usable.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SocketEntry {
    /// The socket that is at `path` now.
    ///
    /// # Errors
    /// There is no file.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        Ok(SocketEntry {
            path: path.to_owned(),
            file: file_id(path)?,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether no other process has replaced or removed the file.
    pub(super) fn is_current(&self) -> bool {
        file_id(&self.path).is_ok_and(|found| found == self.file)
    }

    /// Removes the file unless another process has replaced it.
    pub(super) fn remove(&self) {
        if self.is_current() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether both paths lead to the same socket.
pub(super) fn is_same_socket(one: &Path, other: &Path) -> bool {
    one == other || matches!((file_id(one), file_id(other)), (Ok(one), Ok(other)) if one == other)
}

fn file_id(path: &Path) -> io::Result<FileId> {
    let found = fs::symlink_metadata(path)?;
    // Nothing writes to a socket's file, so it was modified when it was created.
    Ok((found.dev(), found.ino(), found.mtime(), found.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_a_later_one_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let (before, after) = (SocketFile::default(), SocketFile::default());
        let _first = before.listen(&path).unwrap();
        assert_eq!(before.path().as_deref(), Some(&*path));
        let _second = after.listen(&path).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        before.remove();
        assert!(std::os::unix::net::UnixStream::connect(&path).is_ok());
        after.remove();
        assert!(!path.exists());
    }

    #[test]
    fn only_sockets_are_replaced_and_only_their_owner_may_connect() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        fs::write(&path, "precious").unwrap();
        let file = SocketFile::default();
        let error = file.listen(&path).unwrap_err();
        assert!(error.to_string().contains("no socket"), "{error}");
        fs::remove_file(&path).unwrap();
        let _listener = file.listen(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_detour_leads_to_the_same_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let other = folder.path().join("other");
        let files = [SocketFile::default(), SocketFile::default()];
        let _listener = files[0].listen(&path).unwrap();
        assert!(is_same_socket(
            &path,
            &folder.path().join(".").join("socket")
        ));
        assert!(!is_same_socket(&path, &other));
        let _listener = files[1].listen(&other).unwrap();
        assert!(!is_same_socket(&path, &other));
    }
}
