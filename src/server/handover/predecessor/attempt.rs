//! One handover: from the successor that comes, or is started, to the end of the watch over it.

use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::time::Duration;

use log::{info, warn};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{BUSY, Handover, Lobby, Waiting, lock, unexpected};
use crate::server::change_gate::Closed;
use crate::server::handover::launch::{Started, signal};
use crate::server::handover::link::{LinkError, Peer};
use crate::server::handover::message::{Message, export};
use crate::server::handover::watch::{self, WATCH};
use crate::server::serving_state::Phase;

/// A process that was killed is gone within milliseconds, unless the kernel is busy with its memory.
const DEATH: Duration = Duration::from_secs(5);

/// A handover on its way. Dropping it leaves everything as it was before.
pub(super) struct Attempt<'a> {
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

impl<'a> Attempt<'a> {
    /// Begins one: no further successor may come in. One may wait already.
    pub(super) fn begin(handover: &'a Handover) -> Self {
        Attempt {
            handover,
            started: None,
            waiting: handover.close_lobby(),
            refusal: "the predecessor is stopping".to_owned(),
            closed: Vec::new(),
            listeners: Vec::new(),
            serves: false,
        }
    }

    /// It has failed for this reason, which the successor is told.
    pub(super) fn fail(&mut self, reason: &str) {
        self.refusal = reason.to_owned();
    }

    /// Gets a successor to serve. This process accepts connections as well until it watches.
    pub(super) async fn run(&mut self) -> Result<(), String> {
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
    pub(super) async fn watch(&mut self) -> Result<(), String> {
        let Some(waiting) = self.waiting.take() else {
            return Err("the successor has gone".to_owned());
        };
        self.handover.state.enter(Phase::Watching);
        self.serves = true;
        let can_be_watched = waiting.watched;
        info!(
            "handed over: no new connections; {}",
            match can_be_watched {
                true => format!("watching the successor for {WATCH:?}"),
                false => "the successor is of a version that cannot be watched".to_owned(),
            }
        );
        let link = &mut self.waiting.insert(waiting).link;
        let outcome = match link
            .write(&Message::Farewell {
                watch: can_be_watched,
            })
            .await
        {
            Ok(()) if can_be_watched => watch::watch(link, &self.listeners).await,
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
