//! The event loop of a serving process: signals, and commands from the control socket.
//!
//! SIGHUP reloads the file in place, SIGUSR1 reopens the access log, SIGQUIT hands over to a new process, SIGTERM
//! drains, SIGINT stops at once. A reload command does the same as SIGHUP, and hands over where a change needs a new
//! process, or where the caller wants the binary on disk.

mod drain;
mod handover;
mod preview;
mod reload;
mod signals;

use std::process;
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use log::{error, info, warn};
use pingora::server::{ShutdownSignal, ShutdownSignalWatch};
use tokio::signal::unix::Signal;
use tokio::sync::{Mutex, mpsc};

use crate::access_log::OpenLogs;
use crate::admin::{ChangeError, LoadedConfig, ProcessCommand};
use crate::event_log::{EventKind, EventLog};
use crate::metrics::{MetricsCounters, ReloadOutcome};
use crate::proxy::{ActiveConfig, TrafficState};

use self::handover::{RunningHandover, handover_outcome};
use self::preview::{plan, preview};
use self::reload::{reload, replace_binary};
use self::signals::Signals;
use super::change_lock::{ChangeLocks, ChangePermit};
use super::control_socket::ControlSocket;
use super::edge::Connections;
use super::handover::HandoverCoordinator;
use super::impact::LiveState;
use super::lifecycle::{Lifecycle, Phase};
use super::process_identity::ProcessIdentity;
use super::reload_preview::ReloadPreviewer;
use super::reloader::{ReloaderHandle, note_outcome};

/// Bound of the queue of handover requests; all but the first are refused.
const MAX_HANDOVER_REQUESTS: usize = 16;

const HANDOVER_RUNNING: &str = "a handover is running";

/// The error for an operator whose change a successor would miss.
pub(super) const HANDOVER_UNDER_WAY: &str = "a handover is under way; ask again";

/// The parts of the process that the event handlers act on.
pub(super) struct EventContext {
    pub(super) lifecycle: Arc<Lifecycle>,
    pub(super) change_locks: ChangeLocks,
    pub(super) counts: Arc<MetricsCounters>,
    pub(super) active: Arc<ArcSwap<ActiveConfig>>,
    pub(super) traffic: Arc<TrafficState>,
    pub(super) connections: Arc<Connections>,
    pub(super) loaded_config: Arc<ArcSwap<LoadedConfig>>,
    pub(super) event_log: Arc<EventLog>,
    pub(super) reloads: ReloaderHandle,
    pub(super) previewer: ReloadPreviewer,
    pub(super) handover: Arc<HandoverCoordinator>,
    pub(super) process_identity: Arc<ProcessIdentity>,
    pub(super) control_socket: Arc<ControlSocket>,
    pub(super) logs: Arc<OpenLogs>,
}

/// Handles events until one of them ends the process.
pub(super) struct EventLoop {
    context: EventContext,
    commands: Mutex<mpsc::Receiver<ProcessCommand>>,
}

impl EventLoop {
    pub(super) fn new(context: EventContext, commands: mpsc::Receiver<ProcessCommand>) -> Self {
        EventLoop {
            context,
            commands: Mutex::new(commands),
        }
    }
}

