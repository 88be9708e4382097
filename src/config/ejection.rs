//! `ejection`: when a failing host gets no requests for a while.

use std::time::Duration;

use serde_json::json;

use super::document::Node;
use super::hints::{did_you_mean, quote};
use super::scalars::format_time;
use super::schema::{
    Kind, Reader, converted, list, or_zero, percent, scalar, section, time, whole,
};
use super::status::{dump_range, includes, parse_range};

/// A host that needs more failures in a row would never be ejected.
const MAX_CONSECUTIVE: u32 = 1_000;
const MAX_REQUESTS: u32 = 1_000_000;
/// `5xx`: the class without 501 and 505, which are about the request.
const SERVER_ERRORS: [(u16, u16); 3] = [(500, 500), (502, 504), (506, 599)];

section! {
    /// When a failing host gets no requests for a while.
    pub struct Ejection: Eq {
        /// What counts as a failure: no connection, no response in time, a connection that broke, a response that is not
        /// HTTP, and statuses such as 503, 502-504 or 5xx, which is all of them but 501 and 505. Those two are about the
        /// request and count only if they are named. A client's fault never counts, nor does a connection that breaks
        /// within an upload, after an upgrade, or after an uncommon method or a head of more than 8 KiB.
        failures: Failures { failures(), default "[connect, timeout, reset, malformed, 500, 502-504, 520-529]" },
        /// Failures in a row that eject the host; 0: off.
        consecutive: Option<u32> { or_zero(whole(0..=MAX_CONSECUTIVE)), default "5" },
        /// The percentage of failures within `window` that ejects the host; 0%: off.
        rate: Option<u32> { or_zero(percent(0..=100)), default "50%" },
        /// The time over which the percentage is taken.
        window: Duration { time(), default "10s" },
        /// Requests within `window` below which the percentage is not looked at.
        min_requests: u32 { whole(1..=MAX_REQUESTS), default "20" },
        /// How long the first ejection lasts; each further one lasts twice as long as the one before.
        base: Duration { time(), default "10s" },
        /// The longest ejection. After as long a time without one the next lasts `base` again.
        max: Duration { time(), default "5m" },
        /// The percentage of the pool's hosts, rounded down, that may be ejected at the same time; one always may.
        max_ejected: u32 { percent(1..=100), default "50%" },
    }
    check times_fit;
}

fn times_fit(ejection: &mut Ejection, map: &Node, reader: &mut Reader<'_>) {
    let Ejection { base, max, .. } = *ejection;
    if max < base {
        let key = if map.get("max").is_some() {
            "max"
        } else {
            "base"
        };
        let (base, max) = (format_time(base), format_time(max));
        let message =
            format!("the longest ejection of {max} is shorter than the first one of {base}");
        reader.problem_of_key(map, key, message);
    }
}

/// What counts as a failure of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failures {
    /// No connection: refused, unreachable, too slow, TLS not agreed on.
    pub connect: bool,
    /// No response, or not all of it, within the timeouts.
    pub timeout: bool,
    /// The connection ended before the response was complete.
    pub reset: bool,
    /// The response is not HTTP.
    pub malformed: bool,
    /// Status codes as ranges, both ends included.
    pub statuses: Vec<(u16, u16)>,
}

impl Failures {
    /// Statuses that are about the host. 501, 505 and the rest of the class are about the request.
    pub const HOST_STATUSES: [(u16, u16); 3] = [(500, 500), (502, 504), (520, 529)];

    /// Whether responses with this status count.
    pub fn includes(&self, status: u16) -> bool {
        includes(&self.statuses, status)
    }

    /// Whether responses with this status count by default.
    pub fn is_of_host(status: u16) -> bool {
        includes(&Self::HOST_STATUSES, status)
    }
}

/// An element of `failures`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FailureKind {
    Connect,
    Timeout,
    Reset,
    Malformed,
    ServerErrors,
    Statuses((u16, u16)),
}

const WORDS: [(&str, FailureKind); 5] = [
    ("connect", FailureKind::Connect),
    ("timeout", FailureKind::Timeout),
    ("reset", FailureKind::Reset),
    ("malformed", FailureKind::Malformed),
    ("5xx", FailureKind::ServerErrors),
];

fn failures() -> impl Kind<Value = Failures> {
    let failure = scalar("a kind of failure, or a status", parse_failure, |failure| {
        let word = WORDS.iter().find(|(_, known)| known == failure);
        match (word, failure) {
            (Some((word, _)), _) => json!(word),
            (None, FailureKind::Statuses(range)) => dump_range(*range),
            (None, _) => json!(null),
        }
    });
    let failure = failure.with_schema(json!({ "type": ["integer", "string"] }));
    let empty = "nothing counts as a failure; did you mean `ejection: none`?";
    converted(
        list("failures", failure).not_empty(empty),
        |list, _, _| Some(from_list(&list)),
        to_list,
    )
}

fn parse_failure(text: &str) -> Result<FailureKind, String> {
    let word = WORDS.iter().find(|(word, _)| *word == text);
    if let Some((_, failure)) = word {
        return Ok(*failure);
    }
    parse_range(text).map(FailureKind::Statuses).map_err(|_| {
        let words = WORDS.map(|(word, _)| word);
        format!(
            "{} is not one of {} nor a status from 100 to 599{}",
            quote(text),
            words.map(quote).join(", "),
            did_you_mean(text, words)
        )
    })
}

fn from_list(list: &[FailureKind]) -> Failures {
    let has = |failure| list.contains(&failure);
    let mut statuses = Vec::new();
    for failure in list {
        match failure {
            FailureKind::ServerErrors => statuses.extend(SERVER_ERRORS),
            FailureKind::Statuses(range) => statuses.push(*range),
            FailureKind::Connect
            | FailureKind::Timeout
            | FailureKind::Reset
            | FailureKind::Malformed => {}
        }
    }
    Failures {
        connect: has(FailureKind::Connect),
        timeout: has(FailureKind::Timeout),
        reset: has(FailureKind::Reset),
        malformed: has(FailureKind::Malformed),
        statuses,
    }
}

fn to_list(failures: &Failures) -> Vec<FailureKind> {
    let Failures {
        connect,
        timeout,
        reset,
        malformed,
        ref statuses,
    } = *failures;
    let named = [
        (connect, FailureKind::Connect),
        (timeout, FailureKind::Timeout),
        (reset, FailureKind::Reset),
        (malformed, FailureKind::Malformed),
    ];
    let named = named.into_iter().filter(|(counts, _)| *counts);
    let named = named.map(|(_, failure)| failure);
    named
        .chain(statuses.iter().copied().map(FailureKind::Statuses))
        .collect()
}
