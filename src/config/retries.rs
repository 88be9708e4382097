//! `retries`: when a failed request is sent again.

use std::time::Duration;

use serde_json::json;

use super::hints::quote;
use super::scalars;
use super::schema::{List, Scalar, list, percent, scalar, section, time, whole};
use super::status::{includes, parse_range, range};

/// A request that so many hosts have failed will not be served by one more.
const MAX_ATTEMPTS: usize = 10;
/// Retries at the same time that no pool has.
const MAX_MIN: u32 = 1_000_000;

section! {
    /// When a failed request is sent again.
    pub struct Retries: Eq {
        /// Retries of one request at most; the first attempt does not count.
        attempts: usize { attempts(), default "2" },
        /// Statuses of responses after which another host is asked, also ranges such as 500-599; `[]`: none.
        statuses: Vec<(u16, u16)> { failures(), default "[502, 503, 504]" },
        /// Retries for each hundred requests, so that a failing pool is not flooded. A connection that could not be made
        /// needs no budget.
        budget: u32 { percent(0..=100), default "20%" },
        /// Retries at the same time that need no budget.
        min: u32 { whole(0..=MAX_MIN), default "3" },
        /// No retry begins later than this after the first attempt.
        deadline: Duration { time(), default "10s" },
    }
}

section! {
    /// What a route says of its pool's `retries` itself; the rest comes from the pool, and so does the budget.
    pub struct RouteRetries: Eq, Default {
        /// Retries of one request at most; the first attempt does not count.
        attempts: Option<usize> { attempts(), optional "1" },
        /// Statuses of responses after which another host is asked, also ranges such as 500-599; `[]`: none.
        statuses: Option<Vec<(u16, u16)>> { failures(), optional "[502, 503]" },
        /// No retry begins later than this after the first attempt.
        deadline: Option<Duration> { time(), optional "2s" },
    }
}

impl RouteRetries {
    /// The retries of the route's requests, where `above` has those of their pool.
    pub fn over(&self, above: &Retries) -> Retries {
        let statuses = self.statuses.as_ref().unwrap_or(&above.statuses);
        Retries {
            attempts: self.attempts.unwrap_or(above.attempts),
            statuses: statuses.clone(),
            deadline: self.deadline.unwrap_or(above.deadline),
            ..*above
        }
    }
}

impl Retries {
    /// The highest number of retries that a file can ask for.
    pub const MAX_ATTEMPTS: usize = MAX_ATTEMPTS;

    /// Whether another host is asked after a response with this status.
    pub fn includes(&self, status: u16) -> bool {
        includes(&self.statuses, status)
    }
}

/// What `retries: 3` should have been.
pub(super) fn hint(text: &str) -> Option<String> {
    let attempts = text.parse::<usize>().ok()?;
    Some(match attempts {
        0 => "none".to_owned(),
        _ => format!("{{ attempts: {attempts} }}"),
    })
}

fn attempts() -> Scalar<usize> {
    let read = |text: &str| {
        let hint = if text == "0" {
            "; `retries: none` turns them off"
        } else {
            ""
        };
        scalars::whole(text, 1..=MAX_ATTEMPTS).map_err(|wrong| wrong + hint)
    };
    scalar(
        format!("a whole number from 1 to {MAX_ATTEMPTS}"),
        read,
        |count| json!(count),
    )
    .with_schema(json!({ "type": "integer", "minimum": 1, "maximum": MAX_ATTEMPTS }))
}

fn failures() -> List<Scalar<(u16, u16)>> {
    let failure = range(|text| match parse_range(text)? {
        range @ (400.., _) => Ok(range),
        _ => Err(format!(
            "{} is not a failure, which has a status from 400 to 599",
            quote(text)
        )),
    });
    list("statuses", failure)
}
