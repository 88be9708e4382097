//! One handover attempt: from the connection or start of the successor to the end of the watch over it.

use std::os::fd::RawFd;
use std::time::Duration;

use log::{info, warn};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{
    HANDOVER_RUNNING, HandoverCoordinator, HandoverFailure, PendingSuccessor, WaitingSuccessor,
    lock, unexpected,
};
use crate::config::ListenerAddress;
use crate::server::change_lock::ChangeLockGuard;
use crate::server::handover::connection::{HandoverError, Peer};
use crate::server::handover::message::{Message, export};
use crate::server::handover::successor_process::{SuccessorProcess, send_signal};
use crate::server::handover::successor_watch::{self, WATCH_PERIOD};

/// A killed process ends within milliseconds, unless the kernel is busy freeing its memory.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// A handover in progress. Dropping it before the successor serves restores the previous state.
pub(super) struct HandoverAttempt<'a> {
    handover: &'a HandoverCoordinator,
    started: Option<SuccessorProcess>,
    waiting: Option<WaitingSuccessor>,
    /// The reason that the successor receives if the attempt ends early.
    refusal: String,
    /// The change locks held during the attempt.
    locks: Vec<ChangeLockGuard>,
    /// The addresses on which the successor accepts connections.
    listeners: Vec<ListenerAddress>,
}

impl<'a> HandoverAttempt<'a> {
    /// Begins an attempt: further successors are refused. One may be waiting already.
    pub(super) fn start(handover: &'a HandoverCoordinator) -> Self {
        HandoverAttempt {
            handover,
            started: None,
            waiting: handover.close_pending(),
            refusal: "the predecessor is stopping".to_owned(),
            locks: Vec::new(),
            listeners: Vec::new(),
        }
    }

    /// Sets the reason that the successor receives.
    pub(super) fn set_refusal(&mut self, reason: &str) {
        self.refusal = reason.to_owned();
    }

