//! How the process ends: SIGTERM drains it, SIGINT or a second SIGTERM ends it at once.

use std::process;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use log::{error, info, warn};
use pingora::server::{ShutdownSignal, ShutdownSignalWatch};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep, timeout_at};

use crate::proxy::Traffic;

/// How often a draining process looks whether its last request has ended.
const LOOK: Duration = Duration::from_millis(20);

/// The least time from the signal to the end: a connection that was accepted just before it may not have been counted
/// as a request yet.
const SETTLE: Duration = Duration::from_millis(100);

/// Waits for the signal that ends the process.
pub(super) struct Signals {
    traffic: Arc<Traffic>,
    grace: Duration,
}

impl Signals {
    pub(super) fn new(traffic: Arc<Traffic>, grace: Duration) -> Self {
        Signals { traffic, grace }
    }
}

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        let signals = signal(SignalKind::terminate())
            .and_then(|terminate| Ok((terminate, signal(SignalKind::interrupt())?)));
        let (mut terminate, mut interrupt) = match signals {
            Ok(signals) => signals,
            Err(error) => {
                error!("cannot watch for signals: {error}");
                process::exit(1);
            }
        };
        tokio::select! {
            _ = interrupt.recv() => {
                info!("SIGINT: stopping now");
                ShutdownSignal::FastShutdown
            }
            _ = terminate.recv() => {
                info!(
                    "SIGTERM: no new connections; stopping with the last request ({} now), at the latest in {:?}",
                    self.traffic.present(),
                    self.grace
                );
                self.traffic.drain();
                // Pingora stops accepting and then sleeps the whole grace period; this task ends the process earlier.
                let impatience = (interrupt, terminate);
                tokio::spawn(drain(Arc::clone(&self.traffic), self.grace, impatience));
                ShutdownSignal::GracefulTerminate
            }
        }
    }
}

/// Ends the process when no request is left, the grace period is over, or another signal arrives.
async fn drain(traffic: Arc<Traffic>, grace: Duration, impatience: (Signal, Signal)) {
    let (mut interrupt, mut terminate) = impatience;
    let deadline = Instant::now() + grace;
    let quiet = async {
        sleep(SETTLE.min(grace)).await;
        while traffic.present() > 0 {
            sleep(LOOK).await;
        }
    };
    tokio::select! {
        _ = interrupt.recv() => info!("SIGINT: stopping now"),
        _ = terminate.recv() => info!("SIGTERM again: stopping now"),
        outcome = timeout_at(deadline, quiet) => match outcome {
            Ok(()) => info!("stopped"),
            Err(_) => warn!("stopped; requests unfinished: {}", traffic.present()),
        },
    }
    process::exit(0);
}
