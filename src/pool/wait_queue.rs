//! The queue of requests that wait while every host is full.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, Notify};
use tokio::time::{Instant, timeout, timeout_at};

use crate::config::PoolLimits;
use ballast_balancer::BalancerError;

/// How long the head of the queue waits for a wake-up before it tries again. Wake-ups come from the leases of this
/// pool; a host may also be freed by another pool, or by the pool that this one replaced.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Requests that wait for a slot on any host, first in, first out.
#[derive(Debug)]
pub(super) struct WaitQueue {
    size: usize,
    timeout: Duration,
    waiting: AtomicUsize,
    /// The holder of this lock is the head of the queue; Tokio's mutex is fair.
    head: Mutex<()>,
    freed: Notify,
}

/// A position in the queue. Dropping it leaves the queue.
struct QueuePosition<'a>(&'a AtomicUsize);

impl Drop for QueuePosition<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl WaitQueue {
    pub(super) fn new(limits: &PoolLimits) -> Self {
        WaitQueue {
            size: limits.queue,
            timeout: limits.queue_timeout,
            waiting: AtomicUsize::new(0),
            head: Mutex::new(()),
            freed: Notify::new(),
        }
    }

    /// The most requests that may wait.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// The number of waiting requests.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Wakes the head of the queue: a host may have a free slot.
    pub(super) fn wake(&self) {
        // SeqCst on both sides: either a joining request sees the lower count of the host, or it is seen here as
        // waiting.
        if self.waiting() > 0 {
            self.freed.notify_one();
        }
    }

    /// Waits until `attempt` returns something other than [`BalancerError::Busy`].
    ///
    /// # Errors
    /// [`BalancerError::Busy`] if the queue is full or the wait timed out.
    pub(super) async fn wait<T>(
        &self,
        mut attempt: impl FnMut() -> Result<T, BalancerError>,
    ) -> Result<T, BalancerError> {
        let join = |waiting: usize| (waiting < self.size).then_some(waiting + 1);
        self.waiting
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, join)
            .map_err(|_| BalancerError::Busy)?;
        let _position = QueuePosition(&self.waiting);
        let deadline = Instant::now() + self.timeout;
        let served = timeout_at(deadline, async {
            let _head = self.head.lock().await;
            loop {
                match attempt() {
                    Err(BalancerError::Busy) => {}
                    outcome => return outcome,
                }
                // A wake-up that comes before this call is kept for it.
                let _ = timeout(POLL_INTERVAL, self.freed.notified()).await;
            }
        });
        served.await.unwrap_or(Err(BalancerError::Busy))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::Mutex as StdMutex;

    use super::*;

    fn queue(size: usize, timeout: Duration) -> Arc<WaitQueue> {
        Arc::new(WaitQueue::new(&PoolLimits {
            max_in_flight: None,
            queue: size,
            queue_timeout: timeout,
        }))
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime")
            .block_on(future)
    }

    #[test]
    fn requests_are_served_in_order_of_arrival() {
        block_on(async {
            let queue = queue(10, Duration::from_secs(10));
            let slots = Arc::new(AtomicUsize::new(0));
            let served = Arc::new(StdMutex::new(Vec::new()));
            let mut waiting = Vec::new();
            for number in 0..5 {
                let (waiter, slots, served) = (queue.clone(), slots.clone(), served.clone());
                waiting.push(tokio::spawn(async move {
                    let take = |n: usize| n.checked_sub(1);
                    let order = (Ordering::SeqCst, Ordering::SeqCst);
                    let attempt = || match slots.fetch_update(order.0, order.1, take) {
                        Ok(_) => Ok(()),
                        Err(_) => Err(BalancerError::Busy),
                    };
                    waiter.wait(attempt).await.expect("a slot in time");
                    served.lock().expect("no panic").push(number);
                }));
                while queue.waiting() < number + 1 {
                    tokio::task::yield_now().await;
                }
            }
            for _ in 0..5 {
                slots.fetch_add(1, Ordering::SeqCst);
                queue.wake();
            }
            for task in waiting {
                task.await.expect("no panic");
            }
            assert_eq!(*served.lock().expect("no panic"), [0, 1, 2, 3, 4]);
            assert_eq!(queue.waiting(), 0);
        });
    }

    #[test]
    fn the_queue_and_the_wait_are_bounded() {
        block_on(async {
            let busy = || Err::<(), _>(BalancerError::Busy);
            let none = queue(0, Duration::from_secs(10));
            assert_eq!(none.wait(busy).await, Err(BalancerError::Busy));
            let short = queue(1, Duration::from_millis(30));
            let start = Instant::now();
            assert_eq!(short.wait(busy).await, Err(BalancerError::Busy));
            assert!(start.elapsed() >= Duration::from_millis(30));
            assert_eq!(short.waiting(), 0);
            let no_hosts = || Err::<(), _>(BalancerError::NoHosts);
            assert_eq!(short.wait(no_hosts).await, Err(BalancerError::NoHosts));
        });
    }

    #[test]
    fn a_cancelled_request_lets_the_next_one_through() {
        block_on(async {
            let queue = queue(2, Duration::from_secs(10));
            let busy = || Err::<(), _>(BalancerError::Busy);
            let leaving = timeout(Duration::from_millis(20), queue.wait(busy));
            let staying = queue.wait(|| match queue.waiting() {
                2 => Err(BalancerError::Busy),
                _ => Ok(()),
            });
            let (left, stayed) = tokio::join!(leaving, staying);
            assert!(left.is_err());
            assert_eq!(stayed, Ok(()));
            assert_eq!(queue.waiting(), 0);
        });
    }
}
