//! What tells whether files have changed since they were read.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A file that changed this recently may change once more within the resolution of its timestamps, so it is read again.
const SETTLING: i64 = 2;

/// The state of a file, which differs once the file is written or another one is in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// In seconds and nanoseconds. The time of the last write can be set at will, so it is not enough.
    written: (i64, i64),
    changed: (i64, i64),
}

/// The states of files that are read together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamps(Vec<Stamp>);

/// Files that need not be read again while their states are the same, by what they are read for.
#[derive(Debug, Default, Clone)]
pub(crate) struct SeenFiles(HashMap<(&'static str, Vec<PathBuf>), Stamps>);

impl SeenFiles {
    /// Whether files are as they were when they were read.
    pub(crate) fn includes(&self, purpose: &'static str, files: &[&Path], stamps: &Stamps) -> bool {
        self.0.get(&key(purpose, files)) == Some(stamps)
    }

    pub(crate) fn insert(&mut self, purpose: &'static str, files: &[&Path], stamps: Stamps) {
        self.0.insert(key(purpose, files), stamps);
    }

    pub(crate) fn remove(&mut self, purpose: &'static str) {
        self.0.retain(|(of, _), _| *of != purpose);
    }
}

fn key(purpose: &'static str, files: &[&Path]) -> (&'static str, Vec<PathBuf>) {
    (purpose, files.iter().map(|file| file.into()).collect())
}

impl Stamps {
    /// The states of files, links followed; `None` if one of them is not there.
    pub(crate) fn of(files: &[&Path]) -> Option<Self> {
        let stamps = files.iter().map(|file| Stamp::of(file));
        stamps.collect::<Option<Vec<_>>>().map(Stamps)
    }

    /// Whether another change would be noticed for sure.
    pub(crate) fn are_settled(&self, now: i64) -> bool {
        let mut changed = self.0.iter().map(|stamp| stamp.changed.0);
        changed.all(|changed| changed + SETTLING < now)
    }
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let file = fs::metadata(path).ok()?;
        Some(Stamp {
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            written: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        })
    }
}
