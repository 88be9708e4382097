//! Waits for an event instead of sleeping.

use std::time::{Duration, Instant};

/// How long an immediate event may take on a busy machine. The bound is shorter than the defaults that would also end a
/// wait, such as a grace period of 30 s or a read timeout of 60 s.
pub(crate) const SOON: Duration = Duration::from_secs(25);

/// Polls `condition` until it holds; panics with `what` after `deadline`.
#[track_caller]
pub(crate) fn wait_until(deadline: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < deadline,
            "not within {deadline:?}: {what}"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Polls `probe` until it gives a value; panics with `what` after `deadline`.
#[track_caller]
pub(crate) fn wait_for<T>(
    deadline: Duration,
    what: &str,
    mut probe: impl FnMut() -> Option<T>,
) -> T {
    let mut found = None;
    wait_until(deadline, what, || {
        found = probe();
        found.is_some()
    });
    found.expect("wait_until returns only after the probe has given a value")
}
