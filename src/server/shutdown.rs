//! The end of a draining process: with its last request, at the end of the grace period, or at another signal.

use std::process;
use std::sync::Arc;
use std::time::Duration;

use log::{info, warn};
use tokio::signal::unix::Signal;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::edge::LAME_DUCK;
use super::lifecycle::Lifecycle;
use crate::proxy::TrafficState;

/// How often a draining process checks whether its last request has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The shortest time from the last accepted connection to the exit: a request may have arrived on an idle connection
/// that is not counted yet.
const MIN_DRAIN: Duration = LAME_DUCK.saturating_add(Duration::from_millis(100));

/// The shortest time that remains for connections that are closed only now.
const MIN_CLOSE_TIME: Duration = Duration::from_millis(250);

/// Exits the process when no request is left, the grace period is over, or another signal arrives; the first
/// `ignored_terminates` SIGTERMs are ignored. No connection was accepted after `since`.
pub(super) async fn drain(
    traffic: Arc<TrafficState>,
    lifecycle: Arc<Lifecycle>,
    since: Instant,
    grace: Duration,
    stop_signals: (Signal, Signal),
    ignored_terminates: usize,
) {
    let (mut interrupt, mut terminate) = stop_signals;
    let terminated_again = async {
        for _ in 0..ignored_terminates {
            terminate.recv().await;
        }
        terminate.recv().await
    };
    let deadline = since + grace;
    let earliest = (since + MIN_DRAIN).max(Instant::now() + MIN_CLOSE_TIME);
    let drained = async {
        sleep_until(earliest.min(deadline)).await;
        while traffic.present() > 0 {
            sleep(POLL_INTERVAL).await;
        }
    };
    tokio::select! {
        _ = interrupt.recv() => info!("SIGINT: stopping now"),
        _ = terminated_again => info!("SIGTERM again: stopping now"),
        outcome = timeout_at(deadline, drained) => match outcome {
            Ok(()) => info!("stopped"),
            Err(_) => warn!("stopped; requests unfinished: {}", traffic.present()),
        },
    }
    lifecycle.shut_down();
    process::exit(0);
}
