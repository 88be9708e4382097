//! Checks within what this process has: as many at a time as its descriptors allow for, and one line if it lacks
//! something nevertheless.

use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use log::warn;
use nix::errno::Errno;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::descriptors;

/// The part of all descriptors that checks may take at a time. Each takes one; all hosts of a usual pool fit in, and
/// where they do not, they take turns.
const PART: u64 = 8;

/// Checks that may run at a time, however few descriptors there are.
const FEWEST: usize = 4;

/// No more than one line a minute: the shortage is one, however many hosts there are.
const BETWEEN_LINES: Duration = Duration::from_secs(60);

/// One for the process, as its descriptors are.
static TURNS: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(at_a_time(descriptors::limit())));

static TOLD: Mutex<Option<Instant>> = Mutex::new(None);

/// Waits until a check may run; it may until the returned value is dropped.
pub(super) async fn turn() -> Option<SemaphorePermit<'static>> {
    // It is never closed.
    TURNS.acquire().await.ok()
}

/// So many checks run at a time in a process with so many descriptors.
pub(super) fn at_a_time(descriptors: u64) -> usize {
    let part = usize::try_from(descriptors / PART).unwrap_or(usize::MAX);
    part.clamp(FEWEST, Semaphore::MAX_PERMITS)
}

/// Says what is lacking for a check, unless that was said within the last minute.
pub(super) fn tell(lacking: Errno) {
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    if told.is_none_or(|told| told.elapsed() >= BETWEEN_LINES) {
        *told = Some(Instant::now());
        drop(told);
        warn!(
            "health checks cannot be tried, hosts stay what they are: {}",
            descriptors::advice(lacking)
        );
    }
}
