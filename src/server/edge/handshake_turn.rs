//! Lets a worker compute one step of one TLS handshake at a time, with its other connections in between.
//!
//! A full handshake takes a worker up to a millisecond, most of it for the signature. When many clients connect at once,
//! all of these would stand in the worker's queue before the connections that it serves already. Here at most one does:
//! the next one gets its turn when all that was ready meanwhile has been served. Each step takes a turn, so it makes no
//! difference in how many pieces a client sends its messages.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use tokio::sync::{Notify, Semaphore};
use tokio::task::yield_now;

thread_local! {
    /// The turn of this worker. Waiting handshakes get it in their order.
    static TURN: Arc<Semaphore> = Arc::new(Semaphore::new(1));
}

/// Tells a handshake that waits for its client that it can go on, when it has its turn.
#[derive(Debug, Default)]
struct StepWaker(Notify);

impl Wake for StepWaker {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

/// Runs a handshake, each step of it in turn.
pub(super) async fn in_turn<T>(handshake: impl Future<Output = T>) -> T {
    let mut handshake = pin!(handshake);
    let step = Arc::<StepWaker>::default();
    let waker = Waker::from(Arc::clone(&step));
    loop {
        // An error means that the semaphore was closed, and none ever is.
        let turn = TURN.with(Arc::clone).acquire_owned().await;
        let polled = handshake.as_mut().poll(&mut Context::from_waker(&waker));
        // The system is asked for what has become ready before the next turn.
        yield_now().await;
        drop(turn);
        match polled {
            Poll::Ready(done) => return done,
            Poll::Pending => step.0.notified().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test]
    async fn other_tasks_run_between_two_steps_of_handshakes() {
        let (order, is_over) = (
            Arc::new(Mutex::new(Vec::new())),
            Arc::<AtomicBool>::default(),
        );
        let note = |what: &'static str| {
            let order = Arc::clone(&order);
            move || order.lock().unwrap().push(what)
        };
        let mut handshakes = JoinSet::new();
        for number in 0..10 {
            let (step, ends) = (note("step"), note("ends"));
            handshakes.spawn(in_turn(async move {
                step();
                // Some wait for the client, and go on later.
                if number % 2 == 0 {
                    yield_now().await;
                    step();
                }
                ends();
            }));
        }
        let (other, stop) = (note("other"), Arc::clone(&is_over));
        let other = tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                other();
                yield_now().await;
            }
        });
        handshakes.join_all().await;
        is_over.store(true, Ordering::Relaxed);
        other.await.unwrap();
        let order = order.lock().unwrap();
        assert_eq!(order.iter().filter(|what| **what == "ends").count(), 10);
        let turns = order.split(|what| *what == "step");
        let between = Vec::from_iter(turns.map(|turn| turn.contains(&"other")));
        assert_eq!(between.len(), 16);
        assert!(between[1..15].iter().all(|others| *others), "{order:?}");
    }

    #[tokio::test]
    async fn a_handshake_that_is_dropped_gives_its_turn_away() {
        let stuck = tokio::spawn(in_turn(std::future::pending::<()>()));
        yield_now().await;
        in_turn(async {}).await;
        let waiting = tokio::spawn(in_turn(async {
            yield_now().await;
        }));
        waiting.abort();
        stuck.abort();
        in_turn(async {}).await;
    }
}
