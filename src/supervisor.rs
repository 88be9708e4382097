//! Tasks that have to run for as long as the process does: a panic in one is counted and logged, and the task begins
//! anew after a pause, so that what it keeps up to date does not freeze.

use std::any::Any;
use std::cell::Cell;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use log::error;

/// The pause after the first panic; each further one is twice as long.
const INITIAL_BACKOFF: Duration = Duration::from_millis(100);

/// The longest pause. A task that panics each time costs next to nothing then, and is back within half a minute once it
/// no longer does.
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// A task that ran for so long before it panicked begins with the first pause again.
const BACKOFF_RESET: Duration = Duration::from_secs(60);

/// A kind of task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Accepts the connections of clients on a listener.
    Accept,
    /// Writes an access log.
    AccessLog,
    /// Accepts commands on the control socket.
    Control,
    /// Accepts successors on the upgrade socket.
    Handover,
    /// Checks a host.
    HealthCheck,
    /// Samples the history and tells the API's followers.
    History,
    /// Brings a pool in line when time alone changes something.
    PoolKeeper,
    /// Takes in the configuration and the changes of operators.
    Reload,
    /// Exports traces.
    Traces,
}

impl Task {
    /// Every kind.
    pub const ALL: [Task; 9] = [
        Task::Accept,
        Task::AccessLog,
        Task::Control,
        Task::Handover,
        Task::HealthCheck,
        Task::History,
        Task::PoolKeeper,
        Task::Reload,
        Task::Traces,
    ];

    /// Its name, as a label of a metric and in the log.
    pub fn name(self) -> &'static str {
        match self {
            Task::Accept => "accept",
            Task::AccessLog => "access_log",
            Task::Control => "control",
            Task::Handover => "handover",
            Task::HealthCheck => "health_check",
            Task::History => "history",
            Task::PoolKeeper => "pool_keeper",
            Task::Reload => "reload",
            Task::Traces => "traces",
        }
    }

    /// How often tasks of this kind have panicked in this process.
    pub fn panics(self) -> u64 {
        PANICS[self as usize].load(Ordering::Relaxed)
    }
}

/// By the number of the task. One count for the process, like the panic hook that it complements.
static PANICS: [AtomicU64; Task::ALL.len()] = [const { AtomicU64::new(0) }; Task::ALL.len()];

thread_local! {
    /// Whether this thread runs something whose panic is contained.
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic of this thread would be contained by a [`Supervisor`].
pub(crate) fn contains_panics() -> bool {
    CONTAINED.get()
}

/// What a panic said.
pub(crate) fn panic_message(panic: &dyn Any) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("no reason was given")
}

/// Restarts one task: call [`run`](Supervisor::run) in a loop.
#[derive(Debug)]
pub struct Supervisor {
    task: Task,
    /// What the task works on, for the log; may be empty.
    subject: String,
    backoff: Duration,
}

impl Supervisor {
    /// For a task that works on `subject`, such as `pool web`; empty where there is only one of its kind.
    pub fn new(task: Task, subject: impl Into<String>) -> Self {
        Supervisor {
            task,
            subject: subject.into(),
            backoff: INITIAL_BACKOFF,
        }
    }

    /// Runs the task until it ends. `None`: it has panicked, which has been counted and logged, and the pause before the
    /// next try is over.
    pub async fn run<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let started = Instant::now();
        let outcome = {
            let mut work = pin!(work);
            poll_fn(|context| match catch(|| work.as_mut().poll(context)) {
                Ok(Poll::Pending) => Poll::Pending,
                Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
                Err(panic) => Poll::Ready(Err(panic)),
            })
            .await
        };
        match outcome {
            Ok(value) => Some(value),
            Err(panic) => {
                let backoff = self.record_panic(&*panic, started.elapsed());
                tokio::time::sleep(backoff).await;
                None
            }
        }
    }

    /// The same for a task that is a thread of its own.
    pub fn run_thread<T>(&mut self, work: impl FnOnce() -> T) -> Option<T> {
        let started = Instant::now();
        match catch(work) {
            Ok(value) => Some(value),
            Err(panic) => {
                thread::sleep(self.record_panic(&*panic, started.elapsed()));
                None
            }
        }
    }

    /// Counts and logs a panic; returns for how long to wait.
    fn record_panic(&mut self, panic: &(dyn Any + Send), run_time: Duration) -> Duration {
        if run_time >= BACKOFF_RESET {
            self.backoff = INITIAL_BACKOFF;
        }
        let backoff = self.backoff;
        self.backoff = (backoff * 2).min(MAX_BACKOFF);
        PANICS[self.task as usize].fetch_add(1, Ordering::Relaxed);
        let (task, subject, text) = (self.task.name(), &self.subject, panic_message(panic));
        let space = if subject.is_empty() { "" } else { " " };
        error!(
            "a bug in ballast: the task {task}{space}{subject} panicked, and begins anew in {backoff:?}: {text}"
        );
        backoff
    }
}

fn catch<T>(work: impl FnOnce() -> T) -> Result<T, Box<dyn Any + Send>> {
    let previous = CONTAINED.replace(true);
    // What the work had half done is its own business: each task keeps its state such that it can go on from any.
    let outcome = catch_unwind(AssertUnwindSafe(work));
    CONTAINED.set(previous);
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_begins_anew_until_it_ends() {
        let previous = Task::History.panics();
        let mut supervisor = Supervisor::new(Task::History, "test");
        let mut runs = 0;
        let started = Instant::now();
        let value = loop {
            let work = async {
                tokio::task::yield_now().await;
                runs += 1;
                assert!(runs > 2, "not yet");
                7
            };
            if let Some(value) = supervisor.run(work).await {
                break value;
            }
        };
        assert_eq!((value, runs), (7, 3));
        assert!(Task::History.panics() >= previous + 2);
        assert!(started.elapsed() >= INITIAL_BACKOFF * 3);
    }

    #[test]
    fn pauses_grow_up_to_the_longest() {
        let mut supervisor = Supervisor::new(Task::Traces, "");
        let backoffs = [(); 11].map(|()| supervisor.record_panic(&"words", Duration::ZERO));
        let tenths = backoffs.map(|backoff| backoff.as_millis() / 100);
        assert_eq!(tenths, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    }

    #[test]
    fn a_long_run_resets_the_pause() {
        let mut supervisor = Supervisor::new(Task::Traces, "");
        assert_eq!(
            supervisor.record_panic(&"words", Duration::ZERO),
            INITIAL_BACKOFF
        );
        assert_eq!(
            supervisor.record_panic(&"words", Duration::ZERO),
            INITIAL_BACKOFF * 2
        );
        assert_eq!(
            supervisor.record_panic(&"words", BACKOFF_RESET),
            INITIAL_BACKOFF
        );
    }

    #[test]
    fn only_what_is_watched_is_contained() {
        let mut supervisor = Supervisor::new(Task::AccessLog, "");
        assert!(!contains_panics());
        assert_eq!(supervisor.run_thread(contains_panics), Some(true));
        assert_eq!(supervisor.run_thread(|| panic!("once")), None::<()>);
        assert!(!contains_panics());
    }

    #[test]
    fn tasks_are_numbered_in_their_order() {
        for (number, task) in Task::ALL.into_iter().enumerate() {
            assert_eq!(task as usize, number, "{task:?}");
        }
    }
}
