//! Whether this process accepts connections, and if not, why.
//!
//! A handover stops accepting in two steps. First the process stops accepting and keeps its listening sockets, so that
//! it can serve again if its successor dies or freezes. Once the successor has passed its watch, the process closes the
//! sockets and ends with its last request.

use std::sync::{Arc, Mutex, PoisonError};

use pingora::server::ShutdownWatch;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::proxy::TrafficState;

/// What the process does with connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The process accepts connections.
    Serving,
    /// A successor accepts connections and is watched. This process keeps its listening sockets.
    HandingOver,
    /// A successor accepts connections, and its watch is over.
    HandedOver,
    /// The process ends without a successor.
    Stopping,
}

/// The current phase. Entering one notifies everything that depends on it.
#[derive(Debug)]
pub(super) struct Lifecycle {
    traffic: Arc<TrafficState>,
    phase: watch::Sender<Phase>,
    /// Whether open connections are to be closed after their current request.
    closing: watch::Sender<bool>,
    /// Since when no connection is accepted.
    since: Mutex<Option<Instant>>,
    /// Notifies the control socket that the process serves again.
    resumed: Notify,
}

impl Lifecycle {
    pub(super) fn new(traffic: Arc<TrafficState>) -> Self {
        Lifecycle {
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

    /// True while no connection is accepted and open ones are to be closed.
    pub(super) fn watch_closing(&self) -> ShutdownWatch {
        self.closing.subscribe()
    }

    /// Since when no connection is accepted; the current time while they are accepted.
    pub(super) fn since(&self) -> Instant {
        self.lock().unwrap_or_else(Instant::now)
    }

    /// Waits until this process serves again after its successor has failed. One task may wait.
    pub(super) async fn resumed(&self) {
        self.resumed.notified().await;
    }

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
        if serves && before == Phase::HandingOver {
            self.resumed.notify_one();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        // No update under this lock can be left half done, so a poisoned lock is usable.
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
