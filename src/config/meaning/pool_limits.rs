//! `limits` of a pool: how many requests its hosts get at once, and how many may wait.

use std::time::Duration;

use super::super::errors::Problems;
use super::super::place::Place;
use super::super::policies::PoolLimits;
use super::super::words::{time, whole};
use super::super::yaml::{self, Said};

const QUEUE: usize = 128;
/// Each waiting request is a task with its connection; more would not be a queue but a reservoir.
const LONGEST_QUEUE: usize = 1_000_000;
const QUEUE_TIMEOUT: Duration = Duration::from_secs(1);

/// The limits of a pool, and the `max_in_flight` of hosts that have none of their own.
pub(super) fn limits(
    said: yaml::PoolLimits,
    place: &Place,
    problems: &mut Problems,
) -> (PoolLimits, Option<u64>) {
    let yaml::PoolLimits {
        max_in_flight,
        queue,
        queue_timeout,
    } = said;
    let most = self::max_in_flight(max_in_flight, place, problems).unwrap_or(0);
    let limits = PoolLimits {
        queue: problems.value(&place.key("queue"), queue.0, QUEUE, |text| {
            whole(text, 0..=LONGEST_QUEUE)
        }),
        queue_timeout: problems.value(
            &place.key("queue_timeout"),
            queue_timeout.0,
            QUEUE_TIMEOUT,
            time,
        ),
    };
    (limits, (most > 0).then_some(most))
}

/// The `max_in_flight` of the map at `place`, if it is said; 0 stands for no limit.
pub(super) fn max_in_flight(
    said: Said<String>,
    place: &Place,
    problems: &mut Problems,
) -> Option<u64> {
    problems.optional(&place.key("max_in_flight"), said.0, |text| {
        whole(text, 0..=u64::MAX)
    })
}
