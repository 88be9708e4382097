//! What differs between the running process and what is on disk.

use serde::{Deserialize, Serialize};

use crate::timestamp::Timestamp;

/// What differs between the running process and what is on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// The changes of operators that the file does not have, those of pools in the order of the configuration.
    pub operator_changes: Vec<OperatorChange>,
    /// The configuration file.
    pub file: FileState,
    /// The binary.
    pub binary: BinaryState,
}

/// The configuration file on disk, beside what was loaded of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileState {
    /// It is as it was loaded.
    #[default]
    Loaded,
    /// It, or a file that it includes, has another content.
    Edited,
    /// It cannot be read.
    Unreadable,
}

/// The binary on disk, beside the one that runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BinaryState {
    /// It is the one that runs.
    #[default]
    Running,
    /// Another file is in its place.
    Replaced,
    /// There is no file at its path.
    Missing,
}

/// A change by an operator at run time that the file does not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorChange {
    /// What was changed.
    pub kind: OperatorChangeKind,
    /// The pool; `None`: the change is to the process.
    pub pool: Option<String>,
    /// The host; `None`: the change is to the pool or the process.
    pub host: Option<String>,
    /// The change in words.
    pub text: String,
    /// When it was made; `None`: that is not known.
    pub at: Option<Timestamp>,
    /// The member of the cluster on which an operator has last changed the pool, for all members; `None`: the change is
    /// of this process alone.
    pub member: Option<String>,
}

/// What an operator has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperatorChangeKind {
    /// A host that the file does not have.
    HostAdded,
    /// A host of the file that gets no requests.
    HostRemoved,
    /// The weight of a host.
    Weight,
    /// A host that is drained.
    Drained,
    /// The maintenance of a pool that serves according to the file, or other settings of one that does not.
    MaintenanceBegun,
    /// The end of a maintenance that the file has.
    MaintenanceEnded,
    /// The level of the log.
    LogLevel,
}
