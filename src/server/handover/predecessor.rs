//! The side that serves: lets successors in, and hands over to one.

use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::process;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use log::{info, warn};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use pingora::server::ListenFds;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::launch::{Program, Started, signal};
use super::link::{Link, LinkError, Peer};
use super::message::{Message, VERSION, export};
use super::place::{Door, is_trusted};
use super::watch::WATCH;
use crate::admin::Current;
use crate::health::FIRST_ROUND;
use crate::moment::Moment;
use crate::proxy::Site;
use crate::server::change_gate::{Closed, Gates};
use crate::server::overlay::Overlay;
use crate::server::serving_state::{Phase, ServingState};
use crate::server::socket_file::SocketFile;

/// The time from the start of a handover to its end: reading the file, the certificates and the names of hosts takes
/// seconds at most, and then hosts are checked once.
const WHOLE: Duration = Duration::from_secs(30).saturating_add(FIRST_ROUND);

/// A successor says hello in its first milliseconds.
const GREETING: Duration = Duration::from_secs(5);

/// A process that was killed is gone within milliseconds, unless the kernel is busy with its memory.
const DEATH: Duration = Duration::from_secs(5);

const BUSY: &str = "a handover is running";

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
        site: Arc<ArcSwap<Site>>,
        overlay: Arc<ArcSwap<Overlay>>,
        current: Arc<ArcSwap<Current>>,
        state: Arc<ServingState>,
        gates: Gates,
    ) -> Self {
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
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        tokio::spawn(Arc::clone(&this).receive(Link::new(stream)));
                    }
                    Err(error) => {
                        warn!("cannot let a successor in: {error}");
                        sleep(Duration::from_secs(1)).await;
                    }
                }
            }
        });
        if let Some(earlier) = lock(&self.entrance).replace(Entrance { file, accepting }) {
            earlier.accepting.abort();
        }
        Ok(())
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
        let mut attempt = Attempt {
            handover: self,
            started: None,
            waiting: self.close_lobby(),
            refusal: "the predecessor is stopping".to_owned(),
            closed: Vec::new(),
            listeners: Vec::new(),
            serves: false,
        };
        let outcome = match timeout(WHOLE, attempt.run()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("the successor was not ready after {WHOLE:?}")),
        };
        if let Err(reason) = outcome {
            attempt.refusal = reason.clone();
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

/// A handover on its way. Dropping it leaves everything as it was before.
struct Attempt<'a> {
    handover: &'a Handover,
    started: Option<Started>,
    waiting: Option<Waiting>,
    /// What the successor is told if this ends early.
    refusal: String,
    /// The gates that are closed meanwhile.
    closed: Vec<Closed>,
    /// Where the successor accepts connections.
    listeners: Vec<SocketAddr>,
    /// Whether the successor serves.
    serves: bool,
}

