//! The in-place reload: the running process takes in the file anew, and connections notice nothing.
//!
//! What did not change stays as it is: pools with the state of their checks, hosts with what was learnt of them, and
//! every connection. All that can fail comes first; then one swap replaces the whole [`Site`].

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;

use crate::admin::{Change, ChangeError, Current};
use crate::config::Config;
use crate::health::Monitor;
use crate::journal::{Journal, Kind};
use crate::metrics::Reload;
use crate::moment::Moment;
use crate::pool::{HostBook, Pool};
use crate::proxy::Site;

use super::changes::Changes;
use super::listen::Socket;
use super::observers::Observers;
use super::overlay::Overlay;
use super::plan::{Plan, contained, named, watch};
use super::tls::Certificates;

/// Why a reload was refused. Nothing of it was applied.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The file is wrong; one line for each problem.
    Invalid(String),
    /// Only another process can take these changes in.
    NeedsProcess(Changes),
    /// A mistake of ours ended it.
    Broken(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Invalid(reason) => f.write_str(reason),
            Refusal::Broken(words) => write!(f, "the reload failed, a bug in ballast: {words}"),
            Refusal::NeedsProcess(changes) => {
                write!(
                    f,
                    "needs a new process: {}",
                    changes.in_new_process.join(", ")
                )
            }
        }
    }
}

/// What came of a reload: one line for each change.
pub(super) type Outcome = Result<Vec<String>, Refusal>;

/// What a reload would come across.
#[derive(Debug)]
pub(super) struct Forecast {
    pub(super) changes: Changes,
    /// One line for each address that could not be listened on.
    pub(super) taken: Vec<String>,
}

/// What the keeper can be asked for.
#[derive(Debug)]
pub(super) enum Ask {
    Reload(oneshot::Sender<Outcome>),
    Forecast(oneshot::Sender<Result<Forecast, Refusal>>),
    Change(String, Change, oneshot::Sender<Result<(), ChangeError>>),
    Adopt(Overlay, oneshot::Sender<Result<(), Refusal>>),
}

/// Requests, to be answered by [`Keeper::serve`].
pub(super) type Asked = mpsc::Receiver<Ask>;

/// Asks the keeper, who does one thing after another.
#[derive(Debug, Clone)]
pub(super) struct Reloads(mpsc::Sender<Ask>);

impl Reloads {
    /// The asking and the answering end.
    pub(super) fn channel() -> (Self, Asked) {
        let (ask, asked) = mpsc::channel(1);
        (Reloads(ask), asked)
    }

    /// Reloads and waits for the outcome.
    pub(super) async fn reload(&self) -> Outcome {
        self.ask(Ask::Reload).await
    }

    /// What a reload would come across; nothing is applied.
    pub(super) async fn forecast(&self) -> Result<Forecast, Refusal> {
        self.ask(Ask::Forecast).await
    }

    /// Carries out what an operator asks for in the pool of this name.
    pub(super) async fn change(&self, pool: &str, change: Change) -> Result<(), ChangeError> {
        let (answer, outcome) = oneshot::channel();
        let gone = || ChangeError::Conflict("the process is ending".to_owned());
        let ask = Ask::Change(pool.to_owned(), change, answer);
        self.0.send(ask).await.map_err(|_| gone())?;
        outcome.await.map_err(|_| gone())?
    }

    /// Takes over what operators had changed in the predecessor.
    ///
    /// # Errors
    /// One line for a person.
    pub(super) async fn adopt(&self, overlay: Overlay) -> Result<(), String> {
        let adopted = self.ask(|answer| Ask::Adopt(overlay, answer)).await;
        adopted.map_err(|refusal| {
            format!("what an operator has changed cannot be taken over: {refusal}")
        })
    }

