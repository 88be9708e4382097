//! Commands to the process as a whole, and the question what one would do.

use http::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::{Api, ApiRequest};
use crate::admin::api_server::{Caller, busy};
use crate::admin::process_handle::ChangeError;
use crate::admin::response::ApiResponse;

/// The path of the command to reload; the method is POST.
pub const API_RELOAD: &str = "/api/v1/reload";

/// The path of the question what a reload would do; the method is GET.
pub const API_PREVIEW: &str = "/api/v1/reload/preview";

/// A command to the process.
#[derive(Debug)]
pub enum ProcessCommand {
    /// Take in the file anew, in the gentlest way that suffices.
    Reload(oneshot::Sender<Result<ReloadResult, ChangeError>>),
    /// Say what that would do, and do nothing.
    Preview(oneshot::Sender<Result<ReloadPreview, ChangeError>>),
}

/// What a reload would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadPreview {
    /// `in-permit` or `handover`; `None`: nothing has changed.
    pub way: Option<String>,
    /// One line for each change.
    pub changes: Vec<String>,
    /// One line for each reason why it would fail.
    pub obstacles: Vec<String>,
}

/// What a reload did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadResult {
    /// `in-permit` or `handover`.
    pub way: String,
    /// One line for each change.
    pub changes: Vec<String>,
}

pub(super) async fn reload(api: &Api) -> Result<ApiResponse, ApiResponse> {
    run_command(api, ProcessCommand::Reload).await
}

/// Previews over TCP at once: each reads the file and all that it names, for clients that need no token.
pub(super) const MAX_PREVIEWS: usize = 2;

pub(super) async fn preview(api: &Api, request: &ApiRequest) -> Result<ApiResponse, ApiResponse> {
    let _permit = match request.caller {
        Caller::Owner => None,
        Caller::Public => match api.previews.try_acquire() {
            Ok(permit) => Some(permit),
            Err(_) => return Err(busy("other previews are being made")),
        },
    };
    run_command(api, ProcessCommand::Preview).await
}

/// Gives a command and tells its outcome.
async fn run_command<T: Serialize>(
    api: &Api,
    command: impl FnOnce(oneshot::Sender<Result<T, ChangeError>>) -> ProcessCommand,
) -> Result<ApiResponse, ApiResponse> {
    let (sender, outcome) = oneshot::channel();
    // After a handover there is no permit, and the successor is to be asked.
    let ended = || match api.process.permit() {
        Ok(_) => ChangeError::Conflict("the process is ending".to_owned()),
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
