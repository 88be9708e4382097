//! Looks at the configuration file and the binary on disk, so that the process can tell whether it runs with them.
//!
//! Like certificates they are looked at in intervals, which notices every way in which they change. Nothing is taken in:
//! that is for an operator to decide.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use log::error;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::admin::{BinaryState, FileState, LoadedConfig};
use crate::config;
use crate::file_stamps::Stamps;
use crate::supervisor::{Supervisor, Task};
use crate::timestamp::Timestamp;

/// How often the files are looked at.
const INTERVAL: Duration = Duration::from_secs(2);

/// How often the configuration is read although no file of it has changed: a new file may match a pattern of `include`.
const READ_INTERVAL: Duration = Duration::from_secs(60);

/// What was seen on disk.
#[derive(Debug, Default)]
pub(super) struct DiskState {
    /// When the configuration was loaded that the file was compared with, and the result.
    file: Option<(Timestamp, FileState)>,
    pub(super) binary: BinaryState,
}

impl DiskState {
    /// The state of the file. It is not known yet just after a reload, which has read it.
    pub(super) fn file_state(&self, loaded_config: &LoadedConfig) -> FileState {
        match self.file {
            Some((loaded, state)) if loaded == loaded_config.loaded => state,
            _ => FileState::Loaded,
        }
    }
}

/// The binary that runs, and what tells it from another in its place.
#[derive(Debug, Clone)]
pub(super) struct RunningBinary {
    path: PathBuf,
    /// Its device and inode; `None`: it was not there any more when the process started.
    identity: Option<(u64, u64)>,
}

impl RunningBinary {
    /// The binary at `path`. Call it at start, before the file can have been replaced.
    pub(super) fn at(path: &Path) -> Self {
        RunningBinary {
            path: path.to_owned(),
            identity: identity(path),
        }
    }

    fn state(&self) -> BinaryState {
        match identity(&self.path) {
            None => BinaryState::Missing,
            found if found == self.identity => BinaryState::Running,
            Some(_) => BinaryState::Replaced,
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let file = fs::metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}

/// Looks at the files.
#[derive(Debug)]
pub(super) struct DiskWatch {
    /// The configuration file; `None`: the process has a built-in configuration.
    pub(super) file: Option<PathBuf>,
    pub(super) binary: RunningBinary,
    pub(super) loaded_config: Arc<ArcSwap<LoadedConfig>>,
    pub(super) state: Arc<ArcSwap<DiskState>>,
}

impl DiskWatch {
    /// Looks at the files until the process ends.
    pub(super) async fn run(self) {
        let this = Arc::new(self);
        let mut supervisor = Supervisor::new(Task::DiskWatch, "");
        loop {
            supervisor.run(Arc::clone(&this).look_repeatedly()).await;
        }
    }

    async fn look_repeatedly(self: Arc<Self>) {
        let mut seen = None;
        loop {
            let this = Arc::clone(&self);
            // A file system that does not respond holds up one thread, and nothing else.
            match spawn_blocking(move || this.look(seen)).await {
                Ok((state, now_seen)) => {
                    self.state.store(Arc::new(state));
                    seen = now_seen;
                }
                Err(error) => {
                    error!("the files on disk could not be looked at: {error}");
                    seen = None;
                }
            }
            sleep(INTERVAL).await;
        }
    }

    fn look(&self, seen: Option<SeenConfig>) -> (DiskState, Option<SeenConfig>) {
        let loaded_config = self.loaded_config.load();
        let (state, seen) = match &self.file {
            None => (FileState::Loaded, None),
            Some(file) => match SeenConfig::of(file, seen) {
                Some(seen) => {
                    let digest = seen.digest.as_deref();
                    let is_loaded = digest == Some(&loaded_config.config.digest);
                    let state = match is_loaded {
                        true => FileState::Loaded,
                        false => FileState::Edited,
                    };
                    (state, Some(seen))
                }
                None => (FileState::Unreadable, None),
            },
        };
        let state = DiskState {
            file: Some((loaded_config.loaded, state)),
            binary: self.binary.state(),
        };
        (state, seen)
    }
}

/// The configuration as it was read last.
#[derive(Debug)]
struct SeenConfig {
    /// `None`: it is not a configuration any more.
    digest: Option<String>,
    files: Vec<PathBuf>,
    /// The state of the files before they were read; `None`: one was not there.
    stamps: Option<Stamps>,
    read: Instant,
}

impl SeenConfig {
    /// The configuration at `file`, which is read only if it can have changed since it was `seen`. `None`: it cannot be
    /// read.
    fn of(file: &Path, seen: Option<SeenConfig>) -> Option<Self> {
        if let Some(seen) = seen
            && seen.read.elapsed() < READ_INTERVAL
            && let Some(stamps) = stamps(&seen.files)
            && seen.stamps.as_ref() == Some(&stamps)
            && stamps.are_settled(Timestamp::now().unix_seconds() as i64)
        {
            return Some(seen);
        }
        let read = Instant::now();
        let config::FileDigest { digest, files } = config::digest(file).ok()?;
        Some(SeenConfig {
            digest,
            stamps: stamps(&files),
            files,
            read,
        })
    }
}

fn stamps(files: &[PathBuf]) -> Option<Stamps> {
    Stamps::of(&Vec::from_iter(files.iter().map(PathBuf::as_path)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const MAIN: &str = "include: \"more/*.yaml\"\nlisteners: [\"127.0.0.1:80\"]\n";
    const POOLS: &str = "pools: { web: { hosts: [\"127.0.0.1:81\"] } }\n";

    fn digest(file: &Path) -> Option<String> {
        SeenConfig::of(file, None)?.digest
    }

    #[test]
    fn the_digest_is_that_of_a_loaded_configuration_until_any_of_its_files_changes() {
        let folder = tempfile::tempdir().unwrap();
        let (file, more) = (folder.path().join("b.yaml"), folder.path().join("more"));
        fs::create_dir(&more).unwrap();
        fs::write(more.join("a.yaml"), POOLS).unwrap();
        fs::write(&file, MAIN).unwrap();
        let loaded = Config::load(&file).unwrap().digest;
        assert_eq!(digest(&file).as_ref(), Some(&loaded));
        fs::write(more.join("a.yaml"), format!("{POOLS}# edited\n")).unwrap();
        assert_ne!(digest(&file).as_ref(), Some(&loaded));
        fs::write(more.join("a.yaml"), POOLS).unwrap();
        assert_eq!(digest(&file).as_ref(), Some(&loaded));
        fs::write(more.join("b.yaml"), "").unwrap();
        assert_ne!(digest(&file).as_ref(), Some(&loaded));
        fs::write(&file, "listeners: [").unwrap();
        assert_eq!(digest(&file), None);
        fs::remove_file(&file).unwrap();
        assert!(SeenConfig::of(&file, None).is_none());
    }

    #[test]
    fn a_binary_is_known_by_its_inode() {
        let folder = tempfile::tempdir().unwrap();
        let (path, new) = (folder.path().join("ballast"), folder.path().join("new"));
        fs::write(&path, "1").unwrap();
        let binary = RunningBinary::at(&path);
        assert_eq!(binary.state(), BinaryState::Running);
        fs::write(&new, "2").unwrap();
        fs::rename(&new, &path).unwrap();
        assert_eq!(binary.state(), BinaryState::Replaced);
        fs::remove_file(&path).unwrap();
        assert_eq!(binary.state(), BinaryState::Missing);
    }
}
