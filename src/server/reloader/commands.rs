//! The commands to the reloader, which executes one after another.

use tokio::sync::{mpsc, oneshot};

use super::{ReloadError, ReloaderResult};
use crate::admin::{ChangeError, PoolChange};
use crate::server::runtime_overrides::RuntimeOverrides;

/// A command to the reloader.
#[derive(Debug)]
pub(in crate::server) enum ReloaderCommand {
    Reload(oneshot::Sender<ReloaderResult>),
    Change(
        String,
        Box<PoolChange>,
        oneshot::Sender<Result<(), ChangeError>>,
    ),
    Adopt(RuntimeOverrides, oneshot::Sender<Result<(), ReloadError>>),
}

/// The commands that [`Reloader::serve`] executes.
pub(in crate::server) type ReloaderCommands = mpsc::Receiver<ReloaderCommand>;

/// Sends commands to the reloader, which executes one after another.
#[derive(Debug, Clone)]
pub(in crate::server) struct ReloaderHandle(mpsc::Sender<ReloaderCommand>);

impl ReloaderHandle {
    /// The sending and the receiving end.
    pub(in crate::server) fn channel() -> (Self, ReloaderCommands) {
        let (command, commands) = mpsc::channel(1);
        (ReloaderHandle(command), commands)
    }

    /// Reloads and waits for the outcome.
    pub(in crate::server) async fn reload(&self) -> ReloaderResult {
        self.send(ReloaderCommand::Reload).await
    }

    /// Applies an operator's change to the pool of this name.
    pub(in crate::server) async fn change(
        &self,
        pool: &str,
        change: PoolChange,
    ) -> Result<(), ChangeError> {
        let (answer, outcome) = oneshot::channel();
        let ended = || ChangeError::Conflict("the process is ending".to_owned());
        let command = ReloaderCommand::Change(pool.to_owned(), Box::new(change), answer);
        self.0.send(command).await.map_err(|_| ended())?;
        outcome.await.map_err(|_| ended())?
    }

    /// Takes over the runtime overrides of the predecessor.
    ///
    /// # Errors
    /// One line for a person.
    pub(in crate::server) async fn adopt_overrides(
        &self,
        overrides: RuntimeOverrides,
    ) -> Result<(), String> {
        let adopted = self
            .send(|answer| ReloaderCommand::Adopt(overrides, answer))
            .await;
        adopted.map_err(|refusal| {
            format!("what an operator has changed cannot be taken over: {refusal}")
        })
    }

    async fn send<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, ReloadError>>) -> ReloaderCommand,
    ) -> Result<T, ReloadError> {
        let (answer, outcome) = oneshot::channel();
        let ended = || ReloadError::Invalid("the process is ending".to_owned());
        self.0.send(command(answer)).await.map_err(|_| ended())?;
        outcome.await.map_err(|_| ended())?
    }
}
