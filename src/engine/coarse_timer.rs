//! When it is looked whether a client is still there whose socket tells of no events yet.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

/// How long a request may run before its client is watched, where that takes a registration for events that the connection
/// may never need otherwise. A timer for each of them would cost more than that saves.
const INTERVAL: Duration = Duration::from_millis(50);

thread_local! {
    static TIMER: Rc<CoarseTimer> = Rc::default();
}

/// The thread's rounds: at the end of each, those that wait for it are woken.
#[derive(Default)]
struct CoarseTimer {
    ticks: Cell<u64>,
    waiting: RefCell<Vec<Waker>>,
    has_waiting: Notify,
}

/// Who waits for the end of a round.
#[derive(Debug, Default)]
pub(super) struct CoarseDelay(Option<u64>);

impl CoarseDelay {
    /// Whether a round has ended since this was first asked; if not, the task will be woken then.
    pub(super) fn has_elapsed(&mut self, context: &Context<'_>) -> bool {
        TIMER.with(|timer| match self.0 {
            Some(started) => started != timer.ticks.get(),
            None => {
                self.0 = Some(timer.ticks.get());
                let mut waiting = timer.waiting.borrow_mut();
                if waiting.is_empty() {
                    timer.has_waiting.notify_one();
                }
                waiting.push(context.waker().clone());
                false
            }
        })
    }
}

/// Ends a round 50 ms after the first client has begun to wait for it, and wakes all that wait.
pub(super) async fn run() {
    let timer = TIMER.with(Rc::clone);
    loop {
        timer.has_waiting.notified().await;
        sleep(INTERVAL).await;
        timer.ticks.set(timer.ticks.get() + 1);
        let waiting = timer.waiting.take();
        waiting.into_iter().for_each(Waker::wake);
    }
}
