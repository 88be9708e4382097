//! A timer with 50 ms ticks per thread. It decides when the engine begins to watch for the disconnect of a client whose
//! socket is not registered with the runtime.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

/// How long a request may run before its client is watched. Watching takes a registration for events, which a short
/// connection never needs otherwise; a timer per request would cost more than that saves.
const INTERVAL: Duration = Duration::from_millis(50);

thread_local! {
    static TIMER: Rc<CoarseTimer> = Rc::default();
}

/// The thread's ticks. The end of a tick wakes all tasks that wait for it.
#[derive(Default)]
struct CoarseTimer {
    ticks: Cell<u64>,
    waiting: RefCell<Vec<Waker>>,
    has_waiting: Notify,
}

/// Waits for the end of the current tick.
#[derive(Debug, Default)]
pub(super) struct CoarseDelay(Option<u64>);

impl CoarseDelay {
    /// Whether a tick has ended since the first call; otherwise the task is woken when one ends.
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

/// Ends a tick 50 ms after the first task has begun to wait, and wakes all waiting tasks. The timer sleeps while no
/// task waits.
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
