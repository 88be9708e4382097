//! The event loop of a serving process: signals, and commands from the control socket.
//!
//! SIGHUP reloads the file in place, SIGUSR1 reopens the access log, SIGQUIT hands over to a new process, SIGTERM
//! drains, SIGINT stops at once. A reload command does the same as SIGHUP, and hands over where a change needs a new
//! process.

use std::io;
use std::pin::Pin;
use std::process;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use log::{error, info, warn};
use pingora::server::{ShutdownSignal, ShutdownSignalWatch};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::access_log::OpenLogs;
use crate::admin::{ChangeError, LoadedConfig, ProcessCommand, ReloadPreview, ReloadResult};
use crate::event_log::{EventKind, EventLog};
use crate::metrics::{MetricsCounters, ReloadOutcome};
use crate::proxy::TrafficState;

use super::change_lock::{ChangeLocks, ChangePermit};
use super::handover::HandoverCoordinator;
use super::lifecycle::Lifecycle;
use super::reload_preview::{ReloadForecast, ReloadPreviewer};
use super::reloader::{ReloadError, ReloaderHandle, note_outcome};
use super::serving_state::{Phase, ServingState};
use super::shutdown::drain;
use super::socket_file::SocketFile;

/// Bound of the queue of handover requests; all but the first are refused.
const MAX_HANDOVER_REQUESTS: usize = 16;

/// How long a caller waits for the successor's control socket. A serving successor opens it within milliseconds, unless
/// its configuration names another path. Shorter than [`LAME_DUCK`](super::edge::LAME_DUCK), the earliest end of this
/// process.
const CONTROL_SOCKET_TIMEOUT: Duration = Duration::from_secs(1);

const HANDOVER_RUNNING: &str = "a handover is running";

/// The error for an operator whose change a successor would miss.
pub(super) const HANDOVER_UNDER_WAY: &str = "a handover is under way; ask again";

/// The parts of the process that the event handlers act on.
pub(super) struct EventContext {
    pub(super) state: Arc<ServingState>,
    pub(super) change_locks: ChangeLocks,
    pub(super) counts: Arc<MetricsCounters>,
    pub(super) traffic: Arc<TrafficState>,
    pub(super) loaded_config: Arc<ArcSwap<LoadedConfig>>,
    pub(super) event_log: Arc<EventLog>,
    pub(super) reloads: ReloaderHandle,
    pub(super) previewer: ReloadPreviewer,
    pub(super) handover: Arc<HandoverCoordinator>,
    pub(super) lifecycle: Arc<Lifecycle>,
    pub(super) control_socket: Arc<SocketFile>,
    pub(super) logs: Arc<OpenLogs>,
}

/// Handles events until one of them ends the process.
pub(super) struct EventLoop {
    context: EventContext,
    commands: Mutex<mpsc::Receiver<ProcessCommand>>,
}

/// A reload command that needs a handover.
struct HandoverRequest {
    changes: Vec<String>,
    answer: oneshot::Sender<Result<ReloadResult, ChangeError>>,
}

/// A handover in progress, and the caller who waits for its result.
struct RunningHandover<'a> {
    attempt: Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>,
    request: Option<HandoverRequest>,
}

