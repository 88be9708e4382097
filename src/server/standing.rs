//! What this process is to the outside while it serves: the one in the pid file, behind the upgrade socket and known to
//! systemd.

use std::net::SocketAddr;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use log::{error, warn};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pingora::server::ListenFds;
use tokio::sync::watch;

use super::announce::{self, PidFile, notify};
use super::handover::{Door, Handover, Inheritance};
use super::places::Places;
use super::reload::Reloads;
use super::socket_file::SocketFile;
use crate::access_log::Logs;
use crate::admin::Readiness;
use crate::journal::{Journal, Kind};
use crate::proxy::Site;

/// How long the end of the process waits for what is told of requests.
const FLUSH: Duration = Duration::from_secs(1);

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
    succeeded: watch::Sender<bool>,
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
            succeeded: watch::Sender::new(false),
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
        *self.door() = Some(door);
        Ok(())
    }

    /// The process serves on `addresses`. Where it has a predecessor, that one hears of it and drains.
    pub(super) async fn begin(
        &self,
        addresses: Vec<SocketAddr>,
        table: ListenFds,
        inheritance: Option<Inheritance>,
    ) {
        if let Some(inheritance) = inheritance {
            let overlay = inheritance.legacy.overlay.clone();
            for pool in &self.around.site.load().pools {
                let known = inheritance.legacy.pools.iter();
                known
                    .filter(|state| state.name == pool.name())
                    .for_each(|state| pool.resume(state));
            }
            if let Err(reason) = inheritance.confirm().await {
                error!("no handover: {reason}");
                // It may have accepted connections, so it goes as everybody goes.
                let _ = kill(Pid::this(), Signal::SIGTERM);
                return;
            }
            let text = "serving in the place of another process".to_owned();
            self.around.journal.note(Kind::Handover, None, None, text);
            // An operator may have changed something since the successor came.
            self.around.reloads.adopt(overlay).await;
        }
        let early = self.door().take();
        let door = early.map_or_else(|| Door::take_over(&self.places.upgrade_socket), Ok);
        let begun = door.and_then(|door| {
            let begun = self.around.handover.begin(addresses, table, door);
            begun.map_err(|error| format!("cannot watch the upgrade socket: {error}"))
        });
        if let Err(reason) = begun {
            error!("{reason}; this process cannot hand over");
        }
        if let Err(reason) = self.pid_file.write() {
            warn!("{reason}");
        }
        // Whoever renamed a log until now has told the predecessor.
        self.around.logs.reopen();
        self.around.readiness.set(true);
        self.begun.store(true, Ordering::SeqCst);
        notify(&format!("MAINPID={}\nREADY=1", process::id()));
    }

    /// Turns true when a successor serves.
    pub(super) fn watch_succession(&self) -> watch::Receiver<bool> {
        self.succeeded.subscribe()
    }

    /// A successor serves. A probe that is still answered here asks for the service, which is ready.
    pub(super) fn succeeded(&self) {
        self.succeeded.send_replace(true);
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

    /// The process ends: removes its files, except those that are a successor's by now, and writes the last lines.
    /// The process ends: removes its files, except those that are a successor's by now, and gives what is told of requests
    /// a moment to get where it goes.
    pub(super) fn end(&self) {
        if let Some(door) = self.door().take() {
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
        log::logger().flush();
    }

    fn door(&self) -> std::sync::MutexGuard<'_, Option<Door>> {
        // Nothing that is done under the lock can be half done.
        self.door.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
