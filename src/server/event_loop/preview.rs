//! The command to preview a reload.

use tokio::sync::oneshot;

use crate::admin::{ChangeError, ReloadPreview};
use crate::server::reload_preview::{ReloadForecast, ReloadPreviewer};

/// Reports what a reload would do. `obstacle` is the reason why this process cannot hand over.
pub(super) async fn preview(
    previewer: ReloadPreviewer,
    obstacle: Option<&'static str>,
    answer: oneshot::Sender<Result<ReloadPreview, ChangeError>>,
) {
    let outcome = previewer.forecast().await.map(
        |ReloadForecast {
             changes,
             unavailable,
         }| {
            let handover = !changes.in_new_process.is_empty();
            let obstacle = obstacle.filter(|_| handover).map(str::to_owned);
            let changes = changes.into_lines();
            let way = match handover {
                true => Some("handover".to_owned()),
                false if changes.is_empty() => None,
                false => Some("in-place".to_owned()),
            };
            ReloadPreview {
                way,
                changes,
                obstacles: obstacle.into_iter().chain(unavailable).collect(),
            }
        },
    );
    let _ = answer.send(outcome.map_err(|refusal| ChangeError::Conflict(refusal.to_string())));
}
