//! Which changes the process may still take: none after the state of the process was exported for a successor, so that no
//! change is acknowledged that the successor never hears of.
//!
//! Each change holds a [`Permit`] while it is carried out. Closing the gate refuses new changes at once and waits for
//! those under way; what is exported afterwards has every change that was acknowledged.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The gates of the process.
#[derive(Debug, Clone, Default)]
pub(super) struct Gates {
    /// Of reloads in place: closed before a successor reads the file.
    pub(super) reloads: Arc<ChangeGate>,
    /// Of all that operators change: closed before the state is exported.
    pub(super) changes: Arc<ChangeGate>,
}

/// Lets changes pass, or refuses them.
#[derive(Debug, Default)]
pub(super) struct ChangeGate {
    state: Mutex<State>,
    ended: Notify,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    /// Changes under way.
    running: usize,
}

impl ChangeGate {
    /// Begins a change; `None` while the gate is closed.
    pub(super) fn permit(self: &Arc<Self>) -> Option<Permit> {
        let mut state = self.state();
        if state.closed {
            return None;
        }
        state.running += 1;
        drop(state);
        Some(Permit(Arc::clone(self)))
    }

    /// Refuses changes from now on, and returns once the last one under way has ended. The gate opens again when the
    /// returned value, or this future, is dropped.
    pub(super) async fn close(self: &Arc<Self>) -> Closed {
        self.state().closed = true;
        let closed = Closed(Some(Arc::clone(self)));
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            // From here on no end is missed.
            ended.as_mut().enable();
            if self.state().running == 0 {
                return closed;
            }
            ended.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that is done under the lock can be half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A change under way. Dropping it ends the change.
#[derive(Debug)]
pub(super) struct Permit(Arc<ChangeGate>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.state().running -= 1;
        self.0.ended.notify_waiters();
    }
}

/// A closed gate. Dropping it opens the gate.
#[derive(Debug)]
pub(super) struct Closed(Option<Arc<ChangeGate>>);

impl Closed {
    /// Leaves the gate closed until the process ends.
    pub(super) fn for_good(mut self) {
        self.0 = None;
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        if let Some(gate) = &self.0 {
            gate.state().closed = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn closing_waits_for_changes_and_refuses_new_ones() {
        let gate = Arc::new(ChangeGate::default());
        let change = gate.permit().expect("it is open");
        let closing = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.close().await }
        });
        while gate.permit().is_some() {
            tokio::task::yield_now().await;
        }
        assert!(!closing.is_finished(), "a change is under way");
        drop(change);
        let closed = closing.await.expect("it does not panic");
        assert!(gate.permit().is_none());
        drop(closed);
        assert!(gate.permit().is_some(), "the handover has failed");
        gate.close().await.for_good();
        assert!(gate.permit().is_none());
    }

    #[tokio::test]
    async fn a_handover_that_is_given_up_while_it_waits_opens_the_gate() {
        let gate = Arc::new(ChangeGate::default());
        let _change = gate.permit().expect("it is open");
        let closing = gate.close();
        let brief = std::time::Duration::from_millis(1);
        assert!(tokio::time::timeout(brief, closing).await.is_err());
        assert!(gate.permit().is_some());
    }
}
