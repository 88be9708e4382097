//! The counterpart of the command line: commands to the running process, over its Unix socket.

use async_trait::async_trait;
use http::{Method, Response, StatusCode};
use log::error;
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::answer::{answer, text};
use super::drain::{API_DRAIN, API_UNDRAIN, Drains};

/// The path of the command to reload; the method is POST.
pub const API_RELOAD: &str = "/api/v1/reload";

/// The path of the question what a reload would do; the method is GET.
pub const API_PREVIEW: &str = "/api/v1/reload/preview";

/// A command to the process.
#[derive(Debug)]
pub enum Command {
    /// Take in the file anew, in the gentlest way that suffices.
    Reload(oneshot::Sender<Result<Reloaded, String>>),
    /// Say what that would do, and do nothing.
    Preview(oneshot::Sender<Result<Preview, String>>),
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

/// The application of the control socket.
#[derive(Debug)]
pub struct Api {
    commands: mpsc::Sender<Command>,
    drains: Drains,
}

impl Api {
    /// Passes commands on to `commands`; those on hosts are carried out by `drains`.
    pub fn new(commands: mpsc::Sender<Command>, drains: Drains) -> Self {
        Api { commands, drains }
    }

    /// Gives a command and tells its outcome.
    async fn command<T: Serialize>(
        &self,
        session: &mut ServerSession,
        command: impl FnOnce(oneshot::Sender<Result<T, String>>) -> Command,
    ) -> Response<Vec<u8>> {
        let (sender, outcome) = oneshot::channel();
        let ending = || "the process is ending".to_owned();
        let outcome = match self.commands.send(command(sender)).await {
            Ok(()) => outcome.await.unwrap_or_else(|_| Err(ending())),
            Err(_) => Err(ending()),
        };
        let body = outcome.map(|done| serde_json::to_vec(&done));
        match body {
            Ok(Ok(body)) => answer(session, StatusCode::OK, "application/json", body),
            Ok(Err(error)) => {
                error!("the outcome of a command cannot be told: {error}");
                text(session, StatusCode::INTERNAL_SERVER_ERROR, "cannot be told")
            }
            Err(reason) => text(session, StatusCode::CONFLICT, &reason),
        }
    }
}

#[async_trait]
impl ServeHttp for Api {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let request = session.req_header();
        match (request.uri.path(), &request.method) {
            (API_RELOAD, &Method::POST) => self.command(session, Command::Reload).await,
            (API_RELOAD, _) => text(session, StatusCode::METHOD_NOT_ALLOWED, "only POST"),
            (API_PREVIEW, &Method::GET) => self.command(session, Command::Preview).await,
            (API_PREVIEW, _) => text(session, StatusCode::METHOD_NOT_ALLOWED, "only GET"),
            (API_DRAIN, &Method::POST) => self.drains.answer(session, true),
            (API_UNDRAIN, &Method::POST) => self.drains.answer(session, false),
            (API_DRAIN | API_UNDRAIN, _) => {
                text(session, StatusCode::METHOD_NOT_ALLOWED, "only POST")
            }
            _ => text(session, StatusCode::NOT_FOUND, "there is no such command"),
        }
    }
}
