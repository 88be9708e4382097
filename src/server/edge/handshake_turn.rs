//! Lets a worker compute one TLS handshake at a time, with its other connections in between.
//!
//! A full handshake takes a worker up to a millisecond, most of it for the signature. When many clients connect at once,
//! all of these would stand in the worker's queue before the connections that it serves already. Here at most one does:
//! the next one gets its turn when all that was ready meanwhile has been served.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::Semaphore;
use tokio::task::yield_now;

thread_local! {
    /// The turn of this worker. Waiting handshakes get it in their order.
    static TURN: Arc<Semaphore> = Arc::new(Semaphore::new(1));
}

/// Begins a handshake when it is its turn. The client's first message has arrived, so what is computed for it comes with the
/// first poll; what follows takes little, and may wait for the client.
pub(super) async fn in_turn<T>(handshake: impl Future<Output = T>) -> T {
    let mut handshake = pin!(handshake);
    // An error means that the semaphore was closed, and none ever is.
    let turn = TURN.with(Arc::clone).acquire_owned().await;
    let begun = poll_fn(|context| Poll::Ready(handshake.as_mut().poll(context))).await;
    yield_now().await;
    drop(turn);
    match begun {
        Poll::Ready(done) => done,
        Poll::Pending => handshake.await,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test]
    async fn other_tasks_run_between_two_handshakes() {
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
            let (begins, ends) = (note("begins"), note("ends"));
            handshakes.spawn(in_turn(async move {
                begins();
                // Some wait for the client.
                if number % 2 == 0 {
                    yield_now().await;
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
        let turns = order.split(|what| *what == "begins");
        let between = Vec::from_iter(turns.map(|turn| turn.contains(&"other")));
        assert_eq!(between.len(), 11);
        assert!(between[1..10].iter().all(|others| *others), "{order:?}");
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
