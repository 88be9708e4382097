//! The commands to reload: in place, or by a handover.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::handover::HandoverRequest;
use crate::admin::{ChangeError, ReloadResult};
use crate::event_log::EventLog;
use crate::server::change_lock::ChangePermit;
use crate::server::reload_preview::ReloadPreviewer;
use crate::server::reloader::{ReloadError, ReloaderHandle, note_outcome};

/// Reloads in place if that suffices; otherwise requests a handover.
pub(super) async fn reload(
    reloads: ReloaderHandle,
    event_log: Arc<EventLog>,
    permit: ChangePermit,
    answer: oneshot::Sender<Result<ReloadResult, ChangeError>>,
    requests: mpsc::Sender<HandoverRequest>,
) {
    let outcome = reloads.reload().await;
    // A handover waits until every permit is returned.
    drop(permit);
    if let Err(ReloadError::NeedsNewProcess(changes)) = outcome {
        let changes = changes.into_lines();
        // The receiver is gone only if this process ends.
        let _ = requests.send(HandoverRequest { changes, answer }).await;
        return;
    }
    note_outcome(&event_log, &outcome);
    let way = "in-place".to_owned();
    let outcome = outcome.map(|changes| ReloadResult { way, changes });
    let _ = answer.send(outcome.map_err(|refusal| ChangeError::Conflict(refusal.to_string())));
}

/// Requests a handover to the binary on disk. Whether the file is valid is for that binary to say: it may be of a version
/// that knows more keys than this one.
pub(super) async fn replace_binary(
    previewer: ReloadPreviewer,
    answer: oneshot::Sender<Result<ReloadResult, ChangeError>>,
    requests: mpsc::Sender<HandoverRequest>,
) {
    let forecast = previewer.forecast().await;
    let changes = forecast.map_or_else(|_| Vec::new(), |forecast| forecast.changes.into_lines());
    // The receiver is gone only if this process ends.
    let _ = requests.send(HandoverRequest { changes, answer }).await;
}
