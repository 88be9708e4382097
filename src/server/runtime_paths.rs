//! The paths of a running process's files: its pid file and its two Unix sockets.
//!
//! Files without a configured path lie in a runtime directory, under a name derived from the path of the configuration
//! file, so that two instances with different files do not collide. The path is made absolute, but links in it are not
//! followed: a file that is replaced through a link (a Kubernetes ConfigMap, releases behind `current`) stays the file
//! of the same instance. A file and a link to it are two instances.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::{env, path};

use nix::unistd::{AccessFlags, access, geteuid};

use crate::config;

use super::handover::is_trusted;

/// The configuration file of the machine's service, whose runtime files have the plain name `ballast`.
pub const DEFAULT_CONFIG: &str = "/etc/ballast/ballast.yaml";

/// The runtime files of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimePaths {
    /// The pid file.
    pub pid_file: PathBuf,
    /// The control socket, for operators' commands.
    pub control_socket: PathBuf,
    /// The upgrade socket, over which a successor receives the listeners.
    pub upgrade_socket: PathBuf,
}

impl RuntimePaths {
    /// The paths of the instance that `file` configures; `None`: the demo. Creates the runtime directory if a file is
    /// to lie in it.
    ///
    /// # Errors
    /// No runtime directory is writable.
    pub fn resolve(server: &config::Server, file: Option<&Path>) -> Result<Self, String> {
        let directory = match server {
            config::Server {
                pid_file: Some(_),
                control_socket: Some(_),
                upgrade_socket: Some(_),
                ..
            } => PathBuf::new(),
            _ => create_directory()?,
        };
        let path_of = |configured: &Option<PathBuf>, extension| match configured {
            Some(path) => path.clone(),
            None => directory.join(file_name(file, extension)),
        };
        Ok(RuntimePaths {
            pid_file: path_of(&server.pid_file, "pid"),
            control_socket: path_of(&server.control_socket, "sock"),
            upgrade_socket: path_of(&server.upgrade_socket, "upgrade"),
        })
    }
}

/// Finds the control socket of the instance that `file` configures, from another process: the `configured` path, or the
/// first default path with a socket. A process that has not reloaded a newly configured path yet listens at a default
/// path.
pub fn find_control_socket(configured: Option<PathBuf>, file: &Path) -> PathBuf {
    let name = file_name(Some(file), "sock");
    let defaults = candidate_directories().into_iter();
    let defaults = defaults.map(|directory| directory.join(&name));
    let candidates: Vec<_> = configured.into_iter().chain(defaults).collect();
    let there = candidates.iter().find(|path| path.exists());
    there.unwrap_or(&candidates[0]).clone()
}

/// The candidate runtime directories in the order of preference; at least one.
fn candidate_directories() -> Vec<PathBuf> {
    let uid = geteuid();
    let mut directories = Vec::new();
    // Created by systemd for the service.
    if let Some(given) = env::var_os("RUNTIME_DIRECTORY")
        && let Some(first) = env::split_paths(&given).next()
        && first.is_absolute()
    {
        directories.push(first);
    }
    directories.push(PathBuf::from("/run/ballast"));
    if let Some(session) = env::var_os("XDG_RUNTIME_DIR").filter(|path| !path.is_empty()) {
        directories.push(Path::new(&session).join("ballast"));
    }
    directories.push(format!("/run/user/{uid}/ballast").into());
    // Without a login session none of the above exists. /dev/shm is in memory, and every user may create a directory in
    // it.
    directories.push(format!("/dev/shm/ballast-{uid}").into());
    directories
}

fn create_directory() -> Result<PathBuf, String> {
    let directories = candidate_directories();
    let usable = directories.iter().find(|directory| is_usable(directory));
    usable.cloned().ok_or_else(|| {
        let tried: Vec<_> = directories
            .iter()
            .map(|directory| directory.display().to_string())
            .collect();
        format!(
            "no runtime directory can be written, tried {}; set server.pid_file, server.control_socket and \
             server.upgrade_socket",
            tried.join(", ")
        )
    })
}

/// Whether `directory` is safe for our files; it is created if missing. A directory that other users may write is
/// refused: they could replace our socket by one of theirs.
fn is_usable(directory: &Path) -> bool {
    match DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::symlink_metadata(directory).is_ok_and(|found| {
                found.is_dir() && is_trusted(found.uid()) && found.permissions().mode() & 0o077 == 0
            }) && access(directory, AccessFlags::W_OK | AccessFlags::X_OK).is_ok()
        }
        Err(_) => false,
    }
}

