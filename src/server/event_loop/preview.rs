//! The commands to preview a reload: in short, and as a plan.

use std::path::Path;

use tokio::sync::oneshot;
use tokio::task::{JoinError, spawn_blocking};

use crate::admin::{ChangeError, Plan, ReloadPreview};
use crate::server::config_diff::ConfigDiff;
use crate::server::impact::{Comparison, LiveState};
use crate::server::reload_preview::{ReloadForecast, ReloadPreviewer};
use crate::server::reloader::ReloadError;

/// Reports what a reload would do. `obstacle` is the reason why this process cannot hand over.
pub(super) async fn preview(
    previewer: ReloadPreviewer,
    obstacle: Option<&'static str>,
    answer: oneshot::Sender<Result<ReloadPreview, ChangeError>>,
) {
    let outcome = previewer.forecast().await.map(|forecast| {
        let ReloadForecast {
            changes,
            unavailable,
            ..
        } = forecast;
        let way = changes.way().map(str::to_owned);
        let obstacle = obstacle_of(&changes, obstacle);
        ReloadPreview {
            way,
            changes: changes.into_lines(),
            obstacles: obstacle.into_iter().chain(unavailable).collect(),
        }
    });
    let _ = answer.send(outcome.map_err(|refusal| ChangeError::Conflict(refusal.to_string())));
}

/// Reports in detail what a reload would do. `obstacle` is the reason why this process cannot hand over.
pub(super) async fn plan(
    previewer: ReloadPreviewer,
    live: LiveState,
    obstacle: Option<&'static str>,
    answer: oneshot::Sender<Result<Plan, ChangeError>>,
) {
    let _ = answer.send(planned(previewer, live, obstacle).await);
}

async fn planned(
    previewer: ReloadPreviewer,
    live: LiveState,
    obstacle: Option<&'static str>,
) -> Result<Plan, ChangeError> {
    let Some(file) = previewer.file().map(Path::to_owned) else {
        let reason = "there is no file to reload".to_owned();
        return Err(ChangeError::Conflict(reason));
    };
    let forecast = previewer
        .forecast()
        .await
        .map_err(|refusal| match refusal {
            ReloadError::Invalid(problems) => ChangeError::Invalid(problems),
            other => ChangeError::Conflict(other.to_string()),
        })?;
    let work = move || {
        let ReloadForecast {
            changes,
            unavailable,
            before,
            after,
        } = forecast;
        let obstacle = obstacle_of(&changes, obstacle);
        let comparison = Comparison {
            before: &before,
            after: &after,
            changes,
            live: Some(&live),
        };
        comparison.plan(&file, obstacle.into_iter().chain(unavailable).collect())
    };
    let failed = |error: JoinError| ChangeError::Conflict(format!("a bug in ballast: {error}"));
    spawn_blocking(work).await.map_err(failed)
}

/// Why the changes cannot be taken in, if this process cannot hand over because of `obstacle`.
fn obstacle_of(changes: &ConfigDiff, obstacle: Option<&'static str>) -> Option<String> {
    let obstacle = obstacle.filter(|_| !changes.in_new_process.is_empty());
    obstacle.map(str::to_owned)
}
