//! Checks that take too long all at once: rather our fault, or the network's, than that of each host.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::event_log::{EventKind, EventLog};
use crate::pool::Pool;

/// Hosts whose checks must take too long at once, at least; for one host alone there is nothing to compare with.
const MIN_LATE_HOSTS: usize = 2;

/// Notices when the checks of more than half of a pool's hosts take too long at once, or when this process gets too
/// little time to check anything.
#[derive(Debug)]
pub(super) struct CorrelatedFailure {
    pool: String,
    event_log: Arc<EventLog>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// By position in the pool: whether the latest check took too long, though the host counts as healthy.
    late: Vec<bool>,
    /// Checks that still have to run in time before this process counts as able to check: a round of them, so that a
    /// busy machine does not begin and end a storm with every check.
    recovering: usize,
    on: bool,
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
                on: false,
            }),
        }
    }

    /// Takes in a check of the host at `position`. Returns whether checks that take too long mean nothing now.
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
        let on = many || state.recovering > 0;
        match (state.on, on, starved) {
            (false, true, Some(by)) => self.log_event(EventKind::Frozen,
                &format!(
                    "correlated failure: a timer of this process was {} ms late; checks that take too long change nothing \
                     until that ends",
                    by.as_millis()
                ),
            ),
            (false, true, None) => self.log_event(EventKind::Frozen,
                &format!(
                    "correlated failure: the checks of {late} of {hosts} hosts take too long; hosts stay what they are \
                     until that ends"
                ),
            ),
            (true, false, _) => self.log_event(EventKind::Thawed, "the correlated failure is over"),
            _ => {}
        }
        state.on = on;
        on
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
    fn more_than_half_and_two_at_least() {
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
    fn a_starved_process_judges_nobody() {
        let starved = Some(Duration::from_secs(1));
        let correlated_failure = of(1);
        assert!(correlated_failure.report(0, true, starved));
        assert!(!correlated_failure.report(0, true, None));
        // It is over after a round of checks in time.
        let correlated_failure = of(3);
        assert!(correlated_failure.report(0, true, starved));
        assert!(correlated_failure.report(1, false, None));
        assert!(correlated_failure.report(2, false, None));
        assert!(!correlated_failure.report(0, false, None));
    }
}