/// `ballast` for the default file; for others the stem of the file's name and a hash of its path.
fn file_name(file: Option<&Path>, extension: &str) -> OsString {
    let Some(file) = file else {
        return format!("demo.{extension}").into();
    };
    let Ok(absolute) = instance_path(file) else {
        return format!("ballast.{extension}").into();
    };
    if absolute == Path::new(DEFAULT_CONFIG) {
        return format!("ballast.{extension}").into();
    }
    let hash = crc32fast::hash(absolute.as_os_str().as_encoded_bytes());
    // The kernel limits the path of a socket to 108 bytes.
    let stem = absolute.file_stem().unwrap_or_default().to_string_lossy();
    let stem: String = stem
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(20)
        .collect();
    format!("{stem}-{hash:08x}.{extension}").into()
}

/// The path that identifies an instance: absolute, with `..` resolved where it leaves a real directory. `..` after a
/// link is kept, as only the kernel knows its target.
fn instance_path(file: &Path) -> io::Result<PathBuf> {
    let mut known = PathBuf::new();
    for component in path::absolute(file)?.components() {
        let leads_out = matches!(component, path::Component::ParentDir);
        match (leads_out, known.file_name()) {
            (true, Some(_)) if !known.is_symlink() => drop(known.pop()),
            // `..` at the root is the root.
            (true, None) if known.parent().is_none() => {}
            _ => known.push(component),
        }
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: OsString) -> String {
        name.into_string().unwrap()
    }

    #[test]
    fn the_name_comes_from_the_file() {
        let default = Some(Path::new(DEFAULT_CONFIG));
        assert_eq!(text(file_name(default, "sock")), "ballast.sock");
        assert_eq!(text(file_name(None, "pid")), "demo.pid");
        let one = text(file_name(Some(Path::new("/one/lb.yaml")), "sock"));
        let other = text(file_name(Some(Path::new("/other/lb.yaml")), "sock"));
        assert!(one.starts_with("lb-") && one.ends_with(".sock"), "{one}");
        assert_ne!(one, other);
        assert_eq!(
            one,
            text(file_name(Some(Path::new("/one/lb.yaml")), "sock"))
        );
    }

    #[test]
    fn the_path_is_taken_as_given_and_links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        // The temporary directory may be reached through a link.
        let folder = fs::canonicalize(folder.path()).unwrap();
        let at = |path: &str| folder.join(path);
        for release in ["releases/1", "releases/2"] {
            fs::create_dir_all(at(release)).unwrap();
            fs::write(at(release).join("a.yaml"), release).unwrap();
        }
        std::os::unix::fs::symlink("releases/1", at("current")).unwrap();
        let through = file_name(Some(&at("current/a.yaml")), "pid");
        let file = file_name(Some(&at("releases/1/a.yaml")), "pid");
        assert_ne!(through, file);
        for spelling in [
            "./releases/1/a.yaml",
            "releases//1/./a.yaml",
            "releases/2/../1/a.yaml",
            "releases/1/../../releases/1/a.yaml",
        ] {
            assert_eq!(file_name(Some(&at(spelling)), "pid"), file, "{spelling}");
        }
        // Earlier versions, which followed links, used the same name.
        let hash = crc32fast::hash(at("releases/1/a.yaml").as_os_str().as_encoded_bytes());
        assert_eq!(text(file), format!("a-{hash:08x}.pid"));
        fs::remove_file(at("current")).unwrap();
        std::os::unix::fs::symlink("releases/2", at("current")).unwrap();
        assert_eq!(file_name(Some(&at("current/a.yaml")), "pid"), through);
        // The parent of a link's target is unknown here.
        assert_eq!(
            instance_path(&at("current/../b.yaml")).unwrap(),
            at("current/../b.yaml")
        );
        assert_eq!(
            instance_path(Path::new("/../b.yaml")).unwrap(),
            Path::new("/b.yaml")
        );
        let here = env::current_dir().unwrap();
        for relative in ["b.yaml", "./b.yaml", "x/../b.yaml"] {
            assert_eq!(
                instance_path(Path::new(relative)).unwrap(),
                here.join("b.yaml")
            );
        }
    }

    #[test]
    fn a_directory_that_others_may_write_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let made = folder.path().join("made");
        assert!(is_usable(&made));
        assert_eq!(
            fs::metadata(&made).unwrap().permissions().mode() & 0o777,
            0o700
        );
        assert!(is_usable(&made), "it is there already");
        fs::set_permissions(&made, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(!is_usable(&made));
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("made", &link).unwrap();
        assert!(!is_usable(&link));
    }
}
