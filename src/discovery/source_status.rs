//! What is known from a source, for people.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::source_table::SourceState;
use crate::config::HostSource;
use crate::timestamp::Timestamp;

/// What is known from a source of hosts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceStatus {
    /// Its kind and its name, as hosts and the log have it: `dns app.internal`.
    pub source: String,
    /// `dns`, `srv`, `file`, `etcd` or `consul`.
    pub kind: String,
    /// What is asked for: a name, a path, a prefix or a service.
    pub name: String,
    /// The number of its hosts by its last good answers.
    pub hosts: usize,
    /// When it last told all of its hosts; `None`: never.
    pub confirmed: Option<Timestamp>,
    /// How long ago that was.
    pub age_seconds: Option<f64>,
    /// Whether the hosts are those that an earlier process knew, and it has not answered since.
    pub stale: bool,
    /// What was wrong with its last answer; `None`: nothing, or there was none yet.
    pub error: Option<String>,
    /// How long its last answer still holds; `None`: until it says something else.
    pub ttl_seconds: Option<f64>,
    /// Its answers.
    pub answers: SourceAnswers,
}

/// The answers of a source since the process began to ask it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceAnswers {
    /// Those with all of its hosts.
    pub good: u64,
    /// Those that failed, were empty or incomplete.
    pub failed: u64,
}

impl SourceState {
    /// How long ago the source told all of its hosts; `None`: it never did.
    pub(crate) fn age(&self) -> Option<Duration> {
        let seconds = Timestamp::now().unix_seconds() - self.confirmed?.unix_seconds();
        // The clock may have been set back in between.
        Some(Duration::try_from_secs_f64(seconds).unwrap_or_default())
    }

    /// The state of `source`, which this is, for people.
    pub(crate) fn status(&self, source: &HostSource) -> SourceStatus {
        let ttl = |until: Instant| until.saturating_duration_since(Instant::now());
        SourceStatus {
            source: source.to_string(),
            kind: source.kind().to_owned(),
            name: source.name(),
            hosts: self.hosts.len(),
            confirmed: self.confirmed,
            age_seconds: self.age().map(|age| age.as_secs_f64()),
            stale: self.is_stale,
            error: self.error.clone(),
            ttl_seconds: self.expires.map(|until| ttl(until).as_secs_f64()),
            answers: SourceAnswers {
                good: self.good_answers,
                failed: self.bad_answers,
            },
        }
    }
}