    async fn ask<T>(
        &self,
        ask: impl FnOnce(oneshot::Sender<Result<T, Refusal>>) -> Ask,
    ) -> Result<T, Refusal> {
        let (answer, outcome) = oneshot::channel();
        let gone = || Refusal::Invalid("the process is ending".to_owned());
        self.0.send(ask(answer)).await.map_err(|_| gone())?;
        outcome.await.map_err(|_| gone())?
    }
}

/// Keeps the site in line with the file: the only one who replaces it, and the owner of all checks.
#[derive(Debug)]
pub(super) struct Keeper {
    /// `None`: there is no file, and nothing to reload.
    pub(super) file: Option<PathBuf>,
    /// What the file said when it was taken in.
    pub(super) said: Config,
    /// The configuration that the site was built from: the file's, as operators have changed it.
    pub(super) config: Config,
    pub(super) overlay: Arc<ArcSwap<Overlay>>,
    pub(super) book: HostBook,
    pub(super) site: Arc<ArcSwap<Site>>,
    /// Whatever else reads the configuration reads it here.
    pub(super) current: Arc<ArcSwap<Current>>,
    /// By the address of their listener.
    pub(super) certificates: Vec<(SocketAddr, Arc<Certificates>)>,
    /// The checks of each pool of the site.
    pub(super) checks: Vec<(Arc<Pool>, Monitor)>,
    pub(super) observers: Observers,
}

impl Keeper {
    /// Starts to check all hosts; returns after the first round.
    pub(super) async fn start(&mut self) {
        self.checks = watch(&self.site.load().pools).await;
    }

    /// Serves requests, for ever.
    pub(super) async fn serve(&mut self, mut asked: Asked) {
        while let Some(ask) = asked.recv().await {
            // Whoever asked may not wait for the answer.
            match ask {
                Ask::Reload(answer) => {
                    let outcome = self.reload().await;
                    self.observers.counts.reloaded(counted(&outcome));
                    drop(answer.send(outcome));
                }
                Ask::Forecast(answer) => drop(answer.send(self.forecast().await)),
                Ask::Change(pool, change, answer) => {
                    drop(answer.send(self.change(&pool, change).await));
                }
                Ask::Adopt(overlay, answer) => drop(answer.send(self.adopt(overlay).await)),
            }
        }
    }

    async fn forecast(&self) -> Result<Forecast, Refusal> {
        let said = self.read().await?;
        let mut changes = Changes::between(&self.said, &said);
        let mut overlay = Overlay::clone(&self.overlay.load());
        let (_, dropped) = overlay.on(&said);
        changes.in_place.extend(dropped);
        // A successor inherits the others.
        let own = addresses(&self.said);
        let mut added = addresses(&said);
        added.retain(|address| !own.contains(address));
        let taken = added.into_iter().filter_map(|address| {
            let tried = Socket::bind(address, Duration::ZERO);
            tried.err()
        });
        Ok(Forecast {
            taken: taken.collect(),
            changes,
        })
    }

    async fn reload(&mut self) -> Outcome {
        let said = self.read().await?;
        let mut changes = Changes::between(&self.said, &said);
        if !changes.in_new_process.is_empty() {
            return Err(Refusal::NeedsProcess(changes));
        }
        let mut overlay = Overlay::clone(&self.overlay.load());
        let (config, dropped) = overlay.on(&said);
        self.take_in(config, Moment::now()).await?;
        for listener in &said.listeners {
            let mut certificates = self.certificates.iter();
            let shown = certificates.find(|(address, _)| *address == listener.address);
            if let (Some(tls), Some((_, shown))) = (&listener.tls, shown) {
                shown.replace(tls);
            }
        }
        self.said = said;
        self.overlay.store(Arc::new(overlay));
        changes.in_place.extend(dropped);
        Ok(changes.into_lines())
    }

