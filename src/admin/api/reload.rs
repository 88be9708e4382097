//! Reloads the configuration, and previews a reload.

use http::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::sync::{SemaphorePermit, oneshot};

use super::{Api, ApiRequest, Plan};
use crate::admin::api_server::{Caller, busy};
use crate::admin::process_handle::ChangeError;
use crate::admin::response::ApiResponse;

/// The path that reloads the configuration: POST.
pub const API_RELOAD: &str = "/api/v1/reload";

/// The path that previews a reload: GET.
pub const API_PREVIEW: &str = "/api/v1/reload/preview";

/// A command to the process; its outcome goes to the sender in it.
#[derive(Debug)]
pub enum ProcessCommand {
    /// Reload the file: in place if that suffices, otherwise by a handover.
    Reload(oneshot::Sender<Result<ReloadResult, ChangeError>>),
    /// Hand over to a new process of the binary on disk, which reads the file.
    ReplaceBinary(oneshot::Sender<Result<ReloadResult, ChangeError>>),
    /// Report what a reload would do, without applying anything.
    Preview(oneshot::Sender<Result<ReloadPreview, ChangeError>>),
    /// Report in detail what a reload would do, without applying anything.
    Plan(oneshot::Sender<Result<Plan, ChangeError>>),
}

/// What a reload would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadPreview {
    /// `in-place` or `handover`; `None`: nothing has changed.
    pub way: Option<String>,
    /// One line for each change.
    pub changes: Vec<String>,
    /// One line for each reason why the reload would fail.
    pub obstacles: Vec<String>,
}

/// What a reload did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadResult {
    /// `in-place` or `handover`.
    pub way: String,
    /// One line for each change.
    pub changes: Vec<String>,
}

/// Reloads; with `binary=true` in the query always by a handover to the binary on disk.
pub(super) async fn reload(api: &Api, request: &ApiRequest) -> Result<ApiResponse, ApiResponse> {
    match request.flag("binary")? {
        true => run_command(api, ProcessCommand::ReplaceBinary).await,
        false => run_command(api, ProcessCommand::Reload).await,
    }
}

/// Concurrent previews and plans over TCP. They need no token, and each reads the configuration and every file that it
/// names.
pub(super) const MAX_PREVIEWS: usize = 2;

pub(super) async fn preview(api: &Api, request: &ApiRequest) -> Result<ApiResponse, ApiResponse> {
    let _permit = preview_permit(api, request)?;
    run_command(api, ProcessCommand::Preview).await
}

/// A permit for a preview; `None`: the owner of the process needs none.
pub(super) fn preview_permit<'a>(
    api: &'a Api,
    request: &ApiRequest,
) -> Result<Option<SemaphorePermit<'a>>, ApiResponse> {
    match request.caller {
        Caller::Owner => Ok(None),
        Caller::Public => match api.previews.try_acquire() {
            Ok(permit) => Ok(Some(permit)),
            Err(_) => Err(busy("too many concurrent previews")),
        },
    }
}

/// Sends a command to the process and responds with its outcome.
pub(super) async fn run_command<T: Serialize>(
    api: &Api,
    command: impl FnOnce(oneshot::Sender<Result<T, ChangeError>>) -> ProcessCommand,
) -> Result<ApiResponse, ApiResponse> {
    let (sender, outcome) = oneshot::channel();
    // After a handover the permit is refused with a reason that points to the successor.
    let ended = || match api.process.permit() {
        Ok(_) => ChangeError::Conflict("the process is shutting down".to_owned()),
        Err(refusal) => refusal,
    };
    let outcome = match api.commands.send(command(sender)).await {
        Ok(()) => outcome.await.unwrap_or_else(|_| Err(ended())),
        Err(_) => Err(ended()),
    };
    match outcome {
        Ok(done) => Ok(ApiResponse::json(StatusCode::OK, &done)),
        Err(refusal) => Err(ApiResponse::from_change_error(refusal)),
    }
}
