//! The identity of the serving process towards other processes: its pid file, its upgrade socket, and its notifications
//! to systemd.

use std::process;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use log::{error, warn};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pingora::server::ListenFds;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::control_socket::ControlSocket;
use super::handover::{
    ExpectedProbes, HandoverCoordinator, HandoverListener, PredecessorWatch, Takeover,
};
use super::lifecycle::{Lifecycle, Phase};
use super::listener_files::ListenerFiles;
use super::pid_file::PidFile;
use super::reloader::{ReloaderHandle, note_outcome};
use super::runtime_paths::RuntimePaths;
use super::systemd;
use crate::access_log::OpenLogs;
use crate::config::ListenerAddress;
use crate::event_log::{EventKind, EventLog};
use crate::logging;
use crate::proxy::ActiveConfig;

/// How long the end of the process waits for observers (access log, traces) to flush.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the end of the process waits until a predecessor has received `leaving`.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// Owns the pid file, the upgrade socket and the systemd notifications of this process.
#[derive(Debug)]
pub(super) struct ProcessIdentity {
    runtime_paths: RuntimePaths,
    pid_file: PidFile,
    /// Bound at start, unless a predecessor listens on it. `None` once the coordinator has it.
    handover_listener: Mutex<Option<HandoverListener>>,
    context: IdentityContext,
    /// Ends the predecessor's watch over this process, and waits for the task that responds to it.
    predecessor_watch: Mutex<Option<(oneshot::Sender<()>, JoinHandle<()>)>>,
}

/// The parts of the process that follow a change of who serves.
#[derive(Debug)]
pub(super) struct IdentityContext {
    pub(super) handover: Arc<HandoverCoordinator>,
    pub(super) active: Arc<ArcSwap<ActiveConfig>>,
    pub(super) event_log: Arc<EventLog>,
    pub(super) reloads: ReloaderHandle,
    pub(super) control_socket: Arc<ControlSocket>,
    pub(super) logs: Arc<OpenLogs>,
    pub(super) lifecycle: Arc<Lifecycle>,
    /// The addresses of the listeners for clients.
    pub(super) listeners: Vec<ListenerAddress>,
    pub(super) files: Arc<ListenerFiles>,
    pub(super) probes: Arc<ExpectedProbes>,
}

impl ProcessIdentity {
    pub(super) fn new(runtime_paths: RuntimePaths, context: IdentityContext) -> Self {
        ProcessIdentity {
            pid_file: PidFile::new(runtime_paths.pid_file.clone()),
            runtime_paths,
            handover_listener: Mutex::new(None),
            context,
            predecessor_watch: Mutex::new(None),
        }
    }

    /// Binds the upgrade socket ahead of time, where no predecessor listens on it.
    ///
    /// # Errors
    /// One line for a person.
    pub(super) fn open_handover_listener(&self) -> Result<(), String> {
        let handover_listener = HandoverListener::bind(&self.runtime_paths.upgrade_socket)?;
        *self.lock_handover_listener() = Some(handover_listener);
        Ok(())
    }

    /// Starts to serve on `addresses`. A predecessor, if there is one, is notified and drains.
    pub(super) async fn start_serving(
        self: &Arc<Self>,
        addresses: Vec<ListenerAddress>,
        table: ListenFds,
        takeover: Option<Takeover>,
    ) {
        if self.context.lifecycle.phase().is_ending() {
            if let Some(takeover) = takeover {
                takeover.refuse("the successor was told to stop");
            }
            return;
        }
        let mut watch = None;
        let mut reloaded = false;
        if let Some(takeover) = takeover {
            reloaded = takeover.handover_state.reloaded;
            match self.take_over(takeover).await {
                Ok(predecessor) => watch = predecessor,
                Err(reason) => {
                    error!("no handover: {reason}");
                    // This process may have accepted connections, so it drains like after any SIGTERM.
                    let _ = kill(Pid::this(), Signal::SIGTERM);
                    return;
                }
            }
            let text = "serving in the place of another process".to_owned();
            self.context
                .event_log
                .log_event(EventKind::Handover, None, None, text);
        }
        let bound_at_start = self.lock_handover_listener().take();
        let handover_listener = bound_at_start.map_or_else(
            || HandoverListener::take_over(&self.runtime_paths.upgrade_socket),
            Ok,
        );
        let opened = handover_listener.and_then(|handover_listener| {
            let opened = self
                .context
                .handover
                .start(addresses, table, handover_listener);
            opened.map_err(|error| format!("cannot watch the upgrade socket: {error}"))
        });
        self.publish(opened);
        // Refused if a signal has arrived meanwhile: this process then drains, does not notify systemd, and leaves the watch
        // of its predecessor, which has stopped accepting and drains, too.
        self.context.lifecycle.serve();
        match watch {
            // Until the watch ends, the predecessor stays the main process: otherwise systemd would end both when this
            // one dies.
            Some(watch) => self.answer_predecessor(watch),
            None => {
                self.context.files.adopt();
                self.notify_main_pid();
            }
        }
        if reloaded {
            let (reloads, event_log) =
                (self.context.reloads.clone(), self.context.event_log.clone());
            tokio::spawn(async move { note_outcome(&event_log, &reloads.reload().await) });
        }
    }