    /// Brings a successor to serve. This process accepts connections, too, until it watches.
    pub(super) async fn run(&mut self) -> Result<(), String> {
        // Every acknowledged reload precedes the successor's reading of the file.
        let reloads = self.handover.change_locks.reloads.lock().await;
        self.locks.push(reloads);
        if self.waiting.is_some() {
            let outcome = match self.wait_prepared().await {
                Ok(()) => self.send_listeners().await,
                failed => failed,
            };
            match outcome {
                // The waiting successor has disconnected; start one.
                Err(HandoverError::Closed) => {
                    self.waiting = None;
                    self.locks.truncate(1);
                }
                outcome => return outcome.map_err(|error| error.to_string()),
            }
        }
        let (slot, mut arrivals) = mpsc::channel(1);
        *lock(&self.handover.pending) = PendingSuccessor::Expected(slot);
        let upgrade_socket = lock(&self.handover.upgrade_socket)
            .as_ref()
            .and_then(|upgrade_socket| upgrade_socket.file.path());
        let upgrade_socket = upgrade_socket.ok_or("there is no upgrade socket")?;
        let mut started = self.handover.program.start(&upgrade_socket).await?;
        let pid = started.pid();
        info!("started the successor, process {pid}");
        let prepared = tokio::select! {
            ended = started.wait_for_exit() => return Err(ended),
            prepared = async {
                self.waiting = wait_for_connection(pid, &mut arrivals).await;
                *lock(&self.handover.pending) = PendingSuccessor::Closed;
                self.wait_prepared().await
            } => prepared,
        };
        started.set_grace(self.handover.grace);
        self.started = Some(started);
        let sent = match prepared {
            Ok(()) => self.send_listeners().await,
            Err(error) => Err(error),
        };
        match sent {
            Ok(()) => Ok(()),
            Err(HandoverError::Closed) => Err(self.exit_reason().await),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Waits for `prepared`.
    async fn wait_prepared(&mut self) -> Result<(), HandoverError> {
        let waiting = self.waiting.as_mut().ok_or(HandoverError::Closed)?;
        match waiting.connection.receive().await? {
            Message::Prepared => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Sends the sockets and waits until the successor serves.
    async fn send_listeners(&mut self) -> Result<(), HandoverError> {
        // The successor would miss changes that are acknowledged from here on.
        self.locks
            .push(self.handover.change_locks.changes.lock().await);
        let (Some(waiting), Some(sockets)) = (&mut self.waiting, self.handover.sockets.get())
        else {
            return Err(HandoverError::Closed);
        };
        let sent: Vec<(ListenerAddress, RawFd)> = {
            let table = sockets.table.lock();
            let sent = sockets.addresses.iter();
            sent.filter_map(|address| Some((address.clone(), *table.get(&address.to_string())?)))
                .collect()
        };
        let (listeners, sockets): (Vec<_>, Vec<_>) = sent.into_iter().unzip();
        let connection = &mut waiting.connection;
        connection
            .send(&Message::Take {
                listeners: listeners.clone(),
                state: export(
                    &self.handover.active.load().pools,
                    &self.handover.overrides.load(),
                    &self.handover.ticket_keys,
                    &self.handover.sources,
                ),
                reloaded: waiting.loaded != self.handover.loaded_config.load().loaded,
            })
            .await?;
        connection.send_sockets(&sockets).await?;
        match connection.receive().await? {
            Message::Ready { listeners: serving } => {
                self.listeners = listeners;
                self.listeners.retain(|address| serving.contains(address));
                Ok(())
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Stops accepting connections, and watches the successor that accepts them.
    pub(super) async fn watch_successor(&mut self) -> Result<(), HandoverFailure> {
        let Some(waiting) = self.waiting.take() else {
            let reason = "the successor has gone".to_owned();
            return Err(HandoverFailure::Serving(reason));
        };
        if !self.handover.lifecycle.hand_over() {
            let reason = "this process does not serve".to_owned();
            waiting.connection.refuse(&reason);
            return Err(HandoverFailure::Serving(reason));
        }
        let can_watch = waiting.watched;
        info!(
            "handed over: no new connections; {}",
            match can_watch {
                true => format!("watching the successor for {WATCH_PERIOD:?}"),
                false => "the successor is of a version that cannot be watched".to_owned(),
            }
        );
        let connection = &mut self.waiting.insert(waiting).connection;
        let outcome = match connection
            .write(&Message::Farewell { watch: can_watch })
            .await
        {
            Ok(()) if can_watch => {
                successor_watch::watch_successor(connection, &self.listeners).await
            }
            Ok(()) => Ok(()),
            Err(error) => Err(error.to_string()),
        };
        let Err(reason) = outcome else {
            return Ok(());
        };
        self.kill_successor().await;
        // Accepts the connections that have queued up in the kernel.
        self.handover.lifecycle.resume();
        Err(HandoverFailure::Resumed(reason))
    }

    /// Kills a successor that has served, and waits for its end: a frozen one must not wake up later and serve beside
    /// this process.
    async fn kill_successor(&mut self) {
        let Some(WaitingSuccessor { mut connection, .. }) = self.waiting.take() else {
            return;
        };
        // If it cannot be killed, it ends when it reads this.
        connection.refuse("the predecessor has taken over again");
        match (self.started.take(), connection.peer()) {
            (Some(started), _) => started.kill(),
            // Pid 0 is a process outside this pid namespace.
            (None, Ok(Peer { pid: Some(pid), .. })) if pid.as_raw() > 0 => {
                send_signal(pid, &connection, Signal::SIGKILL);
            }
            _ => {}
        }
        if timeout(KILL_TIMEOUT, connection.wait_closed())
            .await
            .is_err()
        {
            warn!("the successor cannot be ended");
        }
    }

    async fn exit_reason(&mut self) -> String {
        match &mut self.started {
            Some(started) => started.wait_for_exit().await,
            None => HandoverError::Closed.to_string(),
        }
    }
}

impl Drop for HandoverAttempt<'_> {
    fn drop(&mut self) {
        if !self.handover.lifecycle.phase().has_successor() {
            if let Some(waiting) = self.waiting.take() {
                waiting.connection.refuse(&self.refusal);
            }
            *lock(&self.handover.pending) = PendingSuccessor::Accepting(None);
            return;
        }
        // This process drains: further successors and changes stay refused.
        self.handover.files.release(&self.listeners);
        if let Some(waiting) = self.waiting.take() {
            waiting.connection.release();
        }
        if let Some(started) = self.started.take() {
            started.detach();
        }
        self.locks.drain(..).for_each(ChangeLockGuard::keep_locked);
    }
}

/// Waits for the connection of process `pid`; refuses others.
async fn wait_for_connection(
    pid: Pid,
    arrivals: &mut mpsc::Receiver<(Peer, WaitingSuccessor)>,
) -> Option<WaitingSuccessor> {
    loop {
        let (peer, waiting) = arrivals.recv().await?;
        if peer.pid == Some(pid) {
            return Some(waiting);
        }
        waiting.connection.refuse(HANDOVER_RUNNING);
    }
}
