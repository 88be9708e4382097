//! How the process ends once it is told to: with its last request.

use std::process;
use std::sync::Arc;
use std::time::Duration;

use log::{info, warn};
use tokio::signal::unix::Signal;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::edge::LAME_DUCK;
use super::standing::Standing;
use crate::proxy::Traffic;

/// How often a draining process looks whether its last request has ended.
const LOOK: Duration = Duration::from_millis(20);

/// The least time from the signal to the end: when the last connection without a request has been closed, a request may
/// have arrived that is not counted yet.
const SETTLE: Duration = LAME_DUCK.saturating_add(Duration::from_millis(100));

/// What is left of it at least for connections that are closed only now.
const LAST: Duration = Duration::from_millis(250);

/// Ends the process when no request is left, the grace period is over, or another signal arrives; the first `overlooked`
/// SIGTERMs tell it nothing new. No connection was accepted after `since`.
pub(super) async fn drain(
    traffic: Arc<Traffic>,
    standing: Arc<Standing>,
    since: Instant,
    grace: Duration,
    impatience: (Signal, Signal),
    overlooked: usize,
) {
    let (mut interrupt, mut terminate) = impatience;
    let told_again = async {
        for _ in 0..overlooked {
            terminate.recv().await;
        }
        terminate.recv().await
    };
    let deadline = since + grace;
    let settled = (since + SETTLE).max(Instant::now() + LAST);
    let quiet = async {
        sleep_until(settled.min(deadline)).await;
        while traffic.present() > 0 {
            sleep(LOOK).await;
        }
    };
    tokio::select! {
        _ = interrupt.recv() => info!("SIGINT: stopping now"),
        _ = told_again => info!("SIGTERM again: stopping now"),
        outcome = timeout_at(deadline, quiet) => match outcome {
            Ok(()) => info!("stopped"),
            Err(_) => warn!("stopped; requests unfinished: {}", traffic.present()),
        },
    }
    standing.end();
    process::exit(0);
}
