//! How the process ends once it is told to: with its last request.

use std::process;
use std::sync::Arc;
use std::time::Duration;

use log::{info, warn};
use tokio::signal::unix::Signal;
use tokio::time::{Instant, sleep, timeout_at};

use crate::proxy::Traffic;

/// How often a draining process looks whether its last request has ended.
const LOOK: Duration = Duration::from_millis(20);

/// The least time from the signal to the end: a connection that was accepted just before it may not have been counted
/// as a request yet.
const SETTLE: Duration = Duration::from_millis(100);

/// Ends the process when no request is left, the grace period is over, or SIGINT or another SIGTERM arrives.
pub(super) async fn drain(
    traffic: Arc<Traffic>,
    grace: Duration,
    mut interrupt: Signal,
    mut terminate: Signal,
) {
    let deadline = Instant::now() + grace;
    let quiet = async {
        sleep(SETTLE.min(grace)).await;
        while traffic.present() > 0 {
            sleep(LOOK).await;
        }
    };
    tokio::select! {
        _ = interrupt.recv() => info!("SIGINT: stopping now"),
        _ = terminate.recv() => info!("another SIGTERM: stopping now"),
        outcome = timeout_at(deadline, quiet) => match outcome {
            Ok(()) => info!("stopped"),
            Err(_) => warn!("stopped with {} requests unfinished", traffic.present()),
        },
    }
    process::exit(0);
}
