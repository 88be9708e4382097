//! The events that a serving process answers to: signals, and commands from the control socket.
//!
//! SIGHUP takes the file in anew, SIGTERM drains the process, SIGINT ends it at once.

use std::io;
use std::process;
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use log::{error, info, warn};
use pingora::server::{ShutdownSignal, ShutdownSignalWatch};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Mutex, mpsc};

use crate::admin::{Command, Readiness, Reloaded};
use crate::config;
use crate::proxy::Traffic;

use super::control::SocketFile;
use super::reload::{Outcome, Reloads};
use super::shutdown::drain;

/// Waits for events, and for the one that ends the process.
pub(super) struct Events {
    pub(super) traffic: Arc<Traffic>,
    /// The grace period and the drain delay of the newest configuration.
    pub(super) server: Arc<ArcSwap<config::Server>>,
    pub(super) readiness: Arc<Readiness>,
    pub(super) reloads: Reloads,
    pub(super) commands: Mutex<mpsc::Receiver<Command>>,
    pub(super) control_socket: Arc<SocketFile>,
}

struct Signals {
    hang_up: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn watch() -> io::Result<Self> {
        Ok(Signals {
            hang_up: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

#[async_trait]
impl ShutdownSignalWatch for Events {
    async fn recv(&self) -> ShutdownSignal {
        let mut signals = Signals::watch().unwrap_or_else(|error| {
            error!("cannot watch for signals: {error}");
            process::exit(1);
        });
        let mut commands = self.commands.lock().await;
        loop {
            tokio::select! {
                _ = signals.interrupt.recv() => {
                    info!("SIGINT: stopping now");
                    self.control_socket.remove();
                    return ShutdownSignal::FastShutdown;
                }
                _ = signals.terminate.recv() => return self.terminate(signals).await,
                _ = signals.hang_up.recv() => {
                    let reloads = self.reloads.clone();
                    tokio::spawn(async move { log_outcome(&reloads.reload().await) });
                }
                Some(command) = commands.recv() => {
                    let Command::Reload(answer) = command;
                    let reloads = self.reloads.clone();
                    tokio::spawn(async move {
                        let outcome = reloads.reload().await;
                        log_outcome(&outcome);
                        let told = outcome.map(|changes| Reloaded {
                            way: "in-place".to_owned(),
                            changes,
                        });
                        // Whoever asked may have gone.
                        let _ = answer.send(told.map_err(|refusal| refusal.to_string()));
                    });
                }
            }
        }
    }
}

impl Events {
    /// Not ready at once; after the drain delay no new connections; then the end when the last request has ended.
    async fn terminate(&self, mut signals: Signals) -> ShutdownSignal {
        self.readiness.set(false);
        let server = self.server.load_full();
        let delay = server.drain_delay;
        if !delay.is_zero() {
            info!("SIGTERM: not ready any more, serving on for {delay:?}");
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                _ = signals.terminate.recv() => {
                    info!("another SIGTERM: stopping now");
                    self.control_socket.remove();
                    return ShutdownSignal::FastShutdown;
                }
                _ = signals.interrupt.recv() => {
                    info!("SIGINT: stopping now");
                    self.control_socket.remove();
                    return ShutdownSignal::FastShutdown;
                }
            }
        }
        info!(
            "SIGTERM: stopping when the last of {} requests has ended, at the latest in {:?}",
            self.traffic.present(),
            server.grace_period
        );
        self.control_socket.remove();
        self.traffic.drain();
        // Pingora stops accepting and then sleeps the whole grace period; this task ends the process earlier.
        tokio::spawn(drain(
            Arc::clone(&self.traffic),
            server.grace_period,
            signals.interrupt,
            signals.terminate,
        ));
        ShutdownSignal::GracefulTerminate
    }
}

fn log_outcome(outcome: &Outcome) {
    match outcome {
        Ok(changes) if changes.is_empty() => info!("reloaded in place: nothing changed"),
        Ok(changes) => info!("reloaded in place: {}", changes.join("; ")),
        Err(refusal) => warn!("not reloaded, everything stays as it is: {refusal}"),
    }
}
