//! The side that serves: lets successors in, and hands over to one.

mod attempt;

use std::net::SocketAddr;
use std::process;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use log::{info, warn};
use pingora::server::ListenFds;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use self::attempt::Attempt;
use super::launch::Program;
use super::link::{Link, LinkError, Peer};
use super::message::{Message, VERSION, export};
use super::place::{Door, is_trusted};
use crate::admin::Current;
use crate::health::FIRST_ROUND;
use crate::moment::Moment;
use crate::proxy::Site;
use crate::server::change_gate::Gates;
use crate::server::overlay::Overlay;
use crate::server::serving_state::ServingState;
use crate::server::socket_file::SocketFile;
use crate::supervisor::{Supervisor, Task};

/// The time from the start of a handover to its end: reading the file, the certificates and the names of hosts takes
/// seconds at most, and then hosts are checked once.
const WHOLE: Duration = Duration::from_secs(30).saturating_add(FIRST_ROUND);

/// A successor says hello in its first milliseconds.
const GREETING: Duration = Duration::from_secs(5);

const BUSY: &str = "a handover is running";

/// What a successor is told of.
#[derive(Debug)]
pub(in crate::server) struct Exported {
    pub(in crate::server) site: Arc<ArcSwap<Site>>,
    pub(in crate::server) overlay: Arc<ArcSwap<Overlay>>,
    pub(in crate::server) current: Arc<ArcSwap<Current>>,
}

/// Hands the listeners of this process over.
#[derive(Debug)]
pub(in crate::server) struct Handover {
    program: Program,
    /// Why there can be no handover.
    obstacle: Option<&'static str>,
    grace: Duration,
    site: Arc<ArcSwap<Site>>,
    overlay: Arc<ArcSwap<Overlay>>,
    current: Arc<ArcSwap<Current>>,
    state: Arc<ServingState>,
    gates: Gates,
    /// Set once the process listens.
    sockets: OnceLock<Sockets>,
    /// Where successors come to, once they may.
    entrance: Mutex<Option<Entrance>>,
    lobby: Mutex<Lobby>,
}

/// The listening sockets by address; Pingora's table, in which they stay as long as it accepts.
struct Sockets {
    addresses: Vec<SocketAddr>,
    table: ListenFds,
}

impl std::fmt::Debug for Sockets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.addresses.fmt(f)
    }
}

/// The upgrade socket.
#[derive(Debug)]
struct Entrance {
    file: SocketFile,
    /// Lets successors in.
    accepting: JoinHandle<()>,
}

/// A successor that has come, and when the file was taken in that was in force then.
#[derive(Debug)]
struct Waiting {
    link: Link,
    loaded: Moment,
    /// Whether it can be watched.
    watched: bool,
}

/// Where successors wait.
#[derive(Debug)]
enum Lobby {
    /// Who comes may wait here; the last one does.
    Open(Option<Waiting>),
    /// A handover runs, whose successor was started and comes in here.
    Reserved(mpsc::Sender<(Peer, Waiting)>),
    /// A handover runs, and nobody may come in.
    Closed,
}

impl Handover {
    /// `reloadable`: whether there is a file that a successor could read.
    pub(in crate::server) fn new(
        program: Program,
        reloadable: bool,
        grace: Duration,
        exported: Exported,
        state: Arc<ServingState>,
        gates: Gates,
    ) -> Self {
        let Exported {
            site,
            overlay,
            current,
        } = exported;
        let obstacle = match (reloadable, process::id()) {
            (false, _) => {
                Some("there is no file for a successor, and the hosts are in this process")
            }
            (_, 1) => Some(
                "this is process 1, whose end would end its container and the successor in it; \
                 reload in place or replace the container",
            ),
            _ => None,
        };
        Handover {
            program,
            obstacle,
            grace,
            site,
            overlay,
            current,
            state,
            gates,
            sockets: OnceLock::new(),
            entrance: Mutex::new(None),
            lobby: Mutex::new(Lobby::Open(None)),
        }
    }

