//! Whether this process accepts connections, and what became of it if it does not.
//!
//! A handover stops accepting in two steps. First the process stops accepting and keeps its listening sockets, so that it
//! can take over again if its successor dies or freezes. Only when the successor has stood its watch does the process let
//! go of the sockets and end with its last request.

use std::sync::{Arc, Mutex, PoisonError};

use pingora::server::ShutdownWatch;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::proxy::TrafficState;

/// What the process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It accepts connections.
    Serving,
    /// A successor accepts them, and is watched. This process has its listening sockets still.
    Watching,
    /// A successor accepts them for good.
    HandedOver,
    /// It ends, and no other process takes its place.
    Stopping,
}

/// The phase that the process is in, and all that follows from it at once.
#[derive(Debug)]
pub(super) struct ServingState {
    traffic: Arc<TrafficState>,
    phase: watch::Sender<Phase>,
    /// Whether clients are to close their connections.
    closing: watch::Sender<bool>,
    /// Since when no connection is accepted.
    since: Mutex<Option<Instant>>,
    /// Tells the control socket that the process serves again.
    resumed: Notify,
}

impl ServingState {
    pub(super) fn new(traffic: Arc<TrafficState>) -> Self {
        ServingState {
            traffic,
            phase: watch::Sender::new(Phase::Serving),
            closing: watch::Sender::new(false),
            since: Mutex::default(),
            resumed: Notify::new(),
        }
    }

    pub(super) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    pub(super) fn watch_phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// True while no connection is accepted and those that are open are to end.
    pub(super) fn watch_closing(&self) -> ShutdownWatch {
        self.closing.subscribe()
    }

    /// Since when no connection is accepted; now if they are.
    pub(super) fn since(&self) -> Instant {
        self.lock().unwrap_or_else(Instant::now)
    }

    /// Waits until a successor was lost and this process serves again. One task may wait.
    pub(super) async fn resumed(&self) {
        self.resumed.notified().await;
    }

    /// Enters a phase.
    pub(super) fn enter(&self, phase: Phase) {
        let serves = phase == Phase::Serving;
        match serves {
            true => *self.lock() = None,
            false => {
                self.lock().get_or_insert_with(Instant::now);
            }
        }
        self.traffic.set_draining(!serves);
        self.closing.send_replace(!serves);
        let before = self.phase.send_replace(phase);
        if serves && before == Phase::Watching {
            self.resumed.notify_one();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        // Nothing that is done under the lock can be half done.
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
