//! When it is looked whether a client is still there whose socket tells of no events yet.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

/// How long a request may run before its client is watched, where that takes a registration for events that the connection
/// may never need otherwise. A timer for each of them would cost more than that saves.
const UNWATCHED: Duration = Duration::from_millis(50);

thread_local! {
    static ROUNDS: Rc<Rounds> = Rc::default();
}

/// The thread's rounds: at the end of each, those that wait for it are woken.
#[derive(Default)]
struct Rounds {
    count: Cell<u64>,
    waiting: RefCell<Vec<Waker>>,
    any: Notify,
}

/// Who waits for the end of a round.
#[derive(Debug, Default)]
pub(super) struct Round(Option<u64>);

impl Round {
    /// Whether a round has ended since this was first asked; if not, the task will be woken then.
    pub(super) fn is_over(&mut self, context: &Context<'_>) -> bool {
        ROUNDS.with(|rounds| match self.0 {
            Some(begun) => begun != rounds.count.get(),
            None => {
                self.0 = Some(rounds.count.get());
                let mut waiting = rounds.waiting.borrow_mut();
                if waiting.is_empty() {
                    rounds.any.notify_one();
                }
                waiting.push(context.waker().clone());
                false
            }
        })
    }
}

/// Ends a round 50 ms after the first client has begun to wait for it, and wakes all that wait.
pub(super) async fn rounds() {
    let rounds = ROUNDS.with(Rc::clone);
    loop {
        rounds.any.notified().await;
        sleep(UNWATCHED).await;
        rounds.count.set(rounds.count.get() + 1);
        let waiting = rounds.waiting.take();
        waiting.into_iter().for_each(Waker::wake);
    }
}