    /// Carries out what an operator asks for, in the same way as a reload.
    async fn change(&mut self, pool: &str, change: Change) -> Result<(), ChangeError> {
        let file = self.said.pools.iter().find(|said| said.name == pool);
        let site = self.site.load_full();
        let (Some(file), Some(now)) = (file, named(&site, pool)) else {
            let pool = pool.escape_debug();
            return Err(ChangeError::Unknown(format!("there is no pool `{pool}`")));
        };
        let mut overlay = Overlay::clone(&self.overlay.load());
        let event = overlay.change(file, now, change)?;
        let (config, _) = overlay.on(&self.said);
        let loaded = self.current.load().loaded;
        let taken = self.take_in(config, loaded).await;
        taken.map_err(|refusal| ChangeError::Conflict(refusal.to_string()))?;
        self.overlay.store(Arc::new(overlay));
        let pool = named(&self.site.load(), pool).cloned();
        if let Some(pool) = pool {
            pool.note(event.kind, Some(&event.host), &event.text);
        }
        Ok(())
    }

    /// Takes over what operators had changed in the predecessor.
    async fn adopt(&mut self, mut overlay: Overlay) -> Result<(), Refusal> {
        let (config, _) = overlay.on(&self.said);
        if overlay == **self.overlay.load() {
            return Ok(());
        }
        let loaded = self.current.load().loaded;
        self.take_in(config, loaded).await?;
        self.overlay.store(Arc::new(overlay));
        Ok(())
    }

    /// Replaces the site by that of `config`. On an error everything is as before.
    async fn take_in(&mut self, config: Config, loaded: Moment) -> Result<(), Refusal> {
        let before = self.site.load_full();
        let plan = Plan::make(
            config,
            self.config.clone(),
            self.book.clone(),
            Arc::clone(&before),
            self.observers.clone(),
        );
        let Plan {
            config,
            book,
            site,
            mut checks,
        } = contained(plan).await??;
        // From here on nothing can fail.
        for (pool, _) in &checks {
            if let Some(old) = named(&before, pool.name()) {
                pool.resume(&old.state());
            }
        }
        self.checks
            .retain(|(pool, _)| site.pools.iter().any(|now| Arc::ptr_eq(now, pool)));
        self.checks.append(&mut checks);
        self.site.store(Arc::new(site));
        self.book = book;
        self.current.store(Arc::new(Current {
            config: config.clone(),
            file: self.file.clone(),
            loaded,
        }));
        self.config = config;
        Ok(())
    }

    async fn read(&self) -> Result<Config, Refusal> {
        let Some(file) = self.file.clone() else {
            return Err(Refusal::Invalid("there is no file to reload".to_owned()));
        };
        match spawn_blocking(move || Config::load(&file)).await {
            Ok(Ok(config)) => Ok(config),
            Ok(Err(errors)) => Err(Refusal::Invalid(errors.to_string())),
            Err(error) => Err(Refusal::Broken(error.to_string())),
        }
    }
}

/// Notes what came of a reload in place.
pub(super) fn note_outcome(journal: &Journal, outcome: &Outcome) {
    let (kind, text) = match outcome {
        Ok(changes) if changes.is_empty() => (
            Kind::Reloaded,
            "reloaded in place: nothing changed".to_owned(),
        ),
        Ok(changes) => (
            Kind::Reloaded,
            format!("reloaded in place: {}", changes.join("; ")),
        ),
        Err(refusal) => (
            Kind::ReloadFailed,
            format!("not reloaded, everything stays as it is: {refusal}"),
        ),
    };
    journal.note(kind, None, None, text);
}

/// What an outcome is counted as.
fn counted(outcome: &Outcome) -> Reload {
    match outcome {
        Ok(_) => Reload::InPlace,
        Err(Refusal::NeedsProcess(_)) => Reload::NeedsProcess,
        Err(Refusal::Invalid(_) | Refusal::Broken(_)) => Reload::InPlaceFailed,
    }
}

/// Every address that is listened on.
fn addresses(config: &Config) -> Vec<SocketAddr> {
    let listeners = config.listeners.iter().map(|listener| listener.address);
    listeners.chain(config.admin.address).collect()
}
