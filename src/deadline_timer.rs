//! A timer whose deadline can be moved at almost no cost.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer. It is created when first needed, and not reset when its deadline moves to a later time: it then wakes its
/// task once for nothing, which costs less than a reset for each request.
#[derive(Debug, Default)]
pub(crate) struct DeadlineTimer(Option<Pin<Box<Sleep>>>);

impl DeadlineTimer {
    /// Whether `time` has passed; if not, the task is woken then.
    pub(crate) fn has_elapsed(&mut self, time: Instant, context: &mut Context<'_>) -> bool {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(time)));
        if sleep.deadline() > time {
            sleep.as_mut().reset(time);
        }
        loop {
            match sleep.as_mut().poll(context) {
                Poll::Pending => return false,
                Poll::Ready(()) if sleep.deadline() >= time => return true,
                Poll::Ready(()) => sleep.as_mut().reset(time),
            }
        }
    }
}
