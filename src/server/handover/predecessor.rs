//! The side that serves: lets successors in, and hands over to one.

use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::process;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use log::{info, warn};
use nix::unistd::Pid;
use pingora::server::ListenFds;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::launch::{Program, Started};
use super::link::{Link, LinkError, Peer};
use super::message::{Message, VERSION, export};
use super::place::{Door, is_trusted};
use crate::health::FIRST_ROUND;
use crate::proxy::Site;
use crate::server::overlay::Overlay;
use crate::server::socket_file::SocketFile;
use crate::supervisor::{Supervisor, Task};

/// The time from the start of a handover to its end: reading the file, the certificates and the names of hosts takes
/// seconds at most, and then hosts are checked once.
const WHOLE: Duration = Duration::from_secs(30).saturating_add(FIRST_ROUND);

/// A successor says hello in its first milliseconds.
const GREETING: Duration = Duration::from_secs(5);

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
    /// Set once the process listens.
    sockets: OnceLock<Sockets>,
    /// The file of the upgrade socket, once successors may come.
    file: OnceLock<SocketFile>,
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

/// Where successors wait.
#[derive(Debug)]
enum Lobby {
    /// Who comes may wait here; the last one does.
    Open(Option<Link>),
    /// A handover runs, whose successor was started and comes in here.
    Reserved(mpsc::Sender<(Peer, Link)>),
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
            sockets: OnceLock::new(),
            file: OnceLock::new(),
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
        let (listener, file) = door.into_parts();
        let listener = UnixListener::from_std(listener)?;
        // Only the first call counts, and there is one.
        let _ = self.file.set(file);
        let _ = self.sockets.set(Sockets { addresses, table });
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let mut supervisor = Supervisor::new(Task::Handover, "");
            loop {
                supervisor.watch(this.accept(&listener)).await;
            }
        });
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
        if let Some(file) = self.file.get() {
            file.remove();
        }
    }

    /// Hands over to a successor: to the one that waits, else to one that is started now. Afterwards it serves, and this
    /// process has to drain. Dropping the future ends the attempt and the successor.
    ///
    /// # Errors
    /// Why there was no handover. Then everything is as before.
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
            link: self.close_lobby(),
            refusal: "the predecessor is stopping".to_owned(),
            succeeded: false,
        };
        let outcome = match timeout(WHOLE, attempt.run()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("the successor was not ready after {WHOLE:?}")),
        };
        match &outcome {
            Ok(()) => attempt.succeed(),
            Err(reason) => attempt.refusal = reason.clone(),
        }
        outcome
    }

    /// Lets nobody in, and returns who waits.
    fn close_lobby(&self) -> Option<Link> {
        match std::mem::replace(&mut *lock(&self.lobby), Lobby::Closed) {
            Lobby::Open(link) => link,
            _ => None,
        }
    }

    /// Who comes through the door.
    async fn receive(self: Arc<Self>, mut link: Link) {
        match timeout(GREETING, self.greet(&mut link)).await {
            Ok(Ok(peer)) => self.seat(peer, link),
            Ok(Err(LinkError::Closed)) => {}
            Ok(Err(error)) => {
                warn!("a successor was not let in: {error}");
                link.refuse(&error.to_string());
            }
            Err(_) => warn!("a successor was not let in: it said nothing"),
        }
    }

    async fn greet(&self, link: &mut Link) -> Result<Peer, LinkError> {
        let peer = link.peer()?;
        if !is_trusted(peer.uid) {
            return Err(LinkError::Broken(format!("it runs as user {}", peer.uid)));
        }
        match link.receive().await? {
            Message::Hello { version: VERSION } => {}
            Message::Hello { version } => {
                return Err(LinkError::Broken(format!(
                    "it speaks version {version} of the protocol, not {VERSION}"
                )));
            }
            other => return Err(unexpected(&other)),
        }
        let listeners = self.sockets.get().map(|sockets| sockets.addresses.clone());
        link.send(&Message::Welcome {
            listeners: listeners.unwrap_or_default(),
            state: export(&self.site.load().pools, &self.overlay.load()),
        })
        .await?;
        Ok(peer)
    }

    fn seat(&self, peer: Peer, link: Link) {
        match &mut *lock(&self.lobby) {
            Lobby::Open(seat) => {
                info!("a successor has come and waits for SIGQUIT");
                if let Some(earlier) = seat.replace(link) {
                    earlier.refuse("another successor has come");
                }
            }
            Lobby::Reserved(seat) => {
                if let Err(error) = seat.try_send((peer, link)) {
                    let (_, link) = error.into_inner();
                    link.refuse(BUSY);
                }
            }
            Lobby::Closed => link.refuse(BUSY),
        }
    }
}

/// A handover on its way. Dropping it leaves everything as it was before.
struct Attempt<'a> {
    handover: &'a Handover,
    started: Option<Started>,
    link: Option<Link>,
    /// What the successor is told if this ends early.
    refusal: String,
    succeeded: bool,
}

impl Attempt<'_> {
    async fn run(&mut self) -> Result<(), String> {
        if self.link.is_some() {
            let outcome = match self.prepared().await {
                Ok(()) => self.pass().await,
                failed => failed,
            };
            match outcome {
                // It went away while it waited.
                Err(LinkError::Closed) => self.link = None,
                outcome => return outcome.map_err(|error| error.to_string()),
            }
        }
        let (seat, mut arrivals) = mpsc::channel(1);
        *lock(&self.handover.lobby) = Lobby::Reserved(seat);
        let door = self.handover.file.get().and_then(SocketFile::path);
        let door = door.ok_or("there is no upgrade socket")?;
        let mut started = self.handover.program.start(&door).await?;
        let pid = started.pid();
        info!("started the successor, process {pid}");
        let prepared = tokio::select! {
            ended = started.ended() => return Err(ended),
            prepared = async {
                self.link = arrival_of(pid, &mut arrivals).await;
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
        let link = self.link.as_mut().ok_or(LinkError::Closed)?;
        match link.receive().await? {
            Message::Prepared => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Passes the sockets and waits until the successor serves.
    async fn pass(&mut self) -> Result<(), LinkError> {
        let (Some(link), Some(sockets)) = (&mut self.link, self.handover.sockets.get()) else {
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
        link.send(&Message::Take {
            listeners,
            state: export(
                &self.handover.site.load().pools,
                &self.handover.overlay.load(),
            ),
        })
        .await?;
        link.send_sockets(&sockets).await?;
        match link.receive().await? {
            Message::Ready => link.send(&Message::Farewell).await,
            other => Err(unexpected(&other)),
        }
    }

    async fn how_it_ended(&mut self) -> String {
        match &mut self.started {
            Some(started) => started.ended().await,
            None => LinkError::Closed.to_string(),
        }
    }

    /// The successor serves; nobody else may come, for this process drains.
    fn succeed(&mut self) {
        self.succeeded = true;
        self.link = None;
        if let Some(started) = self.started.take() {
            started.let_go();
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if let Some(link) = self.link.take() {
            link.refuse(&self.refusal);
        }
        if !self.succeeded {
            *lock(&self.handover.lobby) = Lobby::Open(None);
        }
    }
}

/// The connection of the process `pid`.
async fn arrival_of(pid: Pid, arrivals: &mut mpsc::Receiver<(Peer, Link)>) -> Option<Link> {
    loop {
        let (peer, link) = arrivals.recv().await?;
        if peer.pid == Some(pid) {
            return Some(link);
        }
        link.refuse(BUSY);
    }
}

fn unexpected(message: &Message) -> LinkError {
    LinkError::Broken(format!("it said {message:?} out of turn"))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing that is done under these locks can be half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
