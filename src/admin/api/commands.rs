//! Commands to the process as a whole, and the question what one would do.

use http::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::Api;
use crate::admin::reply::Reply;
use crate::admin::running::ChangeError;

/// The path of the command to reload; the method is POST.
pub const API_RELOAD: &str = "/api/v1/reload";

/// The path of the question what a reload would do; the method is GET.
pub const API_PREVIEW: &str = "/api/v1/reload/preview";

/// A command to the process.
#[derive(Debug)]
pub enum Command {
    /// Take in the file anew, in the gentlest way that suffices.
    Reload(oneshot::Sender<Result<Reloaded, ChangeError>>),
    /// Say what that would do, and do nothing.
    Preview(oneshot::Sender<Result<Preview, ChangeError>>),
}

/// What a reload would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preview {
    /// `in-place` or `handover`; `None`: nothing has changed.
    pub way: Option<String>,
    /// One line for each change.
    pub changes: Vec<String>,
    /// One line for each reason why it would fail.
    pub obstacles: Vec<String>,
}

/// What a reload did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// `in-place` or `handover`.
    pub way: String,
    /// One line for each change.
    pub changes: Vec<String>,
}

pub(super) async fn reload(api: &Api) -> Result<Reply, Reply> {
    command(api, Command::Reload).await
}

pub(super) async fn preview(api: &Api) -> Result<Reply, Reply> {
    command(api, Command::Preview).await
}

/// Gives a command and tells its outcome.
async fn command<T: Serialize>(
    api: &Api,
    command: impl FnOnce(oneshot::Sender<Result<T, ChangeError>>) -> Command,
) -> Result<Reply, Reply> {
    let (sender, outcome) = oneshot::channel();
    // After a handover there is no permit, and the successor is to be asked.
    let ending = || match api.running.permit() {
        Ok(_) => ChangeError::Conflict("the process is ending".to_owned()),
        Err(refusal) => refusal,
    };
    let outcome = match api.commands.send(command(sender)).await {
        Ok(()) => outcome.await.unwrap_or_else(|_| Err(ending())),
        Err(_) => Err(ending()),
    };
    match outcome {
        Ok(done) => Ok(Reply::json(StatusCode::OK, &done)),
        Err(refusal) => Err(Reply::refusal(refusal)),
    }
}