struct Signals {
    hang_up: Signal,
    user_1: Signal,
    quit: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn watch() -> io::Result<Self> {
        Ok(Signals {
            hang_up: signal(SignalKind::hangup())?,
            user_1: signal(SignalKind::user_defined1())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
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
        context.lifecycle.set_signals_ready();
        let mut commands = self.commands.lock().await;
        let (requests, mut requested) = mpsc::channel(MAX_HANDOVER_REQUESTS);
        let mut running: Option<RunningHandover<'_>> = None;
        loop {
            tokio::select! {
                _ = signals.interrupt.recv() => {
                    info!("SIGINT: stopping now");
                    context.lifecycle.leave_predecessor_watch().await;
                    return ShutdownSignal::FastShutdown;
                }
                _ = signals.terminate.recv() => {
                    // Dropping it ends the attempt and its successor; if the successor serves already, only the watch.
                    drop(running);
                    commands.close();
                    context.lifecycle.leave_predecessor_watch().await;
                    if context.state.phase() == Phase::Watching {
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
                        let lifecycle = Arc::clone(&context.lifecycle);
                        let event_log = Arc::clone(&context.event_log);
                        tokio::spawn(async move {
                            lifecycle.notify_reloading();
                            note_outcome(&event_log, &reloads.reload().await);
                            lifecycle.notify_reloaded();
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
                    ProcessCommand::Preview(answer) => {
                        let obstacle = context.handover.obstacle();
                        tokio::spawn(preview(context.previewer.clone(), obstacle, answer));
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
                            context.lifecycle.leave_predecessor_watch().await;
                            context.handed_over(request);
                            context.reopen_logs_on_signal(signals.user_1);
                            // systemd may send SIGTERM to all processes of the service; the first one is ignored here.
                            let stop_signals = (signals.interrupt, signals.terminate);
                            return context.drain("the successor serves", stop_signals, 1);
                        }
                        Err(reason) => {
                            let text = context.handover_failed(&reason);
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

    /// A permit for an in-place reload; `None` during a handover.
    fn try_reload_permit(&self, is_handing_over: bool) -> Option<ChangePermit> {
        match is_handing_over {
            true => None,
            false => self.change_locks.reloads.try_permit(),
        }
    }

    /// Recovers from a failed handover, and returns the text for log and caller.
    fn handover_failed(&self, reason: &str) -> String {
        if self.state.phase() != Phase::Watching {
            return format!("no handover, serving on: {reason}");
        }
        self.lifecycle.resume_serving();
        format!("no handover, serving again: {reason}")
    }

    fn hand_over(&self, request: Option<HandoverRequest>) -> RunningHandover<'_> {
        RunningHandover {
            attempt: Box::pin(self.handover.hand_over()),
            request,
        }
    }

    /// The successor serves for good. The caller gets its response once the successor accepts commands.
    fn handed_over(&self, request: Option<HandoverRequest>) {
        self.state.enter(Phase::HandedOver);
        let Some(HandoverRequest { changes, answer }) = request else {
            return;
        };
        let control_socket = Arc::clone(&self.control_socket);
        // The time of the watch counts as waiting time.
        let wait = CONTROL_SOCKET_TIMEOUT.saturating_sub(self.state.since().elapsed());
        tokio::spawn(async move {
            control_socket.wait_replaced(wait).await;
            let way = "handover".to_owned();
            let _ = answer.send(Ok(ReloadResult { way, changes }));
        });
    }

    /// Reports not ready at once; stops accepting connections after the drain delay; ends with the last request.
    async fn terminate(&self, mut signals: Signals) -> ShutdownSignal {
        self.lifecycle.set_stopping();
        self.reopen_logs_on_signal(signals.user_1);
        let delay = self.loaded_config.load().config.server.drain_delay;
        if !delay.is_zero() {
            info!("SIGTERM: not ready any more, serving on for {delay:?}");
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                _ = signals.terminate.recv() => {
                    info!("SIGTERM again: stopping now");
                    return ShutdownSignal::FastShutdown;
                }
                _ = signals.interrupt.recv() => {
                    info!("SIGINT: stopping now");
                    return ShutdownSignal::FastShutdown;
                }
            }
        }
        self.control_socket.remove();
        self.drain("SIGTERM", (signals.interrupt, signals.terminate), 0)
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

    /// Stops accepting connections; the process ends with its last request.
    fn drain(
        &self,
        cause: &str,
        stop_signals: (Signal, Signal),
        ignored_terminates: usize,
    ) -> ShutdownSignal {
        let grace = self.loaded_config.load().config.server.grace_period;
        info!(
            "{cause}: no new connections; stopping with the last request ({} now), at the latest in {grace:?}",
            self.traffic.present()
        );
        if self.state.phase() != Phase::HandedOver {
            self.state.enter(Phase::Stopping);
        }
        let since = self.state.since();
        let (traffic, lifecycle) = (Arc::clone(&self.traffic), Arc::clone(&self.lifecycle));
        // Pingora stops accepting and then sleeps the whole grace period; this task exits the process earlier.
        let draining = tokio::spawn(drain(
            traffic,
            lifecycle,
            since,
            grace,
            stop_signals,
            ignored_terminates,
        ));
        tokio::spawn(async move {
            if draining.await.is_err() {
                // The task has panicked, and nothing else would end the process.
                process::exit(1);
            }
        });
        ShutdownSignal::GracefulTerminate
    }
}

fn handover_under_way() -> ChangeError {
    ChangeError::Busy(HANDOVER_UNDER_WAY.to_owned())
}

fn reopen(logs: &OpenLogs) {
    info!("SIGUSR1: opening the access log anew");
    logs.reopen();
}

/// Reloads in place if that suffices; otherwise requests a handover.
async fn reload(
    reloads: ReloaderHandle,
    event_log: Arc<EventLog>,
    permit: ChangePermit,
    answer: oneshot::Sender<Result<ReloadResult, ChangeError>>,
    requests: mpsc::Sender<HandoverRequest>,
) {
    let outcome = reloads.reload().await;
    // A handover waits until every permit is returned.
    drop(permit);
    if let Err(ReloadError::NeedsNewProcess(changes)) = outcome {
        let changes = changes.into_lines();
        // The receiver is gone only if this process ends.
        let _ = requests.send(HandoverRequest { changes, answer }).await;
        return;
    }
    note_outcome(&event_log, &outcome);
    let way = "in-place".to_owned();
    let outcome = outcome.map(|changes| ReloadResult { way, changes });
    let _ = answer.send(outcome.map_err(|refusal| ChangeError::Conflict(refusal.to_string())));
}

/// Reports what a reload would do. `obstacle` is the reason why this process cannot hand over.
async fn preview(
    previewer: ReloadPreviewer,
    obstacle: Option<&'static str>,
    answer: oneshot::Sender<Result<ReloadPreview, ChangeError>>,
) {
    let outcome = previewer.forecast().await.map(
        |ReloadForecast {
             changes,
             unavailable,
         }| {
            let handover = !changes.in_new_process.is_empty();
            let obstacle = obstacle.filter(|_| handover).map(str::to_owned);
            let changes = changes.into_lines();
            let way = match handover {
                true => Some("handover".to_owned()),
                false if changes.is_empty() => None,
                false => Some("in-place".to_owned()),
            };
            ReloadPreview {
                way,
                changes,
                obstacles: obstacle.into_iter().chain(unavailable).collect(),
            }
        },
    );
    let _ = answer.send(outcome.map_err(|refusal| ChangeError::Conflict(refusal.to_string())));
}

/// Waits for the running handover; pends for ever if there is none.
async fn handover_outcome(
    running: &mut Option<RunningHandover<'_>>,
) -> (Result<(), String>, Option<HandoverRequest>) {
    match running {
        Some(running) => {
            let outcome = running.attempt.as_mut().await;
            (outcome, running.request.take())
        }
        None => std::future::pending().await,
    }
}
