//! What this process is to the outside while it serves: the one in the pid file, behind the upgrade socket and known to
//! systemd.

use std::net::SocketAddr;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use log::{error, warn};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pingora::server::ListenFds;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::handover::{
    ExpectedProbes, HandoverCoordinator, HandoverListener, PredecessorWatch, Takeover,
};
use super::reloader::{ReloaderHandle, note_outcome};
use super::runtime_paths::RuntimePaths;
use super::serving_state::{Phase, ServingState};
use super::socket_file::SocketFile;
use super::systemd::{self, PidFile, notify};
use crate::access_log::OpenLogs;
use crate::admin::Readiness;
use crate::event_log::{EventKind, EventLog};
use crate::logging;
use crate::proxy::ActiveConfig;

/// How long the end of the process waits for what is told of requests.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the end of the process waits until a predecessor has heard of it.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// The standing of this process.
#[derive(Debug)]
pub(super) struct Lifecycle {
    runtime_paths: RuntimePaths,
    pid_file: PidFile,
    /// Open from the start, unless a predecessor has it.
    handover_listener: Mutex<Option<HandoverListener>>,
    context: LifecycleContext,
    /// Whether signals are watched for; until then they would end the process.
    signals_ready: watch::Sender<bool>,
    is_serving: AtomicBool,
    /// Ends the watch of a predecessor over this process.
    predecessor_watch: Mutex<Option<(oneshot::Sender<()>, JoinHandle<()>)>>,
}

/// What hears of a change of the standing.
#[derive(Debug)]
pub(super) struct LifecycleContext {
    pub(super) handover: Arc<HandoverCoordinator>,
    pub(super) active: Arc<ArcSwap<ActiveConfig>>,
    pub(super) event_log: Arc<EventLog>,
    pub(super) reloads: ReloaderHandle,
    pub(super) readiness: Arc<Readiness>,
    /// Where the process takes commands.
    pub(super) control: Arc<SocketFile>,
    pub(super) logs: Arc<OpenLogs>,
    pub(super) state: Arc<ServingState>,
    /// Where clients come in.
    pub(super) listeners: Vec<SocketAddr>,
    pub(super) probes: Arc<ExpectedProbes>,
}

impl Lifecycle {
    pub(super) fn new(runtime_paths: RuntimePaths, context: LifecycleContext) -> Self {
        Lifecycle {
            pid_file: PidFile::new(runtime_paths.pid_file.clone()),
            runtime_paths,
            handover_listener: Mutex::new(None),
            context,
            signals_ready: watch::Sender::new(false),
            is_serving: AtomicBool::new(false),
            predecessor_watch: Mutex::new(None),
        }
    }

    /// From now on signals are watched for.
    pub(super) fn set_signals_ready(&self) {
        self.signals_ready.send_replace(true);
    }

    /// Waits until signals are watched for: whoever sees the process answer may send one.
    pub(super) async fn wait_signals_ready(&self) {
        // The sender lives as long as `self`, so there is always somebody to wait for.
        let _ = self
            .signals_ready
            .subscribe()
            .wait_for(|ready| *ready)
            .await;
    }

    /// Opens the upgrade socket ahead of time, where no predecessor has it.
    ///
    /// # Errors
    /// One line for a person.
    pub(super) fn open_handover_listener(&self) -> Result<(), String> {
        let handover_listener = HandoverListener::bind(&self.runtime_paths.upgrade_socket)?;
        *self.lock_handover_listener() = Some(handover_listener);
        Ok(())
    }

    /// The process serves on `addresses`. Where it has a predecessor, that one hears of it and drains.
    pub(super) async fn start_serving(
        self: &Arc<Self>,
        addresses: Vec<SocketAddr>,
        table: ListenFds,
        takeover: Option<Takeover>,
    ) {
        let mut watch = None;
        let mut reloaded = false;
        if let Some(takeover) = takeover {
            reloaded = takeover.handover_state.reloaded;
            match self.take_over(takeover).await {
                Ok(predecessor) => watch = predecessor,
                Err(reason) => {
                    error!("no handover: {reason}");
                    // It may have accepted connections, so it goes as everybody goes.
                    let _ = kill(Pid::this(), Signal::SIGTERM);
                    return;
                }
            }
            let text = "serving in the place of another process".to_owned();
            self.context
                .event_log
                .log_event(EventKind::Handover, None, None, text);
        }
        let early = self.lock_handover_listener().take();
        let handover_listener = early.map_or_else(
            || HandoverListener::take_over(&self.runtime_paths.upgrade_socket),
            Ok,
        );
        let begun = handover_listener.and_then(|handover_listener| {
            let begun = self
                .context
                .handover
                .start(addresses, table, handover_listener);
            begun.map_err(|error| format!("cannot watch the upgrade socket: {error}"))
        });
        self.publish(begun);
        self.context.readiness.set(true);
        self.is_serving.store(true, Ordering::SeqCst);
        match watch {
            // Until then the predecessor stays the main process: systemd would end both with this one.
            Some(watch) => self.answer_predecessor(watch),
            None => self.notify_main_pid(),
        }
        if reloaded {
            let (reloads, event_log) =
                (self.context.reloads.clone(), self.context.event_log.clone());
            tokio::spawn(async move { note_outcome(&event_log, &reloads.reload().await) });
        }
    }

