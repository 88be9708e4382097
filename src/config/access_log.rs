//! `access_log`: what is written about each request, and where.

use std::fmt;
use std::path::PathBuf;

use super::tracing::Share;

/// `access_log`: what is written about each request, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLog {
    /// Where the lines go.
    pub target: LogTarget,
    /// What a line looks like.
    pub format: LogFormat,
    /// Of which requests a share is enough; the first that fits counts. A request that none fits has its line.
    pub samples: Vec<Sample>,
    /// Bytes that requests which wait for their lines may take; the lines of those beyond are lost.
    pub buffer: usize,
}

/// Where the lines of a log go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// The standard output.
    Stdout,
    /// A file, which is appended to; or a FIFO or a device. As with [`Certificate`](super::Certificate), the path has got
    /// its directory.
    File(PathBuf),
}

impl fmt::Display for LogTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogTarget::Stdout => f.write_str("stdout"),
            LogTarget::File(path) => write!(f, "`{}`", path.display()),
        }
    }
}

/// What a line of a log looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// An object of JSON (default).
    Json,
    /// nginx's `combined`.
    Combined,
}

/// A share of the requests with some statuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// The statuses as ranges, both ends included.
    pub statuses: Vec<(u16, u16)>,
    /// How many of such requests have their line.
    pub share: Share,
}
