//! Where the files of a running process are: its pid file and its two Unix sockets.
//!
//! What the configuration leaves open lies in a runtime directory, under a name that comes from the path of the
//! configuration file, so that two instances with different files do not meet. The path is taken as it was given, made
//! absolute: links in it are not followed, so that a file that is swapped by a link (a Kubernetes ConfigMap, releases
//! behind `loaded_config`) stays the file of the same instance. A file and a link to it are two instances.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::{env, path};

use nix::unistd::{AccessFlags, access, geteuid};

use crate::config;

use super::handover::is_trusted;

/// The file whose instance has the plain name: the one of the machine's service.
pub const DEFAULT_CONFIG: &str = "/etc/ballast/ballast.yaml";

/// The files of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimePaths {
    /// Where the process writes its id.
    pub pid_file: PathBuf,
    /// Where it takes commands.
    pub control_socket: PathBuf,
    /// Where a successor gets the listeners.
    pub upgrade_socket: PathBuf,
}

impl RuntimePaths {
    /// The places of the instance that `file` configures; `None`: the demo. Makes the runtime directory if anything is
    /// to lie in it.
    ///
    /// # Errors
    /// If no runtime directory can be written.
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

/// Where the instance that `file` configures takes commands, seen from another process: `configured` in the file, or the
/// first of the default places where there is a socket. A process that has not taken in yet what is said is in one of
/// those.
pub fn find_control_socket(configured: Option<PathBuf>, file: &Path) -> PathBuf {
    let name = file_name(Some(file), "sock");
    let defaults = candidate_directories().into_iter();
    let defaults = defaults.map(|directory| directory.join(&name));
    let candidates: Vec<_> = configured.into_iter().chain(defaults).collect();
    let there = candidates.iter().find(|path| path.exists());
    there.unwrap_or(&candidates[0]).clone()
}

/// The runtime directories in the order in which they are tried; at least one.
fn candidate_directories() -> Vec<PathBuf> {
    let uid = geteuid();
    let mut directories = Vec::new();
    // What systemd made for the service.
    if let Some(given) = env::var_os("RUNTIME_DIRECTORY")
        && let Some(first) = env::split_paths(&given).next()
        && first.is_absolute()
    {
        directories.push(first);
    }
    directories.push(PathBuf::from("/run/ballast"));
    if let Some(own) = env::var_os("XDG_RUNTIME_DIR").filter(|own| !own.is_empty()) {
        directories.push(Path::new(&own).join("ballast"));
    }
    directories.push(format!("/run/user/{uid}/ballast").into());
    // Without a session there is none of the above; this is memory, and everybody may make a directory in it.
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
            "no runtime directory can be written, tried {}; say server.pid_file, server.control_socket and \
             server.upgrade_socket",
            tried.join(", ")
        )
    })
}

/// Whether files of ours may lie in `directory`, which is made if it is not there. One that others may write is not
/// used: they could put a socket of their own in the place of ours.
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
    // A long name could make the path too long for a socket.
    let stem = absolute.file_stem().unwrap_or_default().to_string_lossy();
    let stem: String = stem
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(20)
        .collect();
    format!("{stem}-{hash:08x}.{extension}").into()
}

/// The path by which an instance is known: absolute, and without `..` where that leads out of a directory. Where it
/// leads out of a link it stays, as only the kernel knows where to.
fn instance_path(file: &Path) -> io::Result<PathBuf> {
    let mut known = PathBuf::new();
    for component in path::absolute(file)?.components() {
        let leads_out = matches!(component, path::Component::ParentDir);
        match (leads_out, known.file_name()) {
            (true, Some(_)) if !known.is_symlink() => drop(known.pop()),
            // Nothing is above the root.
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
        // The folder of temporary files may be behind a link.
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
        // As versions before this one named it, which followed links.
        let hash = crc32fast::hash(at("releases/1/a.yaml").as_os_str().as_encoded_bytes());
        assert_eq!(text(file), format!("a-{hash:08x}.pid"));
        fs::remove_file(at("current")).unwrap();
        std::os::unix::fs::symlink("releases/2", at("current")).unwrap();
        assert_eq!(file_name(Some(&at("current/a.yaml")), "pid"), through);
        // What is above a link depends on where that leads.
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
