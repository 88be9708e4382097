//! The worker threads that serve connections: each has a runtime, connections and idle connections to hosts of its own.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::runtime::{Builder, Handle};

use crate::engine;

/// The worker threads of the process.
#[derive(Debug, Clone)]
pub(super) struct Workers(Arc<[Worker]>);

#[derive(Debug)]
struct Worker {
    handle: Handle,
    /// Number of connections that it serves.
    connections: Arc<AtomicUsize>,
}

/// A connection of a worker. Dropping it decrements the count.
#[derive(Debug)]
pub(super) struct WorkerGuard(Arc<AtomicUsize>);

impl Workers {
    /// Starts a thread for each of these counters of connections; there must be at least one.
    ///
    /// # Errors
    /// The system refuses a thread or a runtime.
    pub(super) fn start(counts: &[Arc<AtomicUsize>]) -> io::Result<Self> {
        let workers = counts.iter().enumerate().map(|(number, connections)| {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let handle = runtime.handle().clone();
            let thread = thread::Builder::new().name(format!("worker {number}"));
            thread.spawn(move || runtime.block_on(engine::run_housekeeping()))?;
            Ok(Worker {
                handle,
                connections: Arc::clone(connections),
            })
        });
        Ok(Workers(workers.collect::<io::Result<_>>()?))
    }

    /// The worker that accepts connections.
    pub(super) fn first(&self) -> &Handle {
        &self.0[0].handle
    }

    /// Chooses the worker with the fewest connections, and counts one more until the guard is dropped.
    pub(super) fn choose(&self) -> (&Handle, WorkerGuard) {
        let load = |worker: &&Worker| worker.connections.load(Ordering::Relaxed);
        let least = self.0.iter().min_by_key(load);
        let worker = least.expect("there is one at least");
        worker.connections.fetch_add(1, Ordering::Relaxed);
        (&worker.handle, WorkerGuard(Arc::clone(&worker.connections)))
    }
}

impl Drop for WorkerGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_spread_evenly() {
        let counts = [(); 3].map(|()| Arc::default());
        let workers = Workers::start(&counts).expect("threads");
        let mut guards = Vec::from_iter((0..9).map(|_| workers.choose().1));
        let counts = || counts.each_ref().map(|count| count.load(Ordering::Relaxed));
        assert_eq!(counts(), [3, 3, 3]);
        guards.remove(1);
        let (_, _more) = workers.choose();
        assert_eq!(counts(), [3, 3, 3]);
    }
}
