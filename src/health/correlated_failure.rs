//! Detects checks that time out on many hosts at once: the cause is likelier this process or the network than each
//! host.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::event_log::{EventKind, EventLog};
use crate::pool::Pool;

/// The least number of hosts whose checks must time out: with a single host there is nothing to compare with.
const MIN_LATE_HOSTS: usize = 2;

/// Detects that the checks of more than half of a pool's hosts time out at once, or that this process is too starved to
/// check anything.
#[derive(Debug)]
pub(super) struct CorrelatedFailure {
    pool: String,
    event_log: Arc<EventLog>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// By position in the pool: whether the latest check of a healthy host timed out.
    late: Vec<bool>,
    /// Checks that must still run in time before this process counts as able to check. It is a full round, so that a
    /// busy machine does not begin and end a correlated failure with every check.
    recovering: usize,
    active: bool,
}

impl CorrelatedFailure {
    pub(super) fn new(pool: &Pool) -> Self {
        let event_log = Arc::clone(pool.event_log());
        CorrelatedFailure::of(pool.name(), pool.members().len(), event_log)
    }

    fn of(pool: &str, hosts: usize, event_log: Arc<EventLog>) -> Self {
        CorrelatedFailure {
            pool: pool.to_owned(),
            event_log,
            state: Mutex::new(State {
                late: vec![false; hosts],
                recovering: 0,
                active: false,
            }),
        }
    }

    /// Records a check of the host at `position`. Returns whether timeouts must be ignored now.
    pub(super) fn report(&self, position: usize, late: bool, starved: Option<Duration>) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.late[position] = late;
        let hosts = state.late.len();
        state.recovering = match starved {
            Some(_) => hosts,
            None => state.recovering.saturating_sub(1),
        };
        let late = state.late.iter().filter(|late| **late).count();
        let many = late >= MIN_LATE_HOSTS && late * 2 > hosts;
        let active = many || state.recovering > 0;
        match (state.active, active, starved) {
            (false, true, Some(lateness)) => self.log_event(EventKind::Frozen,
                &format!(
                    "correlated failure: a timer of this process was {} ms late; timeouts of checks are ignored until \
                     that ends",
                    lateness.as_millis()
                ),
            ),
            (false, true, None) => self.log_event(EventKind::Frozen,
                &format!(
                    "correlated failure: the checks of {late} of {hosts} hosts time out; hosts keep their state until \
                     that ends"
                ),
            ),
            (true, false, _) => self.log_event(EventKind::Thawed, "the correlated failure is over"),
            _ => {}
        }
        state.active = active;
        active
    }

    fn log_event(&self, kind: EventKind, text: &str) {
        let pool = &self.pool;
        let line = format!("pool {pool}: {text}");
        self.event_log.log_event(kind, Some(pool), None, line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(hosts: usize) -> CorrelatedFailure {
        CorrelatedFailure::of("web", hosts, Arc::default())
    }

    #[test]
    fn more_than_half_and_at_least_two_failures_are_correlated() {
        let correlated_failure = of(4);
        assert!(!correlated_failure.report(0, true, None));
        assert!(!correlated_failure.report(1, true, None));
        assert!(correlated_failure.report(2, true, None));
        assert!(correlated_failure.report(2, true, None));
        assert!(!correlated_failure.report(0, false, None));
        let single = of(1);
        assert!(!single.report(0, true, None));
        let pair = of(2);
        assert!(!pair.report(0, true, None));
        assert!(pair.report(1, true, None));
    }

    #[test]
    fn a_starved_process_gives_no_verdict() {
        let starved = Some(Duration::from_secs(1));
        let correlated_failure = of(1);
        assert!(correlated_failure.report(0, true, starved));
        assert!(!correlated_failure.report(0, true, None));
        // It ends after a round of checks in time.
        let correlated_failure = of(3);
        assert!(correlated_failure.report(0, true, starved));
        assert!(correlated_failure.report(1, false, None));
        assert!(correlated_failure.report(2, false, None));
        assert!(!correlated_failure.report(0, false, None));
    }
}
