//! The files of listeners that are Unix sockets: bound with their permissions, handed over, and removed at the end.
//!
//! A socket is bound at its path and gets its permissions before it listens; until then the kernel refuses connections. The
//! file that a killed process has left is replaced, but not one on which a process listens, and nothing that is no socket.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use log::warn;
use nix::unistd::{AccessFlags, access};
use rustix::io::Errno;
use rustix::net::SocketAddrUnix;

use super::socket_file::SocketEntry;
use crate::config::{FileMode, Listener, ListenerAddress};
use crate::host_socket::unix_socket;

/// The files of this process's listeners. Dropping it removes those that belong to this process.
#[derive(Debug)]
pub(super) struct ListenerFiles {
    configured: Vec<(Arc<Path>, FileMode)>,
    owned: Mutex<Vec<SocketEntry>>,
}

impl ListenerFiles {
    pub(super) fn new(listeners: &[Listener]) -> Self {
        let configured = listeners
            .iter()
            .filter_map(|listener| match &listener.address {
                ListenerAddress::Unix(path) => {
                    Some((Arc::clone(path), listener.mode.unwrap_or_default()))
                }
                ListenerAddress::Inet(_) => None,
            });
        ListenerFiles {
            configured: configured.collect(),
            owned: Mutex::default(),
        }
    }

    /// A socket at `path` that does not listen yet. Its file belongs to this process from now on.
    ///
    /// # Errors
    /// The socket cannot be bound there; `AddrInUse` if a process listens on it.
    pub(super) fn bind(&self, path: &Path) -> io::Result<OwnedFd> {
        remove_stale(path)?;
        let socket = unix_socket()?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
        let entry = SocketEntry::of(path)?;
        self.owned().push(entry);
        self.set_mode(path)?;
        Ok(socket)
    }

    /// Makes a bound socket listen.
    ///
    /// # Errors
    /// Another process has replaced its file meanwhile.
    pub(super) fn listen(&self, socket: &OwnedFd, path: &Path, backlog: i32) -> io::Result<()> {
        let owned = self.owned();
        let entry = owned.iter().find(|entry| entry.path() == path);
        if !entry.is_some_and(SocketEntry::is_current) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        Ok(rustix::net::listen(socket, backlog)?)
    }

    /// Takes over the files of a predecessor that has left, with the permissions of this process's configuration.
    pub(super) fn adopt(&self) {
        for (path, _) in &self.configured {
            let is_owned = self.owned().iter().any(|entry| entry.path() == &**path);
            if is_owned {
                continue;
            }
            let adopted = self.set_mode(path).and_then(|()| SocketEntry::of(path));
            match adopted {
                Ok(entry) => self.owned().push(entry),
                Err(error) => warn!("the socket at {}: {error}", path.display()),
            }
        }
    }

    /// Leaves the files of the listeners `serving` to a successor.
    pub(super) fn release(&self, serving: &[ListenerAddress]) {
        let is_served = |path: &Path| {
            serving
                .iter()
                .any(|address| address.as_unix() == Some(path))
        };
        self.owned().retain(|entry| !is_served(entry.path()));
    }

    /// Removes the files that belong to this process, unless another one has replaced them.
    pub(super) fn remove(&self) {
        self.owned().drain(..).for_each(|entry| entry.remove());
    }

    fn set_mode(&self, path: &Path) -> io::Result<()> {
        let mut configured = self.configured.iter();
        let mode = configured.find(|(known, _)| **known == *path);
        mode.map_or(Ok(()), |(_, mode)| {
            fs::set_permissions(path, Permissions::from_mode(mode.bits()))
        })
    }

    fn owned(&self) -> MutexGuard<'_, Vec<SocketEntry>> {
        // No update under this lock can be left half done, so a poisoned lock is usable.
        self.owned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ListenerFiles {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Whether a socket could be bound at `path`. Changes nothing.
///
/// # Errors
/// Why not; `AddrInUse` if a process listens on it.
pub(super) fn check(path: &Path) -> io::Result<()> {
    find_stale(path)?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    Ok(access(directory, AccessFlags::W_OK | AccessFlags::X_OK)?)
}

/// Removes the socket at `path` if no process listens on it.
fn remove_stale(path: &Path) -> io::Result<()> {
    match find_stale(path)? {
        true => fs::remove_file(path),
        false => Ok(()),
    }
}

/// Whether there is a socket at `path` on which no process listens. `false`: there is no file.
fn find_stale(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::other("there is a file that is no socket"));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    }
    // Non-blocking: a process with a full backlog would delay the answer.
    let socket = unix_socket()?;
    match rustix::net::connect(&socket, &SocketAddrUnix::new(path)?) {
        Err(Errno::CONNREFUSED) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Ok(()) | Err(Errno::AGAIN) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::config::Config;

    fn files(path: &Path) -> ListenerFiles {
        let text = format!(
            "listeners: [{{ address: \"unix:{}\", mode: 0606 }}]\npools: {{ web: {{ hosts: [\"127.0.0.1:80\"] }} }}",
            path.display()
        );
        let config = Config::parse(&text, Path::new("ballast.yaml")).expect("a configuration");
        ListenerFiles::new(&config.listeners)
    }

    #[test]
    fn only_a_socket_without_a_process_is_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let files = files(&path);
        fs::write(&path, "precious").expect("written");
        assert!(check(&path).is_err() && files.bind(&path).is_err());
        fs::remove_file(&path).expect("a file");
        let listener = UnixListener::bind(&path).expect("bound");
        for refused in [check(&path), files.bind(&path).map(drop)] {
            assert_eq!(refused.expect_err("used").kind(), io::ErrorKind::AddrInUse);
        }
        drop(listener);
        assert!(check(&path).is_ok() && path.exists());
        let socket = files.bind(&path).expect("bound");
        let mode = fs::metadata(&path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o606);
        files.listen(&socket, &path, 1).expect("it listens");
        files.remove();
        assert!(!path.exists());
    }

    #[test]
    fn a_file_is_removed_by_its_owner_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let (before, after) = (files(&path), files(&path));
        let _socket = before.bind(&path).expect("bound");
        before.release(&[ListenerAddress::Unix(path.as_path().into())]);
        before.remove();
        assert!(path.exists(), "the successor has it");
        after.adopt();
        drop(after);
        assert!(!path.exists());
    }

    #[test]
    fn a_socket_that_was_replaced_does_not_listen() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let (one, other) = (files(&path), files(&path));
        let socket = one.bind(&path).expect("bound");
        // It does not listen yet, so it looks stale.
        let _other = other.bind(&path).expect("bound");
        assert!(one.listen(&socket, &path, 1).is_err());
        one.remove();
        assert!(path.exists());
    }
}
