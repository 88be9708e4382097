//! Limits concurrent health checks to what the process's file descriptors allow, and logs at most one line a minute if
//! they still run out.

use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use log::warn;
use nix::errno::Errno;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::resource_limits;

/// The fraction of all descriptors that concurrent checks may use. Each check needs one. All hosts of a usual pool can
/// be checked at the same time; otherwise checks wait for a permit.
const DESCRIPTOR_FRACTION: u64 = 8;

/// Concurrent checks that are always allowed, however few descriptors there are.
const MIN_CONCURRENT: usize = 4;

/// At most one line a minute: the shortage is one, however many hosts there are.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// Shared by all pools, as the descriptors are.
static PERMITS: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(max_concurrent(resource_limits::descriptor_limit())));

static LAST_WARNING: Mutex<Option<Instant>> = Mutex::new(None);

/// Waits for the permit to run a check. Dropping the permit returns it.
pub(super) async fn acquire() -> Option<SemaphorePermit<'static>> {
    // The semaphore is never closed.
    PERMITS.acquire().await.ok()
}

/// The number of concurrent checks in a process with this many descriptors.
pub(super) fn max_concurrent(descriptors: u64) -> usize {
    let part = usize::try_from(descriptors / DESCRIPTOR_FRACTION).unwrap_or(usize::MAX);
    part.clamp(MIN_CONCURRENT, Semaphore::MAX_PERMITS)
}

/// Logs the lacking resource of a check, unless that was logged within the last minute.
pub(super) fn warn_rate_limited(resource: Errno) {
    let mut last_warning = LAST_WARNING.lock().unwrap_or_else(PoisonError::into_inner);
    if last_warning.is_none_or(|last_warning| last_warning.elapsed() >= WARNING_INTERVAL) {
        *last_warning = Some(Instant::now());
        drop(last_warning);
        warn!(
            "health checks cannot be tried, hosts keep their state: {}",
            resource_limits::advice(resource)
        );
    }
}
