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

use super::announce::{self, PidFile, notify};
use super::handover::{Door, ExpectedProbes, Handover, Inheritance, Watched};
use super::places::Places;
use super::reload::{Reloads, note_outcome};
use super::serving_state::{Phase, ServingState};
use super::socket_file::SocketFile;
use crate::access_log::Logs;
use crate::admin::Readiness;
use crate::journal::{Journal, Kind};
use crate::logging;
use crate::proxy::Site;

/// How long the end of the process waits for what is told of requests.
const FLUSH: Duration = Duration::from_secs(1);

/// How long the end of the process waits until a predecessor has heard of it.
const LEAVING: Duration = Duration::from_secs(1);

/// The standing of this process.
#[derive(Debug)]
pub(super) struct Standing {
    places: Places,
    pid_file: PidFile,
    /// Open from the start, unless a predecessor has it.
    door: Mutex<Option<Door>>,
    around: Around,
    /// Whether signals are watched for; until then they would end the process.
    watching: watch::Sender<bool>,
    begun: AtomicBool,
    /// Ends the watch of a predecessor over this process.
    watched_over: Mutex<Option<(oneshot::Sender<()>, JoinHandle<()>)>>,
}

/// What hears of a change of the standing.
#[derive(Debug)]
pub(super) struct Around {
    pub(super) handover: Arc<Handover>,
    pub(super) site: Arc<ArcSwap<Site>>,
    pub(super) journal: Arc<Journal>,
    pub(super) reloads: Reloads,
    pub(super) readiness: Arc<Readiness>,
    /// Where the process takes commands.
    pub(super) control: Arc<SocketFile>,
    pub(super) logs: Arc<Logs>,
    pub(super) state: Arc<ServingState>,
    /// Where clients come in.
    pub(super) edges: Vec<SocketAddr>,
    pub(super) probes: Arc<ExpectedProbes>,
}

impl Standing {
    pub(super) fn new(places: Places, around: Around) -> Self {
        Standing {
            pid_file: PidFile::new(places.pid_file.clone()),
            places,
            door: Mutex::new(None),
            around,
            watching: watch::Sender::new(false),
            begun: AtomicBool::new(false),
            watched_over: Mutex::new(None),
        }
    }

    /// From now on signals are watched for.
    pub(super) fn watching(&self) {
        self.watching.send_replace(true);
    }

    /// Waits until signals are watched for: whoever sees the process answer may send one.
    pub(super) async fn watched(&self) {
        // The sender lives as long as `self`, so there is always somebody to wait for.
        let _ = self.watching.subscribe().wait_for(|yes| *yes).await;
    }

    /// Opens the upgrade socket ahead of time, where no predecessor has it.
    ///
    /// # Errors
    /// One line for a person.
    pub(super) fn open_door(&self) -> Result<(), String> {
        let door = Door::open(&self.places.upgrade_socket)?;
        *self.lock_door() = Some(door);
        Ok(())
    }

    /// The process serves on `addresses`. Where it has a predecessor, that one hears of it and drains.
    pub(super) async fn begin(
        self: &Arc<Self>,
        addresses: Vec<SocketAddr>,
        table: ListenFds,
        inheritance: Option<Inheritance>,
    ) {
        let mut watched = None;
        let mut reloaded = false;
        if let Some(inheritance) = inheritance {
            reloaded = inheritance.legacy.reloaded;
            match self.take_over(inheritance).await {
                Ok(watch) => watched = watch,
                Err(reason) => {
                    error!("no handover: {reason}");
                    // It may have accepted connections, so it goes as everybody goes.
                    let _ = kill(Pid::this(), Signal::SIGTERM);
                    return;
                }
            }
            let text = "serving in the place of another process".to_owned();
            self.around.journal.note(Kind::Handover, None, None, text);
        }
        let early = self.lock_door().take();
        let door = early.map_or_else(|| Door::take_over(&self.places.upgrade_socket), Ok);
        let begun = door.and_then(|door| {
            let begun = self.around.handover.begin(addresses, table, door);
            begun.map_err(|error| format!("cannot watch the upgrade socket: {error}"))
        });
        self.is_known(begun);
        self.around.readiness.set(true);
        self.begun.store(true, Ordering::SeqCst);
        match watched {
            // Until then the predecessor stays the main process: systemd would end both with this one.
            Some(watched) => self.be_watched(watched),
            None => self.is_main(),
        }
        if reloaded {
            let (reloads, journal) = (self.around.reloads.clone(), self.around.journal.clone());
            tokio::spawn(async move { note_outcome(&journal, &reloads.reload().await) });
        }
    }

