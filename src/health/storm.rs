//! Checks that take too long all at once: rather our fault, or the network's, than that of each host.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::journal::{Journal, Kind};
use crate::pool::Pool;

/// Hosts whose checks must take too long at once, at least; for one host alone there is nothing to compare with.
const FEWEST: usize = 2;

/// Notices when the checks of more than half of a pool's hosts take too long at once, or when this process gets too
/// little time to check anything.
#[derive(Debug)]
pub(super) struct Storm {
    pool: String,
    journal: Arc<Journal>,
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

impl Storm {
    pub(super) fn new(pool: &Pool) -> Self {
        let journal = Arc::clone(pool.journal());
        Storm::of(pool.name(), pool.members().len(), journal)
    }

    fn of(pool: &str, hosts: usize, journal: Arc<Journal>) -> Self {
        Storm {
            pool: pool.to_owned(),
            journal,
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
        let many = late >= FEWEST && late * 2 > hosts;
        let on = many || state.recovering > 0;
        match (state.on, on, starved) {
            (false, true, Some(by)) => self.note(
                Kind::Frozen,
                &format!(
                    "correlated failure: a timer of this process was {} ms late; checks that take too long change nothing \
                     until that ends",
                    by.as_millis()
                ),
            ),
            (false, true, None) => self.note(
                Kind::Frozen,
                &format!(
                    "correlated failure: the checks of {late} of {hosts} hosts take too long; hosts stay what they are \
                     until that ends"
                ),
            ),
            (true, false, _) => self.note(Kind::Thawed, "the correlated failure is over"),
            _ => {}
        }
        state.on = on;
        on
    }

    fn note(&self, kind: Kind, text: &str) {
        let pool = &self.pool;
        let line = format!("pool {pool}: {text}");
        self.journal.note(kind, Some(pool), None, line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(hosts: usize) -> Storm {
        Storm::of("web", hosts, Arc::default())
    }

    #[test]
    fn more_than_half_and_two_at_least() {
        let storm = of(4);
        assert!(!storm.report(0, true, None));
        assert!(!storm.report(1, true, None));
        assert!(storm.report(2, true, None));
        assert!(storm.report(2, true, None));
        assert!(!storm.report(0, false, None));
        let single = of(1);
        assert!(!single.report(0, true, None));
        let pair = of(2);
        assert!(!pair.report(0, true, None));
        assert!(pair.report(1, true, None));
    }

    #[test]
    fn a_starved_process_judges_nobody() {
        let starved = Some(Duration::from_secs(1));
        let storm = of(1);
        assert!(storm.report(0, true, starved));
        assert!(!storm.report(0, true, None));
        // It is over after a round of checks in time.
        let storm = of(3);
        assert!(storm.report(0, true, starved));
        assert!(storm.report(1, false, None));
        assert!(storm.report(2, false, None));
        assert!(!storm.report(0, false, None));
    }
}
