//! The drain: the process stops accepting connections and exits with its last request, at the end of the grace period, or
//! at another signal.

use std::process;
use std::sync::Arc;
use std::time::Duration;

use log::{info, warn};
use pingora::server::ShutdownSignal;
use tokio::signal::unix::Signal;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::EventContext;
use super::signals::Signals;
use crate::proxy::TrafficState;
use crate::server::edge::LAME_DUCK;
use crate::server::process_identity::ProcessIdentity;

/// How often a draining process checks whether its last request has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The shortest time from the last accepted connection to the exit: a request may have arrived on an idle connection
/// that is not counted yet.
const MIN_DRAIN: Duration = LAME_DUCK.saturating_add(Duration::from_millis(100));

/// The shortest time that remains for connections that are closed only now.
const MIN_CLOSE_TIME: Duration = Duration::from_millis(250);

impl EventContext {
    /// Reports not ready at once; stops accepting connections after the drain delay; ends with the last request.
    pub(super) async fn terminate(&self, mut signals: Signals) -> ShutdownSignal {
        self.lifecycle.terminate();
        self.process_identity.notify_stopping();
        self.reopen_logs_on_signal(signals.user_1);
        let delay = self.loaded_config.load().config.server.drain_delay;
        if !delay.is_zero() {
            info!("SIGTERM: not ready any more, serving on for {delay:?}");
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                _ = signals.terminate.recv() => {
                    info!("SIGTERM again: stopping now");
                    return ShutdownSignal::FastShutdown;
                }
                _ = signals.interrupt.recv() => {
                    info!("SIGINT: stopping now");
                    return ShutdownSignal::FastShutdown;
                }
            }
        }
        self.control_socket.remove();
        self.drain("SIGTERM", (signals.interrupt, signals.terminate), 0)
    }

    /// Stops accepting connections; the process ends with its last request.
    pub(super) fn drain(
        &self,
        cause: &str,
        stop_signals: (Signal, Signal),
        ignored_terminates: usize,
    ) -> ShutdownSignal {
        let grace = self.loaded_config.load().config.server.grace_period;
        info!(
            "{cause}: no new connections; stopping with the last request ({} now), at the latest in {grace:?}",
            self.traffic.present()
        );
        self.lifecycle.stop_accepting();
        let since = self.lifecycle.since();
        let (traffic, process_identity) = (
            Arc::clone(&self.traffic),
            Arc::clone(&self.process_identity),
        );
        // Pingora stops accepting and then sleeps the whole grace period; this task exits the process earlier.
        let draining = tokio::spawn(exit_when_drained(
            traffic,
            process_identity,
            since,
            grace,
            stop_signals,
            ignored_terminates,
        ));
        tokio::spawn(async move {
            if draining.await.is_err() {
                // The task has panicked, and nothing else would end the process.
                process::exit(1);
            }
        });
        ShutdownSignal::GracefulTerminate
    }
}

/// Exits the process when no request is left, the grace period is over, or another signal arrives; the first
/// `ignored_terminates` SIGTERMs are ignored. No connection was accepted after `since`.
async fn exit_when_drained(
    traffic: Arc<TrafficState>,
    process_identity: Arc<ProcessIdentity>,
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
    process_identity.shut_down();
    process::exit(0);
}
