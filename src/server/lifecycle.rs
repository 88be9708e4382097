//! The lifecycle of the process: starting, serving, handing over, draining, stopped.
//!
//! [`Lifecycle`] is the only type that knows the phase. The event loop, the handover and the start move it through the
//! methods below; systemd notifications, readiness, the admin listener, the control socket and the edge ask it or watch
//! it. A method that the current phase does not allow changes nothing and returns `false`.
//!
//! | method              | from                             | to                                     |
//! |---------------------|----------------------------------|----------------------------------------|
//! | `signals_installed` | `Starting`, no signal handlers   | `Starting`, with signal handlers       |
//! | `serve`             | `Starting`, with signal handlers | `Serving`                              |
//! | `hand_over`         | `Serving`                        | `HandingOver`                          |
//! | `resume`            | `HandingOver`                    | `Serving`                              |
//! | `handed_over`       | `HandingOver`                    | `Draining`, handed over, not accepting |
//! | `terminate`         | `Starting`                       | `Draining`, start aborted, accepting   |
//! |                     | `Serving`                        | `Draining`, terminated, accepting      |
//! |                     | `Draining`                       | the same phase                         |
//! | `abort_start`       | `Starting`, `Serving`            | `Draining`, start aborted, accepting   |
//! |                     | `Draining`, not handed over      | `Draining`, start aborted              |
//! | `stop_accepting`    | `Draining`                       | `Draining`, not accepting              |
//! | `shut_down`         | all but `Stopped`                | `Stopped`                              |
//!
//! A handover stops accepting in two steps. In `HandingOver` the process does not accept connections but keeps its
//! listening sockets, so that it can resume if its successor dies or freezes. Once the successor has passed its watch,
//! the process drains: it closes the sockets and ends with its last request.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use log::debug;
use pingora::server::ShutdownWatch;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::proxy::TrafficState;

/// A phase in the life of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The process prepares to serve.
    Starting {
        /// Whether signal handlers are installed; until then a signal kills the process.
        handles_signals: bool,
    },
    /// The process accepts connections.
    Serving,
    /// A successor accepts connections and is watched. This process keeps its listening sockets.
    HandingOver,
    /// The process ends with its last request.
    Draining {
        /// Why it ends.
        cause: DrainCause,
        /// Whether it still accepts connections, until `server.drain_delay` is over.
        accepts: bool,
    },
    /// The process removes its files and exits.
    Stopped,
}

/// Why a process drains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DrainCause {
    /// The serving process was told to stop.
    Terminated,
    /// A successor serves, and its watch is over.
    HandedOver,
    /// The process was stopped before it served, or has failed the watch of its predecessor, which serves again.
    StartAborted,
}

impl Phase {
    /// Whether clients find the service ready: this process serves, or a successor does.
    pub(super) fn is_ready(self) -> bool {
        match self {
            Phase::Serving | Phase::HandingOver => true,
            Phase::Draining { cause, .. } => cause == DrainCause::HandedOver,
            Phase::Starting { .. } | Phase::Stopped => false,
        }
    }

    /// Whether systemd may take notifications of this process for those of the service. `STOPPING=1` from a rejected
    /// successor would end the whole service.
    pub(super) fn may_notify_systemd(self) -> bool {
        match self {
            Phase::Serving | Phase::HandingOver => true,
            Phase::Draining { cause, .. } => cause != DrainCause::StartAborted,
            Phase::Starting { .. } | Phase::Stopped => false,
        }
    }

    /// Whether no connection is accepted, and open ones are closed after their current request.
    pub(super) fn closes_connections(self) -> bool {
        match self {
            Phase::Starting { .. } | Phase::Serving => false,
            Phase::Draining { accepts, .. } => !accepts,
            Phase::HandingOver | Phase::Stopped => true,
        }
    }

    /// Whether a successor serves in the place of this process.
    pub(super) fn has_successor(self) -> bool {
        match self {
            Phase::HandingOver => true,
            Phase::Draining { cause, .. } => cause == DrainCause::HandedOver,
            Phase::Starting { .. } | Phase::Serving | Phase::Stopped => false,
        }
    }

    /// Whether the process ends or has ended.
    pub(super) fn is_ending(self) -> bool {
        matches!(self, Phase::Draining { .. } | Phase::Stopped)
    }
}

/// The current phase, and the transitions between phases.
#[derive(Debug)]
pub(super) struct Lifecycle {
    phase: watch::Sender<Phase>,
    /// Follows [`Phase::closes_connections`], for the request path.
    traffic: Arc<TrafficState>,
    /// Follows [`Phase::closes_connections`], for each connection.
    closing: watch::Sender<bool>,
    /// Since when no connection is accepted.
    since: Mutex<Option<Instant>>,
}