impl Attempt<'_> {
    async fn run(&mut self) -> Result<(), String> {
        // A reload that was acknowledged came before the successor reads the file.
        let reloads = self.handover.gates.reloads.close().await;
        self.closed.push(reloads);
        if self.waiting.is_some() {
            let outcome = match self.prepared().await {
                Ok(()) => self.pass().await,
                failed => failed,
            };
            match outcome {
                // It went away while it waited.
                Err(LinkError::Closed) => {
                    self.waiting = None;
                    self.closed.truncate(1);
                }
                outcome => return outcome.map_err(|error| error.to_string()),
            }
        }
        let (seat, mut arrivals) = mpsc::channel(1);
        *lock(&self.handover.lobby) = Lobby::Reserved(seat);
        let door = lock(&self.handover.entrance)
            .as_ref()
            .and_then(|entrance| entrance.file.path());
        let door = door.ok_or("there is no upgrade socket")?;
        let mut started = self.handover.program.start(&door).await?;
        let pid = started.pid();
        info!("started the successor, process {pid}");
        let prepared = tokio::select! {
            ended = started.ended() => return Err(ended),
            prepared = async {
                self.waiting = arrival_of(pid, &mut arrivals).await;
                *lock(&self.handover.lobby) = Lobby::Closed;
                self.prepared().await
            } => prepared,
        };
        started.may_serve(self.handover.grace);
        self.started = Some(started);
        let passed = match prepared {
            Ok(()) => self.pass().await,
            Err(error) => Err(error),
        };
        match passed {
            Ok(()) => Ok(()),
            Err(LinkError::Closed) => Err(self.how_it_ended().await),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Waits until the successor is prepared.
    async fn prepared(&mut self) -> Result<(), LinkError> {
        let waiting = self.waiting.as_mut().ok_or(LinkError::Closed)?;
        match waiting.link.receive().await? {
            Message::Prepared => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Passes the sockets and waits until the successor serves.
    async fn pass(&mut self) -> Result<(), LinkError> {
        // What is acknowledged from here on the successor would never hear of.
        self.closed.push(self.handover.gates.changes.close().await);
        let (Some(waiting), Some(sockets)) = (&mut self.waiting, self.handover.sockets.get())
        else {
            return Err(LinkError::Closed);
        };
        let passed: Vec<(SocketAddr, RawFd)> = {
            let table = sockets.table.lock();
            let passed = sockets.addresses.iter();
            passed
                .filter_map(|address| Some((*address, *table.get(&address.to_string())?)))
                .collect()
        };
        let (listeners, sockets): (Vec<_>, Vec<_>) = passed.into_iter().unzip();
        let link = &mut waiting.link;
        link.send(&Message::Take {
            listeners: listeners.clone(),
            state: export(
                &self.handover.site.load().pools,
                &self.handover.overlay.load(),
            ),
            reloaded: waiting.loaded != self.handover.current.load().loaded,
        })
        .await?;
        link.send_sockets(&sockets).await?;
        match link.receive().await? {
            Message::Ready { listeners: serving } => {
                self.listeners = listeners;
                self.listeners.retain(|address| serving.contains(address));
                Ok(())
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Accepts no connections from now on, and watches the successor that does.
    async fn watch(&mut self) -> Result<(), String> {
        let Some(mut waiting) = self.waiting.take() else {
            return Err("the successor has gone".to_owned());
        };
        self.handover.state.enter(Phase::Watching);
        self.serves = true;
        let watch = waiting.watched;
        info!(
            "handed over: no new connections; {}",
            match watch {
                true => format!("watching the successor for {WATCH:?}"),
                false => "the successor is of a version that cannot be watched".to_owned(),
            }
        );
        let link = &mut self.waiting.insert(waiting).link;
        let outcome = match link.write(&Message::Farewell { watch }).await {
            Ok(()) if watch => super::watch::watch(link, &self.listeners).await,
            Ok(()) => Ok(()),
            Err(error) => Err(error.to_string()),
        };
        if outcome.is_err() {
            self.serves = false;
            self.end_successor().await;
        }
        outcome
    }

    /// Kills a successor that serves, or has served, and waits for its end: one that wakes up later must not serve beside
    /// this process.
    async fn end_successor(&mut self) {
        let Some(Waiting { mut link, .. }) = self.waiting.take() else {
            return;
        };
        // If it cannot be killed, it goes by itself as soon as it reads this.
        link.refuse("the predecessor has taken over again");
        match (self.started.take(), link.peer()) {
            (Some(started), _) => started.kill(),
            // Zero is a process that cannot be seen from here.
            (None, Ok(Peer { pid: Some(pid), .. })) if pid.as_raw() > 0 => {
                signal(pid, &link, Signal::SIGKILL);
            }
            _ => {}
        }
        if timeout(DEATH, link.closed()).await.is_err() {
            warn!("the successor cannot be ended");
        }
    }

    async fn how_it_ended(&mut self) -> String {
        match &mut self.started {
            Some(started) => started.ended().await,
            None => LinkError::Closed.to_string(),
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.serves {
            if let Some(waiting) = self.waiting.take() {
                waiting.link.refuse(&self.refusal);
            }
            *lock(&self.handover.lobby) = Lobby::Open(None);
            return;
        }
        // This process drains: no other successor may come, and nothing may be changed.
        if let Some(waiting) = self.waiting.take() {
            waiting.link.release();
        }
        if let Some(started) = self.started.take() {
            started.let_go();
        }
        self.closed.drain(..).for_each(Closed::for_good);
    }
}

/// The connection of the process `pid`.
async fn arrival_of(pid: Pid, arrivals: &mut mpsc::Receiver<(Peer, Waiting)>) -> Option<Waiting> {
    loop {
        let (peer, waiting) = arrivals.recv().await?;
        if peer.pid == Some(pid) {
            return Some(waiting);
        }
        waiting.link.refuse(BUSY);
    }
}

fn unexpected(message: &Message) -> LinkError {
    LinkError::Broken(format!("it said {message:?} out of turn"))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing that is done under these locks can be half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