    /// Takes over what a predecessor has learnt and what operators have changed there, and tells it that this process
    /// serves; returns what it watches this process with.
    async fn take_over(&self, takeover: Takeover) -> Result<Option<PredecessorWatch>, String> {
        // An operator may have changed something since the successor came.
        let overrides = takeover.handover_state.overrides.clone();
        if let Err(reason) = self.context.reloads.adopt_overrides(overrides).await {
            takeover.refuse(&reason);
            return Err(reason);
        }
        for pool in &self.context.active.load().pools {
            let known = takeover.handover_state.pools.iter();
            known
                .filter(|state| state.name == pool.name())
                .for_each(|state| pool.resume(state));
        }
        if let Some(level) = &takeover.handover_state.log_level
            && let Err(reason) = logging::set_level(level)
        {
            warn!("the level of the predecessor's log: {reason}");
        }
        takeover.confirm(self.context.listeners.clone()).await
    }

    /// Answers the predecessor that watches this process.
    fn answer_predecessor(self: &Arc<Self>, watch: PredecessorWatch) {
        let (leave, left) = oneshot::channel();
        let this = Arc::clone(self);
        let answering = tokio::spawn(async move {
            let mut phase = this.context.state.watch_phase();
            let leaves = async {
                tokio::select! {
                    _ = left => {}
                    // It has a successor itself, which accepts the probes now.
                    _ = phase.wait_for(|phase| *phase != Phase::Serving) => {}
                }
            };
            match watch.answer(&this.context.probes, leaves).await {
                Ok(()) => this.notify_main_pid(),
                Err(reason) => {
                    error!("this process has to go: {reason}");
                    // What it says from here on systemd would take for the service's.
                    this.is_serving.store(false, Ordering::SeqCst);
                    let _ = kill(Pid::this(), Signal::SIGTERM);
                }
            }
        });
        *self.lock_predecessor_watch() = Some((leave, answering));
    }

    /// This process stops, or has a successor: a predecessor that watches it still must not take that for its death.
    pub(super) async fn leave_predecessor_watch(&self) {
        let watch = self.lock_predecessor_watch().take();
        if let Some((leave, answering)) = watch {
            let _ = leave.send(());
            let _ = timeout(LEAVE_TIMEOUT, answering).await;
        }
    }

    /// The successor is lost, and this process serves again.
    pub(super) fn resume_serving(&self) {
        // First of all it accepts what has come meanwhile.
        self.context.state.enter(Phase::Serving);
        let handover_listener = HandoverListener::take_over(&self.runtime_paths.upgrade_socket);
        self.publish(handover_listener.and_then(|handover_listener| {
            let open = self.context.handover.listen(handover_listener);
            open.map_err(|error| format!("cannot watch the upgrade socket: {error}"))
        }));
        self.notify_main_pid();
    }

    /// The process is where it is looked for: behind the upgrade socket, which it has or not, and in the pid file.
    fn publish(&self, upgrade_socket: Result<(), String>) {
        if let Err(reason) = upgrade_socket {
            error!("{reason}; this process cannot hand over");
        }
        if let Err(reason) = self.pid_file.write() {
            warn!("{reason}");
        }
        // Whoever renamed a log until now has told the other process.
        self.context.logs.reopen();
    }

    /// Tells systemd that this is the process that counts.
    fn notify_main_pid(&self) {
        notify(&format!("MAINPID={}\nREADY=1", process::id()));
    }

    /// An in-place reload begins, asked for by a signal.
    pub(super) fn notify_reloading(&self) {
        if self.is_serving.load(Ordering::SeqCst) {
            systemd::notify_reloading();
        }
    }

    /// It has ended, one way or the other.
    pub(super) fn notify_reloaded(&self) {
        // From a process that does not serve yet it would say too much.
        if self.is_serving.load(Ordering::SeqCst) {
            notify("READY=1");
        }
    }

    /// The process stops and nobody takes its place.
    pub(super) fn set_stopping(&self) {
        self.context.readiness.set(false);
        // From a successor that is sent away it would be the end of the whole service.
        if self.is_serving.load(Ordering::SeqCst) {
            notify("STOPPING=1");
        }
    }

    /// The process ends: removes its files, except those that are a successor's by now, and gives what is told of requests
    /// a moment to get where it goes.
    pub(super) fn shut_down(&self) {
        if let Some(handover_listener) = self.lock_handover_listener().take() {
            handover_listener.remove_file();
        }
        self.context.handover.remove_socket();
        self.context.control.remove();
        self.pid_file.remove();
        self.context.logs.flush();
        let deadline = Instant::now() + FLUSH_TIMEOUT;
        for observer in &self.context.active.load().observers {
            observer.flush(deadline);
        }
        log::logger().flush();
    }

    fn lock_handover_listener(&self) -> MutexGuard<'_, Option<HandoverListener>> {
        // Nothing that is done under the locks can be half done.
        self.handover_listener
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_predecessor_watch(
        &self,
    ) -> MutexGuard<'_, Option<(oneshot::Sender<()>, JoinHandle<()>)>> {
        self.predecessor_watch
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