    /// Why this process cannot hand over at all.
    pub(in crate::server) fn obstacle(&self) -> Option<&'static str> {
        self.obstacle
    }

    /// The process listens on `addresses`, whose sockets are in `table`; successors may come through `door`.
    ///
    /// # Errors
    /// If the door cannot be watched.
    pub(in crate::server) fn begin(
        self: &Arc<Self>,
        addresses: Vec<SocketAddr>,
        table: ListenFds,
        door: Door,
    ) -> std::io::Result<()> {
        // Only the first call counts, and there is one.
        let _ = self.sockets.set(Sockets { addresses, table });
        self.let_in(door)
    }

    /// Lets successors in through `door`, and no longer where they came in until now.
    ///
    /// # Errors
    /// If the door cannot be watched.
    pub(in crate::server) fn let_in(self: &Arc<Self>, door: Door) -> std::io::Result<()> {
        let (listener, file) = door.into_parts();
        let listener = UnixListener::from_std(listener)?;
        let this = Arc::clone(self);
        let accepting = tokio::spawn(async move {
            let mut supervisor = Supervisor::new(Task::Handover, "");
            loop {
                supervisor.watch(this.accept(&listener)).await;
            }
        });
        if let Some(earlier) = lock(&self.entrance).replace(Entrance { file, accepting }) {
            earlier.accepting.abort();
        }
        Ok(())
    }

    /// Lets successors in, for ever.
    async fn accept(self: &Arc<Self>, listener: &UnixListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(Arc::clone(self).receive(Link::new(stream)));
                }
                Err(error) => {
                    warn!("cannot let a successor in: {error}");
                    sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    /// Removes the file of the upgrade socket, unless it is a successor's by now.
    pub(in crate::server) fn end(&self) {
        if let Some(entrance) = &*lock(&self.entrance) {
            entrance.file.remove();
        }
    }

    /// Hands over to a successor: to the one that waits, else to one that is started now. Once it serves, this process
    /// accepts no connections and watches it. Afterwards this process has to drain. Dropping the future ends the attempt
    /// and the successor; the watch over one that serves it only cuts short.
    ///
    /// # Errors
    /// Why there was no handover. No successor is left then; whether this process has to take over again says its phase.
    pub(in crate::server) async fn hand_over(&self) -> Result<(), String> {
        if let Some(obstacle) = self.obstacle {
            return Err(obstacle.to_owned());
        }
        if self.sockets.get().is_none() {
            return Err("this process does not serve yet".to_owned());
        }
        let mut attempt = Attempt::begin(self);
        let outcome = match timeout(WHOLE, attempt.run()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("the successor was not ready after {WHOLE:?}")),
        };
        if let Err(reason) = outcome {
            attempt.fail(&reason);
            return Err(reason);
        }
        attempt.watch().await
    }

    /// Lets nobody in, and returns who waits.
    fn close_lobby(&self) -> Option<Waiting> {
        match std::mem::replace(&mut *lock(&self.lobby), Lobby::Closed) {
            Lobby::Open(waiting) => waiting,
            _ => None,
        }
    }

    /// Who comes through the door.
    async fn receive(self: Arc<Self>, mut link: Link) {
        match timeout(GREETING, self.greet(&mut link)).await {
            Ok(Ok((peer, loaded, watched))) => self.seat(
                peer,
                Waiting {
                    link,
                    loaded,
                    watched,
                },
            ),
            Ok(Err(LinkError::Closed)) => {}
            Ok(Err(error)) => {
                warn!("a successor was not let in: {error}");
                link.refuse(&error.to_string());
            }
            Err(_) => warn!("a successor was not let in: it said nothing"),
        }
    }

    /// Who it is, when the file was taken in that is in force, and whether it can be watched.
    async fn greet(&self, link: &mut Link) -> Result<(Peer, Moment, bool), LinkError> {
        let peer = link.peer()?;
        if !is_trusted(peer.uid) {
            return Err(LinkError::Broken(format!("it runs as user {}", peer.uid)));
        }
        let watched = match link.receive().await? {
            Message::Hello {
                version: VERSION,
                watched,
            } => watched,
            Message::Hello { version, .. } => {
                return Err(LinkError::Broken(format!(
                    "it speaks version {version} of the protocol, not {VERSION}"
                )));
            }
            other => return Err(unexpected(&other)),
        };
        let loaded = self.current.load().loaded;
        let listeners = self.sockets.get().map(|sockets| sockets.addresses.clone());
        link.send(&Message::Welcome {
            listeners: listeners.unwrap_or_default(),
            state: export(&self.site.load().pools, &self.overlay.load()),
        })
        .await?;
        Ok((peer, loaded, watched))
    }

    fn seat(&self, peer: Peer, waiting: Waiting) {
        match &mut *lock(&self.lobby) {
            Lobby::Open(seat) => {
                info!("a successor has come and waits for SIGQUIT");
                if let Some(earlier) = seat.replace(waiting) {
                    earlier.link.refuse("another successor has come");
                }
            }
            Lobby::Reserved(seat) => {
                if let Err(error) = seat.try_send((peer, waiting)) {
                    let (_, waiting) = error.into_inner();
                    waiting.link.refuse(BUSY);
                }
            }
            Lobby::Closed => waiting.link.refuse(BUSY),
        }
    }
}

fn unexpected(message: &Message) -> LinkError {
    LinkError::Broken(format!("it said {message:?} out of turn"))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing that is done under these locks can be half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
