//! Checks within what this process has: as many at a time as its descriptors allow for, and one line if it lacks
//! something nevertheless.

use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use log::warn;
use nix::errno::Errno;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::resource_limits;

/// The part of all descriptors that checks may take at a time. Each takes one; all hosts of a usual pool fit in, and
/// where they do not, they take turns.
const DESCRIPTOR_FRACTION: u64 = 8;

/// Checks that may run at a time, however few descriptors there are.
const MIN_CONCURRENT: usize = 4;

/// No more than one line a minute: the shortage is one, however many hosts there are.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// One for the process, as its descriptors are.
static PERMITS: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(max_concurrent(resource_limits::descriptor_limit())));

static LAST_WARNING: Mutex<Option<Instant>> = Mutex::new(None);

/// Waits until a check may run; it may until the returned value is dropped.
pub(super) async fn acquire() -> Option<SemaphorePermit<'static>> {
    // It is never closed.
    PERMITS.acquire().await.ok()
}

/// So many checks run at a time in a process with so many descriptors.
pub(super) fn max_concurrent(descriptors: u64) -> usize {
    let part = usize::try_from(descriptors / DESCRIPTOR_FRACTION).unwrap_or(usize::MAX);
    part.clamp(MIN_CONCURRENT, Semaphore::MAX_PERMITS)
}

/// Says what is lacking for a check, unless that was said within the last minute.
pub(super) fn warn_rate_limited(lacking: Errno) {
    let mut last_warning = LAST_WARNING.lock().unwrap_or_else(PoisonError::into_inner);
    if last_warning.is_none_or(|last_warning| last_warning.elapsed() >= WARNING_INTERVAL) {
        *last_warning = Some(Instant::now());
        drop(last_warning);
        warn!(
            "health checks cannot be tried, hosts stay what they are: {}",
            resource_limits::advice(lacking)
        );
    }
}