#[async_trait]
impl ShutdownSignalWatch for EventLoop {
    async fn recv(&self) -> ShutdownSignal {
        let context = &self.context;
        let mut signals = Signals::watch().unwrap_or_else(|error| {
            error!("cannot watch for signals: {error}");
            process::exit(1);
        });
        context.lifecycle.signals_installed();
        let mut commands = self.commands.lock().await;
        let (requests, mut requested) = mpsc::channel(MAX_HANDOVER_REQUESTS);
        let mut running: Option<RunningHandover<'_>> = None;
        loop {
            tokio::select! {
                _ = signals.interrupt.recv() => {
                    info!("SIGINT: stopping now");
                    context.process_identity.leave_predecessor_watch().await;
                    return ShutdownSignal::FastShutdown;
                }
                _ = signals.terminate.recv() => {
                    // Dropping it ends the attempt and its successor; if the successor serves already, only the watch.
                    drop(running);
                    commands.close();
                    context.process_identity.leave_predecessor_watch().await;
                    if context.lifecycle.phase() == Phase::HandingOver {
                        context.handed_over(None);
                        context.reopen_logs_on_signal(signals.user_1);
                        let stop_signals = (signals.interrupt, signals.terminate);
                        return context.drain("SIGTERM, a successor serves", stop_signals, 0);
                    }
                    return context.terminate(signals).await;
                }
                _ = signals.hang_up.recv() => match context.try_reload_permit(running.is_some()) {
                    None => warn!("SIGHUP: not reloaded, {HANDOVER_RUNNING}"),
                    Some(permit) => {
                        let reloads = context.reloads.clone();
                        let process_identity = Arc::clone(&context.process_identity);
                        let event_log = Arc::clone(&context.event_log);
                        tokio::spawn(async move {
                            process_identity.notify_reloading();
                            note_outcome(&event_log, &reloads.reload().await);
                            process_identity.notify_reloaded();
                            drop(permit);
                        });
                    }
                },
                _ = signals.user_1.recv() => {
                    reopen(&context.logs);
                }
                _ = signals.quit.recv() => match running {
                    Some(_) => warn!("SIGQUIT: ignored, {HANDOVER_RUNNING}"),
                    None => {
                        context.log_event(EventKind::Handover, "SIGQUIT: handing over");
                        running = Some(context.hand_over(None));
                    }
                },
                Some(command) = commands.recv() => match command {
                    ProcessCommand::Reload(answer) => match context.try_reload_permit(running.is_some()) {
                        // The caller may have disconnected; the same holds below.
                        None => drop(answer.send(Err(handover_under_way()))),
                        Some(permit) => {
                            let event_log = Arc::clone(&context.event_log);
                            let reloads = context.reloads.clone();
                            tokio::spawn(reload(reloads, event_log, permit, answer, requests.clone()));
                        }
                    },
                    ProcessCommand::ReplaceBinary(answer) => {
                        tokio::spawn(replace_binary(context.previewer.clone(), answer, requests.clone()));
                    }
                    ProcessCommand::Preview(answer) => {
                        let obstacle = context.handover.obstacle();
                        tokio::spawn(preview(context.previewer.clone(), obstacle, answer));
                    }
                    ProcessCommand::Plan(answer) => {
                        let obstacle = context.handover.obstacle();
                        let live = context.live_state();
                        tokio::spawn(plan(context.previewer.clone(), live, obstacle, answer));
                    }
                },
                Some(request) = requested.recv() => match running {
                    Some(_) => drop(request.answer.send(Err(handover_under_way()))),
                    None => {
                        context.log_event(EventKind::Handover, "reload: handing over");
                        running = Some(context.hand_over(Some(request)));
                    }
                },
                (outcome, request) = handover_outcome(&mut running) => {
                    running = None;
                    context.counts.count_reload(match &outcome {
                        Ok(()) => ReloadOutcome::Handover,
                        Err(_) => ReloadOutcome::HandoverFailed,
                    });
                    match outcome {
                        Ok(()) => {
                            // From here on commands belong to the successor.
                            commands.close();
                            context.process_identity.leave_predecessor_watch().await;
                            context.handed_over(request);
                            context.reopen_logs_on_signal(signals.user_1);
                            // systemd may send SIGTERM to all processes of the service; the first one is ignored here.
                            let stop_signals = (signals.interrupt, signals.terminate);
                            return context.drain("the successor serves", stop_signals, 1);
                        }
                        Err(failure) => {
                            let text = context.handover_failed(&failure);
                            context.log_event(EventKind::HandoverFailed, &text);
                            if let Some(request) = request {
                                let _ = request.answer.send(Err(ChangeError::Conflict(text)));
                            }
                        }
                    }
                }
            }
        }
    }
}

impl EventContext {
    fn log_event(&self, kind: EventKind, text: &str) {
        self.event_log.log_event(kind, None, None, text.to_owned());
    }

    /// What the process knows now.
    fn live_state(&self) -> LiveState {
        LiveState {
            pools: self.active.load().pools.clone(),
            connections: Arc::clone(&self.connections),
            traffic: Arc::clone(&self.traffic),
        }
    }

    /// A permit for an in-place reload; `None` during a handover.
    fn try_reload_permit(&self, is_handing_over: bool) -> Option<ChangePermit> {
        match is_handing_over {
            true => None,
            false => self.change_locks.reloads.try_permit(),
        }
    }

    /// Reopens the access log at each SIGUSR1 from now on: files are rotated while the last requests run, too.
    fn reopen_logs_on_signal(&self, mut user_1: Signal) {
        let logs = Arc::clone(&self.logs);
        tokio::spawn(async move {
            while user_1.recv().await.is_some() {
                reopen(&logs);
            }
        });
    }
}

fn handover_under_way() -> ChangeError {
    ChangeError::Busy(HANDOVER_UNDER_WAY.to_owned())
}

fn reopen(logs: &OpenLogs) {
    info!("SIGUSR1: reopening the access log");
    logs.reopen();
}
