//! `access_log`: a line for each request.

use std::fmt;
use std::path::PathBuf;

use serde_json::json;

use super::schema::{Scalar, choice, list, map_of, scalar, section, size};
use super::server;
use super::share::{Share, share};
use super::status::statuses;

/// The word for the standard output.
const STDOUT: &str = "-";
/// One line may be as long as a request's head.
const MIN_BUFFER: u64 = 64 << 10;
/// Twice as much is held in memory.
const MAX_BUFFER: u64 = 1 << 30;

section! {
    /// `access_log`: a line for each request.
    pub struct AccessLog: Eq {
        /// The file that lines are appended to; `-` is the standard output.
        path: LogTarget { target(), required "/var/log/ballast/access.log" },
        /// `json`: an object with everything that is known. `combined`: the format that nginx has under this name.
        format: LogFormat {
            choice(&[("json", LogFormat::Json), ("combined", LogFormat::Combined)]),
            default "json"
        },
        /// How much requests may take that wait for their lines. Twice as much is held in memory at most.
        buffer: usize { size::<usize>(MIN_BUFFER..=MAX_BUFFER), default "4MiB" },
        /// Requests of which a share is enough. The first entry that matches counts; all other requests are logged.
        sample: Vec<Sample> { list("samples", map_of::<Sample>()), default "[]" },
    }
}

section! {
    /// A share of the requests with some statuses.
    pub struct Sample: Eq {
        /// The statuses, one or a list, such as 204 or `[200, 300-399]`.
        statuses: Vec<(u16, u16)> { statuses(), required "200-399" },
        /// The share of these requests that is logged, down to 0.0001%.
        share: Share { share(), required "1%" },
    }
}

/// Where the lines of a log go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// The standard output.
    Stdout,
    /// A file that is appended to, or a FIFO or a device. Relative paths begin in the directory of the configuration.
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
    /// A JSON object.
    Json,
    /// nginx's `combined`.
    Combined,
}

fn target() -> Scalar<LogTarget> {
    let dump = |target: &LogTarget| match target {
        LogTarget::Stdout => json!(STDOUT),
        LogTarget::File(path) => json!(path.to_string_lossy()),
    };
    scalar(
        "the path of a file, or `-`",
        |_| Ok(LogTarget::Stdout),
        dump,
    )
    .reading(|text, reader| match text {
        STDOUT => Ok(LogTarget::Stdout),
        path => server::resolve(path, usize::MAX, reader).map(LogTarget::File),
    })
}
