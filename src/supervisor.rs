//! Restarts long-running tasks after a panic.
//!
//! Each of these tasks must run as long as the process. A panic is counted and logged, and the task restarts after a
//! backoff, so that the state that it maintains does not go stale.

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

/// The backoff after the first panic; it doubles with each further one.
const INITIAL_BACKOFF: Duration = Duration::from_millis(100);

/// The longest backoff. At this rate a task that always panics costs almost nothing, and one that recovers is back
/// within 30 s.
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// If a task ran at least this long before it panicked, its backoff starts from the initial one again.
const BACKOFF_RESET: Duration = Duration::from_secs(60);

/// A kind of supervised task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Accepts client connections on a listener.
    Accept,
    /// Writes an access log.
    AccessLog,
    /// Orders certificates.
    Acme,
    /// Follows the cluster.
    Cluster,
    /// Accepts commands on the control socket.
    Control,
    /// Asks a source of hosts.
    Discovery,
    /// Looks at the configuration file and the binary on disk.
    DiskWatch,
    /// Ends the ejections of a pool.
    EjectionTimer,
    /// Accepts successors on the upgrade socket.
    Handover,
    /// Checks a host.
    HealthCheck,
    /// Samples the history and publishes updates to the event streams.
    History,
    /// Applies reloads and operators' changes.
    Reload,
    /// Exports traces.
    Traces,
}

impl Task {
    /// All kinds, in the order of their discriminants.
    pub const ALL: [Task; 13] = [
        Task::Accept,
        Task::AccessLog,
        Task::Acme,
        Task::Cluster,
        Task::Control,
        Task::Discovery,
        Task::DiskWatch,
        Task::EjectionTimer,
        Task::Handover,
        Task::HealthCheck,
        Task::History,
        Task::Reload,
        Task::Traces,
    ];

    /// The name in the log and in the `task` label of metrics.
    pub fn name(self) -> &'static str {
        match self {
            Task::Accept => "accept",
            Task::AccessLog => "access_log",
            Task::Acme => "acme",
            Task::Cluster => "cluster",
            Task::Control => "control",
            Task::Discovery => "discovery",
            Task::DiskWatch => "disk_watch",
            Task::EjectionTimer => "ejection_timer",
            Task::Handover => "handover",
            Task::HealthCheck => "health_check",
            Task::History => "history",
            Task::Reload => "reload",
            Task::Traces => "traces",
        }
    }

    /// The number of panics of such tasks in this process.
    pub fn panics(self) -> u64 {
        PANICS[self as usize].load(Ordering::Relaxed)
    }
}

/// Panics by [`Task`]. Global to the process, as the panic hook is.
static PANICS: [AtomicU64; Task::ALL.len()] = [const { AtomicU64::new(0) }; Task::ALL.len()];

thread_local! {
    /// Whether this thread runs inside [`catch`].
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a [`Supervisor`] would catch a panic of the current thread.
pub(crate) fn contains_panics() -> bool {
    CONTAINED.get()
}

/// The message of a panic.
pub(crate) fn panic_message(panic: &dyn Any) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("no message")
}

/// Catches the panics of one task and paces its restarts. The caller calls [`run`](Supervisor::run) in a loop.
#[derive(Debug)]
pub struct Supervisor {
    task: Task,
    /// What the task works on, for the log; may be empty.
    subject: String,
    backoff: Duration,
}

impl Supervisor {
    /// A supervisor for a task that works on `subject`, such as `pool web`; empty if it is the only one of its kind.
    pub fn new(task: Task, subject: impl Into<String>) -> Self {
        Supervisor {
            task,
            subject: subject.into(),
            backoff: INITIAL_BACKOFF,
        }
    }

    /// Runs the task until it ends. Returns `None` if it panicked; the panic has been counted and logged, and the
    /// backoff is over.
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

    /// The same for a task with a thread of its own.
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

    /// Counts and logs a panic; returns the backoff.
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
            "a bug in ballast: the task {task}{space}{subject} panicked and restarts in {backoff:?}: {text}"
        );
        backoff
    }
}

/// Runs `work`, and catches its panic.
fn catch<T>(work: impl FnOnce() -> T) -> Result<T, Box<dyn Any + Send>> {
    let previous = CONTAINED.replace(true);
    // Unwind safety: every task can restart from whatever state a panic leaves behind.
    let outcome = catch_unwind(AssertUnwindSafe(work));
    CONTAINED.set(previous);
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_restarts_until_it_ends() {
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
    fn the_backoff_doubles_up_to_the_maximum() {
        let mut supervisor = Supervisor::new(Task::Traces, "");
        let backoffs = [(); 11].map(|()| supervisor.record_panic(&"a message", Duration::ZERO));
        let tenths = backoffs.map(|backoff| backoff.as_millis() / 100);
        assert_eq!(tenths, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    }

    #[test]
    fn a_long_run_resets_the_backoff() {
        let mut supervisor = Supervisor::new(Task::Traces, "");
        assert_eq!(
            supervisor.record_panic(&"a message", Duration::ZERO),
            INITIAL_BACKOFF
        );
        assert_eq!(
            supervisor.record_panic(&"a message", Duration::ZERO),
            INITIAL_BACKOFF * 2
        );
        assert_eq!(
            supervisor.record_panic(&"a message", BACKOFF_RESET),
            INITIAL_BACKOFF
        );
    }

    #[test]
    fn only_supervised_code_is_contained() {
        let mut supervisor = Supervisor::new(Task::AccessLog, "");
        assert!(!contains_panics());
        assert_eq!(supervisor.run_thread(contains_panics), Some(true));
        assert_eq!(supervisor.run_thread(|| panic!("once")), None::<()>);
        assert!(!contains_panics());
    }

    #[test]
    fn tasks_are_numbered_in_order() {
        for (number, task) in Task::ALL.into_iter().enumerate() {
            assert_eq!(task as usize, number, "{task:?}");
        }
    }
}