impl Lifecycle {
    /// The lifecycle of a process that starts.
    pub(super) fn new(traffic: Arc<TrafficState>) -> Self {
        Lifecycle {
            phase: watch::Sender::new(Phase::Starting {
                handles_signals: false,
            }),
            traffic,
            closing: watch::Sender::new(false),
            since: Mutex::default(),
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
        self.lock_since().unwrap_or_else(Instant::now)
    }

    /// Waits until signal handlers are installed: a peer that sees the process respond may send a signal.
    pub(super) async fn wait_signals_installed(&self) {
        const NO_HANDLERS: Phase = Phase::Starting {
            handles_signals: false,
        };
        self.wait_for(|phase| phase != NO_HANDLERS).await;
    }

    /// Waits until the process is ready.
    pub(super) async fn wait_ready(&self) {
        self.wait_for(Phase::is_ready).await;
    }

    async fn wait_for(&self, wanted: impl Fn(Phase) -> bool) {
        // The sender lives as long as `self`, so the wait cannot fail.
        let _ = self
            .phase
            .subscribe()
            .wait_for(|phase| wanted(*phase))
            .await;
    }

    /// Signal handlers are installed.
    pub(super) fn signals_installed(&self) -> bool {
        self.transition("install signal handlers", |phase| match phase {
            Phase::Starting {
                handles_signals: false,
            } => Some(Phase::Starting {
                handles_signals: true,
            }),
            _ => None,
        })
    }

    /// The start is over, and the process serves.
    pub(super) fn serve(&self) -> bool {
        self.transition("serve", |phase| match phase {
            Phase::Starting {
                handles_signals: true,
            } => Some(Phase::Serving),
            _ => None,
        })
    }

    /// A successor accepts connections; this process stops to do so, and watches it.
    #[must_use]
    pub(super) fn hand_over(&self) -> bool {
        self.transition("hand over", |phase| match phase {
            Phase::Serving => Some(Phase::HandingOver),
            _ => None,
        })
    }

    /// The successor has failed its watch; this process accepts connections again.
    pub(super) fn resume(&self) -> bool {
        self.transition("resume", |phase| match phase {
            Phase::HandingOver => Some(Phase::Serving),
            _ => None,
        })
    }

    /// The watch over the successor has ended, and this process drains.
    pub(super) fn handed_over(&self) -> bool {
        self.transition("have handed over", |phase| match phase {
            Phase::HandingOver => Some(Phase::Draining {
                cause: DrainCause::HandedOver,
                accepts: false,
            }),
            _ => None,
        })
    }

    /// The process was told to stop. It is not ready any more, but accepts connections until
    /// [`stop_accepting`](Self::stop_accepting).
    pub(super) fn terminate(&self) -> bool {
        self.transition("terminate", |phase| match phase {
            Phase::Starting { .. } => Some(Phase::Draining {
                cause: DrainCause::StartAborted,
                accepts: true,
            }),
            Phase::Serving => Some(Phase::Draining {
                cause: DrainCause::Terminated,
                accepts: true,
            }),
            Phase::Draining { .. } => Some(phase),
            Phase::HandingOver | Phase::Stopped => None,
        })
    }

    /// The predecessor serves instead of this process, which has to end without a notification to systemd.
    pub(super) fn abort_start(&self) -> bool {
        self.transition("abort the start", |phase| {
            let accepts = match phase {
                Phase::Starting { .. } | Phase::Serving => true,
                Phase::Draining {
                    cause: DrainCause::Terminated | DrainCause::StartAborted,
                    accepts,
                } => accepts,
                _ => return None,
            };
            Some(Phase::Draining {
                cause: DrainCause::StartAborted,
                accepts,
            })
        })
    }

    /// The draining process accepts no connection from now on.
    pub(super) fn stop_accepting(&self) -> bool {
        self.transition("stop accepting", |phase| match phase {
            Phase::Draining { cause, .. } => Some(Phase::Draining {
                cause,
                accepts: false,
            }),
            _ => None,
        })
    }

    /// The process exits.
    pub(super) fn shut_down(&self) -> bool {
        self.transition("shut down", |phase| match phase {
            Phase::Stopped => None,
            _ => Some(Phase::Stopped),
        })
    }

    /// Enters the phase that `next` returns, and publishes what follows from it; `None` refuses `verb`.
    fn transition(&self, verb: &str, next: impl FnOnce(Phase) -> Option<Phase>) -> bool {
        let mut refused_in = None;
        self.phase.send_if_modified(|phase| {
            let Some(next) = next(*phase) else {
                refused_in = Some(*phase);
                return false;
            };
            self.publish(next);
            std::mem::replace(phase, next) != next
        });
        if let Some(phase) = refused_in {
            debug!("the process cannot {verb}: it is {phase:?}");
        }
        refused_in.is_none()
    }

    fn publish(&self, phase: Phase) {
        let closes = phase.closes_connections();
        match closes {
            false => *self.lock_since() = None,
            true => {
                self.lock_since().get_or_insert_with(Instant::now);
            }
        }
        self.traffic.set_draining(closes);
        self.closing
            .send_if_modified(|before| std::mem::replace(before, closes) != closes);
    }

    fn lock_since(&self) -> MutexGuard<'_, Option<Instant>> {
        // No update under this lock can be left half done, so a poisoned lock is usable.
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