    /// Takes over what a predecessor has learnt and what operators have changed there, and tells it that this process
    /// serves; returns what it watches this process with.
    async fn take_over(&self, inheritance: Inheritance) -> Result<Option<Watched>, String> {
        // An operator may have changed something since the successor came.
        let overlay = inheritance.legacy.overlay.clone();
        if let Err(reason) = self.around.reloads.adopt(overlay).await {
            inheritance.refuse(&reason);
            return Err(reason);
        }
        for pool in &self.around.site.load().pools {
            let known = inheritance.legacy.pools.iter();
            known
                .filter(|state| state.name == pool.name())
                .for_each(|state| pool.resume(state));
        }
        if let Some(level) = &inheritance.legacy.log_level
            && let Err(reason) = logging::set_level(level)
        {
            warn!("the level of the predecessor's log: {reason}");
        }
        inheritance.confirm(self.around.edges.clone()).await
    }

    /// Answers the predecessor that watches this process.
    fn be_watched(self: &Arc<Self>, watched: Watched) {
        let (leave, left) = oneshot::channel();
        let this = Arc::clone(self);
        let answering = tokio::spawn(async move {
            let mut phase = this.around.state.watch_phase();
            let leaves = async {
                tokio::select! {
                    _ = left => {}
                    // It has a successor itself, which accepts the probes now.
                    _ = phase.wait_for(|phase| *phase != Phase::Serving) => {}
                }
            };
            match watched.answer(&this.around.probes, leaves).await {
                Ok(()) => this.is_main(),
                Err(reason) => {
                    error!("this process has to go: {reason}");
                    // What it says from here on systemd would take for the service's.
                    this.begun.store(false, Ordering::SeqCst);
                    let _ = kill(Pid::this(), Signal::SIGTERM);
                }
            }
        });
        *self.lock_watch() = Some((leave, answering));
    }

    /// This process stops, or has a successor: a predecessor that watches it still must not take that for its death.
    pub(super) async fn leave(&self) {
        let watched = self.lock_watch().take();
        if let Some((leave, answering)) = watched {
            let _ = leave.send(());
            let _ = timeout(LEAVING, answering).await;
        }
    }

    /// The successor is lost, and this process serves again.
    pub(super) fn resume(&self) {
        // First of all it accepts what has come meanwhile.
        self.around.state.enter(Phase::Serving);
        let door = Door::take_over(&self.places.upgrade_socket);
        self.is_known(door.and_then(|door| {
            let open = self.around.handover.let_in(door);
            open.map_err(|error| format!("cannot watch the upgrade socket: {error}"))
        }));
        self.is_main();
    }

    /// The process is where it is looked for: behind the upgrade socket, which it has or not, and in the pid file.
    fn is_known(&self, upgrade_socket: Result<(), String>) {
        if let Err(reason) = upgrade_socket {
            error!("{reason}; this process cannot hand over");
        }
        if let Err(reason) = self.pid_file.write() {
            warn!("{reason}");
        }
        // Whoever renamed a log until now has told the other process.
        self.around.logs.reopen();
    }

    /// Tells systemd that this is the process that counts.
    fn is_main(&self) {
        notify(&format!("MAINPID={}\nREADY=1", process::id()));
    }

    /// An in-place reload begins, asked for by a signal.
    pub(super) fn reloading(&self) {
        if self.begun.load(Ordering::SeqCst) {
            announce::reloading();
        }
    }

    /// It has ended, one way or the other.
    pub(super) fn reloaded(&self) {
        // From a process that does not serve yet it would say too much.
        if self.begun.load(Ordering::SeqCst) {
            notify("READY=1");
        }
    }

    /// The process stops and nobody takes its place.
    pub(super) fn stopping(&self) {
        self.around.readiness.set(false);
        // From a successor that is sent away it would be the end of the whole service.
        if self.begun.load(Ordering::SeqCst) {
            notify("STOPPING=1");
        }
    }

    /// The process ends: removes its files, except those that are a successor's by now, and gives what is told of requests
    /// a moment to get where it goes.
    pub(super) fn end(&self) {
        if let Some(door) = self.lock_door().take() {
            door.close();
        }
        self.around.handover.end();
        self.around.control.remove();
        self.pid_file.remove();
        self.around.logs.flush();
        let by = Instant::now() + FLUSH;
        for observer in &self.around.site.load().observers {
            observer.flush(by);
        }
    }

    fn lock_door(&self) -> MutexGuard<'_, Option<Door>> {
        // Nothing that is done under the locks can be half done.
        self.door.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_watch(&self) -> MutexGuard<'_, Option<(oneshot::Sender<()>, JoinHandle<()>)>> {
        self.watched_over
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
