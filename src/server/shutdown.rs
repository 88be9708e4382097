//! How the process ends: SIGTERM drains it, SIGINT or a second SIGTERM ends it at once.

use std::process;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use log::{error, info, warn};
use pingora::server::{ShutdownSignal, ShutdownSignalWatch};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep, timeout_at};

use super::edge::LAME_DUCK;
use super::handover::Handover;
use super::standing::Standing;
use crate::proxy::Traffic;

/// How often a draining process looks whether its last request has ended.
const LOOK: Duration = Duration::from_millis(20);

/// The least time from the signal to the end: when the last connection without a request has been closed, a request may
/// have arrived that is not counted yet.
const SETTLE: Duration = LAME_DUCK.saturating_add(Duration::from_millis(100));

/// Waits for the signal that ends the process.
pub(super) struct Signals {
    traffic: Arc<Traffic>,
    grace: Duration,
    handover: Arc<Handover>,
    standing: Arc<Standing>,
}

impl Signals {
    pub(super) fn new(
        traffic: Arc<Traffic>,
        grace: Duration,
        handover: Arc<Handover>,
        standing: Arc<Standing>,
    ) -> Self {
        Signals {
            traffic,
            grace,
            handover,
            standing,
        }
    }

    /// No new connections; the process ends with its last request.
    fn drain(&self, why: &str, impatience: (Signal, Signal)) -> ShutdownSignal {
        info!(
            "{why}: no new connections; stopping with the last request ({} now), at the latest in {:?}",
            self.traffic.present(),
            self.grace
        );
        self.traffic.drain();
        // Pingora stops accepting and then sleeps the whole grace period; this task ends the process earlier.
        let (traffic, standing) = (Arc::clone(&self.traffic), Arc::clone(&self.standing));
        tokio::spawn(drain(traffic, standing, self.grace, impatience));
        ShutdownSignal::GracefulTerminate
    }
}

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        let watch = || {
            Ok::<_, std::io::Error>((
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
                signal(SignalKind::quit())?,
            ))
        };
        let (mut interrupt, mut terminate, mut quit) = match watch() {
            Ok(signals) => signals,
            Err(error) => {
                error!("cannot watch for signals: {error}");
                process::exit(1);
            }
        };
        self.standing.watching();
        let mut handing_over = None;
        loop {
            tokio::select! {
                _ = interrupt.recv() => {
                    info!("SIGINT: stopping now");
                    return ShutdownSignal::FastShutdown;
                }
                _ = terminate.recv() => {
                    drop(handing_over);
                    self.standing.stopping();
                    return self.drain("SIGTERM", (interrupt, terminate));
                }
                _ = quit.recv() => {
                    if handing_over.is_some() {
                        warn!("SIGQUIT: ignored, a handover is running");
                    } else {
                        info!("SIGQUIT: handing over");
                        handing_over = Some(Box::pin(self.handover.hand_over()));
                    }
                }
                outcome = when_some(&mut handing_over) => {
                    handing_over = None;
                    match outcome {
                        Ok(()) => return self.drain("handed over", (interrupt, terminate)),
                        Err(reason) => error!("no handover, serving on: {reason}"),
                    }
                }
            }
        }
    }
}

/// The outcome of a future that may not be there yet.
async fn when_some<F: Future + Unpin>(future: &mut Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// Ends the process when no request is left, the grace period is over, or another signal arrives.
async fn drain(
    traffic: Arc<Traffic>,
    standing: Arc<Standing>,
    grace: Duration,
    impatience: (Signal, Signal),
) {
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
    standing.end();
    process::exit(0);
}
