//! A handover as the event loop runs it: with the caller who waits for its result.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::EventContext;
use crate::admin::{ChangeError, ReloadResult};
use crate::server::handover::HandoverFailure;

/// How long a caller waits for the successor's control socket. A serving successor opens it within milliseconds, unless
/// its configuration names another path. Shorter than [`LAME_DUCK`](crate::server::edge::LAME_DUCK), the earliest end of this
/// process.
const CONTROL_SOCKET_TIMEOUT: Duration = Duration::from_secs(1);

/// A reload command that needs a handover.
pub(super) struct HandoverRequest {
    pub(super) changes: Vec<String>,
    pub(super) answer: oneshot::Sender<Result<ReloadResult, ChangeError>>,
}

/// A handover in progress, and the caller who waits for its result.
pub(super) struct RunningHandover<'a> {
    attempt: Pin<Box<dyn Future<Output = Result<(), HandoverFailure>> + Send + 'a>>,
    request: Option<HandoverRequest>,
}

impl EventContext {
    /// Starts a handover.
    pub(super) fn hand_over(&self, request: Option<HandoverRequest>) -> RunningHandover<'_> {
        RunningHandover {
            attempt: Box::pin(self.handover.hand_over()),
            request,
        }
    }

    /// The successor serves, and its watch is over. The caller gets its response once the successor accepts commands.
    pub(super) fn handed_over(&self, request: Option<HandoverRequest>) {
        self.lifecycle.handed_over();
        let Some(HandoverRequest { changes, answer }) = request else {
            return;
        };
        let control_socket = Arc::clone(&self.control_socket);
        // The time of the watch counts as waiting time.
        let wait = CONTROL_SOCKET_TIMEOUT.saturating_sub(self.lifecycle.since().elapsed());
        tokio::spawn(async move {
            control_socket.wait_replaced(wait).await;
            let way = "handover".to_owned();
            let _ = answer.send(Ok(ReloadResult { way, changes }));
        });
    }

    /// Recovers from a failed handover, and returns the text for log and caller.
    pub(super) fn handover_failed(&self, failure: &HandoverFailure) -> String {
        match failure {
            HandoverFailure::Serving(reason) => format!("no handover, serving on: {reason}"),
            HandoverFailure::Resumed(reason) => {
                self.process_identity.republish();
                format!("no handover, serving again: {reason}")
            }
        }
    }
}

/// Waits for the running handover; without one it never completes.
pub(super) async fn handover_outcome(
    running: &mut Option<RunningHandover<'_>>,
) -> (Result<(), HandoverFailure>, Option<HandoverRequest>) {
    match running {
        Some(running) => {
            let outcome = running.attempt.as_mut().await;
            (outcome, running.request.take())
        }
        None => std::future::pending().await,
    }
}