    /// Takes over the predecessor's host state and runtime overrides, and confirms that this process serves. Returns
    /// the connection for the predecessor's watch, if it watches.
    async fn take_over(&self, takeover: Takeover) -> Result<Option<PredecessorWatch>, String> {
        // An operator may have changed hosts since this process connected.
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

    /// Responds to the predecessor's watch in a task.
    fn answer_predecessor(self: &Arc<Self>, watch: PredecessorWatch) {
        let (leave, left) = oneshot::channel();
        let this = Arc::clone(self);
        let answering = tokio::spawn(async move {
            let mut phase = this.context.lifecycle.watch_phase();
            let leaves = async {
                tokio::select! {
                    _ = left => {}
                    // This process has handed over itself; its successor accepts the probes now.
                    _ = phase.wait_for(|phase| *phase != Phase::Serving) => {}
                }
            };
            match watch.answer(&this.context.probes, leaves).await {
                Ok(()) => {
                    this.context.files.adopt();
                    this.notify_main_pid();
                }
                Err(reason) => {
                    error!("this process has to go: {reason}");
                    // systemd would take further notifications for those of the service.
                    this.context.lifecycle.abort_start();
                    let _ = kill(Pid::this(), Signal::SIGTERM);
                }
            }
        });
        *self.lock_predecessor_watch() = Some((leave, answering));
    }

    /// Tells a watching predecessor that this process stops or has a successor, so that it does not take that for a
    /// failure.
    pub(super) async fn leave_predecessor_watch(&self) {
        let watch = self.lock_predecessor_watch().take();
        if let Some((leave, answering)) = watch {
            let _ = leave.send(());
            let _ = timeout(LEAVE_TIMEOUT, answering).await;
        }
    }

    /// Publishes this process again after its successor has failed.
    pub(super) fn republish(&self) {
        let handover_listener = HandoverListener::take_over(&self.runtime_paths.upgrade_socket);
        self.publish(handover_listener.and_then(|handover_listener| {
            let open = self.context.handover.listen(handover_listener);
            open.map_err(|error| format!("cannot watch the upgrade socket: {error}"))
        }));
        self.notify_main_pid();
    }

    /// Publishes this process as the serving one: the pid file is written, the control socket is opened, and a missing
    /// upgrade socket is logged. Call it before the process reports that it is ready.
    fn publish(&self, upgrade_socket: Result<(), String>) {
        if let Err(reason) = upgrade_socket {
            error!("{reason}; this process cannot hand over");
        }
        if let Err(reason) = self.pid_file.write() {
            warn!("{reason}");
        }
        // A log rotation until now has signalled the other process.
        self.context.logs.reopen();
        self.context.control_socket.open();
    }

    /// Tells systemd that this is the main process, and that it is ready.
    fn notify_main_pid(&self) {
        self.notify(&format!("MAINPID={}\nREADY=1", process::id()));
    }

    /// Notifies that an in-place reload, triggered by a signal, begins.
    pub(super) fn notify_reloading(&self) {
        if self.may_notify_systemd() {
            systemd::notify_reloading();
        }
    }

    /// Notifies that the in-place reload has ended, successful or not.
    pub(super) fn notify_reloaded(&self) {
        self.notify("READY=1");
    }

    /// Notifies that the process stops without a successor.
    pub(super) fn notify_stopping(&self) {
        self.notify("STOPPING=1");
    }

    fn notify(&self, state: &str) {
        if self.may_notify_systemd() {
            systemd::notify(state);
        }
    }

    fn may_notify_systemd(&self) -> bool {
        self.context.lifecycle.phase().may_notify_systemd()
    }

    /// Removes the files of this process, except those that a successor has replaced, and flushes observers and the
    /// log. Call it last.
    pub(super) fn shut_down(&self) {
        self.context.lifecycle.shut_down();
        if let Some(handover_listener) = self.lock_handover_listener().take() {
            handover_listener.remove_file();
        }
        self.context.files.remove();
        self.context.handover.remove_socket();
        self.context.control_socket.remove();
        self.pid_file.remove();
        self.context.logs.flush();
        let deadline = Instant::now() + FLUSH_TIMEOUT;
        for observer in &self.context.active.load().observers {
            observer.flush(deadline);
        }
        log::logger().flush();
    }

    fn lock_handover_listener(&self) -> MutexGuard<'_, Option<HandoverListener>> {
        // No update under these locks can be left half done, so a poisoned lock is usable.
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
